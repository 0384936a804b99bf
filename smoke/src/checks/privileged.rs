//! Programs that run with more rights than who starts them: set-user-ID and set-group-ID files, and files with capabilities
//! (inode(7), capabilities(7)). dpkg keeps no modes, so the spec lists them all.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use smoke::spec::Privileged;

use super::{Check, Host, Verdict};

/// File systems that hold no programs, or are images that nobody can write.
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
    let Some(wanted) = privileged.cloned() else { return vec![] };
    vec![Check::new("privileged-files", move |host| check(host, &wanted))]
}

fn check(host: &Host, wanted: &Privileged) -> Verdict {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found = Found::default();
    for place in places(&mounts) {
        walk(&place, host.deadline, &mut found)?;
    }
    let beyond = |what: &str, found: &BTreeSet<String>, wanted: &[String]| {
        found.iter().filter(|f| !wanted.contains(f)).map(|f| format!("{f} has {what}")).collect::<Vec<_>>()
    };
    let mut wrong = beyond("a set-ID bit", &found.setuid, &wanted.setuid);
    wrong.extend(beyond("capabilities", &found.capable, &wanted.capabilities));
    if wrong.is_empty() {
        return Ok(format!(
            "{} set-ID files and {} with capabilities, all known",
            found.setuid.len(),
            found.capable.len()
        ));
    }
    Err(wrong.join("; ").into())
}

#[derive(Default)]
struct Found {
    setuid: BTreeSet<String>,
    capable: BTreeSet<String>,
    seen: usize,
}

/// Mount points on which a set-ID bit counts (mountinfo: proc_pid_mountinfo(5)), but none that shows what another shows already.
fn places(mountinfo: &str) -> Vec<PathBuf> {
    let mut shown: Vec<(&str, &str)> = Vec::new();
    let mut places = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, source)) = line.split_once(" - ") else { continue };
        let [_, _, device, root, point, options, ..] = mount.split(' ').collect::<Vec<_>>()[..] else { continue };
        let kind = source.split(' ').next().unwrap_or_default();
        if SKIPPED.contains(&kind) || options.split(',').any(|o| o == "nosuid") {
            continue;
        }
        let again = |(other, above): &(&str, &str)| *other == device && Path::new(root).starts_with(above);
        if !shown.iter().any(again) {
            shown.push((device, root));
            places.push(PathBuf::from(point.replace("\\040", " ")));
        }
    }
    places
}

/// All of one file system.
fn walk(place: &Path, deadline: Instant, found: &mut Found) -> Result<(), String> {
    let Ok(top) = fs::symlink_metadata(place) else { return Ok(()) };
    if !top.is_dir() {
        return Ok(());
    }
    let mut folders = vec![place.to_owned()];
    while let Some(folder) = folders.pop() {
        if Instant::now() > deadline {
            return Err(format!("only {} files were seen in time", found.seen));
        }
        // It may be gone by now: other checks make folders and remove them.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(about) = fs::symlink_metadata(entry.path()) else { continue };
            found.seen += 1;
            if about.is_dir() {
                if about.dev() == top.dev() {
                    folders.push(entry.path());
                }
            } else if about.is_file() {
                look(&entry.path(), about.mode(), found);
            }
        }
    }
    Ok(())
}

fn look(file: &Path, mode: u32, found: &mut Found) {
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
    fn only_file_systems_on_which_the_bit_counts_are_walked() {
        let mounts = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
            23 22 0:21 / /proc rw,nosuid - proc proc rw\n24 22 0:5 / /dev/shm rw,nosuid,nodev shared:3 - tmpfs tmpfs rw\n\
            25 22 254:2 / /my\\040disk rw - xfs /dev/vdb rw\n27 22 254:1 /usr /run/bound/usr rw - ext4 /dev/vda1 rw\n26 22 7:0 / /snap/x/1 ro - squashfs /dev/loop0 ro\n";
        assert_eq!(places(mounts), [PathBuf::from("/"), PathBuf::from("/my disk")]);
    }

    #[test]
    fn a_set_id_bit_counts_on_programs_only() {
        let mut found = Found::default();
        look(Path::new("/usr/bin/sudo"), 0o104_755, &mut found);
        look(Path::new("/usr/bin/wall"), 0o102_755, &mut found);
        look(Path::new("/var/log/journal/x"), 0o102_640, &mut found);
        assert_eq!(found.setuid.into_iter().collect::<Vec<_>>(), ["/usr/bin/sudo", "/usr/bin/wall"]);
    }
}
