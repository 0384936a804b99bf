//! The base AMI: by id, by owner and filter, or by a public SSM parameter. Never by name alone.

use aws_sdk_ec2::types::{Filter, Image as Ami};
use xtask::cloud::BaseRecord;
use xtask::error::{Exit, Result};
use xtask::ids::Region;

use crate::amazon_ebs_source::AmazonEbsSource;
use crate::aws_error::{AwsError, Called as _};
use crate::clients::Clients;
use crate::drive::Driver;

/// Prefix of a parameter's name in place of an image id, as in RunInstances. Canonical's are below `/aws/service/canonical/ubuntu/server/`.
const PARAMETER: &str = "resolve:ssm:";

/// Finds the base image of an `amazon-ebs` source.
pub fn find(driver: &Driver, clients: &Clients, region: &Region, ebs_source: &AmazonEbsSource) -> Result<BaseRecord> {
    let found = driver.wait(matching(clients, region, ebs_source))??;
    let ami = newest(found, ebs_source)?;
    let id = ami.image_id().unwrap_or_default().to_owned();
    Ok(BaseRecord { name: ami.name().unwrap_or(&id).to_owned(), digest: ebs_source.shape(&id), id })
}

async fn matching(clients: &Clients, region: &Region, ebs_source: &AmazonEbsSource) -> Result<Vec<Ami>, AwsError> {
    let ec2 = clients.ec2(region);
    let mut id = ebs_source.source_ami.clone();
    if let Some(name) = id.as_deref().and_then(|id| id.strip_prefix(PARAMETER)) {
        let answer = clients.ssm(region).get_parameter().name(name).send().await.called("ssm:GetParameter")?;
        id = Some(answer.parameter().and_then(|p| p.value()).unwrap_or_default().to_owned());
    }
    let call = match ebs_source.source_ami_filter.first() {
        Some(by) if id.is_none() => {
            let filters = by.filters.iter().map(|(name, value)| Filter::builder().name(name).values(value).build());
            ec2.describe_images().set_owners(Some(by.owners.clone())).set_filters(Some(filters.collect()))
        }
        _ => ec2.describe_images().set_image_ids(id.map(|id| vec![id])),
    };
    call.into_paginator().items().send().collect::<std::result::Result<Vec<_>, _>>().await.called("ec2:DescribeImages")
}

fn newest(mut found: Vec<Ami>, ebs_source: &AmazonEbsSource) -> Result<Ami> {
    found.sort_by(|a, b| a.creation_date().cmp(&b.creation_date()));
    let several = found.len() > 1 && !ebs_source.source_ami_filter.iter().any(|f| f.most_recent);
    match found.pop() {
        Some(_) if several => Err(Exit::Usage.error(
            "several base images match source_ami_filter",
            "set most_recent = true in the template, or pin one with `--var base_ami=ami-…`",
        )),
        Some(ami) => Ok(ami),
        None => Err(Exit::Precondition.error(
            "no base image matches the template",
            "check source_ami_filter and the region, or pin one with `--var base_ami=ami-…`",
        )),
    }
}
