"""Delays of Parameter Store: validation of data type aws:ec2:image, and reuse of the names of deleted parameters.

SSM_ASYNC_SECONDS: time between the response of PutParameter and the validation of an image id (Systems Manager API reference, PutParameter,
"DataType": "a successful HTTP 200 response does not guarantee that your parameter was successfully created or updated"). The id of an image
that does not exist in the region never becomes the value.

SSM_NAME_SECONDS: time after DeleteParameter in which its name cannot be used again (API reference, DeleteParameter: "wait for at least 30
seconds to create a parameter with the same name"). The error is undocumented. Here it is ParameterAlreadyExists, which users of the service
report; for a call with Overwrite, for which that error is impossible, it is TooManyUpdates.
"""

import re
import threading
import time
from types import SimpleNamespace
from typing import Any

from moto.core.exceptions import ServiceException
from moto.ec2.models import ec2_backends
from moto.ssm.exceptions import ParameterAlreadyExists
from moto.ssm.models import SimpleSystemManagerBackend

from env import seconds

IMAGE = "aws:ec2:image"
LOCK = threading.RLock()
plain_put, plain_delete = SimpleSystemManagerBackend.put_parameter, SimpleSystemManagerBackend.delete_parameter
plain_delete_all = SimpleSystemManagerBackend.delete_parameters


class TooManyUpdates(ServiceException):
    code = "TooManyUpdates"


class ValidationException(ServiceException):
    code = "ValidationException"


def deleted(backend: Any) -> dict[str, float]:
    """The times at which names were deleted."""
    return backend.__dict__.setdefault("deleted_names", {})


def is_image(backend: Any, value: str) -> bool:
    """True if the image is available to the account (Systems Manager user guide, "How AMI format validation works")."""
    ami = ec2_backends[backend.account_id][backend.region_name].amis.get(value)
    return ami is not None and ami.state == "available"


def put_parameter(self: Any, name: str, description: Any, value: str, *rest: Any, **more: Any) -> Any:
    _type, _pattern, _keyid, overwrite, _tags, data_type = rest

    def put() -> Any:
        return plain_put(self, name, description, value, *rest, **more)

    with LOCK:
        there = self._parameters[name] if name in self._parameters else []
        if not there and time.monotonic() - deleted(self).get(name, float("-inf")) < seconds("SSM_NAME_SECONDS"):
            raise TooManyUpdates(f"{name} was deleted less than SSM_NAME_SECONDS ago") if overwrite else ParameterAlreadyExists
        if there and (there[-1].data_type == IMAGE) != (data_type == IMAGE):
            # User guide, "Parameter data types": the type cannot be changed to or from aws:ec2:image.
            raise ValidationException(f"the data type of {name} cannot be changed from {there[-1].data_type} to {data_type}")
        if data_type != IMAGE:
            return put()
        if there and not overwrite:
            raise ParameterAlreadyExists
        if not re.fullmatch("ami-[0-9a-z]+", value):
            raise ValidationException(f"{value} does not have the format of an AMI id")
        answer = SimpleNamespace(version=there[-1].version + 1 if there else 1, tier=more.get("tier") or "Standard")
        later(lambda: is_image(self, value) and put())
        return answer


def later(act: Any) -> None:
    """Runs the validation after the response. A value that can no longer be written is discarded, as on AWS."""

    def run() -> None:
        with LOCK:
            try:
                act()
            except ServiceException as refused:
                print(f"a parameter was not written: {refused}", flush=True)

    delay = seconds("SSM_ASYNC_SECONDS")
    if delay == 0:
        run()
        return
    timer = threading.Timer(delay, run)
    timer.daemon = True
    timer.start()


def delete_parameter(self: Any, name: str) -> None:
    with LOCK:
        plain_delete(self, name)
        deleted(self)[name] = time.monotonic()


def delete_parameters(self: Any, names: list[str]) -> list[str]:
    with LOCK:
        removed = plain_delete_all(self, names)
        deleted(self).update({name: time.monotonic() for name in removed})
        return removed


def install() -> None:
    SimpleSystemManagerBackend.put_parameter = put_parameter
    SimpleSystemManagerBackend.delete_parameter = delete_parameter
    SimpleSystemManagerBackend.delete_parameters = delete_parameters
