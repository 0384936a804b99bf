//! The users of an image: the resources of its region that refer to it, and a recent launch.
//!
//! A list that cannot be read may contain a user, so it counts as one, with the reason. Channels and readable parameters are not listed
//! here; they are read once for a whole region.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_autoscaling::types::{AutoScalingGroup, LaunchTemplateSpecification};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, LaunchTemplate, Reservation};
use jiff::{SignedDuration, Timestamp};
use xtask::cloud::Image;

use crate::aws_error::{AwsError, Called as _, Kind};
use crate::clients::Clients;
use crate::{image, parameters, record};

/// An image that was launched within this time counts as in use (`LastLaunchedTime`, which EC2 reports up to 24 hours late).
const LAUNCHED: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The users of an image.
#[derive(Debug, Default)]
pub struct Uses {
    /// The users, and the lists that could not be read, as texts for messages.
    pub users: BTreeSet<String>,
    /// What was not checked, and why.
    pub caveats: BTreeSet<String>,
}

/// The users of an image in its region.
pub async fn of(clients: &Clients, image: &Image) -> Result<Uses, AwsError> {
    let (region, id) = (image.region.as_str(), image.id.0.as_str());
    let (ec2, autoscaling) = (clients.ec2(region), clients.autoscaling(region));
    let mut uses = Uses::default();
    uses.add("instances", instances(&ec2, id).await)?;
    // An instance is more specific than the time of the last launch.
    if uses.users.is_empty() {
        uses.add("the time of its last launch", launches(&ec2, id, Timestamp::now()).await)?;
    }
    let groups = groups(&autoscaling).await;
    let known: &[AutoScalingGroup] = groups.as_deref().unwrap_or_default();
    uses.add("launch templates", templates(&ec2, id, known).await)?;
    uses.add("launch configurations", configurations(&autoscaling, id, known).await)?;
    uses.add("Auto Scaling groups", groups.map(|_| Vec::new()))?;
    match references(&ec2, id, &image.name).await {
        Err(aws_error) if is_not_offered(&aws_error) => {
            uses.caveats.insert(format!("recipes of EC2 Image Builder in {region} were not checked: {aws_error}"));
            uses.add("parameters", unreadable(&clients.ssm(region)).await)?;
        }
        others => uses.add("EC2's image references", others)?,
    }
    Ok(uses)
}

impl Uses {
    fn add(&mut self, what: &str, found: Result<Vec<String>, AwsError>) -> Result<(), AwsError> {
        match found {
            Ok(users) => self.users.extend(users),
            // Every other call would fail, too.
            Err(aws_error) if matches!(aws_error.kind, Kind::Expired | Kind::Credentials | Kind::NoCredentials) => {
                return Err(aws_error);
            }
            Err(aws_error) => drop(self.users.insert(format!("possibly {what}, which cannot be read ({aws_error})"))),
        }
        Ok(())
    }
}

/// True if the endpoint does not implement DescribeImageReferences. Its list is skipped then, because few accounts have users that only it
/// returns. For an identity without the permission the list counts as unreadable.
fn is_not_offered(aws_error: &AwsError) -> bool {
    const UNKNOWN: [&str; 4] = ["InvalidAction", "UnsupportedOperation", "UnknownOperationException", "NotImplemented"];
    match (aws_error.kind, aws_error.code.as_deref()) {
        // Server errors of EC2 have a code.
        (Kind::Server, None) => true,
        (_, code) => code.is_some_and(|code| UNKNOWN.contains(&code)),
    }
}

async fn instances(ec2: &Client, id: &str) -> Result<Vec<String>, AwsError> {
    let call = ec2.describe_instances().filters(Filter::builder().name("image-id").values(id).build());
    let pages: Result<Vec<_>, _> = call.into_paginator().items().send().collect().await;
    let pages = pages.called("ec2:DescribeInstances")?;
    let instances = pages.iter().flat_map(Reservation::instances);
    let living = instances.filter(|i| i.state().and_then(|s| s.name()).is_some_and(|n| n.as_str() != "terminated"));
    Ok(living.map(|i| format!("instance {}", i.instance_id().unwrap_or_default())).collect())
}

async fn launches(ec2: &Client, id: &str, now: Timestamp) -> Result<Vec<String>, AwsError> {
    let Some(ami) = image::by_ids(ec2, &[id.to_owned()]).await?.into_iter().next() else { return Ok(Vec::new()) };
    let smoked = record::smoked(&record::plain_tags(ami.tags()));
    let last = ami.last_launched_time().and_then(|at| at.parse().ok());
    Ok(launched(last, smoked, now).map(|at| format!("a launch at {at}")).into_iter().collect())
}

/// The last launch, if it is recent and later than the image's smoke test.
fn launched(last: Option<Timestamp>, smoked: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    last.filter(|last| now.duration_since(*last) < LAUNCHED && smoked.is_none_or(|smoked| *last > smoked))
}

/// All versions of all launch templates: without a template's id DescribeLaunchTemplateVersions returns only `$Latest` and `$Default`, but
/// a group may use any version.
async fn templates(ec2: &Client, id: &str, groups: &[AutoScalingGroup]) -> Result<Vec<String>, AwsError> {
    let all: Result<Vec<LaunchTemplate>, _> =
        ec2.describe_launch_templates().into_paginator().items().send().collect().await;
    let mut users = Vec::new();
    for template in all.called("ec2:DescribeLaunchTemplates")? {
        let by_image = Filter::builder().name("image-id").values(id).build();
        let call = ec2
            .describe_launch_template_versions()
            .set_launch_template_id(template.launch_template_id().map(str::to_owned));
        let versions: Result<Vec<_>, _> = call.filters(by_image).into_paginator().items().send().collect().await;
        for version in versions.called("ec2:DescribeLaunchTemplateVersions")? {
            if version.launch_template_data().and_then(|data| data.image_id()) != Some(id) {
                continue;
            }
            let number = version.version_number().unwrap_or_default();
            let name = template.launch_template_name().unwrap_or_default();
            let by: Vec<&str> = groups
                .iter()
                .filter(|g| pins(g, &template, number))
                .filter_map(|g| g.auto_scaling_group_name())
                .collect();
            users.push(format!("launch template {name} version {number}{}", of_groups(&by)));
        }
    }
    Ok(users)
}

/// True if a group starts instances from this version of a template, directly or in a mixed instances policy.
fn pins(group: &AutoScalingGroup, template: &LaunchTemplate, number: i64) -> bool {
    let policy = group.mixed_instances_policy().and_then(|p| p.launch_template());
    let overrides = policy.iter().flat_map(|p| p.overrides()).filter_map(|o| o.launch_template_specification());
    let specified = policy.and_then(|p| p.launch_template_specification()).into_iter().chain(overrides);
    let is_this = |named: &LaunchTemplateSpecification| {
        let same = match named.launch_template_id() {
            Some(id) => template.launch_template_id() == Some(id),
            None => {
                named.launch_template_name().is_some()
                    && named.launch_template_name() == template.launch_template_name()
            }
        };
        // Without a version the default version is used (Auto Scaling API reference, LaunchTemplateSpecification).
        let version = match named.version() {
            Some("$Latest") => template.latest_version_number(),
            Some("$Default") | None => template.default_version_number(),
            Some(number) => number.parse().ok(),
        };
        same && version == Some(number)
    };
    group.launch_template().into_iter().chain(specified).any(is_this)
}

async fn configurations(
    autoscaling: &aws_sdk_autoscaling::Client,
    id: &str,
    groups: &[AutoScalingGroup],
) -> Result<Vec<String>, AwsError> {
    let all: Result<Vec<_>, _> =
        autoscaling.describe_launch_configurations().into_paginator().items().send().collect().await;
    let all = all.called("autoscaling:DescribeLaunchConfigurations")?;
    let mine = all.iter().filter(|configuration| configuration.image_id() == Some(id));
    let described = mine.map(|configuration| {
        let name = configuration.launch_configuration_name().unwrap_or_default();
        let by = groups.iter().filter(|g| g.launch_configuration_name() == Some(name));
        let by: Vec<&str> = by.filter_map(|g| g.auto_scaling_group_name()).collect();
        format!("launch configuration {name}{}", of_groups(&by))
    });
    Ok(described.collect())
}

fn of_groups(names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!(" of Auto Scaling group {}", names.join(", ")) }
}

/// All groups, including those with 0 instances.
async fn groups(autoscaling: &aws_sdk_autoscaling::Client) -> Result<Vec<AutoScalingGroup>, AwsError> {
    let all: Result<Vec<_>, _> =
        autoscaling.describe_auto_scaling_groups().into_paginator().items().send().collect().await;
    all.called("autoscaling:DescribeAutoScalingGroups")
}

/// Parameters with image ids that this identity may not read. EC2 reads them for DescribeImageReferences.
async fn unreadable(ssm: &aws_sdk_ssm::Client) -> Result<Vec<String>, AwsError> {
    let names = parameters::of_images(ssm).await?.unreadable;
    Ok(names.into_iter().map(|name| format!("possibly parameter {name}, which this identity may not read")).collect())
}

/// Users that only DescribeImageReferences returns: recipes of EC2 Image Builder, and parameters, including those that this identity may
/// not read. The parameter of the image's own version is no user: it is removed with the image.
async fn references(ec2: &Client, id: &str, name: &str) -> Result<Vec<String>, AwsError> {
    let call = ec2.describe_image_references().image_ids(id).include_all_resource_types(true);
    let all: Result<Vec<_>, _> = call.into_paginator().items().send().collect().await;
    let all = all.called("ec2:DescribeImageReferences")?;
    let mut by_kind: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for reference in all {
        let kind = reference.resource_type().map(|kind| kind.as_str().to_owned()).unwrap_or_default();
        let arn = reference.arn().unwrap_or_default();
        let is_version = kind == "ssm:Parameter" && arn.ends_with(&format!("/versions/{name}"));
        if !is_version && !["ec2:Instance", "ec2:LaunchTemplate"].contains(&kind.as_str()) {
            by_kind.entry(kind).or_default().push(arn.to_owned());
        }
    }
    Ok(by_kind.into_iter().map(|(kind, arns)| format!("{kind} {}", arns.join(", "))).collect())
}

#[cfg(test)]
mod tests {
    use aws_sdk_autoscaling::types::{LaunchTemplateOverrides, MixedInstancesPolicy};

    use super::*;

    #[test]
    fn a_launch_counts_for_thirty_days_unless_it_was_a_smoke_test() {
        let day = |n: i64| Timestamp::from_second(1_700_000_000 + n * 86_400).unwrap();
        assert_eq!(launched(Some(day(10)), None, day(39)), Some(day(10)));
        assert_eq!(launched(Some(day(10)), None, day(41)), None);
        assert_eq!(launched(Some(day(10)), Some(day(10)), day(11)), None, "the launch of the smoke test");
        assert_eq!(launched(Some(day(12)), Some(day(10)), day(13)), Some(day(12)));
        assert_eq!(launched(None, None, day(13)), None);
    }

    #[test]
    fn a_group_pins_a_version_by_number_by_name_and_in_a_mixed_instances_policy() {
        let template = LaunchTemplate::builder().launch_template_id("lt-1").launch_template_name("agents");
        let template = template.default_version_number(2).latest_version_number(3).build();
        let specification = |version: &str| {
            LaunchTemplateSpecification::builder().launch_template_name("agents").version(version).build()
        };
        let group = || AutoScalingGroup::builder().auto_scaling_group_name("workers").desired_capacity(0);
        let plain = |version: &str| group().launch_template(specification(version)).build();
        assert!(pins(&plain("1"), &template, 1) && !pins(&plain("1"), &template, 2));
        assert!(pins(&plain("$Latest"), &template, 3) && pins(&plain("$Default"), &template, 2));
        let other = LaunchTemplateSpecification::builder().launch_template_id("lt-2").version("1").build();
        assert!(!pins(&group().launch_template(other.clone()).build(), &template, 1));
        let override_ = LaunchTemplateOverrides::builder().launch_template_specification(specification("1")).build();
        let policy = aws_sdk_autoscaling::types::LaunchTemplate::builder().launch_template_specification(other);
        let mixed = MixedInstancesPolicy::builder().launch_template(policy.overrides(override_).build()).build();
        assert!(pins(&group().mixed_instances_policy(mixed).build(), &template, 1));
    }

    #[test]
    fn a_list_that_cannot_be_read_counts_as_a_user() {
        let aws_error = |kind| AwsError {
            kind,
            action: "autoscaling:DescribeLaunchConfigurations",
            code: None,
            message: "no".to_owned(),
        };
        let mut uses = Uses::default();
        uses.add("instances", Ok(vec!["instance i-1".to_owned()])).unwrap();
        uses.add("launch configurations", Err(aws_error(Kind::Denied))).unwrap();
        let users: Vec<&String> = uses.users.iter().collect();
        assert_eq!(users[0], "instance i-1");
        assert!(users[1].starts_with("possibly launch configurations, which cannot be read"), "{users:?}");
        uses.add("launch configurations", Err(aws_error(Kind::Expired))).unwrap_err();
    }
}
