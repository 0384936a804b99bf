//! Files that are replaced whole: after a crash or a power loss a reader finds the old text or the new one, never a part of either.
//!
//! Write to a temporary file in the same folder, fsync(2) it, rename(2) it over the old one, then fsync the folder: without the last
//! step the rename itself may be lost (fsync(2), "Calling fsync() does not necessarily ensure that the entry in the directory has also
//! reached disk").

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::error::{Exit, Result};

/// Replaces the content of a file, or makes the file.
///
/// A symbolic link stays one: the file that it names is replaced. Mode and owner of an existing file are kept; a new file has mode
/// 0644. An error leaves the old file as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with_mode(path, bytes, 0o644)
}

/// The same for a file that only its owner may read: a new one has mode 0600, and so has one that others could read before.
pub fn replace_private(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with_mode(path, bytes, 0o600)
}

fn replace_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let path = &target(path)?;
    let folder = folder(path);
    fs::create_dir_all(folder)?;
    let mut staged = tempfile::NamedTempFile::new_in(folder)?;
    staged.write_all(bytes)?;
    match fs::metadata(path) {
        Ok(before) => {
            keep_owner(path, &before, staged.as_file())?;
            // Stricter than asked for stays stricter.
            let mode = before.mode() & if mode == 0o600 { 0o600 } else { 0o7777 };
            staged.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            staged.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        }
        Err(error) => return Err(error.into()),
    }
    staged.as_file().sync_all()?;
    staged.persist(path).map_err(|e| e.error)?;
    sync_folder(folder)
}

/// Renames a file or folder so that the new name survives a power loss. What is in it must have been synchronized before.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)?;
    sync_folder(folder(to))?;
    if folder(from) == folder(to) { Ok(()) } else { sync_folder(folder(from)) }
}

/// Synchronizes the files that lie directly in a folder, then the folder.
pub fn sync_files(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            fs::File::open(path)?.sync_all()?;
        }
    }
    sync_folder(folder)
}

/// Synchronizes the entries of a folder: names that were added, changed or removed.
pub fn sync_folder(folder: &Path) -> Result<()> {
    Ok(fs::File::open(folder)?.sync_all()?)
}

/// Renames a file whose content cannot be used to `NAME.damaged-TIME` beside it, and returns that path.
pub fn set_aside(path: &Path) -> Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S-%3f")));
    let aside = PathBuf::from(name);
    rename(path, &aside)?;
    Ok(aside)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file that is to be replaced: the path itself, or what a symbolic link there leads to.
fn target(path: &Path) -> Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => fs::canonicalize(path).map_err(|error| {
            let message = format!("{} is a symbolic link that leads nowhere: {error}", path.display());
            Exit::Precondition.error(message, "make the file that it names, or remove the link")
        }),
        _ => Ok(path.to_owned()),
    }
}

/// Gives a new file the owner of the one that it will replace.
fn keep_owner(path: &Path, before: &std::fs::Metadata, staged: &std::fs::File) -> Result<()> {
    let now = staged.metadata()?;
    if (now.uid(), now.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(staged, Some(before.uid()), Some(before.gid())).map_err(|error| {
        let (path, uid, gid) = (path.display(), before.uid(), before.gid());
        let message = format!("{path} belongs to uid {uid}, gid {gid}, which cannot be kept: {error}");
        Exit::Precondition.error(message, "run the command as the owner of the file, or as root")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbolic_link_stays_and_its_file_keeps_mode_and_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("etc/locus.env"), dir.path().join("staging.env"));
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let is_root = rustix::process::getuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&file, Some(12345), Some(12346)).unwrap();
        }
        std::os::unix::fs::symlink("etc/locus.env", &link).unwrap();
        replace(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        let after = fs::metadata(&file).unwrap();
        assert_eq!(after.permissions().mode() & 0o777, 0o600);
        assert!(!is_root || (after.uid(), after.gid()) == (12345, 12346));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside it");
    }

    #[test]
    fn a_private_file_is_read_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        fs::write(&old, "").unwrap();
        fs::set_permissions(&old, std::fs::Permissions::from_mode(0o644)).unwrap();
        for file in [new, old] {
            replace_private(&file, b"x").unwrap();
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("staging.env");
        std::os::unix::fs::symlink("gone.env", &link).unwrap();
        let error = replace(&link, b"new").unwrap_err();
        assert!(error.to_string().contains("leads nowhere"), "{error}");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_new_file_can_be_read_by_all_and_a_damaged_one_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("below/marks.json");
        replace(&file, b"{}").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        let aside = set_aside(&file).unwrap();
        assert!(!file.exists() && aside.file_name().unwrap().to_string_lossy().starts_with("marks.json.damaged-"));
        assert_eq!(fs::read(aside).unwrap(), b"{}");
    }
}
