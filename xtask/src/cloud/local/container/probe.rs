//! Whether this host can build in a container: by trying, once for each state of the host.

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::process::Cmd;

/// The programs a container build runs, and how each names its version.
pub const PROGRAMS: [&str; 8] =
    ["systemd-nspawn", "slirp4netns", "qemu-storage-daemon", "unshare", "flock", "sfdisk", "e2fsck", "resize2fs"];

/// What a trial found, remembered for as long as kernel and programs stay the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Why it is not possible; `None` if it is.
    pub obstacle: Option<Obstacle>,
    /// Kernel release and program versions it was found with.
    pub host: String,
}

/// Why no container can be started here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// What is missing or failed.
    pub what: String,
    /// What makes it possible.
    pub remedy: String,
}

/// Everything up to the guest's first process, in little: namespaces, a file system behind FUSE and a loop device, an ID-mapped user
/// namespace, control groups. Prints the step that it is at, so that the last line names what failed.
const TRIAL: &str = r#"
set -eu
cd "$1"
echo "mounting a tmpfs in a mount namespace"
mkdir work && mount -t tmpfs tmpfs work && cd work
echo "exporting a disk through FUSE"
truncate -s 16M disk.raw && mke2fs -q -t ext4 disk.raw && touch export && mkdir root
qemu-storage-daemon --blockdev driver=raw,node-name=d,file.driver=file,file.filename=disk.raw \
  --export "type=fuse,id=d,node-name=d,mountpoint=$PWD/export,writable=on" &
n=0
while [ "$(stat -c %s export)" = 0 ]; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.05; done
echo "mounting it through a loop device"
mount -t ext4 -o loop,nodev export root
echo "making a user namespace"
unshare --user --map-root-user --net true
echo "mounting cgroup2"
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo done
"#;

/// Tries, or remembers what a trial found on this host.
pub fn probe(remembered: Option<&ProbeResult>) -> Result<ProbeResult> {
    let result = |obstacle, host: &str| ProbeResult { obstacle, host: host.to_owned() };
    if let Some(obstacle) = unsuitable() {
        return Ok(result(Some(obstacle), ""));
    }
    let host = host()?;
    if let Some(known) = remembered.filter(|known| known.host == host) {
        return Ok(known.clone());
    }
    Ok(result(attempt()?, &host))
}

/// What can be seen without trying.
fn unsuitable() -> Option<Obstacle> {
    let obstacle = |what: String, remedy: &str| Some(Obstacle { what, remedy: remedy.to_owned() });
    if !cfg!(target_os = "linux") {
        return obstacle("containers need Linux".to_owned(), "nothing on this system");
    }
    if !rustix::process::geteuid().is_root() {
        return obstacle("containers need root".to_owned(), "run the command as root");
    }
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(|program| find(program).is_none()).collect();
    if !missing.is_empty() {
        return obstacle(
            format!("missing on this host: {}", missing.join(", ")),
            "`cargo xtask doctor --install` installs what is missing",
        );
    }
    None
}

/// A program on PATH or in the administrator's folders.
fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    which::which_in(program, Some(path), "/").ok()
}

/// What a verdict depends on.
fn host() -> Result<String> {
    let first = |program: &str| -> Result<String> {
        let text = Cmd::new(program).arg("--version").output()?.stdout;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    };
    let release = Cmd::new("uname").arg("-r").read()?;
    Ok(format!(
        "{}, {}, {}, {}",
        release.trim(),
        first("systemd-nspawn")?,
        first("qemu-storage-daemon")?,
        first("slirp4netns")?
    ))
}

fn attempt() -> Result<Option<Obstacle>> {
    let version = Cmd::new("systemd-nspawn").arg("--version").read()?;
    if major(&version).is_none_or(|major| major < 249) {
        return Ok(Some(Obstacle {
            what: format!("systemd-nspawn is too old: {}", version.lines().next().unwrap_or_default()),
            remedy: "`--private-users-ownership=map` needs systemd 249 or later".to_owned(),
        }));
    }
    let dir = tempfile::tempdir()?;
    let script = dir.path().join("trial.sh");
    fs::write(&script, TRIAL)?;
    let finished = Cmd::new("unshare")
        .args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "sh"])
        .args([script.as_path(), dir.path()])
        .output()?;
    if finished.code == 0 {
        return Ok(None);
    }
    let step = finished.stdout.lines().last().unwrap_or("making namespaces").to_owned();
    let said = finished.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message").to_owned();
    Ok(Some(Obstacle {
        what: format!("{step} failed: {said}"),
        remedy: "a host or an outer container that allows it (for Docker: --privileged)".to_owned(),
    }))
}

/// The major version in `systemd 252 (252.39-1~deb12u2)`.
fn major(version: &str) -> Option<u32> {
    version.split_whitespace().nth(1)?.split(['.', '~', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_systemd_is_read() {
        assert_eq!(major("systemd 252 (252.39-1~deb12u2)\n+PAM"), Some(252));
        assert_eq!(major("systemd 257.9~rc1 (x)"), Some(257));
        assert_eq!(major("systemd"), None);
    }

    #[test]
    fn a_verdict_is_remembered_for_the_same_host_only() {
        if unsuitable().is_some() {
            return; // not root, or programs are missing: `cargo xtask doctor` says so
        }
        let odd = Obstacle { what: "remembered".to_owned(), remedy: String::new() };
        let remembered = ProbeResult { obstacle: Some(odd), host: host().unwrap() };
        assert_eq!(probe(Some(&remembered)).unwrap(), remembered);
        let elsewhere = ProbeResult { host: "another".to_owned(), ..remembered.clone() };
        assert_ne!(probe(Some(&elsewhere)).unwrap(), remembered);
    }
}
