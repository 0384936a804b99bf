//! AMIs: creation from a stopped builder, waits, tags, retirement, and removal with their snapshots.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::{AttributeValue, Filter, Image as Ami, ImageState, ResourceType, Snapshot, TagSpecification};

use xtask::error::{Error, Exit};
use xtask::ids::Region;

use crate::aws_error::{AwsError, Called as _, Kind};
use crate::record::{self, sdk_tags};
use crate::wait::{Patience, Poll, WaitError, retried, until_with};

/// All images of this account with this tag, or with this tag and value.
pub async fn tagged(ec2: &Client, key: &str, value: Option<&str>) -> Result<Vec<Ami>, AwsError> {
    let filter = match value {
        Some(value) => Filter::builder().name(format!("tag:{key}")).values(value),
        None => Filter::builder().name("tag-key").values(key),
    };
    described(ec2, filter.build()).await
}

async fn described(ec2: &Client, filter: Filter) -> Result<Vec<Ami>, AwsError> {
    // Filters instead of ids: one id that is not visible yet would fail the whole call. Pages, because EC2 throttles unpaginated calls.
    // Disabled images are included, because they keep their names and snapshots.
    let call = ec2.describe_images().owners("self").include_disabled(true).filters(filter);
    call.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.called("ec2:DescribeImages")
}

/// The visible images among these ids.
pub async fn by_ids(ec2: &Client, ids: &[String]) -> Result<Vec<Ami>, AwsError> {
    described(ec2, Filter::builder().name("image-id").set_values(Some(ids.to_vec())).build()).await
}

/// The image with this name.
pub async fn by_name(ec2: &Client, name: &str) -> Result<Option<Ami>, AwsError> {
    Ok(described(ec2, Filter::builder().name("name").values(name).build()).await?.into_iter().next())
}

/// Waits until an image is available.
pub async fn available(
    ec2: &Client,
    id: &str,
    patience: Patience,
    on_progress: &dyn Fn(&str),
) -> Result<Ami, WaitError> {
    watched(ec2, id, patience, &|state, _| on_progress(state)).await
}

/// As [`available`]; `on_progress` also gets the progress of the image's snapshots in percent, from which the time of the next poll is
/// derived.
pub async fn watched(
    ec2: &Client,
    id: &str,
    patience: Patience,
    on_progress: &dyn Fn(&str, Option<u8>),
) -> Result<Ami, WaitError> {
    let read_progress = Cell::new(true);
    until_with(patience, on_progress, async || {
        let Some(ami) = by_ids(ec2, &[id.to_owned()]).await?.into_iter().next() else { return Ok(Poll::Missing) };
        let why = || ami.state_reason().and_then(|r| r.message()).unwrap_or("no reason given").to_owned();
        Ok(match ami.state() {
            Some(ImageState::Available) => Poll::Ready(ami),
            Some(state @ (ImageState::Failed | ImageState::Error | ImageState::Invalid | ImageState::Deregistered)) => {
                Poll::Final(format!("{}: {}", state.as_str(), why()))
            }
            Some(state @ ImageState::Disabled) => Poll::Final(state.as_str().to_owned()),
            Some(state @ ImageState::Pending) if read_progress.get() => {
                // The progress is optional, so it is not read again after an error, nor when the snapshots are complete.
                let percent = progress(ec2, id).await;
                read_progress.set(!matches!(percent, Err(_) | Ok(Some(100..))));
                match percent {
                    Ok(Some(percent)) => Poll::Partly(state.as_str().to_owned(), percent),
                    Ok(None) | Err(_) => Poll::Pending(state.as_str().to_owned()),
                }
            }
            Some(state) => Poll::Pending(state.as_str().to_owned()),
            None => Poll::Pending("no state yet".to_owned()),
        })
    })
    .await
}

/// Progress of an image's snapshots in percent, weighted by size; `None` while there are no snapshots.
async fn progress(ec2: &Client, id: &str) -> Result<Option<u8>, AwsError> {
    let (mut done, mut all) = (0, 0);
    for snapshot in made_for(ec2, id).await? {
        let size = u64::try_from(snapshot.volume_size().unwrap_or(1)).unwrap_or(1);
        // `42%`; empty until the first block is written (API reference, Snapshot).
        let percent = snapshot.progress().and_then(|p| p.trim_end_matches('%').parse::<u64>().ok()).unwrap_or(0);
        done += size * percent.min(100);
        all += size;
    }
    Ok(done.checked_div(all).and_then(|percent| u8::try_from(percent).ok()))
}

/// Number of pauses until a new image, or a new tag, must be visible.
pub const VISIBLE: u32 = 12;

/// Creates an image of a stopped instance, with the template's `ami_description`. After a lost response no second image is created: the
/// name is unique, and the run's tag identifies the first one.
pub async fn create(
    ec2: &Client,
    instance: &str,
    name: &str,
    description: Option<&str>,
    tags: &BTreeMap<String, String>,
    pause: Duration,
) -> Result<String, AwsError> {
    let specification = |kind| TagSpecification::builder().resource_type(kind).set_tags(Some(sdk_tags(tags))).build();
    let call = ec2
        .create_image()
        .instance_id(instance)
        .name(name)
        .set_description(description.map(str::to_owned))
        // The instance is stopped already; without this EC2 would try to stop it again.
        .no_reboot(true)
        .tag_specifications(specification(ResourceType::Image))
        .tag_specifications(specification(ResourceType::Snapshot));
    let mut left = VISIBLE;
    loop {
        let aws_error = match call.clone().send().await.called("ec2:CreateImage") {
            Ok(made) => return Ok(made.image_id().unwrap_or_default().to_owned()),
            Err(aws_error) if aws_error.kind == Kind::Duplicate || aws_error.is_transient() => aws_error,
            Err(aws_error) => return Err(aws_error),
        };
        // The image of a call whose response was lost becomes visible soon, and its tags later. An unrelated image does not have the run's
        // tag.
        if let Some(there) = by_name(ec2, name).await? {
            let seen = record::plain_tags(there.tags());
            if seen.get(record::RUN) == tags.get(record::RUN) {
                return Ok(there.image_id().unwrap_or_default().to_owned());
            }
            if !seen.is_empty() {
                return Err(aws_error);
            }
        }
        if left == 0 {
            return Err(aws_error);
        }
        left -= 1;
        tokio::time::sleep(pause).await;
    }
}

/// Makes instances of the image require IMDSv2 by default. CreateImage has no parameter for that.
pub async fn require_imds_v2(ec2: &Client, id: &str) -> Result<(), AwsError> {
    let value = AttributeValue::builder().value("v2.0").build();
    let call = ec2.modify_image_attribute().image_id(id).imds_support(value);
    call.send().await.called("ec2:ModifyImageAttribute").map(drop)
}

/// A deprecation time that EC2 accepts: it rounds the time to the minute and requires one in the future (EnableImageDeprecation).
pub fn soon() -> DateTime {
    (std::time::SystemTime::now() + Duration::from_secs(120)).into()
}

/// Deprecates an image as soon as EC2 allows.
pub async fn deprecate(ec2: &Client, id: &str) -> Result<(), AwsError> {
    let call = ec2.enable_image_deprecation().image_id(id).deprecate_at(soon());
    retried(|| call.clone().send(), "ec2:EnableImageDeprecation").await.map(drop)
}

/// Disables an image: no instance can be started from it.
pub async fn disable(ec2: &Client, id: &str) -> Result<(), AwsError> {
    let call = ec2.disable_image().image_id(id);
    retried(|| call.clone().send(), "ec2:DisableImage").await.map(drop)
}

/// The error for a disabled image that is required to start.
pub fn disabled(region: &Region, id: &str) -> Error {
    Exit::Precondition.error(
        format_args!("{id} in {region} is disabled"),
        format_args!("run `aws ec2 enable-image --image-id {id} --region {region}`, or use another image"),
    )
}

/// Adds missing tags to an image and its snapshots.
pub async fn tag(ec2: &Client, ami: &Ami, tags: &BTreeMap<String, String>) -> Result<(), AwsError> {
    let there = record::plain_tags(ami.tags());
    let missing: BTreeMap<_, _> =
        tags.iter().filter(|(k, v)| there.get(*k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // `ManagedBy` is sent with the other tags; the policy permits no other value for it.
    let missing = missing.into_iter().chain([(record::OURS.0.to_owned(), record::OURS.1.to_owned())]).collect();
    let ids = std::iter::once(ami.image_id().unwrap_or_default().to_owned()).chain(record::snapshots(ami));
    let call = ec2.create_tags().set_resources(Some(ids.collect())).set_tags(Some(sdk_tags(&missing)));
    call.send().await.called("ec2:CreateTags").map(drop)
}

/// The snapshots in an image's block device mapping, and those that EC2 created for it: an image that is pending or not visible yet has
/// snapshots, but no mapping.
async fn snapshots(ec2: &Client, id: &str) -> Result<BTreeSet<String>, AwsError> {
    let named = by_ids(ec2, &[id.to_owned()]).await?;
    let made = made_for(ec2, id).await?;
    let made = made.iter().filter_map(|s| s.snapshot_id().map(str::to_owned));
    Ok(named.iter().flat_map(record::snapshots).chain(made).collect())
}

/// The snapshots that EC2 created for an image, by their descriptions.
async fn made_for(ec2: &Client, id: &str) -> Result<Vec<Snapshot>, AwsError> {
    // The descriptions that EC2 writes. They do not match the snapshots of a copy of this image.
    let words = [format!("Created by CreateImage(*) for {id}*"), format!("Copied for DestinationAmi {id} *")];
    let made_for = Filter::builder().name("description").set_values(Some(words.into())).build();
    let call = ec2.describe_snapshots().owner_ids("self").filters(made_for);
    let made: Result<Vec<_>, _> = call.into_paginator().items().send().collect().await;
    made.called("ec2:DescribeSnapshots")
}

/// Deregisters an image and deletes its snapshots. A resource that does not exist any more is not an error. All removals are tried, and all
/// errors returned. A snapshot that another image also uses is kept.
pub async fn remove(ec2: &Client, id: &str) -> Result<(), Vec<AwsError>> {
    // An error here removes nothing: without this list the snapshots would become orphans.
    let mut snapshots = snapshots(ec2, id).await.map_err(|aws_error| vec![aws_error])?;
    let call = ec2.deregister_image().image_id(id).delete_associated_snapshots(true);
    match call.send().await.called("ec2:DeregisterImage") {
        // Deregistered already, but still visible (EC2 API reference, "Error codes").
        Err(aws_error)
            if aws_error.kind == Kind::NotFound || aws_error.code.as_deref() == Some("InvalidAMIID.Unavailable") => {}
        // An image that does not exist has no tags, so the policy denies the call.
        Err(aws_error)
            if aws_error.kind == Kind::Denied && is_missing(ec2, id).await.map_err(|aws_error| vec![aws_error])? => {}
        Err(aws_error) => return Err(vec![aws_error]),
        Ok(done) => {
            let shared = done.delete_snapshot_results().iter();
            let shared = shared.filter(|r| r.return_code().is_some_and(|code| code.as_str() == SKIPPED));
            for snapshot in shared.filter_map(|r| r.snapshot_id()) {
                snapshots.remove(snapshot);
            }
        }
    }
    // The call deleted only the snapshots of the block device mapping, and only where the endpoint supports the parameter.
    let left = visible_snapshots(ec2, snapshots).await.map_err(|aws_error| vec![aws_error])?;
    let mut aws_errors = Vec::new();
    for snapshot in &left {
        aws_errors.extend(delete_snapshot(ec2, snapshot).await.err());
    }
    if aws_errors.is_empty() { Ok(()) } else { Err(aws_errors) }
}

/// True if an image is not visible.
pub(crate) async fn is_missing(ec2: &Client, id: &str) -> Result<bool, AwsError> {
    Ok(by_ids(ec2, &[id.to_owned()]).await?.is_empty())
}

/// True if a snapshot is not visible.
pub(crate) async fn is_snapshot_missing(ec2: &Client, id: &str) -> Result<bool, AwsError> {
    Ok(visible_snapshots(ec2, [id.to_owned()].into()).await?.is_empty())
}

/// The return code of DeregisterImage for a snapshot that it kept because another image uses it (API reference, DeleteSnapshotReturnCode).
const SKIPPED: &str = "skipped";

/// The visible snapshots among these ids. A filter instead of ids: the id of a deleted snapshot would fail the call.
async fn visible_snapshots(ec2: &Client, ids: BTreeSet<String>) -> Result<BTreeSet<String>, AwsError> {
    if ids.is_empty() {
        return Ok(ids);
    }
    let filter = Filter::builder().name("snapshot-id").set_values(Some(ids.into_iter().collect())).build();
    let call = ec2.describe_snapshots().owner_ids("self").filters(filter);
    let found: Result<Vec<_>, _> = call.into_paginator().items().send().collect().await;
    let found = found.called("ec2:DescribeSnapshots")?;
    Ok(found.iter().filter_map(|s| s.snapshot_id().map(str::to_owned)).collect())
}

async fn delete_snapshot(ec2: &Client, id: &str) -> Result<(), AwsError> {
    let mut left = 5;
    loop {
        match ec2.delete_snapshot().snapshot_id(id).send().await.called("ec2:DeleteSnapshot") {
            // The deregistration may not have propagated yet.
            Err(aws_error)
                if left > 0
                    && (aws_error.is_transient() || aws_error.code.as_deref() == Some("InvalidSnapshot.InUse")) =>
            {
                left -= 1;
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            Err(aws_error) if aws_error.kind == Kind::NotFound => return Ok(()),
            Err(aws_error) if aws_error.kind == Kind::Denied && is_snapshot_missing(ec2, id).await? => return Ok(()),
            done => return done.map(drop),
        }
    }
}
