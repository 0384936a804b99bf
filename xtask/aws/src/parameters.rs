//! Parameters of Systems Manager that hold image ids, written by compare-and-set as far as the service supports it.
//!
//! PutParameter has no expected version. `Overwrite=false` creates a parameter only if it does not exist. An existing parameter is read,
//! compared and written, and the version that the write returns must follow the version that was read. Otherwise another process has
//! written in between, and the value of the first write is restored. Systems Manager validates a value of data type `aws:ec2:image` after PutParameter has
//! returned (API reference, PutParameter, DataType), so a write has succeeded only when it can be read back.

use std::time::Duration;

use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::retry::RetryConfig;
use aws_sdk_ssm::operation::describe_parameters::DescribeParametersOutput;
use aws_sdk_ssm::types::{ParameterMetadata, ParameterType};
use tokio::time::Instant;
use xtask::cloud::{ImageId, Parameter, changed_in_between};
use xtask::error::{Error, Exit, Result};
use xtask::ids::Region;

use crate::aws_error::{AwsError, Called as _, Kind};
use crate::drive::Sections;
use crate::wait::retried;

/// The data type of a parameter that holds an image's id.
const IMAGE: &str = "aws:ec2:image";
/// Limit of names in one GetParameters.
const BATCH: usize = 10;
/// Number of pauses until a write must be readable: 90 s with the default pause of one second. That is twice the time of the validation and
/// of the 30 s after which a deleted name can be used again (API reference, DeleteParameter).
const PAUSES: u32 = 90;
/// Number of retries of a write that was not applied, as far as can be read.
const RESENDS: u64 = 3;

/// A parameter's current value and version; `None` if it does not exist.
pub async fn get(ssm: &Client, name: &str) -> Result<Option<Parameter>, AwsError> {
    let call = ssm.get_parameter().name(name);
    match retried(|| call.clone().send(), "ssm:GetParameter").await {
        Ok(answer) => Ok(answer.parameter().map(|p| Parameter {
            value: p.value().unwrap_or_default().to_owned(),
            version: u64::try_from(p.version()).unwrap_or(0),
        })),
        Err(aws_error) if aws_error.kind == Kind::NotFound => Ok(None),
        Err(aws_error) => Err(aws_error),
    }
}

/// The parameters of a region that hold image ids.
#[derive(Debug, Default)]
pub struct Held {
    /// Names and ids, sorted.
    pub ids: Vec<(String, ImageId)>,
    /// Those of data type `aws:ec2:image` that the identity may not read.
    pub unreadable: Vec<String>,
}

/// The parameters that hold image ids: those of data type `aws:ec2:image`, and strings that are an id or a list of ids. Strings that the
/// identity may not read are left out, because few of them hold an id.
pub async fn of_images(ssm: &Client) -> Result<Held, AwsError> {
    let call = ssm.describe_parameters();
    let pages: Result<Vec<_>, _> = call.into_paginator().send().collect().await;
    let pages = pages.called("ssm:DescribeParameters")?;
    let all: Vec<&ParameterMetadata> = pages.iter().flat_map(DescribeParametersOutput::parameters).collect();
    let (images, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|p| p.data_type() == Some(IMAGE));
    let is_text =
        |p: &&ParameterMetadata| matches!(p.r#type(), Some(ParameterType::String | ParameterType::StringList));
    let texts: Vec<_> = others.into_iter().filter(is_text).collect();
    let names =
        |some: &[&ParameterMetadata]| some.iter().filter_map(|p| p.name().map(str::to_owned)).collect::<Vec<_>>();
    let (mut found, unreadable) = readable(ssm, &names(&images)).await?;
    found.extend(readable(ssm, &names(&texts)).await?.0);
    let mut held = Held { ids: Vec::new(), unreadable };
    for (name, value) in found {
        let listed = value.split(',').map(str::trim).filter(|id| id.starts_with("ami-"));
        held.ids.extend(listed.map(|id| (name.clone(), ImageId(id.to_owned()))));
    }
    held.ids.sort();
    Ok(held)
}

/// The values of these parameters, and the names that the identity may not read. One such name fails a whole batch, so its names are then
/// read one by one. A parameter that was removed meanwhile is in neither list.
async fn readable(ssm: &Client, names: &[String]) -> Result<(Vec<(String, String)>, Vec<String>), AwsError> {
    let (mut found, mut denied) = (Vec::new(), Vec::new());
    for batch in names.chunks(BATCH) {
        match values(ssm, batch).await {
            Err(aws_error) if aws_error.kind == Kind::Denied => {
                for name in batch {
                    match values(ssm, std::slice::from_ref(name)).await {
                        Err(aws_error) if aws_error.kind == Kind::Denied => denied.push(name.clone()),
                        one => found.extend(one?),
                    }
                }
            }
            all => found.extend(all?),
        }
    }
    Ok((found, denied))
}

async fn values(ssm: &Client, names: &[String]) -> Result<Vec<(String, String)>, AwsError> {
    let call = ssm.get_parameters().set_names(Some(names.to_vec()));
    let answer = retried(|| call.clone().send(), "ssm:GetParameters").await?;
    let pairs = answer.parameters().iter().filter_map(|p| Some((p.name()?.to_owned(), p.value()?.to_owned())));
    Ok(pairs.collect())
}

/// Checks whether a string parameter may be written. PutParameter has no DryRun. Without `Overwrite` it does not change an existing
/// parameter, and returns `ParameterAlreadyExists` only if the call is permitted (API reference, PutParameter). A parameter that does not
/// exist is created.
pub async fn writable(ssm: &Client, name: &str, value: &str) -> Result<(), AwsError> {
    let call = ssm.put_parameter().name(name).value(value).r#type(ParameterType::String).overwrite(false);
    match retried(|| call.clone().send(), "ssm:PutParameter").await {
        Err(aws_error) if aws_error.code.as_deref() == Some("ParameterAlreadyExists") => Ok(()),
        answer => answer.map(drop),
    }
}

/// Deletes a parameter; one that does not exist is not an error.
pub async fn delete(ssm: &Client, name: &str) -> Result<(), AwsError> {
    let call = ssm.delete_parameter().name(name);
    match retried(|| call.clone().send(), "ssm:DeleteParameter").await {
        Err(aws_error) if aws_error.kind != Kind::NotFound => Err(aws_error),
        _ => Ok(()),
    }
}

/// A compare-and-set write.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    /// Systems Manager in the region.
    pub ssm: &'a Client,
    pub region: &'a Region,
    /// The parameter.
    pub name: &'a str,
    /// The new value.
    pub value: &'a str,
    /// The version that was read; `None` for a parameter that does not exist.
    pub expected: Option<u64>,
    /// Time between two polls.
    pub pause: Duration,
    /// The calls that a signal must not end.
    pub sections: &'a Sections,
}

/// The state of the parameter after a write.
enum Seen {
    /// It has the new value.
    Ours,
    /// It has the old value, or does not exist.
    Before,
    /// It has the value of another process.
    Other(Parameter),
}

impl Write<'_> {
    /// Writes it if its version is still the expected one, and waits until the value can be read back.
    pub async fn make(&self) -> Result<()> {
        self.unchanged().await?;
        let follows = self.expected.unwrap_or(0) + 1;
        let deadline = self.deadline();
        let mut resent = 0;
        loop {
            match self.sections.enter(self.send()).await {
                // A repeated write may have been applied twice.
                Ok(version) if (follows..=follows + resent).contains(&version) => return self.read_back().await,
                Ok(version) => return Err(self.restored(version).await?),
                Err(aws_error) if aws_error.code.as_deref() == Some("ParameterAlreadyExists") => {
                    match self.read().await? {
                        Seen::Ours => return Ok(()),
                        Seen::Other(there) => return Err(self.changed(Some(&there))),
                        // The name was deleted recently, and cannot be used again yet.
                        Seen::Before if Instant::now() < deadline => {}
                        Seen::Before => return Err(aws_error.into()),
                    }
                }
                Err(aws_error) if aws_error.kind == Kind::Throttled && resent < RESENDS => resent += 1,
                // The response may be lost although the write was applied.
                Err(aws_error) if aws_error.is_transient() => match self.settled().await? {
                    Seen::Ours => return Ok(()),
                    Seen::Other(there) => return Err(self.changed(Some(&there))),
                    Seen::Before if resent < RESENDS => resent += 1,
                    Seen::Before => return Err(aws_error.into()),
                },
                Err(aws_error) => return Err(aws_error.into()),
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.pause * PAUSES
    }

    fn is_image(&self) -> bool {
        self.value.starts_with("ami-")
    }

    /// Waits until the version that can be read is the expected one. An older version is stale, a newer one is a conflict.
    async fn unchanged(&self) -> Result<()> {
        let deadline = self.deadline();
        loop {
            let there = get(self.ssm, self.name).await?;
            match (there.as_ref().map(|p| p.version), self.expected) {
                (there, expected) if there == expected => return Ok(()),
                (Some(version), expected) if expected.is_none_or(|e| version > e) => {
                    return Err(self.changed(there.as_ref()));
                }
                _ if Instant::now() >= deadline => return Err(self.changed(there.as_ref())),
                _ => tokio::time::sleep(self.pause).await,
            }
        }
    }

    /// One PutParameter without the SDK's retries, because a repeated write creates two versions.
    async fn send(&self) -> Result<u64, AwsError> {
        let call = self.ssm.put_parameter().name(self.name).value(self.value).r#type(ParameterType::String);
        let call = call.overwrite(self.expected.is_some());
        // With this data type Systems Manager validates that the account can use the image in this region.
        let call = if self.is_image() { call.data_type(IMAGE) } else { call };
        let once = aws_sdk_ssm::Config::builder().retry_config(RetryConfig::disabled());
        let written = call.customize().config_override(once).send().await.called("ssm:PutParameter")?;
        Ok(u64::try_from(written.version()).unwrap_or(0))
    }

    async fn read(&self) -> Result<Seen, AwsError> {
        Ok(match get(self.ssm, self.name).await? {
            Some(there) if there.value == self.value && Some(there.version) != self.expected => Seen::Ours,
            Some(there) if self.expected.is_none_or(|expected| there.version > expected) => Seen::Other(there),
            _ => Seen::Before,
        })
    }

    /// Polls until the parameter has the new value or the timeout passes. Another value does not end the wait: a process that lost a race
    /// restores the value of the first write.
    async fn settled(&self) -> Result<Seen, AwsError> {
        let deadline = self.deadline();
        loop {
            match self.read().await? {
                Seen::Ours => return Ok(Seen::Ours),
                seen if Instant::now() >= deadline => return Ok(seen),
                _ => tokio::time::sleep(self.pause).await,
            }
        }
    }

    /// Waits until a successful write can be read back.
    async fn read_back(&self) -> Result<()> {
        match self.settled().await? {
            Seen::Ours => Ok(()),
            Seen::Other(there) => Err(self.changed(Some(&there))),
            Seen::Before => {
                let (region, name, value) = (self.region, self.name, self.value);
                let hint = format!(
                    "check that the image is available in this account and region, and that the identity has ec2:DescribeImages: Systems Manager \
                     validates an image id after PutParameter has returned. Only an EventBridge event has the reason (source aws.ssm, detail type \
                     \"Parameter Store Change\"); `aws ssm get-parameter --region {region} --name {name}` prints the current value"
                );
                let seconds = (self.pause * PAUSES).as_secs();
                Err(Exit::Failed.error(
                    format_args!("Systems Manager did not accept {value} for {name} in {region} within {seconds} s"),
                    hint,
                ))
            }
        }
    }

    /// After a write that lost a race and got `version`: restores the value of the write that came first, which has the version after the
    /// expected one. Of several losers only the one whose value is current restores it. Restoring the version before its own would return the
    /// value of another loser. A value of data type `aws:ec2:image` is visible only after its validation, so both versions are waited for.
    /// Returns the error to report.
    async fn restored(&self, version: u64) -> Result<Error> {
        let deadline = self.deadline();
        let first = format!("{}:{}", self.name, self.expected.unwrap_or(0) + 1);
        loop {
            let current = get(self.ssm, self.name).await?;
            let visible = current.as_ref().is_some_and(|current| current.version >= version);
            match (get(self.ssm, &first).await?, current) {
                (Some(theirs), Some(current)) if visible && current.value == self.value => {
                    let back = Write { value: &theirs.value, expected: Some(current.version), ..*self };
                    let version = self.sections.enter(back.send()).await?;
                    return Ok(self.changed(Some(&Parameter { value: theirs.value, version })));
                }
                (Some(_), current) if visible => return Ok(self.changed(current.as_ref())),
                // Our value was rejected, or the first one was.
                (_, current) if Instant::now() >= deadline => return Ok(self.changed(current.as_ref())),
                _ => tokio::time::sleep(self.pause).await,
            }
        }
    }

    fn changed(&self, there: Option<&Parameter>) -> Error {
        changed_in_between(self.region, self.name, there)
    }
}
