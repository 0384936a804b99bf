"""moto_server with behaviour of AWS that moto lacks and the pipeline relies on.

Each module in this directory cites the documentation of that behaviour. Usage: serve.py -H HOST -p PORT, with these variables in the
environment:

- POLICY_FILE: the policy, or a list of policies, against which every call is evaluated (policy.py, authorize.py), except for calls of the
  access key OWNER_KEY, which represents the account owner;
- IGNORE_DRY_RUN=1: ignores DryRun, as some endpoints other than AWS's do;
- SSM_ASYNC_SECONDS, SSM_NAME_SECONDS (parameters.py), CONSISTENCY_SECONDS (consistency.py), COPY_SECONDS, COOLDOWN_SECONDS,
  LAUNCH_REPORT_SECONDS (images.py): delays of AWS, each 0 by default;
- QUOTA_AMIS, QUOTA_VCPUS, KMS_KEYS (limits.py);
- AGENTS_PORT: Run Command runs on machines whose agents poll this port (agents.py);
- CALLS_LOG: a file to which every call is appended, as `ACCESS_KEY ec2:RunInstances us-east-1`;
- LATENCY_MS: delay of every response.
"""

import json
import os
import sys
import time
from typing import Any

import agents
import authorize
import consistency
import images
import limits
import parameters
import policy
import templates
import tokens
from env import flag
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse
from moto.ec2.exceptions import DryRunClientError, EC2ClientError
from moto.server import main
from world import MotoWorld

POLICIES = policy.load(os.environ["POLICY_FILE"]) if "POLICY_FILE" in os.environ else None
# IAM's prefix of a service where it differs from moto's name.
PREFIXES = {"service-quotas": "servicequotas"}
# Error codes whose HTTP status is not 400.
HTTP_STATUS = {"DryRunOperation": 412, "UnauthorizedOperation": 403, "AccessDenied": 403}


class UnauthorizedOperation(EC2ClientError):
    """EC2 API reference, "Common client error codes"."""

    code = "UnauthorizedOperation"


class AccessDeniedException(ServiceException):
    """The code of services with a JSON protocol; those with a query protocol use AccessDenied."""

    code = "AccessDeniedException"


class AccessDenied(ServiceException):
    code = "AccessDenied"


def refusal(service: str, message: str) -> ServiceException:
    if service == "ec2":
        return UnauthorizedOperation(f"You are not authorized to perform this operation. {message}")
    return (AccessDenied if service in ("autoscaling", "iam", "sts") else AccessDeniedException)(message)


def request_params(response: Any) -> dict[str, Any]:
    """A call's parameters, with the names of the API reference."""
    if response.automated_parameter_parsing:
        return dict(response.params)
    return json.loads(response.body or "{}")


def call_of(response: Any, action: str, params: dict[str, Any]) -> authorize.Call:
    return authorize.Call(
        service=PREFIXES.get(response.service_name, response.service_name),
        action=action,
        region=response.region,
        account=response.current_account,
        partition=response.partition,
        principal=f"arn:{response.partition}:sts::{response.current_account}:user/moto",
        params=params,
    )


def refused(response: Any, action: str, params: dict[str, Any]) -> ServiceException | None:
    """The error for a call that the policies do not allow; None for an allowed one."""
    if POLICIES is None or response.access_key == os.environ.get("OWNER_KEY"):
        return None
    call = call_of(response, action, params)
    try:
        denied = authorize.denied(POLICIES, call, MotoWorld(call.account, call.partition))
    except authorize.UnknownCall as unknown:
        return refusal(call.service, str(unknown))
    return refusal(call.service, denied.message()) if denied else None


plain_call_action = BaseResponse.call_action


def answer(response: Any) -> Any:
    """Checks permissions, then DryRun, then calls moto."""
    params = request_params(response)
    error = refused(response, response._get_action(), params)
    if error is not None:
        raise error
    if params.get("DryRun") and response.service_name == "ec2":
        if not flag("IGNORE_DRY_RUN"):
            raise DryRunClientError()
        response.params.pop("DryRun")
    return tokens.replayed(response, lambda: plain_call_action(response))


def call_action(self: Any) -> Any:
    """Logs the call, waits for LATENCY_MS, and answers."""
    time.sleep(float(os.environ.get("LATENCY_MS", "0")) / 1000)
    if "CALLS_LOG" in os.environ:
        with open(os.environ["CALLS_LOG"], "a", encoding="utf-8") as log:
            log.write(f"{self.access_key} {self.service_name}:{self._get_action()} {self.region}\n")
    try:
        return answer(self)
    except ServiceException as error:
        status, headers, body = self.serialized(ActionResult(error))
        headers["status"] = str(HTTP_STATUS.get(error.code, status))
        return int(headers["status"]), headers, body


if __name__ == "__main__":
    for module in (consistency, images, limits, parameters, templates):
        module.install()
    images.may = lambda response, action, params: refused(response, action, params) is None
    if "AGENTS_PORT" in os.environ:
        agents.listen(int(os.environ["AGENTS_PORT"]))
    BaseResponse.call_action = call_action
    main(sys.argv[1:])
