//! The printed policies as IAM evaluates them: each way to take over an account is denied, and the calls of the pipeline are allowed. The
//! evaluator is the one of the endpoint of all tests on AWS (`.ci/moto/policy.py`).

#![expect(clippy::unwrap_used, reason = "a test stops at the first failure")]

use serde_json::{Value, json};
use xtask::cli::Job;
use xtask::partition::Partition;
use xtask::process::Cmd;
use xtask_aws::policy::{Scope, policy};

mod support;
use support::{provided, root};

/// Description, action, resource, context, and whether the policy must allow it.
type Case = (&'static str, &'static str, &'static str, Value, bool);

const ROLE: &str = "arn:aws:iam::123456789012:role";
const IMAGE: &str = "arn:aws:ec2:us-east-1::image/ami-0123456789abcdef0";
const INSTANCE: &str = "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0";
const NEW: &str = "arn:aws:ec2:us-east-1:123456789012:instance/*";
const PARAMETER: &str = "arn:aws:ssm:us-east-1:123456789012:parameter";

fn ours(more: &Value) -> Value {
    let mut context = json!({ "aws:ResourceTag/ManagedBy": "agent-ami" });
    context.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    context
}

/// The expected decisions of the policy of a role with all jobs.
fn cases() -> Vec<Case> {
    let to_ec2 = json!({ "iam:PassedToService": "ec2.amazonaws.com" });
    let tagged = json!({ "aws:RequestTag/ManagedBy": "agent-ami", "aws:TagKeys": ["ManagedBy"] });
    let renamed = json!({ "aws:RequestTag/ManagedBy": "other", "aws:TagKeys": ["ManagedBy"] });
    let created = |action: &str| json!({ "ec2:CreateAction": action });
    let nothing = || json!({});
    let role = |name: &str| -> &'static str { format!("{ROLE}/{name}").leak() };
    let parameter = |name: &str| -> &'static str { format!("{PARAMETER}/{name}").leak() };
    vec![
        ("an instance gets the administrator's role", "iam:PassRole", role("admin"), to_ec2.clone(), false),
        ("an instance gets the role that is named", "iam:PassRole", role("agent-ami"), to_ec2, true),
        (
            "the role goes to another service",
            "iam:PassRole",
            role("agent-ami"),
            json!({ "iam:PassedToService": "lambda.amazonaws.com" }),
            false,
        ),
        ("a role is assumed", "sts:AssumeRole", role("admin"), nothing(), false),
        ("a secret is read", "ssm:GetParameter", parameter("prod/database/password"), nothing(), false),
        ("secrets are read", "ssm:GetParameters", parameter("prod/database/password"), nothing(), false),
        ("all parameters below a path are read", "ssm:GetParametersByPath", parameter("prod"), nothing(), false),
        ("a channel's parameter is read", "ssm:GetParameter", parameter("agent-ami/staging"), nothing(), true),
        (
            "a parameter whose name only begins like the prefix is read",
            "ssm:GetParameter",
            parameter("agent-amis/x"),
            nothing(),
            false,
        ),
        (
            "a parameter outside of the prefixes is written",
            "ssm:PutParameter",
            parameter("prod/golden-ami"),
            nothing(),
            false,
        ),
        ("a channel's parameter is written", "ssm:PutParameter", parameter("agent-ami/staging"), nothing(), true),
        ("an image without the tag gets the tag", "ec2:CreateTags", IMAGE, tagged.clone(), false),
        ("an image with the tag is tagged", "ec2:CreateTags", IMAGE, ours(&tagged), true),
        ("the tag of an image is changed", "ec2:CreateTags", IMAGE, ours(&renamed), false),
        ("an image is tagged by another create action", "ec2:CreateTags", IMAGE, created("RegisterImage"), false),
        ("a new image is tagged", "ec2:CreateTags", IMAGE, created("CreateImage"), true),
        ("the tag is removed", "ec2:DeleteTags", IMAGE, ours(&nothing()), false),
        ("an image without the tag is deregistered", "ec2:DeregisterImage", IMAGE, nothing(), false),
        ("an image with the tag is deregistered", "ec2:DeregisterImage", IMAGE, ours(&nothing()), true),
        ("an instance without the tag is terminated", "ec2:TerminateInstances", INSTANCE, nothing(), false),
        ("an image is created of an instance without the tag", "ec2:CreateImage", INSTANCE, nothing(), false),
        ("an image is created of a builder", "ec2:CreateImage", INSTANCE, ours(&nothing()), true),
        (
            "the user data of an instance without the tag is changed",
            "ec2:ModifyInstanceAttribute",
            INSTANCE,
            nothing(),
            false,
        ),
        ("an image without the tag is made public", "ec2:ModifyImageAttribute", IMAGE, nothing(), false),
        ("an instance is started without the tag", "ec2:RunInstances", NEW, nothing(), false),
        ("an instance is started with the tag", "ec2:RunInstances", NEW, tagged, true),
        ("a command runs on an instance without the tag", "ssm:SendCommand", INSTANCE, nothing(), false),
        (
            "a command runs on an instance with the tag",
            "ssm:SendCommand",
            INSTANCE,
            json!({ "ssm:resourceTag/ManagedBy": "agent-ami" }),
            true,
        ),
        (
            "another document is run",
            "ssm:SendCommand",
            "arn:aws:ssm:us-east-1::document/AWS-RunRemoteScript",
            nothing(),
            false,
        ),
        (
            "an access key of a user is created",
            "iam:CreateAccessKey",
            "arn:aws:iam::123456789012:user/admin",
            nothing(),
            false,
        ),
        ("the policy of a role is changed", "iam:PutRolePolicy", role("agent-ami"), nothing(), false),
    ]
}

/// The evaluator's decisions on requests: `allow: SID` or `deny: no statement`.
fn decisions(policies: &Value, requests: &[Value]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    serde_json::to_writer(&file, policies).unwrap();
    let python = Cmd::new(provided("moto").join("python")).arg(root().join(".ci/moto/policy.py")).arg(file.path());
    let stdout = python.stdin(json!(requests).to_string()).read().unwrap();
    serde_json::from_str(&stdout).unwrap()
}

fn request((_, action, resource, context, _): &Case) -> Value {
    json!({ "action": action, "resource": resource, "context": context })
}

#[test]
fn no_way_to_take_over_the_account_is_allowed() {
    let cases = cases();
    let requests: Vec<Value> = cases.iter().map(request).collect();
    let printed = policy(&[Job::All], &Scope::full(Partition::Commercial));
    let mut wrong = Vec::new();
    for (case, decision) in cases.iter().zip(decisions(&printed, &requests)) {
        if decision.starts_with("allow: ") != case.4 {
            wrong.push(format!("{} ({}): {decision}", case.0, case.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Checks the evaluator itself: it must neither allow nor deny everything.
#[test]
fn the_decisions_depend_on_the_policy() {
    let requests: Vec<Value> = cases().iter().map(request).collect();
    let open = json!({ "Statement": [{ "Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*" }] });
    assert!(decisions(&open, &requests).iter().all(|decision| decision == "allow: All"));
    let plan = policy(&[Job::Plan], &Scope::full(Partition::Commercial));
    let allowed = decisions(&plan, &requests).iter().filter(|decision| decision.starts_with("allow: ")).count();
    assert_eq!(allowed, 1, "`plan` may only read the channel's parameter");
}

/// A policy that is too broad: PassRole on `role/*`, GetParameter on `*`, CreateTags on any image by the request's tag.
#[test]
fn a_broad_policy_is_found_to_allow_a_takeover() {
    let broad = json!({ "Statement": [
        { "Sid": "GiveProfile", "Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::*:role/*",
          "Condition": { "StringEquals": { "iam:PassedToService": "ec2.amazonaws.com" } } },
        { "Sid": "Look", "Effect": "Allow", "Action": ["ssm:GetParameter", "ssm:GetParameters"], "Resource": "*" },
        { "Sid": "TagOurImages", "Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "arn:aws:ec2:*:*:image/*",
          "Condition": { "StringEquals": { "aws:RequestTag/ManagedBy": "agent-ami" } } },
        { "Sid": "ChangeOurs", "Effect": "Allow", "Action": "ec2:DeregisterImage", "Resource": "*",
          "Condition": { "StringEquals": { "aws:ResourceTag/ManagedBy": "agent-ami" } } },
    ] });
    let cases = cases();
    let requests: Vec<Value> = cases.iter().map(request).collect();
    let allowed = cases.iter().zip(decisions(&broad, &requests));
    let allowed = allowed.filter(|(case, decision)| !case.4 && decision.starts_with("allow"));
    let allowed: Vec<&str> = allowed.map(|(case, _)| case.0).collect();
    assert_eq!(
        allowed,
        [
            "an instance gets the administrator's role",
            "a secret is read",
            "secrets are read",
            "a parameter whose name only begins like the prefix is read",
            "an image without the tag gets the tag",
        ]
    );
}
