"""Tests of policy.py and authorize.py with examples of the AWS documentation. Run as: python -m unittest discover -s .ci/moto."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from authorize import Call, Checks, UnknownCall, denied  # noqa: E402
from policy import Request, UnknownElement, evaluate  # noqa: E402

IMAGE = "arn:aws:ec2:us-east-1::image/ami-1"


def policy(*statements: dict) -> list[dict]:
    return [{"Version": "2012-10-17", "Statement": list(statements)}]


def allow(**elements) -> dict:
    return {"Effect": "Allow", "Action": "*", "Resource": "*", **elements}


def allowed(statement: dict, action: str = "ec2:RunInstances", resource: str = IMAGE, **context) -> bool:
    return evaluate(policy(statement), Request(action, resource, context.get("context", {}))).allowed


class Evaluator(unittest.TestCase):
    def test_implicit_deny_and_explicit_deny(self):
        request = Request("ec2:RunInstances", IMAGE, {})
        self.assertEqual(str(evaluate(policy(), request)), "deny: no statement")
        deny = {"Sid": "Never", "Effect": "Deny", "Action": "ec2:*", "Resource": "*"}
        for statements in ([allow(), deny], [deny, allow()]):
            self.assertEqual(str(evaluate(policy(*statements), request)), "deny: Never")
        self.assertEqual(str(evaluate(policy(allow(Sid="A"), {**deny, "Action": "s3:*"}), request)), "allow: A")

    def test_actions_have_wildcards_and_ignore_case(self):
        for pattern, expected in [("ec2:Run*", True), ("EC2:runinstances", True), ("ec2:RunInstance?", True), ("ec2:Run", False), ("*", True)]:
            self.assertEqual(allowed(allow(Action=pattern)), expected, pattern)
        self.assertTrue(allowed({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}))
        self.assertFalse(allowed({"Effect": "Allow", "NotAction": ["iam:*", "ec2:*"], "Resource": "*"}))

    def test_resources_have_wildcards_and_are_case_sensitive(self):
        for pattern, expected in [
            (IMAGE, True),
            ("arn:aws:ec2:*:*:image/*", True),
            ("arn:aws:ec2:*::image/ami-?", True),
            ("arn:aws:ec2:us-west-2::image/*", False),
            ("arn:aws:ec2:*:*:snapshot/*", False),
            ("arn:aws:ec2:*:*:Image/*", False),
        ]:
            self.assertEqual(allowed(allow(Resource=pattern)), expected, pattern)
        self.assertFalse(allowed({"Effect": "Allow", "Action": "*", "NotResource": ["arn:aws:ec2:*:*:image/*"]}))
        self.assertTrue(allowed({"Effect": "Allow", "Action": "*", "NotResource": ["arn:aws:ec2:*:*:instance/*"]}))

    def condition(self, operator: str, expected, value, key: str = "aws:ResourceTag/Team") -> bool:
        context = {} if value is None else {key: value}
        return allowed(allow(Condition={operator: {key: expected}}), context=context)

    def test_operators(self):
        for operator, expected, value, holds in [
            ("StringEquals", "a", "a", True),
            ("StringEquals", "a", "A", False),
            ("StringEquals", "a*", "ab", False),
            ("StringEquals", ["a", "b"], "b", True),
            ("StringEquals", "a", None, False),
            ("StringEqualsIfExists", "a", None, True),
            ("StringEqualsIfExists", "a", "b", False),
            ("StringEqualsIgnoreCase", "a", "A", True),
            ("StringLike", ["x", "a*"], "abc", True),
            ("StringNotEquals", "a", "b", True),
            ("StringNotEquals", ["a", "b"], "b", False),
            ("StringNotEquals", "a", None, True),
            ("StringNotLike", "a*", "abc", False),
            ("Bool", "true", "true", True),
            ("Bool", True, "true", True),
            ("Bool", "false", "true", False),
            ("Null", "true", None, True),
            ("Null", "false", None, False),
            ("Null", "false", "a", True),
            ("ArnLike", "arn:aws:iam::*:role/x*", "arn:aws:iam::1:role/xy", True),
            ("ArnLike", "arn:aws:*:role/x", "arn:aws:iam::1:role/x", False),
            ("ArnNotLike", "arn:aws:iam::*:role/x*", "arn:aws:iam::1:role/y", True),
        ]:
            self.assertEqual(self.condition(operator, expected, value), holds, (operator, expected, value))

    def test_multivalued_context_keys(self):
        for operator, values, holds in [
            ("ForAllValues:StringEquals", ["a"], True),
            ("ForAllValues:StringEquals", ["a", "c"], False),
            ("ForAllValues:StringEquals", None, True),
            ("ForAnyValue:StringEquals", ["a", "c"], True),
            ("ForAnyValue:StringEquals", ["c"], False),
            ("ForAnyValue:StringEquals", None, False),
            ("ForAllValues:StringNotEquals", ["c", "d"], True),
            ("ForAnyValue:StringNotEquals", ["a", "c"], True),
        ]:
            self.assertEqual(self.condition(operator, ["a", "b"], values, "aws:TagKeys"), holds, (operator, values))

    def test_all_conditions_must_hold_and_keys_ignore_case(self):
        both = {"StringEquals": {"aws:resourcetag/Team": "a", "aws:RequestedRegion": "us-east-1"}}
        self.assertTrue(allowed(allow(Condition=both), context={"aws:ResourceTag/Team": "a", "aws:RequestedRegion": "us-east-1"}))
        self.assertFalse(allowed(allow(Condition=both), context={"aws:ResourceTag/Team": "a"}))

    def test_values_of_policy_variables_are_literal(self):
        mine = allow(Resource="arn:aws:ssm:*:*:parameter/${aws:PrincipalAccount}/*")
        named = {"action": "ssm:GetParameter", "resource": "arn:aws:ssm:us-east-1:1:parameter/1/x"}
        self.assertTrue(allowed(mine, context={"aws:PrincipalAccount": "1"}, **named))
        self.assertFalse(allowed(mine, context={"aws:PrincipalAccount": "*"}, **named))
        self.assertFalse(allowed(mine, **named))

    def test_unsupported_elements_are_errors(self):
        for statement in [
            allow(Condition={"NumericLessThan": {"ec2:VolumeSize": "10"}}),
            allow(Condition={"ForSomeValue:StringEquals": {"aws:TagKeys": "a"}}),
            allow(Principal="*"),
            {"Effect": "Allow", "Action": "*"},
            allow(Effect="Permit"),
        ]:
            with self.assertRaises(UnknownElement):
                allowed(statement)


class World:
    """Fixed resources for the tests."""

    TAGS = {"ami-ours": {"ManagedBy": "agent-ami"}, "i-ours": {"ManagedBy": "agent-ami"}}

    def tags(self, region, kind, name):
        return self.TAGS.get(name, {})

    def owner(self, region, kind, name):
        return "099720109477" if kind == "image" else None

    def roles(self, profile):
        return ["arn:aws:iam::123456789012:role/admin"] if profile.get("Name") == "admin" else []

    def group(self, region, name):
        return f"sg-{name}"


def call(service: str, action: str, **params) -> Call:
    return Call(service, action, "us-east-1", "123456789012", "aws", "arn:aws:iam::123456789012:user/me", params)


def requested(service: str, action: str, **params) -> list[tuple[str, str]]:
    return [(r.action, r.resource.split(":", 5)[-1]) for r in Checks(call(service, action, **params), World()).all()]


TAGS = [{"ResourceType": kind, "Tags": [{"Key": "ManagedBy", "Value": "agent-ami"}]} for kind in ("instance", "image")]


class CallsAndResources(unittest.TestCase):
    def test_run_instances_checks_all_resources_that_it_creates_and_uses(self):
        found = requested(
            "ec2",
            "RunInstances",
            ImageId="ami-1",
            KeyName="key",
            NetworkInterfaces=[{"SubnetId": "subnet-1", "Groups": ["sg-1"]}],
            BlockDeviceMappings=[{"Ebs": {"SnapshotId": "snap-1"}}],
            IamInstanceProfile={"Name": "admin"},
            TagSpecifications=TAGS,
        )
        resources = ["image/ami-1", "instance/*", "volume/*", "network-interface/*", "subnet/subnet-1", "security-group/sg-1"]
        expected = [("ec2:RunInstances", r) for r in [*resources, "key-pair/key", "snapshot/snap-1"]]
        self.assertCountEqual(found, [*expected, ("ec2:CreateTags", "instance/*"), ("iam:PassRole", "role/admin")])

    def test_request_tags_are_those_of_the_created_resource(self):
        requests = Checks(call("ec2", "CreateImage", InstanceId="i-1", Name="n", TagSpecifications=TAGS), World()).all()
        tags = {(r.action, r.resource.split(":")[-1]): r.context.get("aws:RequestTag/ManagedBy") for r in requests}
        self.assertEqual(
            tags,
            {
                ("ec2:CreateImage", "instance/i-1"): None,
                ("ec2:CreateImage", "image/*"): "agent-ami",
                ("ec2:CreateTags", "image/*"): "agent-ami",
                ("ec2:CreateImage", "snapshot/*"): None,
            },
        )
        created = next(r for r in requests if r.action == "ec2:CreateTags")
        self.assertEqual((created.context["ec2:CreateAction"], created.context["aws:TagKeys"]), ("CreateImage", ["ManagedBy"]))

    def test_a_copy_checks_source_copy_snapshot_and_key(self):
        copy = {"SourceImageId": "ami-1", "SourceRegion": "eu-west-1", "Name": "n", "KmsKeyId": "alias/images"}
        requests = Checks(call("ec2", "CopyImage", **copy), World()).all()
        self.assertEqual(
            [r.resource for r in requests[:3]],
            ["arn:aws:ec2:eu-west-1::image/ami-1", "arn:aws:ec2:us-east-1::image/*", "arn:aws:ec2:us-east-1::snapshot/*"],
        )
        keys = [r for r in requests if r.action.startswith("kms:")]
        self.assertEqual(len(keys), 6)
        self.assertTrue(all(r.context["kms:ResourceAliases"] == ["alias/images"] for r in keys))
        self.assertEqual(len(requested("ec2", "CopyImage", DryRun=True, **copy)), 3)

    def test_tags_of_existing_resources_decide(self):
        ours = allow(Condition={"StringEquals": {"aws:ResourceTag/ManagedBy": "agent-ami"}})
        for image, expected in [("ami-ours", None), ("ami-1", "ec2:DeregisterImage")]:
            found = denied(policy(ours), call("ec2", "DeregisterImage", ImageId=image), World())
            self.assertEqual(found and found.request.action, expected)
        refused = denied(policy(ours), call("ec2", "CreateTags", Resources=["ami-ours", "ami-1"], Tags=[{"Key": "a", "Value": "b"}]), World())
        self.assertIn("ec2:CreateTags on resource: arn:aws:ec2:us-east-1::image/ami-1 because no identity-based policy", refused.message())

    def test_parameters_documents_and_nodes_have_the_arns_of_the_reference(self):
        def arns(action, **params):
            return [r.resource for r in Checks(call("ssm", action, **params), World()).all()]

        own = "arn:aws:ssm:us-east-1:123456789012:parameter/a/b"
        self.assertEqual(arns("GetParameter", Name="/a/b:3"), [own])
        self.assertEqual(arns("GetParameter", Name=own), [own])
        self.assertEqual(arns("GetParameters", Names=["/aws/service/x"]), ["arn:aws:ssm:us-east-1::parameter/aws/service/x"])
        self.assertEqual(arns("PutParameter", Name="/a/b", Value="ami-1", DataType="aws:ec2:image"), [own, "*"])
        self.assertEqual(
            arns("SendCommand", DocumentName="AWS-RunShellScript", InstanceIds=["i-ours", "mi-1"]),
            [
                "arn:aws:ssm:us-east-1::document/AWS-RunShellScript",
                "arn:aws:ec2:us-east-1:123456789012:instance/i-ours",
                "arn:aws:ssm:us-east-1:123456789012:managed-instance/mi-1",
            ],
        )

    def test_describe_image_references_reads_with_called_via(self):
        parameters = call("ec2", "DescribeImageReferences", ImageIds=["ami-1"], ResourceTypes=[{"ResourceType": "ssm:Parameter"}])
        requests = Checks(parameters, World()).all()
        self.assertEqual([r.action for r in requests], ["ec2:DescribeImageReferences", "ssm:DescribeParameters", "ssm:GetParameters"])
        self.assertEqual(requests[2].context["aws:CalledVia"], ["ec2-images.amazonaws.com"])

    def test_unknown_calls_are_refused(self):
        for service, action in [("ec2", "CreateVpc"), ("iam", "CreateUser"), ("ec2", "DescribeSnapshotAttribute"), ("ssm", "StartSession")]:
            with self.assertRaises(UnknownCall):
                requested(service, action)
        self.assertEqual(requested("sts", "GetCallerIdentity"), [])


if __name__ == "__main__":
    unittest.main()
