//! Orphaned resources in EC2: found by the tag `agent-ami:run`, which every resource of a run has, and removed.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, Image as Ami, ImageState, InstanceStateName, Reservation, Tag, VolumeState};
use tokio::time::Instant;
use xtask::cloud::{Kind, Orphan};
use xtask::ids::Region;

use crate::aws_error::{AwsError, Called as _, Kind as ErrorKind};
use crate::image;
use crate::record::{self, COPY_EXPIRES, COPY_RUN, EXPIRES, RUN};
use crate::wait::retried;

/// Timeout for the deletion of a security group. EC2 refuses it until the network interface of a terminated instance is deleted, which can
/// take minutes.
const RELEASED: Duration = Duration::from_secs(300);

/// The resources of a region with the tag of a run, without usable images, their snapshots and attached volumes.
pub async fn find(ec2: &Client, region: &Region) -> Result<Vec<Orphan>, AwsError> {
    let orphan = |kind, id: Option<&str>, tags: &[Tag], gib: Option<i32>| {
        let tags = record::plain_tags(tags);
        Orphan {
            kind,
            id: id.unwrap_or_default().to_owned(),
            region: region.clone(),
            // A copy in progress belongs to the run that copies, not to the run that built the source.
            run: tags.get(COPY_RUN).or_else(|| tags.get(RUN)).map(|run| run.as_str().into()),
            expires: tags.get(COPY_EXPIRES).or_else(|| tags.get(EXPIRES)).cloned(),
            bytes: gib.and_then(|gib| u64::try_from(gib).ok()).map(|gib| gib << 30),
        }
    };
    let mut found = Vec::new();
    let call = ec2.describe_instances().filters(of_a_run());
    let pages: Result<Vec<Reservation>, _> = call.into_paginator().items().send().collect().await;
    for instance in pages.called("ec2:DescribeInstances")?.iter().flat_map(Reservation::instances) {
        let state = instance.state().and_then(|s| s.name()).map_or("", |n| n.as_str());
        if !["terminated", "shutting-down"].contains(&state) {
            found.push(orphan(Kind::Machine, instance.instance_id(), instance.tags(), None));
        }
    }
    let call = ec2.describe_volumes().filters(of_a_run());
    let pages: Result<Vec<_>, _> = call.into_paginator().items().send().collect().await;
    for volume in pages.called("ec2:DescribeVolumes")? {
        // Attached volumes are deleted with their instance.
        if matches!(volume.state(), Some(VolumeState::Available | VolumeState::Error)) {
            found.push(orphan(Kind::Volume, volume.volume_id(), volume.tags(), volume.size()));
        }
    }
    let keys = ec2.describe_key_pairs().filters(of_a_run()).send().await.called("ec2:DescribeKeyPairs")?;
    found.extend(keys.key_pairs().iter().map(|key| orphan(Kind::KeyPair, key.key_name(), key.tags(), None)));
    let call = ec2.describe_security_groups().filters(of_a_run());
    let pages: Result<Vec<_>, _> = call.into_paginator().items().send().collect().await;
    let groups = pages.called("ec2:DescribeSecurityGroups")?;
    found.extend(groups.iter().map(|group| orphan(Kind::SecurityGroup, group.group_id(), group.tags(), None)));

    let images = image::tagged(ec2, RUN, None).await?;
    // A disabled image is complete.
    let is_complete = |ami: &&Ami| matches!(ami.state(), Some(ImageState::Available | ImageState::Disabled));
    for ami in images.iter().filter(|ami| !is_complete(ami)) {
        found.push(orphan(Kind::UnfinishedImage, ami.image_id(), ami.tags(), None));
    }
    let call = ec2.describe_snapshots().owner_ids("self").filters(of_a_run());
    let pages: Result<Vec<_>, _> = call.into_paginator().items().send().collect().await;
    for snapshot in pages.called("ec2:DescribeSnapshots")? {
        if !belongs(snapshot.snapshot_id().unwrap_or_default(), snapshot.description().unwrap_or_default(), &images) {
            let (id, tags) = (snapshot.snapshot_id(), snapshot.tags());
            found.push(orphan(Kind::Snapshot, id, tags, snapshot.volume_size()));
        }
    }
    Ok(found)
}

/// True if a snapshot belongs to an image: the image's block device mapping contains the snapshot or, while the image is pending, the
/// snapshot's description contains the image's id.
fn belongs(id: &str, description: &str, images: &[Ami]) -> bool {
    let mapped: BTreeSet<String> = images.iter().flat_map(record::snapshots).collect();
    mapped.contains(id) || images.iter().filter_map(Ami::image_id).any(|ami| description.contains(ami))
}

/// Removes an orphan; one that does not exist any more is not an error.
pub async fn remove(ec2: &Client, orphan: &Orphan) -> Result<(), Vec<AwsError>> {
    let id = orphan.id.as_str();
    let done = match orphan.kind {
        Kind::Machine => {
            let call = ec2.terminate_instances().instance_ids(id);
            retried(|| call.clone().send(), "ec2:TerminateInstances").await.map(drop)
        }
        Kind::Volume => {
            let call = ec2.delete_volume().volume_id(id);
            retried(|| call.clone().send(), "ec2:DeleteVolume").await.map(drop)
        }
        Kind::KeyPair => {
            let call = ec2.delete_key_pair().key_name(id);
            retried(|| call.clone().send(), "ec2:DeleteKeyPair").await.map(drop)
        }
        Kind::SecurityGroup => delete_group(ec2, id).await,
        Kind::Snapshot => {
            let call = ec2.delete_snapshot().snapshot_id(id);
            retried(|| call.clone().send(), "ec2:DeleteSnapshot").await.map(drop)
        }
        Kind::UnfinishedImage => {
            still_unfinished(ec2, orphan).await.map_err(|aws_error| vec![aws_error])?;
            return image::remove(ec2, id).await;
        }
        // These are not EC2 resources.
        Kind::Directory | Kind::Claim => Ok(()),
    };
    unless_missing(ec2, orphan.kind, id, done).await.map_err(|aws_error| vec![aws_error])
}

/// Ignores the error of a removal if the resource does not exist. A resource that does not exist has no tags, so a policy with a tag
/// condition denies the call: after a denial this checks whether the resource exists.
pub async fn unless_missing(ec2: &Client, kind: Kind, id: &str, done: Result<(), AwsError>) -> Result<(), AwsError> {
    match done {
        Err(aws_error) if aws_error.kind == ErrorKind::NotFound => Ok(()),
        Err(aws_error) if aws_error.kind == ErrorKind::Denied && !exists(ec2, kind, id).await? => Ok(()),
        done => done,
    }
}

/// True if a resource is visible. Uses filters, because a call with the id of a deleted resource fails.
async fn exists(ec2: &Client, kind: Kind, id: &str) -> Result<bool, AwsError> {
    let by = |name: &str| Filter::builder().name(name).values(id).build();
    Ok(match kind {
        Kind::Machine => {
            let found = ec2.describe_instances().filters(by("instance-id")).send().await;
            let found = found.called("ec2:DescribeInstances")?;
            let mut instances = found.reservations().iter().flat_map(Reservation::instances);
            instances.any(|i| i.state().and_then(|s| s.name()) != Some(&InstanceStateName::Terminated))
        }
        Kind::Volume => {
            let found = ec2.describe_volumes().filters(by("volume-id")).send().await;
            !found.called("ec2:DescribeVolumes")?.volumes().is_empty()
        }
        Kind::KeyPair => {
            let found = ec2.describe_key_pairs().filters(by("key-name")).send().await;
            !found.called("ec2:DescribeKeyPairs")?.key_pairs().is_empty()
        }
        Kind::SecurityGroup => {
            let found = ec2.describe_security_groups().filters(by("group-id")).send().await;
            !found.called("ec2:DescribeSecurityGroups")?.security_groups().is_empty()
        }
        Kind::Snapshot => !image::is_snapshot_missing(ec2, id).await?,
        Kind::UnfinishedImage => !image::is_missing(ec2, id).await?,
        Kind::Directory | Kind::Claim => false,
    })
}

/// An error if the image has become available since it was found, or if another run waits for it now.
async fn still_unfinished(ec2: &Client, orphan: &Orphan) -> Result<(), AwsError> {
    let Some(ami) = image::by_ids(ec2, std::slice::from_ref(&orphan.id)).await?.into_iter().next() else {
        return Ok(());
    };
    let tags = record::plain_tags(ami.tags());
    let run = tags.get(COPY_RUN).or_else(|| tags.get(RUN)).map(|run| run.as_str().into());
    let message = match ami.state() {
        Some(ImageState::Available) => format!("{} is available now", orphan.id),
        _ if run != orphan.run => format!("{} waits for {} now", run.as_deref().unwrap_or_default(), orphan.id),
        _ => return Ok(()),
    };
    Err(AwsError { kind: ErrorKind::Other, action: "ec2:DeregisterImage", code: None, message })
}

/// Deletes a security group, after waiting until no instance uses it.
pub async fn delete_group(ec2: &Client, id: &str) -> Result<(), AwsError> {
    let call = ec2.delete_security_group().group_id(id);
    let deadline = Instant::now() + RELEASED;
    loop {
        match call.clone().send().await.called("ec2:DeleteSecurityGroup") {
            Err(aws_error) if is_in_use(&aws_error) && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            result => return result.map(drop),
        }
    }
}

/// True if a group cannot be deleted yet.
fn is_in_use(aws_error: &AwsError) -> bool {
    aws_error.is_transient() || matches!(aws_error.code.as_deref(), Some("DependencyViolation" | "InvalidGroup.InUse"))
}

fn of_a_run() -> Filter {
    Filter::builder().name("tag-key").values(RUN).build()
}
