//! Tests of the policy documents as data: no statement may allow a way to take over the account.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use xtask::config::{Config, Overrides};
use xtask::error::{Exit, plain};
use xtask::recipe::Source;

use super::*;

const TAG: &str = "/Condition/StringEquals/aws:ResourceTag~1ManagedBy";
const NEW: &str = "/Condition/StringEquals/aws:RequestTag~1ManagedBy";

fn full() -> Scope {
    let key = |region: &str, id: &str| Key { region: region.into(), id: id.to_owned() };
    Scope {
        accounts: vec!["123456789012".to_owned()],
        prefixes: vec!["agent-ami".to_owned(), "locus/ami".to_owned()],
        roles: vec!["images/agent-ami-ssm".to_owned()],
        keys: vec![
            key("us-east-1", "1234abcd-12ab-34cd-56ef-1234567890ab"),
            key("us-west-2", "arn:aws:kms:us-west-2:210987654321:key/mrk-1"),
            key("eu-west-1", "alias/images"),
        ],
        ..Scope::full(Partition::Commercial)
    }
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Id, actions, resources and document of each statement.
fn all(policy: &Value) -> Vec<(&str, Vec<&str>, Vec<&str>, &Value)> {
    let statements = policy["Statement"].as_array().unwrap();
    statements.iter().map(|s| (s["Sid"].as_str().unwrap(), texts(&s["Action"]), texts(&s["Resource"]), s)).collect()
}

fn reads(action: &str) -> bool {
    let (_, verb) = action.split_once(':').unwrap();
    ["Describe", "Get", "List"].iter().any(|prefix| verb.starts_with(prefix)) && action != "ec2:GetConsoleOutput"
}

#[test]
fn only_named_roles_can_be_passed() {
    let policy = policy(&[Job::All], &full());
    for (sid, actions, resources, statement) in all(&policy) {
        if actions.contains(&"iam:PassRole") {
            assert_eq!(resources, ["arn:aws:iam::123456789012:role/images/agent-ami-ssm"], "{sid}");
            let services = &statement["Condition"]["StringEquals"]["iam:PassedToService"];
            assert_eq!(texts(services), ["ec2.amazonaws.com"]);
        }
        assert!(!actions.iter().any(|a| a.starts_with("sts:Assume") || a.starts_with("iam:") && *a != "iam:PassRole"));
    }
    let without = super::policy(&[Job::All], &Scope { roles: Vec::new(), ..full() });
    assert!(!without.to_string().contains("iam:"), "{without}");
}

#[test]
fn parameter_values_are_read_and_written_only_below_prefixes() {
    let below = [
        "arn:aws:ssm:*:*:parameter/agent-ami/*",
        "arn:aws:ssm:*:*:parameter/locus/ami/*",
        "arn:aws:ssm:*:*:parameter/aws/service/*",
    ];
    let policy = policy(&[Job::All], &full());
    let mut seen = 0;
    for (sid, actions, resources, statement) in all(&policy) {
        let values = ["ssm:GetParameter", "ssm:GetParameters", "ssm:PutParameter", "ssm:DeleteParameter"];
        if !actions.iter().any(|action| values.contains(action)) {
            continue;
        }
        seen += 1;
        match sid {
            // Only for the calls that EC2 makes for DescribeImageReferences.
            "ReadReferences" => {
                let via = &statement["Condition"]["ForAnyValue:StringEquals"]["aws:CalledVia"];
                assert_eq!(texts(via), ["ec2-images.amazonaws.com"]);
            }
            "PointChannels" => assert_eq!(resources, below[..2]),
            _ => assert_eq!(resources, below, "{sid}"),
        }
    }
    assert_eq!(seen, 3);
    let none = super::policy(&[Job::All], &Scope { prefixes: Vec::new(), ..full() });
    assert!(!none.to_string().contains("ssm:PutParameter"), "no channel has parameters: {none}");
}

#[test]
fn the_tag_cannot_be_added_to_an_existing_resource() {
    let policy = policy(&[Job::All], &full());
    let tagging = all(&policy).into_iter().filter(|(_, actions, ..)| actions.contains(&"ec2:CreateTags"));
    let mut sids = Vec::new();
    for (sid, _, resources, statement) in tagging {
        sids.push(sid);
        assert!(!resources.contains(&"*"), "{sid}");
        let created = statement.pointer("/Condition/StringEquals/ec2:CreateAction").map(texts);
        match created {
            Some(actions) => assert!(actions.len() == 6 && !actions.iter().any(|a| a.contains('*')), "{actions:?}"),
            None => assert_eq!(statement.pointer(TAG).unwrap(), "agent-ami", "{sid}"),
        }
    }
    assert_eq!(sids, ["TagWhatIsMade", "TagOurs"]);
    assert!(!policy.to_string().contains("ec2:DeleteTags"));
}

#[test]
fn mutating_actions_are_limited_to_resources_with_the_tag() {
    // Resources that a call uses without changing them, and the new image of CopyImage.
    let used = ["UseImages", "UseNetworks", "CommandsAsShell", "PointChannels"];
    let policy = policy(&[Job::All], &full());
    for (sid, actions, resources, statement) in all(&policy) {
        for action in &actions {
            assert!(!action.contains(['*', '?']), "{sid}: {action} is a pattern");
        }
        if actions.iter().all(|action| reads(action)) || used.contains(&sid) || sid == "PassRole" {
            continue;
        }
        let condition = statement.get("Condition").map(Value::to_string).unwrap_or_default();
        let limits = ["aws:ResourceTag/ManagedBy", "aws:RequestTag/ManagedBy", "ssm:resourceTag/ManagedBy"];
        let keys = ["ec2:CreateAction", "kms:ViaService"];
        assert!(limits.iter().chain(&keys).any(|key| condition.contains(key)), "{sid} on {resources:?}: {condition}");
    }
    let found: BTreeMap<&str, &Value> = all(&policy).into_iter().map(|(sid, _, _, s)| (sid, s)).collect();
    assert_eq!(found["MakeTagged"].pointer(NEW).unwrap(), "agent-ami");
    // Without the tag no instance can be started and no image created.
    for (sid, actions, resources, _) in all(&policy) {
        let makes = actions.contains(&"ec2:RunInstances") || actions.contains(&"ec2:CreateImage");
        let made =
            resources.iter().any(|resource| resource.ends_with(":instance/*") || resource.ends_with(":volume/*"));
        assert!(!(makes && made) || ["MakeTagged", "ImageOfOurs"].contains(&sid), "{sid}");
    }
}

#[test]
fn plan_and_watch_only_read() {
    let policy = policy(&[Job::Plan], &full());
    let actions: Vec<&str> = all(&policy).into_iter().flat_map(|(_, actions, ..)| actions).collect();
    assert!(actions.len() > 15);
    let changing: Vec<&&str> = actions.iter().filter(|action| !reads(action)).collect();
    assert!(changing.is_empty(), "{changing:?}");
}

#[test]
fn each_job_has_the_actions_that_it_needs_and_no_others() {
    let of = |jobs: &[Job]| -> BTreeSet<String> {
        let policy = policy(jobs, &full());
        all(&policy).into_iter().flat_map(|(_, actions, ..)| actions).map(str::to_owned).collect()
    };
    let cases: [(Job, &[&str], &[&str]); 4] = [
        (
            Job::Build,
            &[
                "ec2:RunInstances",
                "ec2:CopyImage",
                "ec2:CreateTags",
                "iam:PassRole",
                "kms:CreateGrant",
                "ssm:SendCommand",
            ],
            &["ssm:PutParameter", "ec2:DisableImage"],
        ),
        (
            Job::Promote,
            &["ssm:PutParameter", "ec2:CreateTags", "ec2:EnableImageDeregistrationProtection"],
            &["ec2:RunInstances", "ec2:DeregisterImage", "iam:PassRole"],
        ),
        (
            Job::Gc,
            &[
                "ec2:DeregisterImage",
                "ec2:DisableImageDeregistrationProtection",
                "ssm:DeleteParameter",
                "ec2:DeleteVolume",
            ],
            &["ec2:RunInstances", "ec2:CopyImage", "iam:PassRole"],
        ),
        (Job::Fleet, &["ssm:SendCommand", "ssm:GetCommandInvocation"], &["ec2:CreateTags", "ec2:StopInstances"]),
    ];
    for (job, needed, others) in cases {
        let actions = of(&[job]);
        for action in needed {
            assert!(actions.contains(*action), "{job:?} lacks {action}");
        }
        for action in others {
            assert!(!actions.contains(*action), "{job:?} has {action}");
        }
    }
    let parts: BTreeSet<String> =
        [Job::Plan, Job::Build, Job::Promote, Job::Gc, Job::Fleet].iter().flat_map(|j| of(&[*j])).collect();
    assert_eq!(of(&[Job::All]), parts);
    assert_eq!(of(&[Job::Promote, Job::Gc]), of(&[Job::Promote]).union(&of(&[Job::Gc])).cloned().collect());
}

#[test]
fn every_arn_has_the_partition_of_the_regions() {
    for (partition, name) in [(Partition::GovCloud, "aws-us-gov"), (Partition::China, "aws-cn")] {
        let keys = vec![Key { region: "there-1".into(), id: "alias/images".to_owned() }];
        let text = policy(&[Job::All], &Scope { partition, keys, ..full() }).to_string();
        assert!(!text.contains("arn:aws:") && text.matches(&format!("arn:{name}:")).count() > 20, "{text}");
        assert_eq!(text.contains("ec2.amazonaws.com.cn"), partition == Partition::China);
    }
}

#[test]
fn keys_are_used_only_through_ec2() {
    let policy = policy(&[Job::Build], &full());
    let found: BTreeMap<&str, &Value> =
        all(&policy).into_iter().map(|(sid, _, _, statement)| (sid, statement)).collect();
    let keys = [
        "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms:us-west-2:210987654321:key/mrk-1",
    ];
    for sid in ["UseKeys", "GrantKeys"] {
        assert_eq!(texts(&found[sid]["Resource"]), keys);
        assert_eq!(found[sid]["Condition"]["StringLike"]["kms:ViaService"], "ec2.*.amazonaws.com");
    }
    assert_eq!(found["GrantKeys"]["Condition"]["Bool"]["kms:GrantIsForAWSResource"], "true");
    assert_eq!(texts(&found["UseKeysByAlias"]["Resource"]), ["arn:aws:kms:eu-west-1:123456789012:key/*"]);
    let aliases = &found["UseKeysByAlias"]["Condition"]["ForAnyValue:StringEquals"]["kms:ResourceAliases"];
    assert_eq!(texts(aliases), ["alias/images"]);
    let without = super::policy(&[Job::All], &Scope { keys: Vec::new(), ..full() });
    // DescribeKey needs no key in the scope.
    assert_eq!(without.to_string().matches("kms:").count(), 1, "{without}");
    assert!(without.to_string().contains("\"kms:DescribeKey\""), "{without}");
}

/// IAM and AWS STS quotas: 6,144 characters of a managed policy; ids are unique and alphanumeric.
#[test]
fn a_document_is_within_the_limits_of_iam() {
    let policy = policy(&[Job::All], &full());
    assert!(policy.to_string().len() < 6144, "{} characters", policy.to_string().len());
    let sids: Vec<&str> = all(&policy).into_iter().map(|(sid, ..)| sid).collect();
    assert_eq!(sids.iter().collect::<BTreeSet<_>>().len(), sids.len(), "{sids:?}");
    assert!(sids.iter().all(|sid| sid.chars().all(|c| c.is_ascii_alphanumeric())), "{sids:?}");
}

/// The project's own configuration with some text replaced.
fn config(edits: &[(&str, &str)]) -> Config {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = tempfile::tempdir().unwrap();
    let mut text = std::fs::read_to_string(root.join("ami.toml")).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "ami.toml has no {from}");
        text = text.replace(from, to);
    }
    std::fs::write(dir.path().join("ami.toml"), text).unwrap();
    std::fs::create_dir_all(dir.path().join("packer/default-ec2")).unwrap();
    std::fs::create_dir_all(dir.path().join("smoke/specs")).unwrap();
    for spec in ["locus-agent", "default-ec2"] {
        std::fs::write(dir.path().join(format!("smoke/specs/{spec}.toml")), "").unwrap();
    }
    Config::load(dir.path(), &Overrides::default(), &BTreeMap::new()).unwrap()
}

fn source(settings: &Value) -> Source {
    let mut all = serde_json::json!({
        "region": "us-east-1", "instance_type": "t3.medium", "ami_name": "x", "ssh_username": "ubuntu", "source_ami": "ami-1",
        "temporary_security_group_source_public_ip": true,
    });
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Source {
        kind: "amazon-ebs".to_owned(),
        name: "locus".to_owned(),
        settings: all.as_object().unwrap().clone().into_iter().collect(),
    }
}

#[test]
fn profiles_and_keys_of_ami_toml_and_of_the_template_are_in_the_scope() {
    let profile = ("ssm_instance_profile = \"\"", "ssm_instance_profile = \"ssm\"");
    let keys = ("kms_key_ids = {}", "kms_key_ids = { us-west-2 = \"alias/copies\" }");
    let roles = ("instance_profile_roles = {}", "instance_profile_roles = { builder = \"images/builder-role\" }");
    let source = source(&serde_json::json!({
        "iam_instance_profile": "builder",
        "launch_block_device_mappings": [{ "device_name": "/dev/sda1", "kms_key_id": "alias/builds" }],
    }));
    let scope = Scope::of(&config(&[profile, keys, roles]), std::slice::from_ref(&source)).unwrap();
    assert_eq!(scope.roles, ["images/builder-role", "ssm"]);
    let ids: Vec<(&str, &str)> = scope.keys.iter().map(|key| (key.region.as_str(), key.id.as_str())).collect();
    assert_eq!(ids, [("us-east-1", "alias/builds"), ("us-west-2", "alias/copies")]);
    let unused = Scope::of(&config(&[roles]), &[]).unwrap_err();
    assert_eq!(unused.exit(), Exit::Usage);
    assert!(plain(&unused).contains("a role for builder"), "{}", plain(&unused));
}

#[test]
fn the_partition_follows_the_regions() {
    let ours = "aws = [\"us-east-1\", \"us-west-2\", \"eu-west-1\", \"ap-southeast-1\"]";
    let scope = Scope::of(&config(&[(ours, "aws = [\"us-gov-west-1\"]")]), &[]).unwrap();
    assert_eq!(scope.partition, Partition::GovCloud);
}
