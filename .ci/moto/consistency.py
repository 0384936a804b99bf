"""Eventual consistency (EC2 developer guide, "Eventual consistency in the Amazon EC2 API").

CONSISTENCY_SECONDS: for this time after its creation an image is missing in the response of DescribeImages, and its id is unknown
(`InvalidAMIID.NotFound`); for this time after a change of a tag, responses contain its old value. Mutating calls see the current state, and
IAM evaluates the current tags.
"""

import time
from types import SimpleNamespace
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidAMIIdError
from moto.ec2.models.tags import TagBackend

from env import seconds

plain_create, plain_describe = TagBackend.create_tags, TagBackend.describe_tags
plain_delete = TagBackend.delete_tags
# For each changed tag: the time, and the value before (None if it had none).
Changes = dict[tuple[str, str], tuple[float, str | None]]


def changes(backend: Any) -> Changes:
    return backend.__dict__.setdefault("tag_changes", {})


def is_fresh(since: float) -> bool:
    return time.monotonic() - since < seconds("CONSISTENCY_SECONDS")


def note(backend: Any, resource: str, key: str) -> None:
    """Keeps the value that responses still contain."""
    known = changes(backend).get((resource, key))
    # After two changes in a row, responses contain the value before the first one.
    before = known[1] if known and is_fresh(known[0]) else backend.tags.get(resource, {}).get(key)
    changes(backend)[resource, key] = (time.monotonic(), before)


def create_tags(self: Any, resource_ids: list[str], tags: dict[str, str]) -> bool:
    for resource in resource_ids:
        for key in tags:
            note(self, resource, key)
    return plain_create(self, resource_ids, tags)


def delete_tags(self: Any, resource_ids: list[str], tags: dict[str, str]) -> bool:
    for resource in resource_ids:
        for key in tags:
            note(self, resource, key)
    return plain_delete(self, resource_ids, tags)


def shown(backend: Any) -> dict[str, dict[str, str]]:
    """The tags that responses contain."""
    tags = {resource: dict(of) for resource, of in backend.tags.copy().items()}
    for (resource, key), (since, before) in list(changes(backend).items()):
        if not is_fresh(since):
            changes(backend).pop((resource, key), None)
        elif before is None:
            tags.get(resource, {}).pop(key, None)
        else:
            tags.setdefault(resource, {})[key] = before
    return tags


def describe_tags(self: Any, filters: dict[str, list[str]] | None = None) -> list[dict[str, str]]:
    return plain_describe(SimpleNamespace(tags=shown(self), VALID_TAG_FILTERS=TagBackend.VALID_TAG_FILTERS), filters)


def visible(response: Any, answer: ActionResult) -> ActionResult:
    """The response of DescribeImages without images that are not visible yet."""
    born = response.ec2_backend.__dict__.setdefault("images_born", {})
    hidden = [ami.id for ami in answer.result["Images"] if ami.id in born and is_fresh(born[ami.id])]
    if hidden and response._get_param("ImageIds", []):
        raise InvalidAMIIdError(hidden)
    images = [ami for ami in answer.result["Images"] if ami.id not in hidden]
    return ActionResult({**answer.result, "Images": images})


def make(response: Any, ami: Any) -> None:
    """Records the creation time of an image."""
    response.ec2_backend.__dict__.setdefault("images_born", {})[ami.id] = time.monotonic()


def install() -> None:
    if seconds("CONSISTENCY_SECONDS"):
        TagBackend.create_tags, TagBackend.delete_tags = create_tags, delete_tags
        TagBackend.describe_tags = describe_tags
