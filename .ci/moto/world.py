"""The state of moto that IAM decisions depend on: tags, owners, roles of instance profiles."""

from typing import Any

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.ssm.models import ssm_backends

import agents


class MotoWorld:
    """An account in moto. Tags are the current ones, also those that responses do not contain yet (consistency.py)."""

    def __init__(self, account: str, partition: str):
        self.account, self.partition = account, partition

    def ec2(self, region: str) -> Any:
        return ec2_backends[self.account][region]

    def tags(self, region: str, kind: str, name: str) -> dict[str, str]:
        if kind == "parameter":
            return dict(ssm_backends[self.account][region]._resource_tags.get("Parameter", {}).get(name, {}))
        node = agents.NODES.get(name, {}).get("Tags", {}) if kind in ("instance", "managed-instance") else {}
        if kind == "key-pair":
            pair = self.ec2(region).key_pairs.get(name)
            name = pair.id if pair else name
        return {**self.ec2(region).tags.get(name, {}), **node}

    def owner(self, region: str, kind: str, name: str) -> str | None:
        there = {"image": self.ec2(region).amis, "snapshot": self.ec2(region).snapshots}.get(kind, {}).get(name)
        return getattr(there, "owner_id", None)

    def roles(self, profile: dict[str, str]) -> list[str]:
        for known in iam_backends[self.account][self.partition].instance_profiles.values():
            if profile.get("Name") == known.name or profile.get("Arn") == known.arn:
                return [role.arn for role in known.roles]
        return []

    def group(self, region: str, name: str) -> str:
        found = self.ec2(region).get_security_group_from_name(name)
        return found.id if found else "*"
