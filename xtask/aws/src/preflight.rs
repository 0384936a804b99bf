//! Checks before the first mutating call, in every region: identity, account, expiry of the credentials, permissions, network, quotas, KMS
//! keys.
//!
//! All problems are reported together, each with its fix. Permissions are checked by DryRun with the parameters of the real calls (EC2 API
//! reference, "DryRun"). Parameters, quotas and KMS keys have no DryRun and are read. Whether a key policy allows EC2 to use the key is
//! known only at its first use.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::copy_image::CopyImageOutput;
use aws_sdk_ec2::operation::create_image::CreateImageOutput;
use aws_sdk_ec2::operation::create_security_group::CreateSecurityGroupOutput;
use aws_sdk_ec2::types::{ResourceType, Subnet};
use futures_util::future::join_all;
use xtask::cloud::Image;
use xtask::error::{Error, Exit, Result};
use xtask::ids::Region;

use crate::amazon_ebs_source::AmazonEbsSource;
use crate::aws_error::{AwsError, Called as _, Kind};
use crate::clients::Clients;
use crate::drive::Driver;
use crate::dry::{self, Ignored, Made};
use crate::order::Order;
use crate::request::{self, Owner};
use crate::settings::{Settings, Via};
use crate::{base, image, limits, ours, parameters, record};

/// Upper estimate of the duration of a release on EC2: build, image, two boots, copies.
const RELEASE: Duration = Duration::from_secs(60 * 60);
/// An id of no instance, for calls that require one before there is an instance.
const NO_INSTANCE: &str = "i-00000000";
/// An id of no command of Systems Manager.
const NO_COMMAND: &str = "00000000-0000-0000-0000-000000000000";
/// An id of no image, used where the base image was not found.
const NO_IMAGE: &str = "ami-00000000";
/// A valid public key without a known private key: the base point of the curve.
const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFhmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZm";
/// Name and run tag in the requests of the preflight.
const NAME: &str = "agent-ami-preflight";

/// The inputs of the checks.
struct Checks<'a> {
    clients: &'a Clients,
    settings: &'a Settings,
    home: &'a Region,
    order: Order,
    owner: Owner<'a>,
}

/// Checks identity, account, expiry of the credentials, regions, network and permissions. Returns a text with the identity, and with the
/// problems of the best-effort regions.
pub fn check(
    driver: &Driver,
    clients: &Clients,
    settings: &Settings,
    home: &Region,
    ebs_source: &AmazonEbsSource,
) -> Result<String> {
    // Without an identity every other call fails, too.
    let identity = driver.wait(clients.sts().get_caller_identity().send())?.called("sts:GetCallerIdentity")?;
    let (account, arn) = (identity.account().unwrap_or_default(), identity.arn().unwrap_or_default());
    let mut problems = Vec::new();
    if ebs_source.region != *home {
        let region = &ebs_source.region;
        problems.push(format!(
            "the source's region is {region}, and the home region of ami.toml is {home}: make them equal"
        ));
    }
    if !settings.accounts.is_empty() && !settings.accounts.iter().any(|a| a == account) {
        problems.push(format!(
            "the credentials are for account {account}, which `accounts` in ami.toml does not list: use another profile, or add it"
        ));
    }
    problems.extend(expiry(driver.wait(clients.credentials_expiry())?));
    let base = match base::find(driver, clients, home, ebs_source) {
        Ok(base) => Some(base.id),
        Err(error) if error.exit() == Exit::Interrupted => return Err(error),
        Err(error) => {
            problems.push(with_help(&error));
            None
        }
    };
    let checks = Checks {
        clients,
        settings,
        home,
        order: Order::builder(ebs_source, base.as_deref().unwrap_or(NO_IMAGE), settings),
        owner: Owner { run: NAME, purpose: "preflight", lifetime: settings.lifetime },
    };
    let found = driver.wait(checks.all_regions())?.map_err(|ignored| stopped(driver, clients, &ignored))?;
    let (tolerated, rest): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(region, _)| region != home && settings.best_effort.contains(region));
    problems.extend(rest.into_iter().map(|(region, problem)| format!("{region}: {problem}")));
    if problems.is_empty() {
        let tolerated = tolerated.iter().map(|(region, problem)| format!("\n{region}, best effort: {problem}"));
        return Ok(format!("working as {arn} in account {account}{}", tolerated.collect::<String>()));
    }
    let list: String = problems.iter().map(|p| format!("\n- {p}")).collect();
    Err(Exit::Precondition.error(
        format_args!("preflight failed for {arn}:{list}"),
        "fix these problems; `cargo xtask iam-policy` prints the IAM policy that the pipeline requires",
    ))
}

/// The problem if the credentials expire before the end of a release.
fn expiry(expiry: Option<SystemTime>) -> Option<String> {
    let left = expiry?.duration_since(SystemTime::now()).unwrap_or_default();
    (left < RELEASE).then(|| {
        format!(
            "the credentials expire in {} min and cannot be renewed by this program; a release may take {} min: sign in again, or use a profile \
             with credentials that can be renewed",
            left.as_secs() / 60,
            RELEASE.as_secs() / 60
        )
    })
}

fn with_help(error: &Error) -> String {
    match error.report().help() {
        Some(help) => format!("{error}: {help}"),
        None => error.to_string(),
    }
}

/// An AWS error as a problem, with its fix.
fn problem(aws_error: &AwsError) -> String {
    format!("{aws_error}: {}", aws_error.hint())
}

/// Adds the problem that a check found, or the AWS error that stopped the check.
fn add(problems: &mut Vec<String>, found: std::result::Result<Option<String>, AwsError>) {
    problems.extend(found.unwrap_or_else(|aws_error| Some(problem(&aws_error))));
}

/// The error for an endpoint that executed DryRun calls. Removes what they created: the ledger has no record of it.
fn stopped(driver: &Driver, clients: &Clients, ignored: &[Ignored]) -> Error {
    let undone = ignored.iter().map(|one| (one, driver.finish(one.undo(clients))));
    dry::stop(undone.collect())
}

impl Checks<'_> {
    /// The problems of all regions, the home region first. Stops at an endpoint that ignores DryRun.
    async fn all_regions(&self) -> Result<Vec<(Region, String)>, Vec<Ignored>> {
        let home = self.clients.ec2(self.home);
        // The first DryRun is a read call, which creates nothing at an endpoint that ignores DryRun.
        let probe = home.describe_images().owners("self").max_results(5).dry_run(true).send();
        let mut found = Vec::new();
        let probe = dry::check(self.home, probe, "ec2:DescribeImages", |_| Made::Nothing).await;
        found.extend(probe.map_err(|ignored| vec![ignored])?);
        let mut problems: Vec<(Region, String)> =
            found.iter().map(|aws_error| (self.home.clone(), problem(aws_error))).collect();
        let (usable, unusable) = match self.enabled(&home).await {
            Ok(regions) => regions,
            Err(aws_error) => {
                problems.push((self.home.clone(), problem(&aws_error)));
                (self.settings.regions.clone(), Vec::new())
            }
        };
        problems.extend(unusable);
        if usable.contains(self.home) {
            let at_home = self.at_home(&home).await.map_err(|ignored| vec![ignored])?;
            problems.extend(at_home.into_iter().map(|problem| (self.home.clone(), problem)));
        }
        // The regions are checked concurrently, so several calls may have created something.
        let mut ignored = Vec::new();
        for answer in join_all(usable.iter().map(|region| self.in_region(region))).await {
            match answer {
                Ok(found) => problems.extend(found),
                Err(one) => ignored.push(one),
            }
        }
        if ignored.is_empty() { Ok(problems) } else { Err(ignored) }
    }

    /// The enabled regions of ami.toml, and the others with the reason.
    async fn enabled(&self, home: &Client) -> Result<(Vec<Region>, Vec<(Region, String)>), AwsError> {
        let answer = home.describe_regions().all_regions(true).send().await.called("ec2:DescribeRegions")?;
        let (mut usable, mut unusable) = (Vec::new(), Vec::new());
        for region in &self.settings.regions {
            let known = answer.regions().iter().find(|known| known.region_name() == Some(region.as_str()));
            match known.map(|known| known.opt_in_status()) {
                None => {
                    let why = format!("EC2 in {} has no region of this name: correct [regions] in ami.toml", self.home);
                    unusable.push((region.clone(), why));
                }
                Some(Some("not-opted-in")) => {
                    let why = format!(
                        "the region is not enabled for this account: run `aws account enable-region --region-name {region}`, or remove it from \
                         [regions] in ami.toml"
                    );
                    unusable.push((region.clone(), why));
                }
                Some(_) => usable.push(region.clone()),
            }
        }
        Ok((usable, unusable))
    }

    /// The problems of the home region alone: the start of a builder, and an image of it.
    async fn at_home(&self, ec2: &Client) -> Result<Vec<String>, Ignored> {
        let mut aws_errors = Vec::new();
        let mut problems = Vec::new();
        let subnets = request::subnets(ec2, &self.order).into_paginator().items().send();
        let subnets: std::result::Result<Vec<Subnet>, _> = subnets.collect().await;
        let subnet = match subnets.called("ec2:DescribeSubnets") {
            Ok(subnets) if subnets.is_empty() => {
                problems.push(
                    "the account has no default subnet: set `build_subnet_id` in [packer] of ami.toml, or create a default VPC (`aws ec2 \
                     create-default-vpc`)"
                        .to_owned(),
                );
                None
            }
            Ok(subnets) => subnets.into_iter().next(),
            Err(aws_error) => {
                problems.push(problem(&aws_error));
                None
            }
        };
        // Spot instances have separate quotas.
        if let Some(kind) = self.order.types.first().filter(|_| self.order.spot.is_none()) {
            add(&mut problems, limits::vcpu_quota(self.clients, self.home, kind).await);
        }
        for key in self.order.disks.iter().filter_map(|disk| disk.kms_key_id.as_deref()) {
            add(&mut problems, limits::kms_key(self.clients, self.home, key).await);
        }
        let tags = |kind: ResourceType| self.owner.tags(kind, &self.order.tags);
        if self.settings.via == Via::Ssh {
            let call = ec2.import_key_pair().key_name(NAME).public_key_material(PUBLIC_KEY.as_bytes().to_vec().into());
            let call = call.tag_specifications(tags(ResourceType::KeyPair)).dry_run(true).send();
            aws_errors
                .extend(dry::check(self.home, call, "ec2:ImportKeyPair", |_| Made::KeyPair(NAME.to_owned())).await?);
            if self.order.groups.is_empty() {
                let vpc = subnet.as_ref().and_then(Subnet::vpc_id).map(str::to_owned);
                let call = ec2.create_security_group().group_name(NAME).description("preflight").set_vpc_id(vpc);
                let call = call.tag_specifications(tags(ResourceType::SecurityGroup)).dry_run(true).send();
                let made = |answer: &CreateSecurityGroupOutput| {
                    Made::SecurityGroup(answer.group_id().unwrap_or_default().to_owned())
                };
                aws_errors.extend(dry::check(self.home, call, "ec2:CreateSecurityGroup", made).await?);
            }
        }
        let kind = self.order.types.first().map(String::as_str).unwrap_or_default();
        let place = subnet.as_ref().and_then(Subnet::subnet_id);
        let call =
            request::instance(ec2, &self.order, self.owner, kind, place, &self.order.groups).dry_run(true).send();
        aws_errors.extend(dry::check(self.home, call, "ec2:RunInstances", Made::instances).await?);
        let call = ec2
            .create_image()
            .tag_specifications(tags(ResourceType::Image))
            .tag_specifications(tags(ResourceType::Snapshot))
            .instance_id(NO_INSTANCE)
            .name(NAME)
            .dry_run(true)
            .send();
        let made = |answer: &CreateImageOutput| Made::image(answer.image_id());
        let refused = dry::check(self.home, call, "ec2:CreateImage", made).await?;
        // The policy allows images only of tagged instances, and the placeholder has no tags: its denial does not apply to the builder.
        aws_errors.extend(refused.filter(|aws_error| !aws_error.message.contains(&format!("instance/{NO_INSTANCE}"))));
        problems.extend(aws_errors.iter().map(problem));
        Ok(problems)
    }

    /// The problems of any region: copies to it, changes of images, the channels' parameters, quotas and keys.
    async fn in_region(&self, region: &Region) -> Result<Vec<(Region, String)>, Ignored> {
        let mut aws_errors = Vec::new();
        if region != self.home {
            let call = self
                .clients
                .ec2(region)
                .copy_image()
                .name(NAME)
                .source_region(self.home.as_str())
                .source_image_id(&self.order.image)
                .copy_image_tags(true)
                .tag_specifications(self.owner.tags(ResourceType::Image, &self.order.tags))
                .tag_specifications(self.owner.tags(ResourceType::Snapshot, &self.order.tags))
                .encrypted(true)
                .set_kms_key_id(self.settings.kms_keys.get(region).cloned())
                .dry_run(true)
                .send();
            let made = |answer: &CopyImageOutput| Made::image(answer.image_id());
            aws_errors.extend(dry::check(region, call, "ec2:CopyImage", made).await?);
        }
        aws_errors.extend(self.on_images(region).await?);
        let ssm = self.clients.ssm(region);
        for prefix in &self.settings.prefixes {
            // No parameter has this name; the call fails only if it is not permitted.
            aws_errors.extend(parameters::get(&ssm, &format!("{prefix}/{NAME}")).await.err());
        }
        if self.settings.via == Via::Ssm && region == self.home {
            let call = ssm.describe_instance_information().max_results(5).send();
            aws_errors.extend(call.await.called("ssm:DescribeInstanceInformation").err());
            // No command has this id: an error other than a denial shows that the call is permitted.
            let call = ssm.get_command_invocation().command_id(NO_COMMAND).instance_id(NO_INSTANCE).send();
            let aws_error = call.await.called("ssm:GetCommandInvocation").err();
            aws_errors.extend(aws_error.filter(|aws_error| aws_error.kind == Kind::Denied));
        }
        let mut problems: Vec<String> = aws_errors.iter().map(problem).collect();
        add(&mut problems, limits::image_quota(self.clients, region).await);
        if let Some(key) = self.settings.kms_keys.get(region) {
            add(&mut problems, limits::kms_key(self.clients, region, key).await);
        }
        Ok(problems.into_iter().map(|problem| (region.clone(), problem)).collect())
    }

    /// The AWS errors of changes of images, checked with an existing image that has our tag; none if there is no such image.
    async fn on_images(&self, region: &Region) -> Result<Vec<AwsError>, Ignored> {
        let ec2 = self.clients.ec2(region);
        match image::tagged(&ec2, record::RUN, None).await {
            Err(aws_error) => Ok(vec![aws_error]),
            Ok(images) => match images.iter().find_map(|ami| ami.image_id()) {
                Some(id) => ours::of_builds(&ec2, region, id).await,
                None => Ok(Vec::new()),
            },
        }
    }
}

/// An error if CreateImage is not permitted for the builder. The policy permits it only for tagged instances, so it cannot be checked
/// before the builder exists.
pub(crate) fn capturable(
    driver: &Driver,
    clients: &Clients,
    settings: &Settings,
    region: &Region,
    builder: &str,
) -> Result<()> {
    let owner = Owner { run: NAME, purpose: "preflight", lifetime: settings.lifetime };
    let tags = |kind: ResourceType| owner.tags(kind, &BTreeMap::new());
    let call = clients
        .ec2(region)
        .create_image()
        .instance_id(builder)
        .name(NAME)
        .no_reboot(true)
        .tag_specifications(tags(ResourceType::Image))
        .tag_specifications(tags(ResourceType::Snapshot))
        .dry_run(true)
        .send();
    let made = |answer: &CreateImageOutput| Made::image(answer.image_id());
    match driver.wait(dry::check(region, call, "ec2:CreateImage", made))? {
        Err(ignored) => Err(stopped(driver, clients, &[ignored])),
        Ok(Some(aws_error)) => Err(aws_error.into()),
        Ok(None) => Ok(()),
    }
}

/// An error unless an instance of an image would start: a DryRun of RunInstances with the parameters of a smoke instance. Where the role
/// only reads and RunInstances is denied, the image must be available and its snapshots must exist.
pub(crate) fn launchable(driver: &Driver, clients: &Clients, settings: &Settings, image: &Image) -> Result<()> {
    let kind = settings.smoke_types.first().map_or("t3.micro", String::as_str);
    // A DryRun starts nothing, so there is no login.
    let order = Order::smoke(image, kind, "", settings);
    let owner = Owner { run: &image.run, purpose: &order.purpose, lifetime: settings.lifetime };
    let ec2 = clients.ec2(&image.region);
    let call =
        request::instance(&ec2, &order, owner, kind, order.subnet.as_deref(), &order.groups).dry_run(true).send();
    match driver.wait(dry::answer(&image.region, call, "ec2:RunInstances", Made::instances))? {
        Err(ignored) => Err(stopped(driver, clients, &[ignored])),
        Ok(aws_error) if aws_error.kind == Kind::WouldSucceed => Ok(()),
        Ok(aws_error) if aws_error.kind == Kind::Denied => driver.wait(readable(&ec2, image))?,
        Ok(aws_error) => Err(aws_error.into()),
    }
}

/// An error unless the image is available and all snapshots of its block device mapping exist.
async fn readable(ec2: &Client, image: &Image) -> Result<()> {
    let found = image::by_ids(ec2, std::slice::from_ref(&image.id.0)).await?;
    let Some(ami) = found.first() else {
        return Err(Exit::Failed
            .error(format_args!("{} does not exist in {}", image.id, image.region), "promote another image"));
    };
    let state = ami.state().map_or("in an unknown state", |state| state.as_str());
    if state != "available" {
        return Err(Exit::Failed.error(format_args!("{} is {state}", image.id), "promote another image"));
    }
    let snapshots = record::snapshots(ami);
    let call = ec2.describe_snapshots().set_snapshot_ids(Some(snapshots));
    call.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.called("ec2:DescribeSnapshots")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_expire_within_a_release_are_a_problem() {
        let at = |minutes: u64| expiry(Some(SystemTime::now() + Duration::from_secs(60 * minutes + 30)));
        assert!(at(5).unwrap().contains("expire in 5 min"), "{:?}", at(5));
        assert!(expiry(Some(SystemTime::UNIX_EPOCH)).unwrap().contains("expire in 0 min"));
        assert_eq!((at(61), expiry(None)), (None, None));
    }
}
