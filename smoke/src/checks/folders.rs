//! The folders in which root and the login user look for programs: nobody else may put one there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Check, Host, Verdict};

pub(super) fn all(check: bool) -> Vec<Check> {
    if check { vec![Check::new("path-folders", folders)] } else { vec![] }
}

fn folders(host: &Host) -> Verdict {
    let user = &host.user;
    let mut wrong = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (path, owners) in [(root_path(host)?, &[0][..]), (host.login_path(host.deadline)?, &[0, user.uid])] {
        for entry in path.split(':') {
            if !entry.starts_with('/') {
                wrong.insert(format!("`{entry}` on the PATH {path} is the current folder"));
                continue;
            }
            seen.insert(entry.to_owned());
            // One that is not there can be made by who may write above it.
            for folder in
                Path::new(entry).ancestors().chain(real(entry).as_deref().into_iter().flat_map(Path::ancestors))
            {
                wrong.extend(writable(folder, owners));
            }
        }
    }
    if wrong.is_empty() {
        return Ok(format!("{} folders, written by root and their user only", seen.len()));
    }
    Err(wrong.into_iter().collect::<Vec<_>>().join("; ").into())
}

/// root's PATH in a login shell, in what systemd starts and in what sudo runs (secure_path, sudoers(5)).
fn root_path(host: &Host) -> Result<String, String> {
    let login = host.ask(&["runuser", "-l", "root", "-c", "printf '\\n%s' \"$PATH\""])?;
    let login = login.lines().last().unwrap_or_default().to_owned();
    let manager = host.ask(&["systemctl", "show-environment"])?;
    let manager = manager.lines().find_map(|l| l.strip_prefix("PATH=")).unwrap_or_default().to_owned();
    let sudo = host.ask(&["sudo", "-n", "sh", "-c", "echo \"$PATH\""])?;
    let paths = [login, manager, sudo.trim().to_owned()];
    Ok(paths.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(":"))
}

fn real(entry: &str) -> Option<PathBuf> {
    fs::canonicalize(entry).ok()
}

/// Who else may write there, if anybody: an owner who is none of these, a group other than root's, or all.
fn writable(folder: &Path, owners: &[u32]) -> Option<String> {
    let about = fs::metadata(folder).ok()?;
    let (mode, name) = (about.mode(), folder.display());
    if !owners.contains(&about.uid()) {
        return Some(format!("{name} belongs to uid {}", about.uid()));
    }
    // A group of the owner's own (user private groups) has no other member.
    let others_group = about.gid() != 0 && about.gid() != about.uid();
    let writable = mode & 0o002 != 0 || (mode & 0o020 != 0 && others_group);
    writable.then(|| format!("{name} has mode {:04o} and group {}", mode & 0o7777, about.gid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_all_may_write_is_seen() {
        let folder = std::env::temp_dir().join(format!("smoke-folders-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let owner = fs::metadata(&folder).unwrap().uid();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(writable(&folder, &[owner]), None);
        assert!(writable(&folder, &[owner + 1]).unwrap().contains("belongs to uid"));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(writable(&folder, &[owner]).unwrap().contains("mode 1777"));
        fs::remove_dir(&folder).unwrap();
    }
}
