//! The files of a downloaded template: limits, checks that nothing leads out of the tree, and its digest.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;

use crate::error::{Exit, Result};
use crate::recipe::Digest;

/// Bytes that a download, and the files of a tree, may have.
pub(super) const MAX_BYTES: u64 = 64 << 20;
/// Files that a tree may have.
pub(super) const MAX_FILES: usize = 10_000;

/// Checks the names of a tree's entries, which come from an archive or a repository.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The names without case, as a file system that ignores case compares them, and the names as they are.
    folded: BTreeMap<String, PathBuf>,
}

impl Names {
    /// The relative path of an entry; an error names an entry that leads out of the tree, or that another one would replace.
    pub(super) fn add(&mut self, name: &str, is_dir: bool) -> Result<PathBuf> {
        let refuse = |why: &str| {
            Err(Exit::Usage.error(
                format_args!("the template's file `{}` {why}", name.escape_default()),
                "remove it from the archive or repository; nothing was unpacked",
            ))
        };
        if name.is_empty() || name.contains(['\0', '\\']) {
            return refuse("has a name that is not valid on every system");
        }
        let path = Path::new(name);
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return refuse("leads out of the template's directory");
        }
        let path: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        if path.components().any(|part| part.as_os_str().to_string_lossy().eq_ignore_ascii_case(".git")) {
            return refuse("is below a directory `.git`");
        }
        // A directory may be listed again, and precede its files. All parts are compared: `a/x` and `A/y` are one directory or two.
        let mut below = PathBuf::new();
        let parts = path.components().count();
        for (i, part) in path.components().enumerate() {
            below.push(part);
            let folded = below.to_string_lossy().to_lowercase();
            let is_last = i + 1 == parts;
            match self.folded.get(&folded) {
                Some(other) if *other != below => {
                    return refuse(&format!("differs from `{}` only in case", other.display()));
                }
                Some(_) if is_last && !is_dir => return refuse("is contained twice"),
                _ => {}
            }
            self.folded.insert(folded, below.clone());
        }
        if self.folded.len() > MAX_FILES {
            return Err(too_large(&format!("has more than {MAX_FILES} files")));
        }
        Ok(path)
    }
}

/// The error for a template that exceeds a limit.
pub(super) fn too_large(what: &str) -> crate::error::Error {
    Exit::Usage.error(
        format_args!("the template {what}"),
        "put the template and its scripts into an archive or repository of their own",
    )
}

/// Checks a tree on disk: symbolic links must stay in the tree, and there must be no special files. Returns its digest.
pub(super) fn inspect(root: &Path) -> Result<Digest> {
    let canonical = fs::canonicalize(root)?;
    let mut parts = Vec::new();
    let mut bytes = 0;
    for path in entries(root)? {
        let meta = fs::symlink_metadata(&path)?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let kind = meta.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(&path)?;
            let inside = fs::canonicalize(&path).is_ok_and(|to| to.starts_with(&canonical));
            // A link that leaves the tree and returns to it by name would have no target after the tree is moved.
            if !inside || !stays(Path::new(&name).parent().unwrap_or(Path::new("")), &target) {
                return Err(Exit::Usage.error(
                    format_args!(
                        "the template's symbolic link `{name}` points to {}, which is not in it",
                        target.display()
                    ),
                    "replace the link by the file, or remove it",
                ));
            }
            parts.push((format!("link {name}"), target.to_string_lossy().into_owned().into_bytes()));
        } else if kind.is_file() {
            bytes += meta.len();
            if bytes > MAX_BYTES {
                return Err(too_large(&format!("has more than {} MiB", MAX_BYTES >> 20)));
            }
            let executable = if meta.permissions().mode() & 0o100 == 0 { "file" } else { "program" };
            parts.push((format!("{executable} {name}"), fs::read(&path)?));
        } else if !kind.is_dir() {
            let message = format!("the template's `{name}` is neither a file nor a directory");
            return Err(Exit::Usage.error(message, "remove it"));
        }
    }
    Ok(Digest::of_parts(parts.iter().map(|(name, content)| (name.as_str(), content.as_slice()))))
}

/// True if a relative path from a directory below the root never leaves the root.
fn stays(dir: &Path, target: &Path) -> bool {
    let mut depth = dir.components().count();
    target.components().all(|part| match part {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::ParentDir => {
            let above = depth.checked_sub(1);
            depth = above.unwrap_or(0);
            above.is_some()
        }
        Component::RootDir | Component::Prefix(_) => false,
    })
}

/// Copies a tree that was inspected.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for path in entries(from)? {
        let target = to.join(path.strip_prefix(from).unwrap_or(&path));
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            fs::create_dir_all(target)?;
        } else if kind.is_symlink() {
            fs::os::unix::fs::symlink(fs::read_link(&path)?, target)?;
        } else {
            fs::copy(&path, target)?;
        }
    }
    Ok(())
}

/// All entries below a directory, each directory before its content, sorted. Symbolic links are not followed.
fn entries(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if fs::symlink_metadata(&path)?.is_dir() {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
