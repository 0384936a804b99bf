//! Checks by DryRun of the permissions on resources with the tag `ManagedBy=agent-ami`, before the first call that needs them.
//!
//! The policies permit changes only of tagged resources, so a DryRun with an id that does not exist is always denied. Each permission is
//! therefore checked as soon as there is one resource of its kind.

use std::future::Future;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::Tag;
use xtask::error::Result;
use xtask::ids::Region;

use crate::aws_error::AwsError;
use crate::drive::Driver;
use crate::dry::{self, Ignored, Made};
use crate::image;
use crate::record::OURS;

/// The resources of agent-ami in one region.
#[derive(Clone, Copy)]
pub(crate) struct Ours<'a> {
    /// Runs the calls.
    pub(crate) driver: &'a Driver,
    /// Client of the region.
    pub(crate) ec2: &'a Client,
    pub(crate) region: &'a Region,
}

impl Ours<'_> {
    /// An error unless a key pair can be deleted.
    pub(crate) fn key_pair(&self, name: &str) -> Result<()> {
        let call = self.ec2.delete_key_pair().key_name(name).dry_run(true).send();
        self.permitted(dry::check(self.region, call, "ec2:DeleteKeyPair", nothing))
    }

    /// An error unless a security group can be deleted.
    pub(crate) fn group(&self, id: &str) -> Result<()> {
        let call = self.ec2.delete_security_group().group_id(id).dry_run(true).send();
        self.permitted(dry::check(self.region, call, "ec2:DeleteSecurityGroup", nothing))
    }

    /// An error unless an instance can be terminated.
    pub(crate) fn instance(&self, id: &str) -> Result<()> {
        let call = self.ec2.terminate_instances().instance_ids(id).dry_run(true).send();
        self.permitted(dry::check(self.region, call, "ec2:TerminateInstances", nothing))
    }

    /// An error unless a builder can be stopped.
    pub(crate) fn builder(&self, id: &str) -> Result<()> {
        let call = self.ec2.stop_instances().instance_ids(id).dry_run(true).send();
        self.permitted(dry::check(self.region, call, "ec2:StopInstances", nothing))
    }

    /// An error unless an image can be tagged and protected, as it is when a channel is pointed at it.
    pub(crate) fn promotable(&self, id: &str) -> Result<()> {
        self.permitted(tagged(self.ec2, self.region, id))?;
        let call = self.ec2.enable_image_deregistration_protection().image_id(id).with_cooldown(true).dry_run(true);
        self.permitted(dry::check(self.region, call.send(), "ec2:EnableImageDeregistrationProtection", nothing))
    }

    /// An error unless an image can be deprecated: its protection is lifted for that, it is deprecated, and it is marked.
    pub(crate) fn deprecable(&self, id: &str) -> Result<()> {
        self.permitted(unprotected(self.ec2, self.region, id))?;
        let call = self.ec2.enable_image_deprecation().image_id(id).deprecate_at(image::soon()).dry_run(true);
        self.permitted(dry::check(self.region, call.send(), "ec2:EnableImageDeprecation", nothing))?;
        self.permitted(tagged(self.ec2, self.region, id))
    }

    /// An error unless an image can be disabled and marked.
    pub(crate) fn disablable(&self, id: &str) -> Result<()> {
        let call = self.ec2.disable_image().image_id(id).dry_run(true).send();
        self.permitted(dry::check(self.region, call, "ec2:DisableImage", nothing))?;
        self.permitted(tagged(self.ec2, self.region, id))
    }

    /// An error unless an image can be removed with these snapshots.
    pub(crate) fn removable(&self, id: &str, snapshots: &[String]) -> Result<()> {
        self.permitted(unprotected(self.ec2, self.region, id))?;
        self.permitted(deregistered(self.ec2, self.region, id))?;
        for snapshot in snapshots {
            let call = self.ec2.delete_snapshot().snapshot_id(snapshot).dry_run(true).send();
            self.permitted(dry::check(self.region, call, "ec2:DeleteSnapshot", nothing))?;
        }
        Ok(())
    }

    fn permitted(&self, answer: impl Future<Output = Result<Option<AwsError>, Ignored>>) -> Result<()> {
        match self.driver.wait(answer)? {
            Ok(None) => Ok(()),
            Ok(Some(aws_error)) => Err(aws_error.into()),
            // The call changed the resource as the real call would have, so there is nothing to undo.
            Err(ignored) => Err(dry::stop(vec![(&ignored, Ok(()))])),
        }
    }
}

/// The AWS errors of the changes that a build makes to images, checked with an existing image.
pub(crate) async fn of_builds(ec2: &Client, region: &Region, id: &str) -> Result<Vec<AwsError>, Ignored> {
    let aws_errors = [tagged(ec2, region, id).await?, deregistered(ec2, region, id).await?];
    Ok(aws_errors.into_iter().flatten().collect())
}

/// CreateTags with a tag that the image already has.
async fn tagged(ec2: &Client, region: &Region, id: &str) -> Result<Option<AwsError>, Ignored> {
    let tag = Tag::builder().key(OURS.0).value(OURS.1).build();
    let call = ec2.create_tags().resources(id).tags(tag).dry_run(true).send();
    dry::check(region, call, "ec2:CreateTags", nothing).await
}

async fn unprotected(ec2: &Client, region: &Region, id: &str) -> Result<Option<AwsError>, Ignored> {
    let call = ec2.disable_image_deregistration_protection().image_id(id).dry_run(true).send();
    dry::check(region, call, "ec2:DisableImageDeregistrationProtection", nothing).await
}

async fn deregistered(ec2: &Client, region: &Region, id: &str) -> Result<Option<AwsError>, Ignored> {
    let call = ec2.deregister_image().image_id(id).delete_associated_snapshots(true).dry_run(true).send();
    dry::check(region, call, "ec2:DeregisterImage", nothing).await
}

fn nothing<T>(_: &T) -> Made {
    Made::Nothing
}
