"""Client tokens (EC2 developer guide, "Ensuring idempotency in Amazon EC2 API requests").

The same token with the same parameters returns the first response, whatever the state of the created resource; with other parameters it
returns `IdempotentParameterMismatch`. A token is specific to its region and Availability Zone: in another one it is another request.
"""

import threading
from typing import Any, Callable

from moto.ec2.exceptions import EC2ClientError

ACTIONS = ["CopyImage", "RunInstances"]
LOCK = threading.Lock()
# A lock for each token: a second request waits for the response of the first.
TOKENS: dict[tuple, tuple[threading.Lock, dict[str, Any]]] = {}


class IdempotentParameterMismatch(EC2ClientError):
    def __init__(self, token: str):
        super().__init__(
            "IdempotentParameterMismatch",
            f"The client token {token} was used before with different parameters",
        )


def zone(response: Any) -> str:
    """The Availability Zone of a request, given directly or by a subnet."""
    interfaces = response._get_param("NetworkInterfaces", [])
    subnets = [response._get_param("SubnetId"), *(i.get("SubnetId") for i in interfaces)]
    for subnet in filter(None, subnets):
        for name, there in response.ec2_backend.subnets.items():
            if subnet in there:
                return name
    return (response._get_param("Placement") or {}).get("AvailabilityZone", "")


def parameters(response: Any) -> str:
    """The parameters of a request that are compared."""
    compared = {k: v for k, v in response.params.items() if k not in ("ClientToken", "DryRun")}
    return repr(sorted(compared.items()))


def replayed(response: Any, act: Callable[[], Any]) -> Any:
    """Executes a call, or returns the response of an earlier one with the same token."""
    token = response._get_param("ClientToken")
    if response.service_name != "ec2" or response._get_action() not in ACTIONS or not token:
        return act()
    key = (response.current_account, response.region, zone(response), response._get_action(), token)
    with LOCK:
        lock, known = TOKENS.setdefault(key, (threading.Lock(), {}))
    with lock:
        if not known:
            answer = act()
            if int(answer[0]) >= 300:
                return answer
            known.update(answer=answer, parameters=parameters(response))
        elif known["parameters"] != parameters(response):
            raise IdempotentParameterMismatch(token)
    status, headers, body = known["answer"]
    return status, dict(headers), body
