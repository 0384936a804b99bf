//! The least-privilege IAM policy: what the pipeline calls, and on what. A test holds it against the calls that are really made.
//!
//! Pure. Conditions follow the Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2": what is
//! made must be tagged as ours when it is made, and what is changed or removed must bear that tag.

use serde_json::{Value, json};

/// Looking changes nothing; EC2 knows no narrower resource for it.
const LOOK: &[&str] = &[
    "ec2:DescribeImages",
    "ec2:DescribeInstanceStatus",
    "ec2:DescribeInstances",
    "ec2:DescribeKeyPairs",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSnapshots",
    "ec2:DescribeSubnets",
    "ec2:DescribeVolumes",
    "ssm:DescribeInstanceInformation",
    "ssm:GetCommandInvocation",
    "ssm:DescribeParameters",
    "ssm:GetParameter",
    "ssm:GetParameters",
    "sts:GetCallerIdentity",
];

/// What Packer looks at beyond that.
const LOOK_PACKER: &[&str] = &[
    "ec2:DescribeImageAttribute",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeRegions",
    "ec2:DescribeTags",
    "ec2:DescribeVpcs",
];

/// What makes something new, each with the resources that are new: they must be tagged as ours in the same call.
const MAKE: &[(&str, &[&str])] = &[
    ("ec2:RunInstances", &["instance", "volume", "spot-instances-request"]),
    ("ec2:ImportKeyPair", &["key-pair"]),
    ("ec2:CreateKeyPair", &["key-pair"]),
    ("ec2:CreateSecurityGroup", &["security-group"]),
    ("ec2:CreateImage", &["image", "snapshot"]),
];

/// What such a call touches that is there already.
const USE: &[(&str, &[&str])] = &[
    ("ec2:RunInstances", &["image", "key-pair", "network-interface", "security-group", "snapshot", "subnet"]),
    ("ec2:CreateSecurityGroup", &["vpc"]),
    // The source's tags are carried by EC2, not asked for in the call.
    ("ec2:CopyImage", &["image", "snapshot"]),
];

/// What changes or ends something that must be ours.
const CHANGE: &[&str] = &[
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:DeleteKeyPair",
    "ec2:DeleteSecurityGroup",
    "ec2:DeleteSnapshot",
    "ec2:DeleteVolume",
    "ec2:DeregisterImage",
    "ec2:EnableImageDeprecation",
    "ec2:GetConsoleOutput",
    "ec2:ModifyImageAttribute",
    "ec2:ModifyInstanceAttribute",
    "ec2:StopInstances",
    "ec2:TerminateInstances",
];

/// True if the policy allows the action on some resource.
pub fn allows(action: &str) -> bool {
    let made = MAKE.iter().chain(USE).any(|(known, _)| *known == action);
    let by_itself = ["ec2:CreateTags", "ssm:SendCommand", "ssm:PutParameter", "ssm:DeleteParameter"].contains(&action);
    made || by_itself || [LOOK, LOOK_PACKER, CHANGE].iter().any(|list| list.contains(&action))
}

/// The policy document for channels whose parameters begin like this.
pub fn policy(prefixes: &[String]) -> Value {
    let arns = |kinds: &[&str]| kinds.iter().map(|kind| format!("arn:aws:ec2:*:*:{kind}/*")).collect::<Vec<_>>();
    let ours = json!({ "StringEquals": { "aws:RequestTag/ManagedBy": "agent-ami" } });
    let mut statements = vec![
        json!({ "Sid": "Look", "Effect": "Allow", "Action": LOOK, "Resource": "*" }),
        json!({ "Sid": "LookAsPacker", "Effect": "Allow", "Action": LOOK_PACKER, "Resource": "*" }),
    ];
    statements.extend(MAKE.iter().map(|(action, kinds)| {
        let sid = format!("Make{}", action.trim_start_matches("ec2:"));
        json!({ "Sid": sid, "Effect": "Allow", "Action": action, "Resource": arns(kinds), "Condition": ours })
    }));
    statements.extend(USE.iter().map(|(action, kinds)| {
        let sid = format!("UseIn{}", action.trim_start_matches("ec2:"));
        json!({ "Sid": sid, "Effect": "Allow", "Action": action, "Resource": arns(kinds) })
    }));
    statements.extend([
        // CreateImage also needs the instance it is made of, which must be ours.
        json!({
            "Sid": "ImageOfOurs", "Effect": "Allow", "Action": "ec2:CreateImage", "Resource": arns(&["instance"]),
            "Condition": { "StringEquals": { "aws:ResourceTag/ManagedBy": "agent-ami" } },
        }),
        json!({
            "Sid": "TagWhatIsMade", "Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*",
            "Condition": { "StringLike": { "ec2:CreateAction": "*" } },
        }),
        json!({
            "Sid": "TagOurImages", "Effect": "Allow", "Action": "ec2:CreateTags",
            "Resource": arns(&["image", "snapshot"]), "Condition": ours,
        }),
        // `--via ssm`: one document, on our instances, which get a profile that lets them answer. `ssm keepalive`: on nodes of which
        // somebody has said by that tag that they are ours.
        json!({
            "Sid": "CommandsAsShell", "Effect": "Allow", "Action": "ssm:SendCommand",
            "Resource": "arn:aws:ssm:*::document/AWS-RunShellScript",
        }),
        json!({
            "Sid": "CommandsOnOurs", "Effect": "Allow", "Action": "ssm:SendCommand",
            "Resource": ["arn:aws:ec2:*:*:instance/*", "arn:aws:ssm:*:*:managed-instance/*"],
            "Condition": { "StringEquals": { "ssm:resourceTag/ManagedBy": "agent-ami" } },
        }),
        json!({
            "Sid": "GiveProfile", "Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::*:role/*",
            "Condition": { "StringEquals": { "iam:PassedToService": "ec2.amazonaws.com" } },
        }),
        json!({
            "Sid": "ChangeOurs", "Effect": "Allow", "Action": CHANGE, "Resource": "*",
            "Condition": { "StringEquals": { "aws:ResourceTag/ManagedBy": "agent-ami" } },
        }),
    ]);
    if !prefixes.is_empty() {
        let arns: Vec<String> =
            prefixes.iter().map(|p| format!("arn:aws:ssm:*:*:parameter/{}/*", p.trim_matches('/'))).collect();
        statements.push(json!({
            "Sid": "PointChannels", "Effect": "Allow", "Action": ["ssm:PutParameter", "ssm:DeleteParameter"],
            "Resource": arns,
        }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}
