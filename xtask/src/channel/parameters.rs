//! Parameters with image ids (Systems Manager user guide, "Using native parameter support for Amazon Machine Image IDs"): one for each
//! version, which never changes, and one for each channel, which readers resolve.

use std::collections::BTreeMap;

use super::Target;
use crate::cloud::{Cloud, Image, ImageId, Listed, Parameter};
use crate::error::{Exit, Result};
use crate::ids::Region;

/// A change to one parameter in one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub region: Region,
    /// The parameter's name.
    pub name: String,
    /// The parameter as it is; `None` if it does not exist.
    pub before: Option<Parameter>,
    /// The image id that it will have.
    pub after: ImageId,
}

/// The parameter of a version: `PREFIX/versions/NAME`.
fn version(prefix: &str, image: &Image) -> String {
    format!("{prefix}/versions/{}", image.name)
}

/// The parameter of an image in a channel: `PREFIX/IMAGE/CHANNEL`.
fn pointer(prefix: &str, target: &Target) -> String {
    format!("{prefix}/{}/{}", target.image, target.name)
}

/// The parameter `PREFIX/CHANNEL` of older versions, which all images of a channel shared. Instances may still be launched from it, so it
/// is updated if it exists and has an image of the same kind; it is never created.
fn shared_pointer<C: Cloud>(
    cloud: &C,
    prefix: &str,
    target: &Target,
    region: &Region,
) -> Result<Option<(String, Parameter)>> {
    let name = format!("{prefix}/{}", target.name);
    let Some(there) = cloud.parameter(region, &name)? else { return Ok(None) };
    let is_it =
        |listed: &Listed| matches!(listed, Listed::Image(i) if i.id.0 == there.value && i.image == target.image);
    Ok(cloud.images(region)?.iter().any(is_it).then_some((name, there)))
}

/// The required changes: those of all versions, then those of the pointers.
pub fn plan<C: Cloud>(cloud: &C, target: &Target, images: &[Image]) -> Result<Vec<Change>> {
    let Some(prefix) = &target.prefix else { return Ok(Vec::new()) };
    let (mut versions, mut pointers) = (Vec::new(), Vec::new());
    for image in images {
        let (region, after) = (image.region.clone(), image.id.clone());
        let name = version(prefix, image);
        match cloud.parameter(&region, &name)? {
            None => versions.push(Change { region: region.clone(), name, before: None, after: after.clone() }),
            Some(there) if there.value == after.0 => {}
            Some(there) => {
                return Err(Exit::Failed.error(
                    format_args!(
                        "{name} in {region} is already {}, and the parameter of a version never changes",
                        there.value
                    ),
                    "two images have the same name; build again to get a new one",
                ));
            }
        }
        let name = pointer(prefix, target);
        let before = cloud.parameter(&region, &name)?;
        if before.as_ref().is_none_or(|there| there.value != after.0) {
            pointers.push(Change { region: region.clone(), name, before, after: after.clone() });
        }
        let shared = shared_pointer(cloud, prefix, target, &region)?.filter(|(_, there)| there.value != after.0);
        pointers.extend(shared.map(|(name, there)| Change { region, name, before: Some(there), after }));
    }
    versions.extend(pointers);
    Ok(versions)
}

/// True for the parameters that a promotion writes. They do not count as users of an image; the channel does.
pub fn is_ours(target: &Target, name: &str) -> bool {
    let Some(prefix) = &target.prefix else { return false };
    name == pointer(prefix, target) || name.starts_with(&format!("{prefix}/versions/"))
}

/// Removes the parameter of the image's version.
pub fn forget<C: Cloud>(cloud: &C, prefix: &str, image: &Image) -> Result<()> {
    let name = version(prefix, image);
    match cloud.parameter(&image.region, &name)? {
        Some(there) if there.value == image.id.0 => cloud.delete_parameter(&image.region, &name),
        _ => Ok(()),
    }
}

/// The image id in the channel's parameter of each region; in the shared parameter, until the first promotion creates the channel's.
pub fn points_at<C: Cloud>(cloud: &C, target: &Target) -> Result<BTreeMap<Region, ImageId>> {
    let Some(prefix) = &target.prefix else { return Ok(BTreeMap::new()) };
    let mut ids = BTreeMap::new();
    for region in cloud.regions() {
        let there = match cloud.parameter(region, &pointer(prefix, target))? {
            Some(there) => Some(there),
            None => shared_pointer(cloud, prefix, target, region)?.map(|(_, there)| there),
        };
        ids.extend(there.map(|there| (region.clone(), ImageId(there.value))));
    }
    Ok(ids)
}

/// Writes the change if the parameter has not changed since it was planned. The provider reads it back, after waiting until the write is
/// visible.
pub fn apply<C: Cloud>(cloud: &C, change: &Change) -> Result<()> {
    let expected = change.before.as_ref().map(|p| p.version);
    cloud.put_parameter(&change.region, &change.name, &change.after.0, expected)
}

impl Change {
    /// The change as a diff, for display.
    pub fn diff(&self) -> String {
        let before = self.before.as_ref().map_or(String::new(), |p| format!("-{} = {}\n", self.name, p.value));
        format!("@@ {} @@\n{before}+{} = {}\n", self.region, self.name, self.after)
    }
}
