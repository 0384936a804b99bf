//! The project's own files, for tests of their text.

#![allow(dead_code, reason = "shared by tests that each use a part of it")]

use std::path::{Path, PathBuf};

/// The project's root directory.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|dir| dir.join("ami.toml").exists()).unwrap().to_owned()
}

/// The files below a directory of the project whose path has this ending, sorted.
pub(crate) fn files(dir: impl AsRef<Path>, ending: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(dir), &mut found);
    found.retain(|path| path.to_string_lossy().ends_with(ending));
    found.sort();
    found
}
