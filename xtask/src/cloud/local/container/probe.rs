//! Tests whether this host can build in a container. The result is cached until the host's programs change.

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::process::Cmd;

/// The programs that a build in a container runs.
pub const PROGRAMS: [&str; 8] =
    ["systemd-nspawn", "slirp4netns", "qemu-storage-daemon", "unshare", "flock", "sfdisk", "e2fsck", "resize2fs"];

/// The result of the probe, cached until the kernel or the programs change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Why no container can be started; `None` if one can.
    pub obstacle: Option<Obstacle>,
    /// Kernel release and program versions at the time of the probe.
    pub host: String,
}

/// Why no container can be started on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// What is missing or failed.
    pub what: String,
    /// How to fix it, an imperative.
    pub remedy: String,
}

/// The steps of `container.sh` before the guest starts, on a small disk: namespaces, FUSE export, loop device, user namespace, control
/// groups. Prints each step before it runs, so that the last line names the one that failed.
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

/// Runs the probe. `cached` is returned instead if it was found with the same kernel and programs.
pub fn probe(cached: Option<&ProbeResult>) -> Result<ProbeResult> {
    let result = |obstacle, host: &str| ProbeResult { obstacle, host: host.to_owned() };
    if let Some(obstacle) = unsuitable() {
        return Ok(result(Some(obstacle), ""));
    }
    let host = host()?;
    if let Some(known) = cached.filter(|known| known.host == host) {
        return Ok(known.clone());
    }
    Ok(result(attempt()?, &host))
}

/// Checks the operating system, the user and the installed programs. The result is never cached.
fn unsuitable() -> Option<Obstacle> {
    let obstacle = |what: String, remedy: &str| Some(Obstacle { what, remedy: remedy.to_owned() });
    if !cfg!(target_os = "linux") {
        return obstacle("containers need Linux".to_owned(), "build on a Linux host");
    }
    if !rustix::process::geteuid().is_root() {
        return obstacle("containers need root".to_owned(), "run the command as root");
    }
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(|program| find(program).is_none()).collect();
    if !missing.is_empty() {
        return obstacle(
            format!("missing on this host: {}", missing.join(", ")),
            "install them with `cargo xtask doctor --install`",
        );
    }
    None
}

/// Looks up a program on PATH and in the sbin directories.
fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    which::which_in(program, Some(path), "/").ok()
}

/// The kernel's release and the programs' versions, for which a cached result is valid.
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
            remedy: "install systemd 249 or later, for `--private-users-ownership=map`".to_owned(),
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
    let error = finished.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message").to_owned();
    Ok(Some(Obstacle {
        what: format!("{step} failed: {error}"),
        remedy: "use a host or an outer container that allows it (for Docker: --privileged)".to_owned(),
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
    fn a_cached_result_is_used_on_the_same_host_only() {
        if unsuitable().is_some() {
            return; // not root, or programs are missing, which `cargo xtask doctor` reports
        }
        let odd = Obstacle { what: "cached".to_owned(), remedy: String::new() };
        let cached = ProbeResult { obstacle: Some(odd), host: host().unwrap() };
        assert_eq!(probe(Some(&cached)).unwrap(), cached);
        let elsewhere = ProbeResult { host: "another".to_owned(), ..cached.clone() };
        assert_ne!(probe(Some(&elsewhere)).unwrap(), cached);
    }
}
