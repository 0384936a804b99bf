//! The layer cache: a folder a key, each a qcow2 overlay on the layer below it.
//!
//! A layer counts when its record is there. The record is written last, so a killed build leaves a disk without one, which the
//! next build removes: builds hold a lock, so nobody else is at work on it.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::super::Layer;
use crate::error::{Exit, Result};
use crate::process::Cmd;
use crate::recipe::Digest;

const RECORD: &str = "layer.json";
const DISK: &str = "disk.qcow2";

/// The folder of all layers.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    root: PathBuf,
}

impl Layers {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The disk of a layer, whether or not it is finished.
    pub(super) fn disk(&self, key: Digest) -> PathBuf {
        self.root.join(key.to_string()).join(DISK)
    }

    /// All finished layers. One whose record cannot be read counts as missing: its step runs again.
    pub(super) fn list(&self) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let dir = entry?.path();
            let record = std::fs::read(dir.join(RECORD)).ok().and_then(|b| serde_json::from_slice::<Layer>(&b).ok());
            layers.extend(record.filter(|layer| dir.ends_with(layer.key.to_string()) && dir.join(DISK).exists()));
        }
        Ok(layers)
    }

    /// Removes what a killed build left unfinished. Only for the holder of the build lock.
    pub(super) fn remove_unfinished(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let dir = entry?.path();
            if dir.is_dir() && !dir.join(RECORD).exists() {
                fs::remove_dir_all(dir)?;
            }
        }
        Ok(())
    }

    /// Makes the overlay in which the state `key` will come to be, above `below`.
    pub(super) fn begin(&self, key: Digest, below: &Path, size_gib: Option<u64>) -> Result<PathBuf> {
        let disk = self.disk(key);
        if let Some(dir) = disk.parent() {
            if dir.exists() {
                fs::remove_dir_all(dir)?;
            }
            fs::create_dir_all(dir)?;
        }
        overlay(&disk, below, size_gib)?;
        Ok(disk)
    }

    /// Says that the layer is finished.
    pub(super) fn finish(&self, layer: &Layer) -> Result<()> {
        let dir = self.root.join(layer.key.to_string());
        let text = serde_json::to_string_pretty(layer).unwrap_or_default();
        let unfinished = dir.join(".layer.json");
        fs::write(&unfinished, text)?;
        fs::rename(unfinished, dir.join(RECORD))?;
        Ok(())
    }
}

/// Makes a qcow2 overlay on `below`. The backing path is relative where both lie in the state folder, so that it can be moved.
pub(super) fn overlay(disk: &Path, below: &Path, size_gib: Option<u64>) -> Result<()> {
    let backing = relative(disk, below).unwrap_or_else(|| below.to_owned());
    let mut cmd = Cmd::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .arg(backing)
        .arg(disk)
        .hint("check that the disk has space and that the base image is whole (`cargo xtask doctor`)");
    if let Some(size) = size_gib {
        cmd = cmd.arg(format!("{size}G"));
    }
    cmd.read().map(drop)
}

/// `to` as seen from the folder of `from`, when they share more than the root.
fn relative(from: &Path, to: &Path) -> Option<PathBuf> {
    let (from, to): (Vec<_>, Vec<_>) = (from.parent()?.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if shared < 2 {
        return None;
    }
    let up = std::iter::repeat_n(std::path::Component::ParentDir, from.len() - shared);
    Some(up.chain(to[shared..].iter().copied()).collect())
}

/// An error for a layer that a plan counted on and that is gone.
pub(super) fn missing(key: Digest) -> crate::error::Error {
    Exit::Failed.error(
        format_args!("layer {} is gone", key.short()),
        "another command removed it; run the same command again and its step is run again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backing_paths_are_relative_inside_the_state_folder() {
        let below = |to: &str| relative(Path::new("/s/layers/b/disk"), Path::new(to));
        assert_eq!(below("/s/layers/a/disk"), Some("../a/disk".into()));
        assert_eq!(below("/s/base/d/disk"), Some("../../base/d/disk".into()));
        assert_eq!(below("/elsewhere/disk"), None);
    }

    #[test]
    fn only_a_finished_layer_counts_and_an_unfinished_one_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers::new(dir.path().to_owned());
        let layer = |name: &str| Layer {
            key: Digest::of(name.as_bytes()),
            parent: Digest::of(b""),
            step: name.to_owned(),
            inputs: std::collections::BTreeMap::new(),
            seconds: 1.0,
            created: String::new(),
        };
        let (done, dead) = (layer("done"), layer("dead"));
        for l in [&done, &dead] {
            fs::create_dir_all(dir.path().join(l.key.to_string())).unwrap();
            fs::write(layers.disk(l.key), "").unwrap();
        }
        layers.finish(&done).unwrap();
        assert_eq!(layers.list().unwrap(), std::slice::from_ref(&done));
        layers.remove_unfinished().unwrap();
        assert!(layers.disk(done.key).exists() && !layers.disk(dead.key).exists());
    }

    #[test]
    fn a_damaged_record_counts_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers::new(dir.path().to_owned());
        let folder = dir.path().join(Digest::of(b"x").to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(RECORD), "{").unwrap();
        assert_eq!(layers.list().unwrap(), []);
    }
}
