"""Behaviour of EC2 images that moto lacks: unique names, tags of copies and snapshots, deprecation, disabling, protection, references.

EC2 API reference: CreateImage, CopyImage, DeregisterImage, DescribeImages, EnableImageDeprecation, DisableImage,
EnableImageDeregistrationProtection, DescribeImageReferences; EC2 user guide, "Disable an Amazon EC2 AMI", "Protect an Amazon EC2 AMI from
deregistration", "Identify your resources referencing specified AMIs".

COPY_SECONDS: time for which copies are pending. COOLDOWN_SECONDS: replaces the 24 hours of the protection cooldown. LAUNCH_REPORT_SECONDS:
replaces the 24 hours after which lastLaunchedTime contains a launch.
"""

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any, Callable

import consistency
from env import seconds
from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError, InvalidAMIIdError
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import AmiBackend
from moto.ec2.models.elastic_block_store import EBSBackend
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.responses.instances import InstanceResponse
from moto.ssm.models import ssm_backends


class DuplicateName(EC2ClientError):
    """CreateImage, CopyImage: image names are unique in an account and region."""

    def __init__(self, name: str, ami: Any):
        super().__init__("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {ami.id}")


class Refused(EC2ClientError):
    """An error with a given code and message."""


def tags_of(specifications: list[dict], kind: str) -> list[dict]:
    return [t for s in specifications if s["ResourceType"] == kind for t in s["Tags"]]


def refuse_taken_name(backend: Any, name: str) -> None:
    for ami in backend.amis.values():
        if ami.name == name and ami.owner_id == backend.account_id:
            raise DuplicateName(name, ami)


def own(response: Any) -> Any:
    """The image that a call names."""
    ami = response.ec2_backend.amis.get(response._get_param("ImageId"))
    if ami is None:
        raise InvalidAMIIdError(response._get_param("ImageId"))
    return ami


def create_image(self: Any) -> ActionResult:
    """CreateImage: supports TagSpecification.N for snapshots, and requires a unique name."""
    backend, name = self.ec2_backend, self._get_param("Name")
    specifications = self._get_param("TagSpecifications", [])
    refuse_taken_name(backend, name)
    images = [s for s in specifications if s["ResourceType"] == "image"]
    ami = AmiBackend.create_image(
        backend, self._get_param("InstanceId"), name, self._get_param("Description", ""), tag_specifications=images
    )
    for tag in tags_of(specifications, "snapshot"):
        ami.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
    consistency.make(self, ami)
    return ActionResult({"ImageId": ami.id})


def copy_image(self: Any) -> ActionResult:
    """CopyImage: supports CopyImageTags and TagSpecification.N, and records the source image."""
    backend, region = self.ec2_backend, self._get_param("SourceRegion")
    name, source_id = self._get_param("Name"), self._get_param("SourceImageId")
    refuse_taken_name(backend, name)
    source = ec2_backends[backend.account_id][region].amis.get(source_id)
    if source is None or source.state != "available":
        raise InvalidAMIIdError(source_id)
    ami = backend.copy_image(source_id, region, name, self._get_param("Description"))
    ami.source_image_id, ami.source_image_region = source_id, region
    if self._get_param("CopyImageTags"):
        for key, value in source.ec2_backend.tags.get(source_id, {}).items():
            ami.add_tag(key, value)
    specifications = self._get_param("TagSpecifications", [])
    for tag in tags_of(specifications, "image"):
        ami.add_tag(tag["Key"], tag["Value"])
    for tag in tags_of(specifications, "snapshot"):
        ami.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
    take_a_while(ami, "state", "pending")
    consistency.make(self, ami)
    return ActionResult({"ImageId": ami.id})


def take_a_while(thing: Any, attribute: str, meanwhile: str) -> None:
    """Sets an attribute to `meanwhile` for COPY_SECONDS."""
    delay = seconds("COPY_SECONDS")
    if delay:
        then = getattr(thing, attribute)
        setattr(thing, attribute, meanwhile)
        timer = threading.Timer(delay, setattr, (thing, attribute, then))
        timer.daemon = True
        timer.start()


plain_copy_snapshot = EBSBackend.copy_snapshot


def copy_snapshot(self: Any, *args: Any, **kwargs: Any) -> Any:
    """CopySnapshot: the copy is `pending` first."""
    snapshot = plain_copy_snapshot(self, *args, **kwargs)
    take_a_while(snapshot, "status", "pending")
    return snapshot


plain_describe = AmisResponse.describe_images


def describe_images(self: Any) -> ActionResult:
    """DescribeImages: disabled images only with IncludeDisabled, deprecated ones of other owners only with IncludeDeprecated."""
    answer = plain_describe(self)
    disabled, deprecated = self._get_param("IncludeDisabled", False), self._get_param("IncludeDeprecated", False)
    now = timestamp(datetime.now(timezone.utc))

    def shown(ami: Any) -> bool:
        if ami.state == "disabled" and not disabled:
            return False
        old = getattr(ami, "deprecation_time", None)
        return not old or old > now or deprecated or ami.owner_id == self.current_account

    answer = ActionResult({**answer.result, "Images": [ami for ami in answer.result["Images"] if shown(ami)]})
    return consistency.visible(self, answer)


def timestamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def enable_image_deprecation(self: Any) -> ActionResult:
    """EnableImageDeprecation: requires a time in the future and rounds it to the minute."""
    ami, at = own(self), self._get_param("DeprecateAt")
    at = at if isinstance(at, datetime) else datetime.fromisoformat(str(at).replace("Z", "+00:00"))
    at = at.replace(tzinfo=at.tzinfo or timezone.utc).astimezone(timezone.utc)
    if at <= datetime.now(timezone.utc):
        raise Refused("InvalidParameterValue", "DeprecateAt must be in the future")
    ami.deprecation_time = timestamp((at + timedelta(seconds=30)).replace(second=0, microsecond=0))
    return ActionResult({"Return": True})


def disable_image_deprecation(self: Any) -> ActionResult:
    own(self).deprecation_time = None
    return ActionResult({"Return": True})


def disable_image(self: Any) -> ActionResult:
    """DisableImage: requires an available image, and removes its launch permissions."""
    ami = own(self)
    if ami.state != "available":
        raise Refused("InvalidAMIID.Unavailable", f"The image {ami.id} is {ami.state}")
    ami.state, ami.launch_permissions = "disabled", []
    return ActionResult({"Return": True})


def enable_image(self: Any) -> ActionResult:
    ami = own(self)
    if ami.state == "disabled":
        ami.state = "available"
    return ActionResult({"Return": True})


def enable_protection(self: Any) -> ActionResult:
    """EnableImageDeregistrationProtection, with or without a cooldown."""
    ami = own(self)
    kind = "with" if self._get_param("WithCooldown", False) else "without"
    ami.deregistration_protection, ami.protected_until = f"enabled-{kind}-cooldown", None
    return ActionResult({"Return": ami.deregistration_protection})


def disable_protection(self: Any) -> ActionResult:
    """DisableImageDeregistrationProtection: with a cooldown, the protection lasts for another 24 hours."""
    ami = own(self)
    if getattr(ami, "deregistration_protection", "") == "enabled-with-cooldown":
        ami.protected_until = time.monotonic() + seconds("COOLDOWN_SECONDS")
    ami.deregistration_protection = "disabled"
    return ActionResult({"Return": "disabled"})


def is_protected(ami: Any) -> bool:
    enabled = getattr(ami, "deregistration_protection", "").startswith("enabled")
    return enabled or (getattr(ami, "protected_until", None) or float("-inf")) > time.monotonic()


# Set by serve.py: True if the policies allow the caller another call.
may: Callable[[Any, str, dict], bool] = lambda response, action, params: True


def deregister_image(self: Any) -> ActionResult:
    """DeregisterImage: refuses protected images, and supports DeleteAssociatedSnapshots. The error code is undocumented; this is the one of
    instances with termination protection."""
    backend, id = self.ec2_backend, self._get_param("ImageId")
    ami = backend.amis.get(id)
    if ami is not None and is_protected(ami):
        raise Refused("OperationNotPermitted", f"The image {id} is protected from deregistration")
    backend.deregister_image(id)
    if not self._get_param("DeleteAssociatedSnapshots", False):
        return ActionResult({"Return": True})
    snapshot = ami.ebs_snapshot.id
    used = any(other.ebs_snapshot.id == snapshot for other in backend.amis.values())
    if used or snapshot not in backend.snapshots:
        code = "skipped"
    elif not may(self, "DeleteSnapshot", {"SnapshotId": snapshot}):
        code = "missing-permissions"
    else:
        backend.delete_snapshot(snapshot)
        code = "success"
    return ActionResult({"Return": True, "DeleteSnapshotResults": [{"SnapshotId": snapshot, "ReturnCode": code}]})


plain_attribute = AmisResponse.describe_image_attribute


def last_launched(ami: Any) -> str | None:
    """The last launch of an image that is older than LAUNCH_REPORT_SECONDS."""
    reported = [at for at, since in getattr(ami, "launches", []) if time.monotonic() - since >= seconds("LAUNCH_REPORT_SECONDS")]
    return reported[-1] if reported else None


def describe_image_attribute(self: Any) -> ActionResult:
    """DescribeImageAttribute: supports lastLaunchedTime."""
    if self._get_param("Attribute") != "lastLaunchedTime":
        return plain_attribute(self)
    ami = own(self)
    return ActionResult({"ImageId": ami.id, "LastLaunchedTime": {"Value": last_launched(ami)}})


plain_run_instances = InstanceResponse.run_instances


def run_instances(self: Any) -> ActionResult:
    """RunInstances: requires an available image, and records the launch."""
    ami = self.ec2_backend.amis.get(self._get_param("ImageId"))
    if ami is not None and ami.state != "available":
        raise Refused("InvalidAMIID.Unavailable", f"The image id '[{ami.id}]' is not available: it is {ami.state}")
    answer = plain_run_instances(self)
    if ami is not None:
        now = timestamp(datetime.now(timezone.utc))
        ami.__dict__.setdefault("launches", []).append((now, time.monotonic()))
    return answer


def references(response: Any, ami: str, kind: str, options: dict[str, list[str]]) -> list[str]:
    """The ARNs of resources that refer to an image."""
    account, region, partition = response.current_account, response.region, response.partition
    ec2 = f"arn:{partition}:ec2:{region}:{account}"
    backend = response.ec2_backend
    if kind == "ec2:Instance":
        states = options.get("state-name")
        instances = (i for r in backend.describe_instances() for i in r.instances)
        return [f"{ec2}:instance/{i.id}" for i in instances if i.image_id == ami and (not states or i.state in states)]
    if kind == "ec2:LaunchTemplate":
        depth = int(options.get("version-depth", ["20"])[0])
        templates = backend.launch_templates.values()
        return [f"{ec2}:launch-template/{t.id}" for t in templates if any(v.image_id == ami for v in t.versions[-depth:])]
    if kind == "ssm:Parameter":
        held = ssm_backends[account][region]._parameters.values()
        return [
            f"arn:{partition}:ssm:{region}:{account}:parameter/{versions[-1].name.lstrip('/')}"
            for versions in held
            if versions and versions[-1].data_type == "aws:ec2:image" and versions[-1].value == ami
        ]
    # moto does not implement Image Builder, so there are no recipes.
    return []


KINDS = ["ec2:Instance", "ec2:LaunchTemplate", "ssm:Parameter", "imagebuilder:ImageRecipe", "imagebuilder:ContainerRecipe"]


def describe_image_references(self: Any) -> ActionResult:
    """DescribeImageReferences: by default, instances in all states and the newest 20 versions of each launch template."""
    options = {
        t["ResourceType"]: {o["OptionName"]: o["OptionValues"] for o in t.get("ResourceTypeOptions", [])}
        for t in self._get_param("ResourceTypes", [])
    }
    everything = self._get_param("IncludeAllResourceTypes", False)
    if not options and not everything:
        raise Refused("MissingParameter", "Either IncludeAllResourceTypes or ResourceTypes must be specified")
    found = [
        {"ImageId": ami, "ResourceType": kind, "Arn": arn}
        for ami in self._get_param("ImageIds", [])
        for kind in KINDS
        if everything or kind in options
        for arn in references(self, ami, kind, options.get(kind, {}))
    ]
    start, most = int(self._get_param("NextToken") or 0), int(self._get_param("MaxResults") or 1000)
    answer: dict[str, Any] = {"ImageReferences": found[start : start + most]}
    if start + most < len(found):
        answer["NextToken"] = str(start + most)
    return ActionResult(answer)


def install() -> None:
    AmisResponse.create_image, AmisResponse.copy_image = create_image, copy_image
    AmisResponse.describe_images, AmisResponse.describe_image_attribute = describe_images, describe_image_attribute
    AmisResponse.enable_image_deprecation = enable_image_deprecation
    AmisResponse.disable_image_deprecation = disable_image_deprecation
    AmisResponse.disable_image, AmisResponse.enable_image = disable_image, enable_image
    AmisResponse.enable_image_deregistration_protection = enable_protection
    AmisResponse.disable_image_deregistration_protection = disable_protection
    AmisResponse.deregister_image = deregister_image
    AmisResponse.describe_image_references = describe_image_references
    EBSBackend.copy_snapshot = copy_snapshot
    InstanceResponse.run_instances = run_instances
    # DescribeImages, "lastLaunchedTime".
    from moto.ec2.models.amis import Ami

    Ami.last_launched_time = property(last_launched)
