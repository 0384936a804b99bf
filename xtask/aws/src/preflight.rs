//! What must hold before the first mutating call: who we are, where, for how long, and whether EC2 would let us.
//!
//! All failures are told at once, each with its remedy; finding them one by one costs a release each.

use std::time::{Duration, SystemTime};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::ProvideCredentials as _;
use aws_sdk_ec2::types::{InstanceType, ResourceType, Tag, TagSpecification};
use xtask::error::{Error, Exit, Result};

use crate::blueprint::Blueprint;
use crate::clients::Clients;
use crate::drive::Driver;
use crate::fault::{Called as _, Fault, Kind};
use crate::settings::Settings;

/// How long a release takes on EC2, generously: build, image, two boots, copies.
const RELEASE: Duration = Duration::from_secs(60 * 60);

/// Judges identity, account, lifetime and permissions; returns who we are.
pub fn check(
    driver: &Driver,
    clients: &Clients,
    settings: &Settings,
    home: &str,
    blueprint: &Blueprint,
) -> Result<String> {
    // Without an identity nothing else can be asked.
    let identity = driver.wait(clients.sts().get_caller_identity().send())?.called("sts:GetCallerIdentity")?;
    let (account, arn) = (identity.account().unwrap_or_default(), identity.arn().unwrap_or_default());
    let mut problems = Vec::new();
    if !settings.accounts.is_empty() && !settings.accounts.iter().any(|a| a == account) {
        problems.push(format!(
            "the credentials are for account {account}, which `accounts` in ami.toml does not list: use another profile, or list it"
        ));
    }
    if let Some(left) = driver.wait(lifetime(clients))?
        && left < RELEASE
    {
        problems.push(format!(
            "the credentials end in {} min and cannot be renewed; a release may take {} min: sign in again before you start",
            left.as_secs() / 60,
            RELEASE.as_secs() / 60
        ));
    }
    let ec2 = clients.ec2(home);
    for fault in driver.wait(denied(&ec2, blueprint))? {
        problems.push(format!("{fault}: let the identity do {}", fault.action));
    }
    if problems.is_empty() {
        return Ok(format!("working as {arn} in account {account}"));
    }
    let list: String = problems.iter().map(|p| format!("\n- {p}")).collect();
    Err(Exit::Precondition.error(
        format_args!("EC2 is not ready for {arn}:{list}"),
        "`cargo xtask iam-policy` prints the policy that the pipeline needs",
    ))
}

/// How long credentials that cannot be renewed still hold; `None` for those that can, or never end.
async fn lifetime(clients: &Clients) -> Option<Duration> {
    let provider = clients.config().credentials_provider()?;
    let credentials = provider.provide_credentials().await.ok()?;
    // A provider that renews gives new ones when asked late enough; keys from the environment never change.
    let fixed = std::env::var_os("AWS_SESSION_TOKEN").is_some();
    let end = credentials.expiry().filter(|_| fixed)?;
    Some(end.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The calls of a build, asked as DryRun: those that would be refused.
async fn denied(ec2: &Client, blueprint: &Blueprint) -> Vec<Fault> {
    let kind = InstanceType::from(blueprint.instance_type.as_str());
    // Ids that need not exist: permission is judged first.
    let image = if blueprint.source_ami.starts_with("ami-") { &blueprint.source_ami } else { "ami-00000000" };
    // The least-privilege policy allows making only what is tagged as ours in the same call.
    let ours = |kind: ResourceType| {
        let tag = Tag::builder().key("ManagedBy").value("agent-ami").build();
        TagSpecification::builder().resource_type(kind).tags(tag).build()
    };
    let answers = [
        ec2.import_key_pair()
            .tag_specifications(ours(ResourceType::KeyPair))
            .key_name("agent-ami-preflight")
            .public_key_material(b"ssh-ed25519 AAAA".to_vec().into())
            .dry_run(true)
            .send()
            .await
            .called("ec2:ImportKeyPair")
            .err(),
        ec2.create_security_group()
            .tag_specifications(ours(ResourceType::SecurityGroup))
            .group_name("agent-ami-preflight")
            .description("preflight")
            .dry_run(true)
            .send()
            .await
            .called("ec2:CreateSecurityGroup")
            .err(),
        ec2.run_instances()
            .tag_specifications(ours(ResourceType::Instance))
            .tag_specifications(ours(ResourceType::Volume))
            .image_id(image)
            .instance_type(kind)
            .min_count(1)
            .max_count(1)
            .dry_run(true)
            .send()
            .await
            .called("ec2:RunInstances")
            .err(),
        ec2.create_image()
            .tag_specifications(ours(ResourceType::Image))
            .tag_specifications(ours(ResourceType::Snapshot))
            .instance_id("i-00000000")
            .name("agent-ami-preflight")
            .dry_run(true)
            .send()
            .await
            .called("ec2:CreateImage")
            .err(),
        ec2.describe_images()
            .owners("self")
            .max_results(5)
            .dry_run(true)
            .send()
            .await
            .called("ec2:DescribeImages")
            .err(),
    ];
    answers
        .into_iter()
        .flatten()
        .filter(|fault| matches!(fault.kind, Kind::Denied | Kind::Credentials | Kind::Expired))
        .collect()
}

/// The identity, for `doctor` and for messages.
pub fn identity(driver: &Driver, clients: &Clients) -> Result<String, Error> {
    let answer = driver.wait(clients.sts().get_caller_identity().send())?.called("sts:GetCallerIdentity")?;
    Ok(answer.arn().unwrap_or_default().to_owned())
}
