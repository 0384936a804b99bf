"""Quotas and KMS keys with given values, which moto does not support.

Service Quotas API reference, GetServiceQuota. QUOTA_AMIS and QUOTA_VCPUS: the values of "AMIs" and of "Running On-Demand Standard (A, C, D, H,
I, M, R, T, Z) instances".

KMS_KEYS: keys that exist at start, `REGION:KEY_ID` or `REGION:alias/NAME`, separated by commas; moto generates the ids of other keys.
"""

import os
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.kms.models import kms_backends
from moto.servicequotas.models import ServiceQuotasBackend

QUOTAS = {"L-B665C33B": ("QUOTA_AMIS", "50000"), "L-1216C47A": ("QUOTA_VCPUS", "64")}
plain_get = ServiceQuotasBackend.get_service_quota


def get_service_quota(self: Any, service_code: str, quota_code: str) -> dict[str, Any]:
    if service_code != "ec2" or quota_code not in QUOTAS:
        return plain_get(self, service_code, quota_code)
    value = os.environ.get(*QUOTAS[quota_code])
    return {"ServiceCode": service_code, "QuotaCode": quota_code, "Value": float(value), "Adjustable": True}


def make_key(region: str, name: str) -> None:
    backend = kms_backends[DEFAULT_ACCOUNT_ID][region]
    key = backend.create_key(None, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "", None)
    if name.startswith("alias/"):
        backend.create_alias(key.id, name)
        return
    made = key.id
    backend.keys[name] = backend.keys.pop(made)
    key.id, key.arn = name, key.arn.replace(made, name)


def install() -> None:
    ServiceQuotasBackend.get_service_quota = get_service_quota
    for key in filter(None, os.environ.get("KMS_KEYS", "").split(",")):
        make_key(*key.split(":", 1))
