//! The directories on the PATH of root and the login user: no other account may write to them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::check::{Check, CheckResult, Host};

pub(super) fn all(check: bool) -> Vec<Check> {
    if check { vec![Check::new("path-directories", directories)] } else { vec![] }
}

fn directories(host: &Host) -> CheckResult {
    let user = &host.user;
    let mut findings = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (path, owners) in [(root_path(host)?, &[0][..]), (host.login_path(host.deadline)?, &[0, user.uid])] {
        for entry in path.split(':') {
            if !entry.starts_with('/') {
                findings.insert(format!("`{entry}` on the PATH {path} is relative to the current directory"));
                continue;
            }
            seen.insert(entry.to_owned());
            // A missing directory can be created by an account that may write to its parent.
            for directory in
                Path::new(entry).ancestors().chain(real(entry).as_deref().into_iter().flat_map(Path::ancestors))
            {
                findings.extend(writable(directory, owners));
            }
        }
    }
    if findings.is_empty() {
        return Ok(format!("{} directories, writable by root and their user only", seen.len()));
    }
    Err(findings.into_iter().collect::<Vec<_>>().join("; ").into())
}

/// PATH of root in a login shell, in services of systemd, and in commands run with sudo (secure_path, sudoers(5)).
fn root_path(host: &Host) -> Result<String, String> {
    let login = host.stdout(&["runuser", "-l", "root", "-c", "printf '\\n%s' \"$PATH\""])?;
    let login = login.lines().last().unwrap_or_default().to_owned();
    let manager = host.stdout(&["systemctl", "show-environment"])?;
    let manager = manager.lines().find_map(|l| l.strip_prefix("PATH=")).unwrap_or_default().to_owned();
    let sudo = host.stdout(&["sudo", "-n", "sh", "-c", "echo \"$PATH\""])?;
    let paths = [login, manager, sudo.trim().to_owned()];
    Ok(paths.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(":"))
}

fn real(entry: &str) -> Option<PathBuf> {
    fs::canonicalize(entry).ok()
}

/// Why other accounts than `owners` may write to the directory: its owner, its group, or its mode for others.
fn writable(directory: &Path, owners: &[u32]) -> Option<String> {
    let about = fs::metadata(directory).ok()?;
    let (mode, name) = (about.mode(), directory.display());
    if !owners.contains(&about.uid()) {
        return Some(format!("{name} belongs to uid {}", about.uid()));
    }
    // A user private group has the gid of the uid and no other member.
    let others_group = about.gid() != 0 && about.gid() != about.uid();
    let writable = mode & 0o002 != 0 || (mode & 0o020 != 0 && others_group);
    writable.then(|| format!("{name} has mode {:04o} and group {}", mode & 0o7777, about.gid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn world_writable_directory_is_found() {
        let directory = std::env::temp_dir().join(format!("smoke-search-path-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let owner = fs::metadata(&directory).unwrap().uid();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(writable(&directory, &[owner]), None);
        assert!(writable(&directory, &[owner + 1]).unwrap().contains("belongs to uid"));
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(writable(&directory, &[owner]).unwrap().contains("mode 1777"));
        fs::remove_dir(&directory).unwrap();
    }
}
