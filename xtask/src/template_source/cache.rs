//! The cache of downloaded templates. Each source has a directory, named by the digest of its text:
//!
//! - `tree-DIGEST`: the files of the template
//! - `latest.json`: which tree the source named when it was last resolved
//!
//! A tree is written to `staging-*` and renamed, so an interrupted download leaves no incomplete tree.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::tree;
use crate::durable;
use crate::error::{Exit, Result};
use crate::recipe::{Digest, Origin};

/// The file that names the tree that the source named when it was last resolved.
const LATEST: &str = "latest.json";
/// Time after which a tree that was not used is removed.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// A template in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Its source, commit and digest.
    pub origin: Origin,
    /// The directory with all of its files.
    pub tree: PathBuf,
    /// The template, relative to the directory; empty for the directory itself.
    pub path: PathBuf,
}

impl Fetched {
    /// The template: a file or directory.
    pub fn template(&self) -> PathBuf {
        if self.path.as_os_str().is_empty() { self.tree.clone() } else { self.tree.join(&self.path) }
    }

    /// As text, for the record of a run.
    pub fn note(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The template of a record; `None` if its files do not exist any more, or were changed.
    pub fn noted(text: &str) -> Option<Self> {
        let noted: Self = serde_json::from_str(text).ok()?;
        tree::inspect(&noted.tree).is_ok_and(|digest| digest == noted.origin.digest).then_some(noted)
    }

    /// Copies the files to another directory, and returns the same template there.
    pub fn copied_to(&self, tree: PathBuf) -> Result<Self> {
        tree::copy(&self.tree, &tree)?;
        if tree::inspect(&tree)? != self.origin.digest {
            let message = format!("the downloaded template in {} was changed during the copy", self.tree.display());
            return Err(Exit::Failed.error(message, "run the same command again, which downloads it again"));
        }
        Ok(Self { tree, ..self.clone() })
    }
}

/// The directory of one source.
pub(super) struct Entry {
    dir: PathBuf,
    // Held while the directory is changed.
    _lock: fs_err::File,
}

/// The template that a source named when it was last resolved, without access to the network.
pub fn cached(cache: &Path, source: &str) -> Option<Fetched> {
    let text = fs::read_to_string(dir(cache, source).join(LATEST)).ok()?;
    serde_json::from_str(&text).ok().filter(|latest: &Fetched| latest.tree.is_dir())
}

fn dir(cache: &Path, source: &str) -> PathBuf {
    cache.join(Digest::of(source.as_bytes()).to_string())
}

impl Entry {
    /// Opens the directory, and removes what interrupted downloads left there and trees that were not used for a long time.
    pub(super) fn open(cache: &Path, source: &str) -> Result<Self> {
        let dir = dir(cache, source);
        fs::create_dir_all(&dir)?;
        let lock = fs::File::create(dir.join("lock"))?;
        lock.file().lock()?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let unused = || entry.metadata()?.modified();
            let old = unused().is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > KEEP));
            if name.starts_with("staging-") || (name.starts_with("tree-") && old) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self { dir, _lock: lock })
    }

    /// The tree that the source named when it was last resolved, unless it was changed since.
    pub(super) fn latest(&self) -> Option<Fetched> {
        Fetched::noted(&fs::read_to_string(self.dir.join(LATEST)).ok()?)
    }

    /// A new directory for a download. It is removed when it is dropped.
    pub(super) fn staging(&self) -> Result<tempfile::TempDir> {
        Ok(tempfile::Builder::new().prefix("staging-").tempdir_in(&self.dir)?)
    }

    /// Inspects the tree in a staging directory and makes it the latest one.
    pub(super) fn keep(&self, tree: &Path, source: &str, commit: Option<String>, path: PathBuf) -> Result<Fetched> {
        let digest = tree::inspect(tree)?;
        let place = self.dir.join(format!("tree-{digest}"));
        // An existing one is kept, because another process may be reading it, unless it was changed or is incomplete after a power loss.
        if !tree::inspect(&place).is_ok_and(|found| found == digest) {
            if place.is_dir() {
                fs::remove_dir_all(&place)?;
            }
            durable::rename(tree, &place)?;
        }
        let source = source.to_owned();
        self.used(Fetched { origin: Origin { source, commit, digest }, tree: place, path })
    }

    /// Records that a tree is used now.
    pub(super) fn used(&self, fetched: Fetched) -> Result<Fetched> {
        let now = SystemTime::now();
        fs::File::open(&fetched.tree)?.file().set_modified(now)?;
        durable::replace_private(&self.dir.join(LATEST), fetched.note().as_bytes())?;
        Ok(fetched)
    }
}
