//! The image store: a region is a directory of images, an image a directory with disk, record and documents.
//!
//! An image is created under a temporary name and renamed when it is complete.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::super::{Corrupt, Image, ImageId, Listed};
use crate::durable;
use crate::error::{Exit, Result};
use crate::ids::{Region, RunId};
use crate::recipe::Digest;

/// The record's file name.
const RECORD: &str = "image.json";
/// The disk's file name.
pub(super) const DISK: &str = "disk.qcow2";
/// A file with the id of the run that is creating or removing an image.
const RUN: &str = "run";
/// Prefix of the directories of unfinished images.
const UNFINISHED: &str = ".unfinished-";

/// The directory of all regions.
#[derive(Clone, Debug)]
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory of an image.
    pub(super) fn dir(&self, image: &Image) -> PathBuf {
        self.root.join(image.region.as_str()).join(&image.id.0)
    }

    /// The directory in which an image is created.
    pub(super) fn unfinished_dir(&self, region: &Region, id: &ImageId) -> PathBuf {
        self.root.join(region.as_str()).join(format!("{UNFINISHED}{id}"))
    }

    /// Creates the empty directory of an unfinished image, and replaces an existing one.
    pub(super) fn unfinished(&self, region: &Region, id: &ImageId, run: &RunId) -> Result<PathBuf> {
        let dir = self.unfinished_dir(region, id);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(RUN), run.as_str())?;
        Ok(dir)
    }

    /// The directories of unfinished images in a region, with the ids of the runs that created them.
    pub(super) fn unfinished_ones(&self, region: &Region) -> Result<Vec<(PathBuf, Option<RunId>)>> {
        let dir = self.root.join(region.as_str());
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(UNFINISHED)) {
                let run = std::fs::read_to_string(path.join(RUN)).ok().map(RunId::from);
                found.push((path, run));
            }
        }
        Ok(found)
    }

    /// Writes the record of an unfinished image and renames its directory to the final name.
    pub(super) fn publish(&self, unfinished: &Path, image: &Image) -> Result<()> {
        let text = serde_json::to_string_pretty(image).map_err(|e| {
            Exit::Failed.error(format_args!("cannot write the image record: {e}"), "this is a defect; please report it")
        })?;
        fs::write(unfinished.join(RECORD), text)?;
        durable::sync_files(unfinished)?;
        let dir = self.dir(image);
        durable::rename(unfinished, &dir)?;
        // The run's file is removed after the rename, because an unfinished directory must have it.
        fs::remove_file(dir.join(RUN))?;
        durable::sync_dir(&dir)
    }

    /// All images of a region, without unfinished ones.
    pub(super) fn list(&self, region: &Region) -> Result<Vec<Listed>> {
        let dir = self.root.join(region.as_str());
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            if hidden || !path.is_dir() {
                continue;
            }
            found.push(match read(&path, region) {
                Ok(image) => Listed::Image(Box::new(image)),
                Err(problem) => Listed::Corrupt(Corrupt {
                    id: ImageId(path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()),
                    region: region.clone(),
                    place: path.display().to_string(),
                    problem,
                }),
            });
        }
        Ok(found)
    }

    /// Removes an image. It is renamed first, so that an interrupted removal leaves an unfinished image and not a damaged one.
    pub(super) fn remove(&self, dir: &Path, id: &ImageId, run: &RunId) -> Result<()> {
        let unfinished = dir.with_file_name(format!("{UNFINISHED}{id}"));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        // For `gc`, if this removal is interrupted.
        fs::write(dir.join(RUN), run.as_str())?;
        fs::rename(dir, &unfinished)?;
        Ok(fs::remove_dir_all(unfinished)?)
    }
}

/// The id of an image, derived from its region, name and disk, so that repeating an operation results in the same id.
pub(super) fn id(region: &Region, name: &str, disk: Digest) -> ImageId {
    let digest = Digest::of_parts([("region", region.as_bytes()), ("name", name.as_bytes()), ("disk", disk.bytes())]);
    ImageId(format!("ami-local-{}", digest.short()))
}

/// A day after the last change of a directory, RFC 3339.
pub(super) fn a_day_later(dir: &Path) -> Result<String> {
    let changed = jiff::Timestamp::try_from(fs::metadata(dir)?.modified()?).map_err(|e| {
        Exit::Failed.error(format_args!("the time of {} is invalid: {e}", dir.display()), "remove that directory")
    })?;
    Ok((changed + jiff::SignedDuration::from_hours(24)).to_string())
}

fn read(dir: &Path, region: &Region) -> std::result::Result<Image, String> {
    let text = std::fs::read_to_string(dir.join(RECORD)).map_err(|e| format!("{RECORD}: {e}"))?;
    let image: Image = serde_json::from_str(&text).map_err(|e| format!("{RECORD}: {e}"))?;
    if !dir.ends_with(&image.id.0) {
        return Err(format!("{RECORD} has the id {}", image.id));
    }
    if image.region != *region {
        return Err(format!("{RECORD} has the region {}", image.region));
    }
    let bytes = std::fs::metadata(dir.join(DISK)).map_err(|e| format!("{DISK}: {e}"))?.len();
    if bytes != image.disk_bytes {
        return Err(format!("{DISK} has {bytes} bytes, not the {} of its record", image.disk_bytes));
    }
    Ok(image)
}
