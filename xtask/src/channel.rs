//! Channels: what one points at, and how it is made to point elsewhere.
//!
//! Each sink plans its changes as data, writes one only if nobody was there first, and reads it back. Whether an image may be
//! pointed at is the stages' to judge.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::cloud::{Cloud, Image, ImageId};
use crate::error::Result;

pub mod claim;
pub mod env_file;
pub mod output;
pub mod parameters;
pub mod targets;

/// A channel's sinks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// The image of ami.toml that it points at one of: each image has its own pointers in a channel.
    pub image: String,
    /// The variable of the env file that holds the image's id; `_<REGION>` is added for each region.
    pub variable: String,
    /// The env file, and how it is called in messages.
    pub env_file: Option<(PathBuf, String)>,
    /// The parameters' common prefix, `/locus/ami`.
    pub prefix: Option<String>,
    /// The file that a GitHub workflow takes a step's outputs from.
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

/// The changes that make a channel point at `images`, home region's first, in the order in which they are made: what names a version
/// first, what a reader follows after it.
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

/// Makes one change and reads it back.
pub fn apply<C: Cloud>(cloud: &C, change: &Change) -> Result<()> {
    match change {
        Change::File(file, _, change) => env_file::apply(file, change),
        Change::Parameter(change) => parameters::apply(cloud, change),
        Change::Output(file, lines) => output::apply(file, lines),
    }
}

/// What a channel points at, by region. The parameters win over the env file: they are what every machine sees.
pub fn points_at<C: Cloud>(cloud: &C, target: &Target) -> Result<BTreeMap<String, ImageId>> {
    let mut ids = match &target.env_file {
        Some((file, _)) => env_file::points_at(file, &target.variable, cloud.regions())?,
        None => BTreeMap::new(),
    };
    ids.extend(parameters::points_at(cloud, target)?);
    Ok(ids)
}

/// Everything that refers to images in these regions, by image: what a channel's sinks name, where two disagree both, and parameters that
/// somebody else wrote. Nothing of it may be deleted.
pub fn references<C: Cloud>(
    cloud: &C,
    targets: &[Target],
    regions: &BTreeSet<&str>,
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

/// Removes the parameters that name an image's version, which is about to go. A channel that wants it back writes them again.
pub fn forget<C: Cloud>(cloud: &C, targets: &[Target], image: &Image) -> Result<()> {
    let prefixes: BTreeSet<&str> = targets.iter().filter_map(|target| target.prefix.as_deref()).collect();
    prefixes.into_iter().try_for_each(|prefix| parameters::forget(cloud, prefix, image))
}

impl Change {
    /// Where it is made.
    pub fn place(&self) -> String {
        match self {
            Self::File(_, shown, _) => shown.clone(),
            Self::Parameter(change) => format!("{} in {}", change.name, change.region),
            Self::Output(file, _) => file.display().to_string(),
        }
    }

    /// The change for a person to read.
    pub fn diff(&self) -> String {
        match self {
            Self::File(_, shown, change) => change.diff(shown),
            Self::Parameter(change) => change.diff(),
            Self::Output(_, lines) => lines.lines().map(|line| format!("+{line}\n")).collect(),
        }
    }
}
