//! Channels: what a channel points at, and how it is moved to another image.
//!
//! A sink is a place where a channel's pointers are kept. Each one plans its changes as data, writes a change only if the sink is still as
//! it was planned for, and reads it back. The stage `promote` decides whether a channel may point at an image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::cloud::{Cloud, Image, ImageId};
use crate::error::Result;
use crate::ids::{ChannelName, Region};

pub mod claim;
pub mod env_file;
pub mod mark;
pub mod output;
pub mod parameters;
pub mod targets;

/// A channel's sinks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The channel's name.
    pub name: ChannelName,
    /// The name of the image in ami.toml. Each image has its own pointers in a channel.
    pub image: String,
    /// The variable in the env file with the image's id in the home region; those of the regions have the suffix `_<REGION>`.
    pub variable: String,
    /// The env file: its absolute path, and its path for messages.
    pub env_file: Option<(PathBuf, String)>,
    /// The common prefix of the parameters' names, `/locus/ami`.
    pub prefix: Option<String>,
    /// The file for the outputs of a GitHub workflow's step (`GITHUB_OUTPUT`).
    pub output: Option<PathBuf>,
}

/// One write to one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// To the env file.
    File(PathBuf, String, env_file::Change),
    /// To a parameter in a region.
    Parameter(parameters::Change),
    /// To a workflow's outputs.
    Output(PathBuf, String),
}

/// The changes that make a channel point at `images`, the home region's first. They are in the order in which they must be applied:
/// parameters of versions, then the pointers that readers resolve.
pub fn plan<C: Cloud>(cloud: &C, target: &Target, images: &[Image]) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    changes.extend(parameters::plan(cloud, target, images)?.into_iter().map(Change::Parameter));
    if let Some((file, shown)) = &target.env_file {
        let change = env_file::plan(file, &target.variable, images)?;
        if !change.is_empty() {
            changes.push(Change::File(file.clone(), shown.clone(), change));
        }
    }
    if let Some(file) = target.output.as_ref().filter(|_| !changes.is_empty()) {
        changes.push(Change::Output(file.clone(), output::lines(&target.name, images)));
    }
    Ok(changes)
}

/// Applies one change. Env files and parameters are read back.
pub fn apply<C: Cloud>(cloud: &C, change: &Change) -> Result<()> {
    match change {
        Change::File(file, _, change) => env_file::apply(file, change),
        Change::Parameter(change) => parameters::apply(cloud, change),
        Change::Output(file, lines) => output::apply(file, lines),
    }
}

/// The image that a channel points at in each region. Parameters take precedence over the env file, because all machines read them.
pub fn points_at<C: Cloud>(cloud: &C, target: &Target) -> Result<BTreeMap<Region, ImageId>> {
    let mut ids = match &target.env_file {
        Some((file, _)) => env_file::points_at(file, &target.variable, cloud.regions())?,
        None => BTreeMap::new(),
    };
    ids.extend(parameters::points_at(cloud, target)?);
    Ok(ids)
}

/// Everything that refers to images, by image: the sinks of all channels (both, if they disagree), and the other parameters in `regions`
/// that have an image id. These images must not be deleted.
pub fn references<C: Cloud>(
    cloud: &C,
    targets: &[Target],
    regions: &BTreeSet<&Region>,
) -> Result<BTreeMap<ImageId, Vec<String>>> {
    let mut references: BTreeMap<ImageId, Vec<String>> = BTreeMap::new();
    for target in targets {
        let mut ids: BTreeSet<ImageId> = match &target.env_file {
            Some((file, _)) => env_file::names(file, &target.variable)?.into_iter().collect(),
            None => BTreeSet::new(),
        };
        ids.extend(parameters::points_at(cloud, target)?.into_values());
        for id in ids {
            references.entry(id).or_default().push(format!("channel {}", target.name));
        }
    }
    for region in regions {
        for (name, id) in cloud.parameters(region)? {
            if !targets.iter().any(|target| parameters::is_ours(target, &name)) {
                references.entry(id).or_default().push(format!("parameter {name}"));
            }
        }
    }
    Ok(references)
}

/// Removes the parameters of an image's version, before the image is deleted.
pub fn forget<C: Cloud>(cloud: &C, targets: &[Target], image: &Image) -> Result<()> {
    let prefixes: BTreeSet<&str> = targets.iter().filter_map(|target| target.prefix.as_deref()).collect();
    prefixes.into_iter().try_for_each(|prefix| parameters::forget(cloud, prefix, image))
}

impl Change {
    /// The file or parameter that the change writes, for display.
    pub fn place(&self) -> String {
        match self {
            Self::File(_, shown, _) => shown.clone(),
            Self::Parameter(change) => format!("{} in {}", change.name, change.region),
            Self::Output(file, _) => file.display().to_string(),
        }
    }

    /// The change as a diff, for display.
    pub fn diff(&self) -> String {
        match self {
            Self::File(_, shown, change) => change.diff(shown),
            Self::Parameter(change) => change.diff(),
            Self::Output(_, lines) => lines.lines().map(|line| format!("+{line}\n")).collect(),
        }
    }
}
