"""Evaluation of identity-based IAM policies. moto ignores their resources and conditions (moto/iam/access_control.py, TODO list).

IAM user guide: "Policy evaluation logic" (a Deny wins, then an Allow, else the request is denied), "IAM JSON policy elements: Action,
NotAction, Resource, NotResource, Condition", "Condition operators", "Multivalued context keys", "Policy variables".

An unsupported element of a policy is an error and is never ignored. As a program it reads requests from standard input, a JSON list of
{"action", "resource", "context"}, and prints a JSON list of "allow: SID", "deny: SID" or "deny: no statement":

    policy.py POLICY_FILE < requests.json
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

Context = dict[str, str | list[str]]


class UnknownElement(Exception):
    """A policy has an element that this evaluator does not support."""


@dataclass(frozen=True)
class Request:
    """One action on one resource. Context keys are case-insensitive."""

    action: str
    resource: str
    context: Context

    def values(self, key: str) -> list[str] | None:
        """The values of a context key; None if the request does not have it."""
        for name, value in self.context.items():
            if name.lower() == key.lower():
                return [value] if isinstance(value, str) else list(value)
        return None


@dataclass(frozen=True)
class Decision:
    """Whether the policies allow a request, and the statement that decides; None if no statement applies."""

    allowed: bool
    statement: str | None

    def __str__(self) -> str:
        return f"{'allow' if self.allowed else 'deny'}: {self.statement or 'no statement'}"


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def scalar(value) -> str:
    """A value in the form that IAM compares: JSON's true is the text "true"."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def wildcard(pattern: str, text: str, ignore_case: bool = False) -> bool:
    """`*` matches any number of characters, `?` exactly one."""
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch("".join(parts), text, re.DOTALL | (re.IGNORECASE if ignore_case else 0)) is not None


VARIABLE = re.compile(r"\$\{([^}]*)\}")
# "Policy variables": ${*}, ${?} and ${$} are the literal characters.
LITERALS = {"*": "\0star\0", "?": "\0mark\0", "$": "$"}


def substituted(text: str, request: Request) -> str | None:
    """The text with policy variables substituted; None if one has no value, and then the text matches nothing."""
    missing = False

    def value(match: re.Match) -> str:
        nonlocal missing
        name, _, default = match.group(1).partition(",")
        if name in LITERALS:
            return LITERALS[name]
        values = request.values(name.strip())
        if values is not None and len(values) == 1:
            # The caller may control the value, so its characters are never wildcards.
            return values[0].replace("*", LITERALS["*"]).replace("?", LITERALS["?"])
        if default:
            return default.strip().strip("'")
        missing = True
        return ""

    result = VARIABLE.sub(value, text)
    return None if missing else result


def plain(text: str) -> str:
    return text.replace(LITERALS["*"], "*").replace(LITERALS["?"], "?")


def like(pattern: str, value: str) -> bool:
    """Matches a pattern; substituted characters are literal."""
    hidden = value.replace("*", LITERALS["*"]).replace("?", LITERALS["?"])
    return wildcard(pattern, hidden)


def arn_like(pattern: str, value: str) -> bool:
    """Matches the six parts of an ARN separately: `*` does not match across parts ("Amazon Resource Name (ARN) condition operators")."""
    patterns, values = pattern.split(":", 5), value.split(":", 5)
    return len(patterns) == len(values) == 6 and all(like(p, v) for p, v in zip(patterns, values))


# Compares one value of the policy with one of the request. A negated operator is true if no comparison is.
COMPARISONS = {
    "StringEquals": lambda expected, value: plain(expected) == value,
    "StringEqualsIgnoreCase": lambda expected, value: plain(expected).lower() == value.lower(),
    "StringLike": like,
    "ArnEquals": arn_like,
    "ArnLike": arn_like,
    "Bool": lambda expected, value: plain(expected).lower() == value.lower(),
}
NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def condition_holds(operator: str, key: str, expected: list[str], request: Request) -> bool:
    """Evaluates one key of one operator."""
    quantifier, _, name = operator.rpartition(":")
    if_exists = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    values = request.values(key)
    if name == "Null":
        if quantifier or if_exists or any(w.lower() not in ("true", "false") for w in expected):
            raise UnknownElement(f"{operator} {expected}")
        return any((values is None) == (w.lower() == "true") for w in expected)
    negated = name in NEGATED
    compare = COMPARISONS.get(NEGATED.get(name, name))
    if compare is None or quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise UnknownElement(f"condition operator {operator}")
    texts = [text for text in (substituted(w, request) for w in expected) if text is not None]

    def one(value: str) -> bool:
        return any(compare(text, value) for text in texts) != negated

    if quantifier == "ForAllValues":
        # True if the key is absent or has no values.
        return all(one(value) for value in values or [])
    if not values:
        return if_exists or (negated and not quantifier)
    if quantifier == "ForAnyValue":
        return any(one(value) for value in values)
    # Without a quantifier a key should have one value. With several, a negated operator must hold for all of them, another for one.
    return all(one(value) for value in values) if negated else any(one(value) for value in values)


ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}


def applies(statement: dict, request: Request) -> bool:
    """True if the statement matches the request."""
    unknown = set(statement) - ELEMENTS
    if unknown or ("Action" in statement) == ("NotAction" in statement) or ("Resource" in statement) == ("NotResource" in statement):
        raise UnknownElement(f"statement {statement.get('Sid')}: {sorted(unknown) or 'one of Action and NotAction, Resource and NotResource'}")
    actions = as_list(statement.get("Action", statement.get("NotAction")))
    if any(wildcard(a, request.action, ignore_case=True) for a in actions) != ("Action" in statement):
        return False
    patterns = (substituted(r, request) for r in as_list(statement.get("Resource", statement.get("NotResource"))))
    if any(p is not None and like(p, request.resource) for p in patterns) != ("Resource" in statement):
        return False
    return all(
        condition_holds(operator, key, [scalar(v) for v in as_list(expected)], request)
        for operator, keys in statement.get("Condition", {}).items()
        for key, expected in keys.items()
    )


def evaluate(policies: list[dict], request: Request) -> Decision:
    """An explicit Deny overrides every Allow; a request that no statement allows is denied."""
    allowed = None
    for policy in policies:
        for number, statement in enumerate(as_list(policy["Statement"])):
            if statement["Effect"] not in ("Allow", "Deny"):
                raise UnknownElement(f"effect {statement['Effect']}")
            if applies(statement, request):
                name = statement.get("Sid", str(number))
                if statement["Effect"] == "Deny":
                    return Decision(False, name)
                allowed = allowed or Decision(True, name)
    return allowed or Decision(False, None)


def load(path: str) -> list[dict]:
    """A file with one policy or a list of them."""
    return as_list(json.loads(Path(path).read_text(encoding="utf-8")))


if __name__ == "__main__":
    POLICIES = load(sys.argv[1])
    REQUESTS = [Request(r["action"], r["resource"], r.get("context", {})) for r in json.load(sys.stdin)]
    print(json.dumps([str(evaluate(POLICIES, request)) for request in REQUESTS]))
