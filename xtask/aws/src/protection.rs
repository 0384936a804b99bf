//! Deregistration protection of images, and the Recycle Bin.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::retry::RetryConfig;

use crate::aws_error::{AwsError, Called as _, Kind};
use crate::image;
use crate::wait::retried;

/// Why an image cannot be removed right after its protection was disabled (EC2 user guide, "Protect an AMI from deregistration").
pub const COOLDOWN: &str = "its deregistration protection is disabled now; EC2 allows the removal 24 hours later";

/// Enables deregistration protection with a cooldown: it holds for 24 hours after it is disabled.
pub async fn put(ec2: &Client, id: &str) -> Result<(), AwsError> {
    if is_protected(ec2, id).await? {
        return Ok(());
    }
    let call = ec2.enable_image_deregistration_protection().image_id(id).with_cooldown(true);
    retried(|| call.clone().send(), "ec2:EnableImageDeregistrationProtection").await.map(drop)
}

/// Disables deregistration protection; false if it was not enabled.
pub async fn lift(ec2: &Client, id: &str) -> Result<bool, AwsError> {
    if !is_protected(ec2, id).await? {
        return Ok(false);
    }
    let call = ec2.disable_image_deregistration_protection().image_id(id);
    retried(|| call.clone().send(), "ec2:DisableImageDeregistrationProtection").await.map(|_| true)
}

/// `enabled-with-cooldown`, `enabled-without-cooldown`, `disabled` (API reference, Image).
async fn is_protected(ec2: &Client, id: &str) -> Result<bool, AwsError> {
    let found = image::by_ids(ec2, &[id.to_owned()]).await?;
    Ok(found.first().and_then(|ami| ami.deregistration_protection()).is_some_and(|state| state.starts_with("enabled")))
}

/// When a deregistered image leaves the Recycle Bin; `None` if no retention rule put it there. The result is only a note for the user, so a
/// failed call is not retried and also gives `None`.
pub async fn in_recycle_bin(ec2: &Client, id: &str) -> Option<String> {
    let once = aws_sdk_ec2::Config::builder().retry_config(RetryConfig::disabled());
    let call = ec2.list_images_in_recycle_bin().image_ids(id).customize().config_override(once);
    match call.send().await.called("ec2:ListImagesInRecycleBin") {
        Ok(found) => {
            let kept = found.images().iter().find(|kept| kept.image_id() == Some(id))?;
            Some(kept.recycle_bin_exit_time().map(ToString::to_string).unwrap_or_default())
        }
        Err(aws_error) if aws_error.kind == Kind::NotFound => None,
        Err(_) => None,
    }
}
