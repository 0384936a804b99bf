//! AMIs: made from a stopped builder, waited for in one batch a region, removed with their snapshots.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::{AttributeValue, Filter, Image as Ami, ImageState, ResourceType, Snapshot, TagSpecification};

use xtask::error::{Error, Exit};

use crate::aws_error::{AwsError, Called as _, Kind};
use crate::record::{self, sdk_tags};
use crate::wait::{GaveUp, Look, Patience, retried, until_with};

/// All images of this account that have a tag, or a tag with a value.
pub async fn tagged(ec2: &Client, key: &str, value: Option<&str>) -> Result<Vec<Ami>, AwsError> {
    let filter = match value {
        Some(value) => Filter::builder().name(format!("tag:{key}")).values(value),
        None => Filter::builder().name("tag-key").values(key),
    };
    described(ec2, filter.build()).await
}

async fn described(ec2: &Client, filter: Filter) -> Result<Vec<Ami>, AwsError> {
    // Filters, not ids: one id that is not visible yet would fail the whole batch. Pages, because EC2 throttles whole lists. An image that
    // is disabled is there, with its name and its snapshots.
    let call = ec2.describe_images().owners("self").include_disabled(true).filters(filter);
    call.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.called("ec2:DescribeImages")
}

/// The images with these ids that can be seen.
pub async fn by_ids(ec2: &Client, ids: &[String]) -> Result<Vec<Ami>, AwsError> {
    described(ec2, Filter::builder().name("image-id").set_values(Some(ids.to_vec())).build()).await
}

/// The image with this name.
pub async fn by_name(ec2: &Client, name: &str) -> Result<Option<Ami>, AwsError> {
    Ok(described(ec2, Filter::builder().name("name").values(name).build()).await?.into_iter().next())
}

/// Waits until an image can be used.
pub async fn available(ec2: &Client, id: &str, patience: Patience, told: &dyn Fn(&str)) -> Result<Ami, GaveUp> {
    watched(ec2, id, patience, &|state, _| told(state)).await
}

/// As [`available`]; `told` also gets the progress of the image's snapshots in percent, which predicts when to look again.
pub async fn watched(
    ec2: &Client,
    id: &str,
    patience: Patience,
    told: &dyn Fn(&str, Option<u8>),
) -> Result<Ami, GaveUp> {
    let asking = Cell::new(true);
    until_with(patience, told, async || {
        let Some(ami) = by_ids(ec2, &[id.to_owned()]).await?.into_iter().next() else { return Ok(Look::Missing) };
        let why = || ami.state_reason().and_then(|r| r.message()).unwrap_or("no reason given").to_owned();
        Ok(match ami.state() {
            Some(ImageState::Available) => Look::Ready(ami),
            Some(state @ (ImageState::Failed | ImageState::Error | ImageState::Invalid | ImageState::Deregistered)) => {
                Look::Final(format!("{}: {}", state.as_str(), why()))
            }
            Some(state @ ImageState::Disabled) => Look::Final(format!("it is {}", state.as_str())),
            Some(state @ ImageState::Pending) if asking.get() => {
                // Nothing depends on it, so what refuses it once is not asked again; snapshots that are done have no more to show.
                let percent = progress(ec2, id).await;
                asking.set(!matches!(percent, Err(_) | Ok(Some(100..))));
                match percent {
                    Ok(Some(percent)) => Look::Partly(state.as_str().to_owned(), percent),
                    Ok(None) | Err(_) => Look::Pending(state.as_str().to_owned()),
                }
            }
            Some(state) => Look::Pending(state.as_str().to_owned()),
            None => Look::Pending("no state yet".to_owned()),
        })
    })
    .await
}

/// How much of an image's snapshots is written, in percent of their sizes; `None` while there is none.
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

/// How many pauses it may take until an image whose name is taken is visible.
pub const VISIBLE: u32 = 12;

/// Makes an image of a stopped instance. A lost answer is no second image: the name is unique, and the tag says whose it is.
pub async fn create(
    ec2: &Client,
    instance: &str,
    name: &str,
    tags: &BTreeMap<String, String>,
    pause: Duration,
) -> Result<String, AwsError> {
    let specification = |kind| TagSpecification::builder().resource_type(kind).set_tags(Some(sdk_tags(tags))).build();
    let call = ec2
        .create_image()
        .instance_id(instance)
        .name(name)
        .description(format!(
            "{} {}",
            tags.get(record::IMAGE).map_or("", String::as_str),
            tags.get("agent-ami:version").map_or("", String::as_str)
        ))
        // It is stopped already; EC2 would only try to stop it again.
        .no_reboot(true)
        .tag_specifications(specification(ResourceType::Image))
        .tag_specifications(specification(ResourceType::Snapshot));
    let mut left = VISIBLE;
    loop {
        let aws_error = match call.clone().send().await.called("ec2:CreateImage") {
            Ok(made) => return Ok(made.image_id().unwrap_or_default().to_owned()),
            Err(aws_error) if aws_error.kind == Kind::Duplicate || aws_error.passes() => aws_error,
            Err(aws_error) => return Err(aws_error),
        };
        // The image of a call whose answer was lost is visible soon, its tags later still; somebody else's has none of ours.
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

/// Instances of the image ask for IMDSv2 by default. CreateImage cannot say so.
pub async fn require_imds_v2(ec2: &Client, id: &str) -> Result<(), AwsError> {
    let value = AttributeValue::builder().value("v2.0").build();
    let call = ec2.modify_image_attribute().image_id(id).imds_support(value);
    call.send().await.called("ec2:ModifyImageAttribute").map(drop)
}

/// The earliest time at which EC2 deprecates an image: it is rounded to the minute and must lie ahead (EnableImageDeprecation).
pub fn soon() -> DateTime {
    (std::time::SystemTime::now() + Duration::from_secs(120)).into()
}

/// Deprecates an image as soon as EC2 allows.
pub async fn deprecate(ec2: &Client, id: &str) -> Result<(), AwsError> {
    let call = ec2.enable_image_deprecation().image_id(id).deprecate_at(soon());
    retried(|| call.clone().send(), "ec2:EnableImageDeprecation").await.map(drop)
}

/// Makes an image one that nobody can start.
pub async fn disable(ec2: &Client, id: &str) -> Result<(), AwsError> {
    let call = ec2.disable_image().image_id(id);
    retried(|| call.clone().send(), "ec2:DisableImage").await.map(drop)
}

/// The error where an image that is disabled would have to be started.
pub fn disabled(region: &str, id: &str) -> Error {
    Exit::Precondition.error(
        format_args!("{id} in {region} is disabled"),
        format_args!("`aws ec2 enable-image --image-id {id} --region {region}` enables it again, or use another image"),
    )
}

/// Puts the tags on an image and its snapshots that are not there yet.
pub async fn tag(ec2: &Client, ami: &Ami, tags: &BTreeMap<String, String>) -> Result<(), AwsError> {
    let there = record::plain_tags(ami.tags());
    let missing: BTreeMap<_, _> =
        tags.iter().filter(|(k, v)| there.get(*k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // The policy lets us tag what is tagged as ours in the same call.
    let missing = missing.into_iter().chain([(record::OURS.0.to_owned(), record::OURS.1.to_owned())]).collect();
    let ids = std::iter::once(ami.image_id().unwrap_or_default().to_owned()).chain(record::snapshots(ami));
    let call = ec2.create_tags().set_resources(Some(ids.collect())).set_tags(Some(sdk_tags(&missing)));
    call.send().await.called("ec2:CreateTags").map(drop)
}

/// The snapshots that an image's block device mapping names, and those that EC2 made for it: an image that is pending, or not
/// visible yet, has them and names none.
async fn snapshots(ec2: &Client, id: &str) -> Result<BTreeSet<String>, AwsError> {
    let named = by_ids(ec2, &[id.to_owned()]).await?;
    let made = made_for(ec2, id).await?;
    let made = made.iter().filter_map(|s| s.snapshot_id().map(str::to_owned));
    Ok(named.iter().flat_map(record::snapshots).chain(made).collect())
}

/// The snapshots whose description says that EC2 made them for an image.
async fn made_for(ec2: &Client, id: &str) -> Result<Vec<Snapshot>, AwsError> {
    // EC2's own words, without those of a copy that was made of this image.
    let words = [format!("Created by CreateImage(*) for {id}*"), format!("Copied for DestinationAmi {id} *")];
    let made_for = Filter::builder().name("description").set_values(Some(words.into())).build();
    let call = ec2.describe_snapshots().owner_ids("self").filters(made_for);
    let made: Result<Vec<_>, _> = call.into_paginator().items().send().collect().await;
    made.called("ec2:DescribeSnapshots")
}

/// Deregisters an image and deletes its snapshots. What is gone already is no failure; everything is tried, and what failed is
/// reported together. A snapshot that another image has, too, stays with that one.
pub async fn remove(ec2: &Client, id: &str) -> Result<(), Vec<AwsError>> {
    // Without their names the snapshots would be orphans: then nothing is removed.
    let mut snapshots = snapshots(ec2, id).await.map_err(|aws_error| vec![aws_error])?;
    let call = ec2.deregister_image().image_id(id).delete_associated_snapshots(true);
    match call.send().await.called("ec2:DeregisterImage") {
        // Deregistered already, and known to EC2 still (EC2 API reference, "Error codes").
        Err(aws_error)
            if aws_error.kind == Kind::NotFound || aws_error.code.as_deref() == Some("InvalidAMIID.Unavailable") => {}
        // What is gone has no tag by which the policy would allow it.
        Err(aws_error)
            if aws_error.kind == Kind::Denied && gone(ec2, id).await.map_err(|aws_error| vec![aws_error])? => {}
        Err(aws_error) => return Err(vec![aws_error]),
        Ok(done) => {
            let shared = done.delete_snapshot_results().iter();
            let shared = shared.filter(|r| r.return_code().is_some_and(|code| code.as_str() == SKIPPED));
            for snapshot in shared.filter_map(|r| r.snapshot_id()) {
                snapshots.remove(snapshot);
            }
        }
    }
    // Only those of the block device mapping went with it, and only where the endpoint knows the parameter.
    let left = still_there(ec2, snapshots).await.map_err(|aws_error| vec![aws_error])?;
    let mut aws_errors = Vec::new();
    for snapshot in &left {
        aws_errors.extend(delete_snapshot(ec2, snapshot).await.err());
    }
    if aws_errors.is_empty() { Ok(()) } else { Err(aws_errors) }
}

/// True if an image cannot be seen.
pub(crate) async fn gone(ec2: &Client, id: &str) -> Result<bool, AwsError> {
    Ok(by_ids(ec2, &[id.to_owned()]).await?.is_empty())
}

/// True if a snapshot cannot be seen.
pub(crate) async fn snapshot_gone(ec2: &Client, id: &str) -> Result<bool, AwsError> {
    Ok(still_there(ec2, [id.to_owned()].into()).await?.is_empty())
}

/// What DeregisterImage says of a snapshot that it did not delete because another image has it, too (API reference,
/// DeleteSnapshotReturnCode).
const SKIPPED: &str = "skipped";

/// Those of some snapshots that can be seen. A filter, not ids: one that is gone would fail the call.
async fn still_there(ec2: &Client, ids: BTreeSet<String>) -> Result<BTreeSet<String>, AwsError> {
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
            // The deregistration may not have reached everywhere.
            Err(aws_error)
                if left > 0 && (aws_error.passes() || aws_error.code.as_deref() == Some("InvalidSnapshot.InUse")) =>
            {
                left -= 1;
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            Err(aws_error) if aws_error.kind == Kind::NotFound => return Ok(()),
            Err(aws_error) if aws_error.kind == Kind::Denied && snapshot_gone(ec2, id).await? => return Ok(()),
            done => return done.map(drop),
        }
    }
}
