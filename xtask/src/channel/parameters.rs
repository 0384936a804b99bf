//! Parameters that hold image ids (Systems Manager user guide, "Using native parameter support for Amazon Machine Image IDs"): one that
//! names the version and never changes, then the channel's own, which a reader follows.

use std::collections::BTreeMap;

use super::Target;
use crate::cloud::{Cloud, Image, ImageId, Parameter};
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

/// The parameter of a channel: `PREFIX/CHANNEL`.
fn pointer(prefix: &str, channel: &str) -> String {
    format!("{prefix}/{channel}")
}

/// The changes that are needed, all versions before the first pointer.
pub fn plan<C: Cloud>(cloud: &C, prefix: &str, channel: &str, images: &[Image]) -> Result<Vec<Change>> {
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
        let name = pointer(prefix, channel);
        let before = cloud.parameter(&region, &name)?;
        if before.as_ref().is_none_or(|there| there.value != after.0) {
            pointers.push(Change { region, name, before, after });
        }
    }
    versions.extend(pointers);
    Ok(versions)
}

/// True for what a promotion writes: it keeps no image, the channel does.
pub fn is_ours(target: &Target, name: &str) -> bool {
    let Some(prefix) = &target.prefix else { return false };
    name == pointer(prefix, &target.name) || name.starts_with(&format!("{prefix}/versions/"))
}

/// Removes the parameter of the image's version.
pub fn forget<C: Cloud>(cloud: &C, prefix: &str, image: &Image) -> Result<()> {
    let name = version(prefix, image);
    match cloud.parameter(&image.region, &name)? {
        Some(there) if there.value == image.id.0 => cloud.delete_parameter(&image.region, &name),
        _ => Ok(()),
    }
}

/// What the channel's parameter holds in each region.
pub fn points_at<C: Cloud>(cloud: &C, prefix: &str, channel: &str) -> Result<BTreeMap<String, ImageId>> {
    let mut ids = BTreeMap::new();
    for region in cloud.regions() {
        if let Some(there) = cloud.parameter(region, &pointer(prefix, channel))? {
            ids.insert(region.clone(), ImageId(there.value));
        }
    }
    Ok(ids)
}

/// Writes it if it is still what it was when it was planned, and reads it back.
pub fn apply<C: Cloud>(cloud: &C, change: &Change) -> Result<()> {
    let expected = change.before.as_ref().map(|p| p.version);
    cloud.put_parameter(&change.region, &change.name, &change.after.0, expected)?;
    let there = cloud.parameter(&change.region, &change.name)?;
    match there {
        Some(there) if there.value == change.after.0 => Ok(()),
        there => Err(Exit::Failed.error(
            format_args!(
                "{} in {} was written and holds {}",
                change.name,
                change.region,
                there.map_or("nothing".to_owned(), |p| p.value)
            ),
            "somebody else writes to it; look who, then run the command again",
        )),
    }
}

impl Change {
    /// The change for a person to read.
    pub fn diff(&self) -> String {
        let before = self.before.as_ref().map_or(String::new(), |p| format!("-{} = {}\n", self.name, p.value));
        format!("@@ {} @@\n{before}+{} = {}\n", self.region, self.name, self.after)
    }
}
