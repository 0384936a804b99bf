"""The IAM requests that EC2, Systems Manager and KMS make for a call: each action with each resource and its context keys.

Service Authorization Reference, "Actions, resources, and condition keys" for Amazon EC2, AWS Systems Manager, AWS KMS and AWS Identity and
Access Management: which resources an action requires, and which of them have aws:RequestTag (resources that the call creates) or
aws:ResourceTag (existing resources). EC2 API reference, "DryRun": permissions are checked first. A call that is not in the tables below is
refused, so that no call passes without a decision.
"""

import fnmatch
from dataclasses import dataclass
from typing import Any, Protocol

from policy import Context, Decision, Request, evaluate


class World(Protocol):
    """The existing resources, as far as decisions depend on them."""

    def tags(self, region: str, kind: str, name: str) -> dict[str, str]: ...

    def owner(self, region: str, kind: str, name: str) -> str | None: ...

    def roles(self, profile: dict[str, str]) -> list[str]:
        """The ARNs of an instance profile's roles; none for a profile that does not exist."""

    def group(self, region: str, name: str) -> str: ...


@dataclass(frozen=True)
class Call:
    """A call. `params` have the names of the API reference."""

    service: str
    action: str
    region: str
    account: str
    partition: str
    principal: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Denied:
    """A request that the policies do not allow."""

    request: Request
    decision: Decision
    principal: str

    def message(self) -> str:
        """The message of the services (IAM user guide, "Troubleshoot access denied error messages")."""
        request = self.request
        if self.decision.statement is None:
            why = f"because no identity-based policy allows the {request.action} action"
        else:
            why = "with an explicit deny in an identity-based policy"
        return f"User: {self.principal} is not authorized to perform: {request.action} on resource: {request.resource} {why}"


class UnknownCall(Exception):
    """A call whose resources are not in the tables."""

    def __init__(self, call: Call):
        super().__init__(f"the endpoint has no IAM requests for {call.service}:{call.action}: add them to .ci/moto/authorize.py")


def denied(policies: list[dict], call: Call, world: World) -> Denied | None:
    """The first request that the policies do not allow, if there is one."""
    for request in Checks(call, world).all():
        decision = evaluate(policies, request)
        if not decision.allowed:
            return Denied(request, decision, call.principal)
    return None


# Actions without resource types: their resource is "*".
ANYTHING = [
    "autoscaling:Describe*",
    "ec2:ListImagesInRecycleBin",
    "servicequotas:GetServiceQuota",
    "ssm:DescribeInstanceInformation",
    "ssm:DescribeParameters",
    "ssm:GetCommandInvocation",
]

# EC2 actions on existing resources: the kind of resource and the parameter that names it.
EXISTING = {
    "AuthorizeSecurityGroupIngress": ("security-group", "GroupId"),
    "DeleteKeyPair": ("key-pair", "KeyName"),
    "DeleteSecurityGroup": ("security-group", "GroupId"),
    "DeleteSnapshot": ("snapshot", "SnapshotId"),
    "DeleteVolume": ("volume", "VolumeId"),
    "DeregisterImage": ("image", "ImageId"),
    "DescribeImageAttribute": ("image", "ImageId"),
    "DescribeInstanceAttribute": ("instance", "InstanceId"),
    "DisableImage": ("image", "ImageId"),
    "DisableImageDeprecation": ("image", "ImageId"),
    "DisableImageDeregistrationProtection": ("image", "ImageId"),
    "EnableImage": ("image", "ImageId"),
    "EnableImageDeprecation": ("image", "ImageId"),
    "EnableImageDeregistrationProtection": ("image", "ImageId"),
    "GetConsoleOutput": ("instance", "InstanceId"),
    "ModifyImageAttribute": ("image", "ImageId"),
    "ModifyInstanceAttribute": ("instance", "InstanceId"),
    "RebootInstances": ("instance", "InstanceIds"),
    "RevokeSecurityGroupIngress": ("security-group", "GroupId"),
    "StartInstances": ("instance", "InstanceIds"),
    "StopInstances": ("instance", "InstanceIds"),
    "TerminateInstances": ("instance", "InstanceIds"),
}

# EC2 user guide, "Resource IDs".
KINDS = {
    "ami": "image",
    "eni": "network-interface",
    "i": "instance",
    "key": "key-pair",
    "lt": "launch-template",
    "sg": "security-group",
    "sir": "spot-instances-request",
    "snap": "snapshot",
    "subnet": "subnet",
    "vol": "volume",
    "vpc": "vpc",
}

# ARNs of these have no account (Service Authorization Reference, "Resource types defined by Amazon EC2").
NO_ACCOUNT = ["image", "snapshot"]

# EBS user guide, "Requirements for Amazon EBS encryption": actions on a key that EBS performs for the caller.
USES_OF_KEY = ["CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"]

# Actions that DescribeImageReferences performs for the caller (managed policy AmazonEC2ImageReferencesAccessPolicy).
REFERENCES = {
    "ec2:Instance": ["ec2:DescribeInstances"],
    "ec2:LaunchTemplate": ["ec2:DescribeLaunchTemplates", "ec2:DescribeLaunchTemplateVersions"],
    "ssm:Parameter": ["ssm:DescribeParameters", "ssm:GetParameters"],
    "imagebuilder:ImageRecipe": ["imagebuilder:ListImageRecipes"],
    "imagebuilder:ContainerRecipe": ["imagebuilder:ListContainerRecipes", "imagebuilder:GetContainerRecipe"],
}


def as_list(value: Any) -> list:
    return [] if value is None else value if isinstance(value, list) else [value]


def tagged(keys: tuple[str, ...], tags: dict[str, str]) -> Context:
    """Tags as context keys: `aws:RequestTag/KEY`."""
    return {f"{key}/{name}": value for key in keys for name, value in tags.items()}


class Checks:
    """The IAM requests of a call."""

    def __init__(self, call: Call, world: World):
        self.call, self.world, self.params = call, world, call.params
        self.requests: list[Request] = []
        self.common: Context = {
            "aws:PrincipalAccount": call.account,
            "aws:PrincipalArn": call.principal,
            "aws:RequestedRegion": call.region,
            "aws:SecureTransport": "true",
        }
        if call.service == "ec2":
            self.common["ec2:Region"] = call.region

    def all(self) -> list[Request]:
        call = self.call
        name = f"{call.service}:{call.action}"
        own = getattr(self, f"{call.service}_{call.action}", None)
        if own is not None:
            own()
        elif call.service == "ec2" and call.action in EXISTING:
            kind, parameter = EXISTING[call.action]
            self.existing(kind, self.named(kind, parameter))
        elif any(fnmatch.fnmatchcase(name, known) for known in ANYTHING) or self.describes():
            self.ask(name, "*", {})
        else:
            raise UnknownCall(call)
        return self.requests

    def describes(self) -> bool:
        """EC2 has no resource types for its Describe actions, except for those of attributes."""
        action = self.call.action
        return self.call.service == "ec2" and action.startswith("Describe") and not action.endswith("Attribute")

    def ask(self, action: str, resource: str, context: Context) -> None:
        self.requests.append(Request(action, resource, {**self.common, **context}))

    def arn(self, kind: str, name: str, region: str | None = None) -> str:
        account = "" if kind in NO_ACCOUNT else self.call.account
        return f"arn:{self.call.partition}:ec2:{region or self.call.region}:{account}:{kind}/{name}"

    def named(self, kind: str, parameter: str) -> list[str]:
        """The ids in a parameter; a call may also give the name of a group and the id of a key pair."""
        names = as_list(self.params.get(parameter))
        if not names and kind == "security-group" and self.params.get("GroupName"):
            names = [self.world.group(self.call.region, self.params["GroupName"])]
        return names or as_list(self.params.get("KeyPairId")) or ["*"]

    def existing(self, kind: str, names: list[str], context: Context | None = None) -> None:
        """The call's action on existing resources, with their tags and owner."""
        region = self.call.region
        for name in names:
            found = tagged(("aws:ResourceTag", "ec2:ResourceTag"), self.world.tags(region, kind, name))
            owner = self.world.owner(region, kind, name)
            if owner is not None:
                found |= {"aws:ResourceAccount": owner, "ec2:Owner": owner}
            self.ask(f"ec2:{self.call.action}", self.arn(kind, name), {**found, **(context or {})})

    def made(self, kind: str, name: str = "*", context: Context | None = None) -> None:
        """The call's action on a resource that it creates, and ec2:CreateTags if the call tags that resource ("Supported resource-level
        permissions to tag resources during creation")."""
        arn, tags = self.arn(kind, name), self.request_tags(kind)
        context = {**self.requested(tags), **(context or {})}
        # RunInstances creates spot requests, but has no resource type for them: only their tags are checked.
        if kind != "spot-instances-request":
            self.ask(f"ec2:{self.call.action}", arn, context)
        if tags:
            self.ask("ec2:CreateTags", arn, {**context, "ec2:CreateAction": self.call.action})

    def request_tags(self, kind: str) -> dict[str, str]:
        """The tags that the call puts on the resources of a kind that it creates. Tags of other kinds are not request tags of this one."""
        specifications = [s for s in as_list(self.params.get("TagSpecifications")) if s.get("ResourceType") == kind]
        return {t["Key"]: t.get("Value", "") for s in specifications for t in s.get("Tags", [])}

    def requested(self, tags: dict[str, str]) -> Context:
        return {**tagged(("aws:RequestTag",), tags), "aws:TagKeys": list(tags)} if tags else {}

    def ec2_RunInstances(self) -> None:
        params, interfaces = self.params, as_list(self.params.get("NetworkInterfaces"))
        self.existing("image", [params.get("ImageId", "*")])
        profile = params.get("IamInstanceProfile") or {}
        instance: Context = {"ec2:InstanceType": params.get("InstanceType", "m1.small")}
        if profile:
            instance["ec2:InstanceProfile"] = profile.get("Arn") or (
                f"arn:{self.call.partition}:iam::{self.call.account}:instance-profile/{profile.get('Name')}"
            )
        self.made("instance", context=instance)
        self.made("volume")
        used = [i["NetworkInterfaceId"] for i in interfaces if i.get("NetworkInterfaceId")]
        self.existing("network-interface", used)
        if not used:
            self.made("network-interface")
        subnets = [s for s in [params.get("SubnetId"), *(i.get("SubnetId") for i in interfaces)] if s]
        self.existing("subnet", subnets or ["*"])
        groups = [*as_list(params.get("SecurityGroupIds")), *(g for i in interfaces for g in as_list(i.get("Groups")))]
        groups += [self.world.group(self.call.region, name) for name in as_list(params.get("SecurityGroups"))]
        self.existing("security-group", groups or ["*"])
        self.existing("key-pair", as_list(params.get("KeyName")))
        disks = [m["Ebs"] for m in as_list(params.get("BlockDeviceMappings")) if m.get("Ebs")]
        self.existing("snapshot", [d["SnapshotId"] for d in disks if d.get("SnapshotId")])
        template = params.get("LaunchTemplate") or {}
        self.existing("launch-template", as_list(template.get("LaunchTemplateId")))
        if (params.get("InstanceMarketOptions") or {}).get("MarketType") == "spot":
            self.made("spot-instances-request")
        for role in self.world.roles(profile) if profile else []:
            # IAM user guide, "Grant a user permissions to pass a role to an AWS service".
            self.ask("iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"})
        for disk in disks:
            self.key(disk.get("KmsKeyId"))

    def ec2_CreateImage(self) -> None:
        self.existing("instance", [self.params.get("InstanceId", "*")])
        self.made("image")
        self.made("snapshot")

    def ec2_CopyImage(self) -> None:
        """The source is an image in SourceRegion, without aws:ResourceTag; the copy has the request's tags."""
        source, region = self.params.get("SourceImageId", "*"), self.params.get("SourceRegion")
        owner = self.world.owner(region or self.call.region, "image", source)
        context: Context = {"ec2:ImageID": source} | ({"ec2:Owner": owner} if owner else {})
        self.ask("ec2:CopyImage", self.arn("image", source, region), context)
        self.made("image")
        self.made("snapshot")
        self.key(self.params.get("KmsKeyId"))

    def ec2_CreateSecurityGroup(self) -> None:
        self.made("security-group")
        self.existing("vpc", as_list(self.params.get("VpcId")))

    def ec2_ImportKeyPair(self) -> None:
        self.made("key-pair", self.params.get("KeyName", "*"))

    ec2_CreateKeyPair = ec2_ImportKeyPair

    def ec2_CreateTags(self) -> None:
        tags = {t["Key"]: t.get("Value", "") for t in as_list(self.params.get("Tags"))}
        for name in as_list(self.params.get("Resources")):
            kind = KINDS.get(name.split("-")[0])
            if kind is None:
                raise UnknownCall(self.call)
            self.existing(kind, [name], self.requested(tags))

    ec2_DeleteTags = ec2_CreateTags

    def ec2_DescribeImageReferences(self) -> None:
        self.ask("ec2:DescribeImageReferences", "*", {})
        requested = [t["ResourceType"] for t in as_list(self.params.get("ResourceTypes"))]
        for kind, actions in REFERENCES.items():
            if self.params.get("IncludeAllResourceTypes") or kind in requested:
                for action in actions:
                    self.ask(action, "*", {"aws:CalledVia": ["ec2-images.amazonaws.com"]})

    def named_key(self, key: str) -> tuple[str, Context]:
        """A key's ARN, and the context key with its aliases, the only way a policy can refer to an alias (KMS developer guide,
        "kms:ResourceAliases")."""
        call, names = self.call, Context()
        if "alias/" in key:
            names = {"kms:ResourceAliases": [key[key.index("alias/") :]]}
            key = "00000000-0000-0000-0000-000000000000"
        arn = key if key.startswith("arn:") else f"arn:{call.partition}:kms:{call.region}:{call.account}:key/{key}"
        return arn, names

    def kms_DescribeKey(self) -> None:
        arn, names = self.named_key(self.params["KeyId"])
        self.ask("kms:DescribeKey", arn, {"kms:CallerAccount": self.call.account, **names})

    def key(self, key: str | None) -> None:
        """A customer managed key, by id, ARN or alias. A DryRun does not use the key."""
        if not key or self.params.get("DryRun"):
            return
        call = self.call
        arn, names = self.named_key(key)
        via = {"kms:CallerAccount": call.account, "kms:ViaService": f"ec2.{call.region}.amazonaws.com"}
        for action in USES_OF_KEY:
            grant = {"kms:GrantIsForAWSResource": "true"} if action == "CreateGrant" else {}
            self.ask(f"kms:{action}", arn, {**via, **names, **grant})

    def parameter(self, name: str, action: str | None = None, context: Context | None = None) -> None:
        """A parameter by name, ARN or selector ("PARAMETER:VERSION"); the ARN of a public one has no account (Systems Manager user
        guide, "Calling AMI public parameters")."""
        call = self.call
        path = name.split(":parameter", 1)[1] if name.startswith("arn:") else name
        path = path.split(":")[0].lstrip("/")
        account = "" if path.startswith("aws/service/") else call.account
        tags = self.world.tags(call.region, "parameter", "/" + path if "/" in path else path)
        self.ask(
            f"ssm:{action or call.action}",
            f"arn:{call.partition}:ssm:{call.region}:{account}:parameter/{path}",
            {**tagged(("aws:ResourceTag", "ssm:resourceTag"), tags), **(context or {})},
        )

    def ssm_GetParameter(self) -> None:
        self.parameter(self.params["Name"])

    ssm_DeleteParameter = ssm_GetParameter
    ssm_GetParameterHistory = ssm_GetParameter

    def ssm_GetParameters(self) -> None:
        for name in self.params["Names"]:
            self.parameter(name)

    ssm_DeleteParameters = ssm_GetParameters

    def ssm_GetParametersByPath(self) -> None:
        self.parameter(self.params["Path"])

    def ssm_PutParameter(self) -> None:
        tags = {t["Key"]: t["Value"] for t in self.params.get("Tags") or []}
        context = {**self.requested(tags), "ssm:Overwrite": str(bool(self.params.get("Overwrite"))).lower()}
        self.parameter(self.params["Name"], context=context)
        if tags:
            self.parameter(self.params["Name"], "AddTagsToResource", self.requested(tags))
        if self.params.get("DataType") == "aws:ec2:image":
            # Systems Manager user guide, "Grant permissions to create a parameter of aws:ec2:image data type".
            self.ask("ec2:DescribeImages", "*", {})

    def ssm_SendCommand(self) -> None:
        call, document = self.call, self.params["DocumentName"]
        owner = "" if document.startswith("AWS-") else call.account
        self.ask("ssm:SendCommand", f"arn:{call.partition}:ssm:{call.region}:{owner}:document/{document}", {})
        for node in as_list(self.params.get("InstanceIds")) or ["*"]:
            managed = node.startswith("mi-")
            kind, service = ("managed-instance", "ssm") if managed else ("instance", "ec2")
            tags = self.world.tags(call.region, kind, node)
            arn = f"arn:{call.partition}:{service}:{call.region}:{call.account}:{kind}/{node}"
            self.ask("ssm:SendCommand", arn, tagged(("aws:ResourceTag", "ssm:resourceTag"), tags))

    def sts_GetCallerIdentity(self) -> None:
        """API reference: no permissions are required, and a Deny does not change that."""
