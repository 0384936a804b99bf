//! Atomic replacement of files: after a crash or a power loss a file has either the old content or the new one.
//!
//! The content is written to a temporary file in the same directory, which is synchronized by fsync(2) and renamed over the old file by
//! rename(2). Then the directory is synchronized, because the rename may otherwise be lost (fsync(2): "Calling fsync() does not
//! necessarily ensure that the entry in the directory has also reached disk").

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::error::{Exit, Result};

/// Replaces the content of a file, or creates the file.
///
/// Through a symbolic link the target is replaced, and the link stays. Mode and owner of an existing file are preserved; a new file has
/// mode 0644. An error leaves the old file unchanged.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with_mode(path, bytes, 0o644)
}

/// Like [`replace`], for a file that only its owner may read: the mode of a new file is 0600, and an existing file loses all other
/// permissions.
pub fn replace_private(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with_mode(path, bytes, 0o600)
}

fn replace_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let path = &target(path)?;
    let dir = parent_dir(path);
    fs::create_dir_all(dir)?;
    let mut staged = tempfile::NamedTempFile::new_in(dir)?;
    staged.write_all(bytes)?;
    match fs::metadata(path) {
        Ok(before) => {
            keep_owner(path, &before, staged.as_file())?;
            // A stricter mode than requested is preserved.
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
    sync_dir(dir)
}

/// Renames a file or directory so that the new name survives a power loss. The content must have been synchronized before.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)?;
    sync_dir(parent_dir(to))?;
    if parent_dir(from) == parent_dir(to) { Ok(()) } else { sync_dir(parent_dir(from)) }
}

/// Synchronizes the files directly in a directory, then the directory.
pub fn sync_files(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() {
            fs::File::open(path)?.sync_all()?;
        }
    }
    sync_dir(dir)
}

/// Synchronizes the entries of a directory: added, renamed and removed files.
pub fn sync_dir(dir: &Path) -> Result<()> {
    Ok(fs::File::open(dir)?.sync_all()?)
}

/// Renames a damaged file to `NAME.damaged-TIME`, and returns the new path.
pub fn set_aside(path: &Path) -> Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S-%3f")));
    let aside = PathBuf::from(name);
    rename(path, &aside)?;
    Ok(aside)
}

fn parent_dir(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file to replace: the path itself, or the target of a symbolic link.
fn target(path: &Path) -> Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => fs::canonicalize(path).map_err(|error| {
            let message = format!("{} is a dangling symbolic link: {error}", path.display());
            Exit::Precondition.error(message, "create the target of the link, or remove the link")
        }),
        _ => Ok(path.to_owned()),
    }
}

/// Sets the owner of the new file to that of the one it replaces.
fn keep_owner(path: &Path, before: &std::fs::Metadata, staged: &std::fs::File) -> Result<()> {
    let now = staged.metadata()?;
    if (now.uid(), now.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(staged, Some(before.uid()), Some(before.gid())).map_err(|error| {
        let (path, uid, gid) = (path.display(), before.uid(), before.gid());
        let message = format!("the owner of {path} (uid {uid}, gid {gid}) cannot be preserved: {error}");
        Exit::Precondition.error(message, "run the command as the owner of the file, or as root")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbolic_link_stays_and_mode_and_owner_of_its_target_are_preserved() {
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
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "a temporary file remains");
    }

    #[test]
    fn a_private_file_has_mode_0600() {
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
    fn a_dangling_link_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("staging.env");
        std::os::unix::fs::symlink("gone.env", &link).unwrap();
        let error = replace(&link, b"new").unwrap_err();
        assert!(error.to_string().contains("is a dangling symbolic link"), "{error}");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_new_file_has_mode_0644_and_a_damaged_one_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("below/marks.json");
        replace(&file, b"{}").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        let aside = set_aside(&file).unwrap();
        assert!(!file.exists() && aside.file_name().unwrap().to_string_lossy().starts_with("marks.json.damaged-"));
        assert_eq!(fs::read(aside).unwrap(), b"{}");
    }
}
