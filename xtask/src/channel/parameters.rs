//! Parameters that hold image ids (Systems Manager user guide, "Using native parameter support for Amazon Machine Image IDs"): one that
//! names the version and never changes, then the channel's own, which a reader follows.

use std::collections::BTreeMap;

use super::Target;
use crate::cloud::{Cloud, Image, ImageId, Listed, Parameter};
use crate::error::{Exit, Result};

/// A change to one parameter in one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The region.
    pub region: String,
    /// The parameter.
    pub name: String,
    /// What it holds; `None` if it is not there.
    pub before: Option<Parameter>,
    /// What it will hold.
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

/// The parameter of a channel before each image had one of its own: `PREFIX/CHANNEL`. Machines may still start from it, so it is moved
/// along where it is there and holds an image of the same name; it is never made.
fn shared_pointer<C: Cloud>(
    cloud: &C,
    prefix: &str,
    target: &Target,
    region: &str,
) -> Result<Option<(String, Parameter)>> {
    let name = format!("{prefix}/{}", target.name);
    let Some(there) = cloud.parameter(region, &name)? else { return Ok(None) };
    let is_it =
        |listed: &Listed| matches!(listed, Listed::Image(i) if i.id.0 == there.value && i.image == target.image);
    Ok(cloud.images(region)?.iter().any(is_it).then_some((name, there)))
}

/// The changes that are needed, all versions before the first pointer.
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
                    format_args!("{name} in {region} holds {}, and a version never changes", there.value),
                    "two images bear one name; build again, so that there is a new one",
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

/// True for what a promotion writes: it keeps no image, the channel does.
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

/// What the channel's parameter holds in each region; before its first promotion under this name, what the shared one holds.
pub fn points_at<C: Cloud>(cloud: &C, target: &Target) -> Result<BTreeMap<String, ImageId>> {
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

/// Writes it if it is still what it was when it was planned. The provider reads it back: it knows when a write can be read.
pub fn apply<C: Cloud>(cloud: &C, change: &Change) -> Result<()> {
    let expected = change.before.as_ref().map(|p| p.version);
    cloud.put_parameter(&change.region, &change.name, &change.after.0, expected)
}

impl Change {
    /// The change for a person to read.
    pub fn diff(&self) -> String {
        let before = self.before.as_ref().map_or(String::new(), |p| format!("-{} = {}\n", self.name, p.value));
        format!("@@ {} @@\n{before}+{} = {}\n", self.region, self.name, self.after)
    }
}
