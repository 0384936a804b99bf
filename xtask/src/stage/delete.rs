//! Deletes one image, and finds what refers to it.

use crate::channel::{self, Target};
use crate::cloud::{Cloud, Image, ImageId};
use crate::error::Result;
use crate::ids::Region;

/// Everything that refers to an image: channels, parameters, instances, launch templates.
pub fn users<C: Cloud>(cloud: &C, targets: &[Target], image: &Image) -> Result<Vec<String>> {
    let mut users = cloud.users(image)?;
    users.extend(references(cloud, targets, &image.region, &image.id)?);
    Ok(users)
}

/// The channels and parameters that refer to an id in a region.
pub fn references<C: Cloud>(cloud: &C, targets: &[Target], region: &Region, id: &ImageId) -> Result<Vec<String>> {
    let all = channel::references(cloud, targets, &[region].into())?;
    Ok(all.get(id).cloned().unwrap_or_default())
}

/// Deletes the parameters of the image's version, then the image. If the process is killed in between, the image can still be deleted.
pub fn delete<C: Cloud>(cloud: &C, targets: &[Target], image: &Image) -> Result<()> {
    channel::forget(cloud, targets, image)?;
    cloud.delete(image)
}
