//! The printed policies as IAM evaluates them: each way to take over an account is denied, and what the pipeline does is allowed. The
//! evaluator is that of the endpoint, which all tests on AWS run under (`.ci/moto/policy.py`).

#![expect(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use serde_json::{Value, json};
use xtask::cli::Job;
use xtask::partition::Partition;
use xtask::process::Cmd;
use xtask_aws::policy::{Scope, policy};

mod support;
use support::{provided, root};

/// What is tried, the action, the resource, the context, and whether it is allowed.
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

/// What the policy of a role with all jobs says.
fn cases() -> Vec<Case> {
    let to_ec2 = json!({ "iam:PassedToService": "ec2.amazonaws.com" });
    let asked = json!({ "aws:RequestTag/ManagedBy": "agent-ami", "aws:TagKeys": ["ManagedBy"] });
    let renamed = json!({ "aws:RequestTag/ManagedBy": "somebody", "aws:TagKeys": ["ManagedBy"] });
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
        ("all below a path is read", "ssm:GetParametersByPath", parameter("prod"), nothing(), false),
        ("a pointer is read", "ssm:GetParameter", parameter("agent-ami/staging"), nothing(), true),
        ("a prefix is not a part of a name", "ssm:GetParameter", parameter("agent-amis/x"), nothing(), false),
        ("another's pointer is moved", "ssm:PutParameter", parameter("prod/golden-ami"), nothing(), false),
        ("a pointer is moved", "ssm:PutParameter", parameter("agent-ami/staging"), nothing(), true),
        ("another's image becomes ours", "ec2:CreateTags", IMAGE, asked.clone(), false),
        ("our image is tagged", "ec2:CreateTags", IMAGE, ours(&asked), true),
        ("our image becomes another's", "ec2:CreateTags", IMAGE, ours(&renamed), false),
        ("another's image is tagged as if it was new", "ec2:CreateTags", IMAGE, created("RegisterImage"), false),
        ("a new image is tagged", "ec2:CreateTags", IMAGE, created("CreateImage"), true),
        ("the tag is taken away", "ec2:DeleteTags", IMAGE, ours(&nothing()), false),
        ("another's image is removed", "ec2:DeregisterImage", IMAGE, nothing(), false),
        ("our image is removed", "ec2:DeregisterImage", IMAGE, ours(&nothing()), true),
        ("another's instance is ended", "ec2:TerminateInstances", INSTANCE, nothing(), false),
        ("another's instance is read out", "ec2:CreateImage", INSTANCE, nothing(), false),
        ("our builder becomes an image", "ec2:CreateImage", INSTANCE, ours(&nothing()), true),
        ("another's instance gets user data", "ec2:ModifyInstanceAttribute", INSTANCE, nothing(), false),
        ("an image is shared with the world", "ec2:ModifyImageAttribute", IMAGE, nothing(), false),
        ("an instance is started without our tag", "ec2:RunInstances", NEW, nothing(), false),
        ("an instance is started", "ec2:RunInstances", NEW, asked, true),
        ("a command runs on another's instance", "ssm:SendCommand", INSTANCE, nothing(), false),
        (
            "a command runs on our instance",
            "ssm:SendCommand",
            INSTANCE,
            json!({ "ssm:resourceTag/ManagedBy": "agent-ami" }),
            true,
        ),
        (
            "another document runs",
            "ssm:SendCommand",
            "arn:aws:ssm:us-east-1::document/AWS-RunRemoteScript",
            nothing(),
            false,
        ),
        ("a user is made", "iam:CreateAccessKey", "arn:aws:iam::123456789012:user/admin", nothing(), false),
        ("a policy is changed", "iam:PutRolePolicy", role("agent-ami"), nothing(), false),
    ]
}

/// What the evaluator says of requests: `allow: SID` or `deny: no statement`.
fn decisions(policies: &Value, asked: &[Value]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    serde_json::to_writer(&file, policies).unwrap();
    let python = Cmd::new(provided("moto").join("python")).arg(root().join(".ci/moto/policy.py")).arg(file.path());
    let said = python.stdin(json!(asked).to_string()).read().unwrap();
    serde_json::from_str(&said).unwrap()
}

fn request((_, action, resource, context, _): &Case) -> Value {
    json!({ "action": action, "resource": resource, "context": context })
}

#[test]
fn no_way_to_take_over_the_account_is_open() {
    let cases = cases();
    let asked: Vec<Value> = cases.iter().map(request).collect();
    let printed = policy(&[Job::All], &Scope::full(Partition::Commercial));
    let mut wrong = Vec::new();
    for (case, said) in cases.iter().zip(decisions(&printed, &asked)) {
        if said.starts_with("allow: ") != case.4 {
            wrong.push(format!("{} ({}): {said}", case.0, case.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The table would not notice an evaluator that denies everything, or allows it.
#[test]
fn the_table_tells_policies_apart() {
    let asked: Vec<Value> = cases().iter().map(request).collect();
    let open = json!({ "Statement": [{ "Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*" }] });
    assert!(decisions(&open, &asked).iter().all(|said| said == "allow: All"));
    let plan = policy(&[Job::Plan], &Scope::full(Partition::Commercial));
    let allowed = decisions(&plan, &asked).iter().filter(|said| said.starts_with("allow: ")).count();
    assert_eq!(allowed, 1, "`plan` reads pointers, and changes nothing");
}

/// The policy as it was before: PassRole on `role/*`, GetParameter on `*`, CreateTags on any image by the request's tag.
#[test]
fn what_was_open_before_is_seen_as_open() {
    let before = json!({ "Statement": [
        { "Sid": "GiveProfile", "Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::*:role/*",
          "Condition": { "StringEquals": { "iam:PassedToService": "ec2.amazonaws.com" } } },
        { "Sid": "Look", "Effect": "Allow", "Action": ["ssm:GetParameter", "ssm:GetParameters"], "Resource": "*" },
        { "Sid": "TagOurImages", "Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "arn:aws:ec2:*:*:image/*",
          "Condition": { "StringEquals": { "aws:RequestTag/ManagedBy": "agent-ami" } } },
        { "Sid": "ChangeOurs", "Effect": "Allow", "Action": "ec2:DeregisterImage", "Resource": "*",
          "Condition": { "StringEquals": { "aws:ResourceTag/ManagedBy": "agent-ami" } } },
    ] });
    let cases = cases();
    let asked: Vec<Value> = cases.iter().map(request).collect();
    let open = cases.iter().zip(decisions(&before, &asked)).filter(|(case, said)| !case.4 && said.starts_with("allow"));
    let open: Vec<&str> = open.map(|(case, _)| case.0).collect();
    assert_eq!(
        open,
        [
            "an instance gets the administrator's role",
            "a secret is read",
            "secrets are read",
            "a prefix is not a part of a name",
            "another's image becomes ours",
        ]
    );
}
