//! The pipeline under its own policy without one of the statements: it fails before it creates anything or, for permissions that can be
//! checked only with an existing resource, before the change that the statement permits. No orphans and no partial changes remain.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first failure")]

use std::time::Duration;

use serde_json::Value;
use xtask::channel::{Target, claim};
use xtask::cli::Job;
use xtask::cloud::{BuilderKind, Cloud as _, Image, Start};
use xtask::error::{Error, Exit, Result, plain};
use xtask::partition::Partition;
use xtask::process::Cmd;
use xtask_aws::cloud::Ec2;
use xtask_aws::policy::{Key, Scope, policy};
use xtask_aws::settings::{Settings, Via};

mod support;
#[path = "support/settings.rs"]
mod settings;
#[path = "support/account.rs"]
mod account;
use account::{Account, REGIONS};
use settings::{settings, source};
use support::{AS_AWS, Moto, OWNER, owner};

/// Longer than the cooldown of the deregistration protection at the endpoint (`AS_AWS`), which takes 24 hours in EC2.
const COOLDOWN: Duration = Duration::from_millis(900);
/// A customer managed key by its id, and one by its alias, by region.
const KEYS: [(&str, &str); 2] =
    [("us-west-2", "1234abcd-12ab-34cd-56ef-1234567890ab"), ("eu-west-1", "alias/agent-ami")];

/// A step of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The preflight of a build.
    Preflight,
    /// The preflight of a build by Systems Manager.
    PreflightBySsm,
    /// The start of the builder, up to the connection.
    Builder,
    /// The start of the builder with a connection by Systems Manager.
    BuilderBySsm,
    /// Copies to all regions.
    Copy,
    /// The preflight of a release: whether the channel can be written.
    Channel,
    /// The checks at the start of a promotion.
    Promotion,
    /// Deprecation of an image by `gc`.
    Deprecation,
    /// The search for users of an image by `gc`.
    Users,
}

/// Each statement of the policy of a role with all jobs, the step that fails without it, and the action that the error names.
const STATEMENTS: [(&str, Step, &str); 22] = [
    ("Read", Step::Preflight, "ec2:DescribeImages"),
    ("ReadReferences", Step::Users, "ssm:GetParameters"),
    ("ReadParameters", Step::Preflight, "ssm:GetParameter"),
    ("MakeTagged", Step::Preflight, "ec2:RunInstances"),
    ("UseImages", Step::Preflight, "ec2:RunInstances"),
    ("UseNetworks", Step::Preflight, "ec2:CreateSecurityGroup"),
    ("ImageOfOurs", Step::Builder, "ec2:CreateImage"),
    ("TagWhatIsMade", Step::Preflight, "ec2:CreateTags"),
    ("PassRole", Step::PreflightBySsm, "iam:PassRole"),
    ("ChangeOurs", Step::Builder, "ec2:AuthorizeSecurityGroupIngress"),
    ("RemoveOurs", Step::Preflight, "ec2:DeregisterImage"),
    ("RetireOurs", Step::Deprecation, "ec2:EnableImageDeprecation"),
    ("ProtectOurs", Step::Promotion, "ec2:EnableImageDeregistrationProtection"),
    ("TagOurs", Step::Preflight, "ec2:CreateTags"),
    ("CommandsAsShell", Step::BuilderBySsm, "ssm:SendCommand"),
    ("CommandsOnOurs", Step::BuilderBySsm, "ssm:SendCommand"),
    ("ReadCommands", Step::PreflightBySsm, "ssm:GetCommandInvocation"),
    ("PointChannels", Step::Channel, "ssm:PutParameter"),
    // EBS uses the keys when an image is copied; DryRun does not check that.
    ("UseKeys", Step::Copy, "kms:"),
    ("GrantKeys", Step::Copy, "kms:CreateGrant"),
    ("UseKeysByAlias", Step::Copy, "kms:"),
    ("GrantKeysByAlias", Step::Copy, "kms:CreateGrant"),
];

fn full_policy() -> Value {
    let keys = KEYS.map(|(region, id)| Key { region: region.into(), id: id.to_owned() }).to_vec();
    policy(&[Job::All], &Scope { keys, ..Scope::full(Partition::Commercial) })
}

fn without(sid: &str) -> Value {
    let mut policy = full_policy();
    let statements = policy["Statement"].as_array_mut().unwrap();
    let before = statements.len();
    statements.retain(|statement| statement["Sid"] != sid);
    assert_eq!(statements.len() + 1, before, "{sid}");
    policy
}

/// The delays of AWS, and the keys.
fn with_keys() -> Vec<(&'static str, &'static str)> {
    let keys = KEYS.map(|(region, id)| format!("{region}:{id}")).join(",");
    [&AS_AWS[..], &[("KMS_KEYS", keys.leak())]].concat()
}

/// An account with an image that the owner built, and a role for instances.
fn account(policy: Value) -> (Account, Image) {
    let account = Account::at(Moto::under(&[policy], &with_keys()));
    let iam = |call: &str| {
        let authorization = format!(
            "Authorization: AWS4-HMAC-SHA256 Credential={OWNER}/20261121/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0"
        );
        let body = format!("{call}&Version=2010-05-08");
        Cmd::new("curl").args(["-fsS", "-H", &authorization, "-d", &body, &account.moto.url]).read().unwrap()
    };
    iam("Action=CreateRole&RoleName=agent-ami&AssumeRolePolicyDocument=%7B%7D");
    iam("Action=CreateInstanceProfile&InstanceProfileName=agent-ami");
    iam("Action=AddRoleToInstanceProfile&InstanceProfileName=agent-ami&RoleName=agent-ami");
    let owners = account.owners();
    let image = account.build(&owners).unwrap();
    owners.protect(&image).unwrap();
    (account, image)
}

fn of_pipeline(via: Via) -> Settings {
    Settings {
        via,
        ssm_profile: (via == Via::Ssm).then(|| "agent-ami".to_owned()),
        prefixes: vec!["/agent-ami".to_owned()],
        kms_keys: KEYS.map(|(region, id)| (region.into(), id.to_owned())).into(),
        ..settings(&REGIONS)
    }
}

fn staging() -> Target {
    Target {
        name: "staging".into(),
        image: "locus-agent".to_owned(),
        prefix: Some("/agent-ami".to_owned()),
        ..Target::default()
    }
}

fn started(ec2: &Ec2) -> Result<()> {
    let source = source();
    let base = ec2.base(&source, &|_| {})?;
    let start = Start { builder: BuilderKind::Instance, source: &source, base: &base, from: None, next: None };
    ec2.start_builder(start, &|_| {}).map(drop)
}

impl Step {
    fn try_on(self, account: &Account, image: &Image) -> Result<()> {
        let via = if matches!(self, Self::PreflightBySsm | Self::BuilderBySsm) { Via::Ssm } else { Via::Ssh };
        let ec2 = account.with_settings(Vec::new(), of_pipeline(via));
        match self {
            Self::Preflight | Self::PreflightBySsm => ec2.ready(Some(&source()), false).map(drop),
            Self::Builder | Self::BuilderBySsm => started(&ec2),
            Self::Copy => account.copy(&ec2, image).into_iter().try_for_each(|copied| copied.result.map(drop)),
            Self::Channel => claim::ready(&ec2, &staging()),
            Self::Promotion => ec2.promotable(image),
            Self::Deprecation => ec2.deprecate(image),
            Self::Users => match ec2.users(image)? {
                users if users.is_empty() => Ok(()),
                // An unreadable list counts as a user.
                users => Err(Exit::Precondition.error(users.join(", "), "unused")),
            },
        }
    }
}

/// True for a missing permission. There is no machine behind the endpoint, so the start of a builder always fails, at the latest at the
/// connection.
fn is_refusal(error: &Error) -> bool {
    error.exit() == Exit::Precondition
}

fn protected(account: &Account, image: &Image) -> bool {
    let ec2 = owner(&account.moto.url).ec2(&image.region);
    let found = account.driver.finish(ec2.describe_images().image_ids(&image.id.0).send()).unwrap();
    found.images()[0].deregistration_protection().is_some_and(|state| state.starts_with("enabled"))
}

#[test]
fn every_statement_is_in_the_table() {
    let policy = full_policy();
    let sids = policy["Statement"].as_array().unwrap().iter().map(|s| s["Sid"].as_str().unwrap());
    assert_eq!(sids.collect::<Vec<_>>(), STATEMENTS.map(|(sid, ..)| sid));
}

#[test]
fn under_the_whole_policy_nothing_is_refused() {
    let (account, image) = account(full_policy());
    let steps = [
        Step::Preflight,
        Step::PreflightBySsm,
        Step::Builder,
        Step::BuilderBySsm,
        Step::Channel,
        Step::Promotion,
        Step::Users,
        Step::Copy,
        Step::Deprecation,
    ];
    for step in steps {
        if let Err(error) = step.try_on(&account, &image) {
            assert!(!is_refusal(&error), "{step:?}: {}", plain(&error));
            assert!(matches!(step, Step::Builder | Step::BuilderBySsm), "{step:?}: {}", plain(&error));
        }
    }
}

#[test]
fn without_a_statement_the_pipeline_fails_before_the_change_that_it_permits() {
    let mut wrong = Vec::new();
    for (sid, step, action) in STATEMENTS {
        let (account, image) = account(without(sid));
        let before = account.left();
        let text = match step.try_on(&account, &image) {
            Err(error) if is_refusal(&error) => plain(&error).split_whitespace().collect::<Vec<_>>().join(" "),
            Err(error) => format!("failed with another error: {}", plain(&error)),
            Ok(()) => "it succeeded".to_owned(),
        };
        if !text.contains(action) {
            wrong.push(format!("{sid}: {step:?} does not name {action}: {text}"));
        }
        let mut left = account.left();
        if step == Step::Copy {
            // The copies to the other regions succeed.
            left.retain(|kind, _| !kind.starts_with("images") && !kind.starts_with("snapshots"));
            left.extend(before.clone());
        }
        if left != before {
            wrong.push(format!("{sid}: {left:?} exists, {before:?} existed before"));
        }
        if !protected(&account, &image) {
            wrong.push(format!("{sid}: the image is not protected"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Without an image to check it with, a missing permission to remove resources is found with the key pair, before an instance is started.
#[test]
fn without_the_permission_to_remove_only_a_key_pair_is_created() {
    let account = Account::at(Moto::under(&[without("RemoveOurs")], &with_keys()));
    let ec2 = account.with_settings(Vec::new(), of_pipeline(Via::Ssh));
    ec2.ready(Some(&source()), false).unwrap();
    let Err(error) = started(&ec2) else { panic!("the builder was started") };
    assert!(is_refusal(&error) && error.to_string().contains("ec2:DeleteKeyPair"), "{}", plain(&error));
    account.assert_left(&[("key pairs in us-east-1", 1)]);
}

/// An account with an image that the owner built, and a provider for a role with these jobs.
fn under(jobs: &[Job]) -> (Account, Image, Ec2) {
    let keys = KEYS.map(|(region, id)| Key { region: region.into(), id: id.to_owned() }).to_vec();
    let (account, image) = account(policy(jobs, &Scope { keys, ..Scope::full(Partition::Commercial) }));
    let ec2 = account.with_settings(Vec::new(), of_pipeline(Via::Ssh));
    (account, image, ec2)
}

#[test]
fn the_policy_of_each_job_permits_its_calls() {
    let (_account, image, ec2) = under(&[Job::Plan]);
    ec2.base(&source(), &|_| {}).unwrap();
    assert_eq!(ec2.images(&REGIONS[0].into()).unwrap().len(), 1);
    ec2.launchable(&image).unwrap();
    assert_eq!(ec2.parameter(&REGIONS[0].into(), "/agent-ami/locus-agent/staging").unwrap(), None);

    let (account, _, ec2) = under(&[Job::Build]);
    ec2.ready(Some(&source()), false).unwrap();
    assert!(!is_refusal(&started(&ec2).unwrap_err()));
    let ec2 = account.with_settings(Vec::new(), of_pipeline(Via::Ssh));
    let image = account.build_as(&ec2, "built-v1").unwrap();
    assert!(account.copy(&ec2, &image).iter().all(|copied| copied.result.is_ok()));

    let (_account, image, ec2) = under(&[Job::Promote]);
    ec2.promotable(&image).unwrap();
    claim::take(&ec2, &staging(), &"run-1".into(), "ann").unwrap();
    ec2.put_parameter(&REGIONS[0].into(), "/agent-ami/locus-agent/staging", &image.id.0, None).unwrap();
    ec2.mark(&image, "promoted:staging", "now").unwrap();
    ec2.protect(&image).unwrap();
    claim::release(&ec2, &staging(), &"run-1".into()).unwrap();

    let (account, image, ec2) = under(&[Job::Gc]);
    assert_eq!(ec2.users(&image).unwrap(), [""; 0]);
    ec2.deprecate(&image).unwrap();
    ec2.mark(&image, "deprecated", "now").unwrap();
    ec2.disable(&image).unwrap();
    ec2.mark(&image, "disabled", "now").unwrap();
    std::thread::sleep(COOLDOWN);
    ec2.delete(&image).unwrap();
    account.assert_left(&[]);
}
