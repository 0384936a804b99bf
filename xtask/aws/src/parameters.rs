//! Parameters of Systems Manager that hold image ids, written by compare-and-set as far as the service has one.
//!
//! PutParameter knows no expected version. `Overwrite=false` makes a parameter only if it is not there; an existing one is read, compared,
//! written, and the version that the write returns must follow the one that was read: else somebody wrote in between, which is told.

use aws_sdk_ssm::Client;
use aws_sdk_ssm::operation::describe_parameters::DescribeParametersOutput;
use aws_sdk_ssm::types::ParameterType;
use xtask::cloud::{ImageId, Parameter, changed_in_between};
use xtask::error::{Error, Result};

use crate::fault::{Called as _, Fault, Kind};
use crate::wait::retried;

/// The data type of a parameter that holds an image's id.
const IMAGE: &str = "aws:ec2:image";
/// How many parameters one GetParameters takes.
const BATCH: usize = 10;

/// A parameter as it stands.
pub async fn get(ssm: &Client, name: &str) -> Result<Option<Parameter>, Fault> {
    let call = ssm.get_parameter().name(name);
    match retried(|| call.clone().send(), "ssm:GetParameter").await {
        Ok(answer) => Ok(answer.parameter().map(|p| Parameter {
            value: p.value().unwrap_or_default().to_owned(),
            version: u64::try_from(p.version()).unwrap_or(0),
        })),
        Err(fault) if fault.kind == Kind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The parameters with the data type `aws:ec2:image`, and what they hold. Not `DescribeImageReferences`, which says it in one call of each
/// image: it takes a permission that few accounts have given yet, and no endpoint that tests could ask knows it.
pub async fn of_images(ssm: &Client) -> Result<Vec<(String, ImageId)>, Fault> {
    let call = ssm.describe_parameters();
    let pages: Result<Vec<_>, _> = call.into_paginator().send().collect().await;
    let pages = pages.called("ssm:DescribeParameters")?;
    let names = pages
        .iter()
        .flat_map(DescribeParametersOutput::parameters)
        .filter(|p| p.data_type() == Some(IMAGE))
        .filter_map(|p| p.name());
    let mut found = Vec::new();
    for batch in names.collect::<Vec<_>>().chunks(BATCH) {
        let names: Vec<String> = batch.iter().map(|name| (*name).to_owned()).collect();
        let call = ssm.get_parameters().set_names(Some(names));
        // One that was removed in between is not in the answer.
        for parameter in retried(|| call.clone().send(), "ssm:GetParameters").await?.parameters() {
            if let (Some(name), Some(value)) = (parameter.name(), parameter.value()) {
                found.push((name.to_owned(), ImageId(value.to_owned())));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Removes it; one that is gone already is no failure.
pub async fn delete(ssm: &Client, name: &str) -> Result<(), Fault> {
    let call = ssm.delete_parameter().name(name);
    match retried(|| call.clone().send(), "ssm:DeleteParameter").await {
        Err(fault) if fault.kind != Kind::NotFound => Err(fault),
        _ => Ok(()),
    }
}

/// Writes it if its version is still `expected`.
pub async fn put(ssm: &Client, region: &str, name: &str, value: &str, expected: Option<u64>) -> Result<()> {
    let changed = |there: Option<Parameter>| changed_in_between(region, name, there.as_ref());
    let there = get(ssm, name).await?;
    if there.as_ref().map(|p| p.version) != expected {
        return Err(changed(there));
    }
    let call = ssm.put_parameter().name(name).value(value).r#type(ParameterType::String).overwrite(expected.is_some());
    // EC2 then holds the value to be an image that this account can use in this region.
    let call = if value.starts_with("ami-") { call.data_type(IMAGE) } else { call };
    match call.send().await.called("ssm:PutParameter") {
        Ok(written) => {
            let follows = expected.unwrap_or(0) + 1;
            if u64::try_from(written.version()).ok() == Some(follows) {
                Ok(())
            } else {
                Err(changed(get(ssm, name).await?))
            }
        }
        Err(fault) if fault.code.as_deref() == Some("ParameterAlreadyExists") => Err(changed(get(ssm, name).await?)),
        // The answer may have been lost, not the write.
        Err(fault) if fault.passes() => match get(ssm, name).await? {
            Some(there) if there.value == value => Ok(()),
            _ => Err(Error::from(fault)),
        },
        Err(fault) => Err(fault.into()),
    }
}
