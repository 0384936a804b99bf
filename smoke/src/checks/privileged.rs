//! Programs that run with more privileges than the user who starts them: set-user-ID and set-group-ID files, and files with capabilities
//! (inode(7), capabilities(7)). dpkg stores no modes, so the spec lists all of them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use smoke::spec::Privileged;

use crate::check::{Check, CheckResult, Host};

/// Types of file systems without programs, and of read-only images.
const SKIPPED: [&str; 16] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "securityfs",
    "debugfs",
    "tracefs",
    "bpf",
    "mqueue",
    "hugetlbfs",
    "configfs",
    "squashfs",
    "efivarfs",
    "autofs",
];

pub(super) fn all(privileged: Option<&Privileged>) -> Vec<Check> {
    let Some(expected) = privileged.cloned() else { return vec![] };
    vec![Check::new("privileged-files", move |host| check(host, &expected))]
}

fn check(host: &Host, expected: &Privileged) -> CheckResult {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found = Found::default();
    for mount_point in mount_points(&mounts) {
        walk(&mount_point, host.deadline, &mut found)?;
    }
    let unlisted = |what: &str, found: &BTreeSet<String>, listed: &[String]| {
        found.iter().filter(|f| !listed.contains(f)).map(|f| format!("{f} has {what}")).collect::<Vec<_>>()
    };
    let mut findings = unlisted("a set-ID bit", &found.setuid, &expected.setuid);
    findings.extend(unlisted("capabilities", &found.capable, &expected.capabilities));
    if findings.is_empty() {
        return Ok(format!(
            "{} set-ID files and {} with capabilities, all listed in the spec",
            found.setuid.len(),
            found.capable.len()
        ));
    }
    Err(findings.join("; ").into())
}

#[derive(Default)]
struct Found {
    setuid: BTreeSet<String>,
    capable: BTreeSet<String>,
    visited: usize,
}

/// Mount points without `nosuid` (proc_pid_mountinfo(5)). A mount of a directory that an earlier mount includes is left out.
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    let mut included: Vec<(&str, &str)> = Vec::new();
    let mut mount_points = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, source)) = line.split_once(" - ") else { continue };
        let [_, _, device, root, point, options, ..] = mount.split(' ').collect::<Vec<_>>()[..] else { continue };
        let kind = source.split(' ').next().unwrap_or_default();
        if SKIPPED.contains(&kind) || options.split(',').any(|o| o == "nosuid") {
            continue;
        }
        let includes = |(other, above): &(&str, &str)| *other == device && Path::new(root).starts_with(above);
        if !included.iter().any(includes) {
            included.push((device, root));
            mount_points.push(PathBuf::from(point.replace("\\040", " ")));
        }
    }
    mount_points
}

/// Visits all files of one file system.
fn walk(mount_point: &Path, deadline: Instant, found: &mut Found) -> Result<(), String> {
    let Ok(top) = fs::symlink_metadata(mount_point) else { return Ok(()) };
    if !top.is_dir() {
        return Ok(());
    }
    let mut dirs = vec![mount_point.to_owned()];
    while let Some(dir) = dirs.pop() {
        if Instant::now() > deadline {
            return Err(format!("visited only {} files before the deadline", found.visited));
        }
        // Other checks create and remove directories, so this one may no longer exist.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(about) = fs::symlink_metadata(entry.path()) else { continue };
            found.visited += 1;
            if about.is_dir() {
                if about.dev() == top.dev() {
                    dirs.push(entry.path());
                }
            } else if about.is_file() {
                inspect(&entry.path(), about.mode(), found);
            }
        }
    }
    Ok(())
}

fn inspect(file: &Path, mode: u32, found: &mut Found) {
    let name = || file.to_string_lossy().into_owned();
    if mode & 0o6000 != 0 && mode & 0o111 != 0 {
        found.setuid.insert(name());
    }
    let mut value = [0_u8; 64];
    if mode & 0o111 != 0
        && rustix::fs::lgetxattr(file.as_os_str().as_bytes(), "security.capability", &mut value[..]).is_ok()
    {
        found.capable.insert(name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_without_nosuid() {
        let mounts = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
            23 22 0:21 / /proc rw,nosuid - proc proc rw\n24 22 0:5 / /dev/shm rw,nosuid,nodev shared:3 - tmpfs tmpfs rw\n\
            25 22 254:2 / /my\\040disk rw - xfs /dev/vdb rw\n27 22 254:1 /usr /run/bound/usr rw - ext4 /dev/vda1 rw\n26 22 7:0 / /snap/x/1 ro - squashfs /dev/loop0 ro\n";
        assert_eq!(mount_points(mounts), [PathBuf::from("/"), PathBuf::from("/my disk")]);
    }

    #[test]
    fn set_id_bit_counts_on_executables_only() {
        let mut found = Found::default();
        inspect(Path::new("/usr/bin/sudo"), 0o104_755, &mut found);
        inspect(Path::new("/usr/bin/wall"), 0o102_755, &mut found);
        inspect(Path::new("/var/log/journal/x"), 0o102_640, &mut found);
        assert_eq!(found.setuid.into_iter().collect::<Vec<_>>(), ["/usr/bin/sudo", "/usr/bin/wall"]);
    }
}
