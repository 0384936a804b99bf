//! The container builder: boots the disk's systemd on the host's kernel, so that nothing is emulated.
//!
//! `scripts/local/container.sh` runs in new namespaces and starts all parts: qemu-storage-daemon exports the qcow2 chain as a raw file
//! (FUSE), a loop device mounts its root file system, systemd-nspawn boots it in a user namespace, and slirp4netns provides its network.
//! The connection is SSH and layers are QMP snapshots, as for a virtual machine.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;

use super::console::Console;
use super::live::LiveDisk;
use super::machine::{free_port, key_and_seed};
use super::seed::Purpose;
use crate::cloud::Machine;
use crate::error::{Error, Exit, Result};
use crate::process::{Background, Cmd, tail};
use crate::remote::Remote;
use crate::signals;
use crate::ssh::{Ssh, Target};
use crate::state::{Run, control_group, remove_control_group};

pub mod probe;
mod slirp;

/// The script of the first process in the namespaces.
const SCRIPT: &str = include_str!("../../../../scripts/local/container.sh");
/// Timeout for mounting the disk and starting the guest's first process.
const START: Duration = Duration::from_secs(60);
/// Timeout for powering off the guest, including the check of its file system.
const POWER_OFF: Duration = Duration::from_secs(180);
/// Maximum number of ports that are tried when other processes bind the chosen one first.
const PORT_TRIES: u32 = 5;

/// Files below the guest's `/run`, by path. They are not on the disk, because only a container needs them.
const RUN_FILES: [(&str, &str); 2] = [
    // The address that slirp4netns assigns, its gateway and its name server (slirp4netns(1)).
    (
        "systemd/network/10-agent-ami.network",
        "[Match]\nName=host0\n\n[Network]\nAddress=10.0.2.100/24\nGateway=10.0.2.2\nDNS=10.0.2.3\n",
    ),
    // A container has no root device to remount. systemd skips the unit by itself only in a container without a user namespace.
    ("systemd/system/systemd-remount-fs.service.d/agent-ami.conf", "[Unit]\nConditionVirtualization=!container\n"),
];

/// A running container.
#[derive(Debug)]
pub struct Container {
    ssh: Option<Ssh>,
    target: Target,
    console: Console,
    // `Drop` ends it before it removes the control group.
    process: Option<Background>,
    dir: PathBuf,
    disk: LiveDisk,
    group: String,
    keep: bool,
}

impl Container {
    /// Starts the container, without connecting to it. `grow` is the size in GiB to which the root file system is grown.
    pub(super) fn start(
        run: &Run,
        (name, purpose): (&str, Purpose),
        user: &str,
        disk: &Path,
        grow: Option<u64>,
    ) -> Result<Self> {
        let dir = run.path(name);
        fs::create_dir_all(&dir)?;
        let key = key_and_seed(run, name, purpose)?;
        // `RUN_FILES` configure the guest's network, not cloud-init.
        fs::write(dir.join("seed/network-config"), "{\"network\": {\"config\": \"disabled\"}}\n")?;
        for (path, text) in RUN_FILES {
            let file = dir.join("run").join(path);
            fs::create_dir_all(file.parent().unwrap_or(&dir))?;
            fs::write(file, text)?;
        }
        let script = dir.join("container.sh");
        fs::write(&script, SCRIPT)?;
        let qmp = run.sockets().join(format!("{name}.qmp"));
        let group = control_group(run.id(), name);
        let process = Cmd::new("unshare")
            .args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "bash"])
            .args([script.as_path(), &dir, disk, &qmp, &run.path("lock")])
            .args([&grow.unwrap_or(0).to_string(), &group])
            .start(&dir.join("console.log"))?;
        let console = Console::watch(dir.join("console.log"))?;
        let target = Target {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: 0,
            user: user.to_owned(),
            key,
            known_hosts: dir.join("known_hosts"),
            sockets: run.sockets().to_owned(),
        };
        let disk = LiveDisk::new(qmp.clone(), disk.to_owned());
        let mut container = Self { ssh: None, target, console, process: Some(process), dir, disk, group, keep: false };
        container.wait_until_ready()?;
        container.target.port = forwarded_port(&qmp.with_extension("slirp"))?;
        Ok(container)
    }

    /// Waits until the guest's first process runs.
    fn wait_until_ready(&self) -> Result<()> {
        let started = Instant::now();
        while !self.dir.join("ready").exists() {
            self.alive()?;
            if started.elapsed() > START {
                return Err(self.ended(&format!("the guest did not start within {} s", START.as_secs())));
            }
            signals::pause(Duration::from_millis(50))?;
        }
        Ok(())
    }

    fn alive(&self) -> Result<()> {
        match self.process.as_ref().and_then(Background::ended) {
            None => Ok(()),
            Some(code) => Err(self.ended(&format!("the container ended with exit code {code}"))),
        }
    }

    fn ended(&self, what: &str) -> Error {
        Exit::Failed.error(
            format_args!("{what}\n{}", tail(&self.console.text(), 15)),
            "check with `cargo xtask doctor` whether containers work on this host, or pass `--builder vm`",
        )
    }

    /// Waits for SSH and cloud-init, at most `timeout` for each.
    pub(super) fn enter(&mut self, timeout: Duration, on_progress: &dyn Fn(&str)) -> Result<()> {
        let waited = |so_far: Duration| on_progress(&format!("booting, {} s", so_far.as_secs()));
        let ssh = self.target.connect(timeout, || self.alive(), waited).map_err(|error| {
            if error.exit() == Exit::Interrupted {
                error
            } else {
                error.context(format!("the container's console ends with\n{}", tail(&self.console.text(), 15)))
            }
        })?;
        super::machine::wait_for_cloud_init(&ssh, timeout, on_progress, &|| tail(&self.console.text(), 15))?;
        self.ssh = Some(ssh);
        Ok(())
    }

    /// The overlay that it currently writes to.
    pub(super) fn disk(&self) -> &Path {
        self.disk.path()
    }

    /// Flushes the root file system and makes `next`, an existing overlay, the top of the disk.
    pub(super) fn snapshot(&mut self, next: PathBuf) -> Result<()> {
        self.remote().read("sync -f /")?;
        self.disk.snapshot(next)
    }

    /// Powers off the guest. Returns when its file system is unmounted, checked and flushed.
    pub(super) fn power_off(mut self, on_progress: &dyn Fn(&str)) -> Result<()> {
        on_progress("powering off");
        // The connection ends with the guest, so ssh's error is expected.
        let _ = self.remote().output("sudo systemctl poweroff", b"");
        self.ssh = None;
        let started = Instant::now();
        let code = loop {
            signals::check()?;
            match self.process.as_ref().and_then(Background::ended) {
                Some(code) => break code,
                None if started.elapsed() > POWER_OFF => {
                    return Err(
                        self.ended(&format!("the container did not power off within {} s", POWER_OFF.as_secs()))
                    );
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        if code == 0 { Ok(()) } else { Err(self.ended(&format!("the container ended with exit code {code}"))) }
    }
}

impl Machine for Container {
    #[expect(clippy::expect_used, reason = "start() is followed by enter(), and a container does not restart")]
    fn remote(&self) -> &dyn Remote {
        self.ssh.as_ref().expect("a container that was returned is connected")
    }

    fn reboot(&mut self, on_progress: &dyn Fn(&str)) -> Result<()> {
        self.reboot_finished(on_progress)
    }

    fn reboot_finished(&mut self, _: &dyn Fn(&str)) -> Result<()> {
        Err(Exit::Usage.error(
            "a container cannot be restarted: it runs on the host's kernel",
            "pass `--builder vm`, or set `expect_disconnect = true` on the step that restarts, which selects a virtual machine",
        ))
    }

    fn console(&self) -> String {
        self.console.text()
    }

    fn second_try(&mut self) -> Option<String> {
        None
    }

    fn keep(&mut self) -> Result<String> {
        self.keep = true;
        if let Some(process) = &mut self.process {
            process.release();
        }
        Ok(self.target.login_line())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.ssh = None;
        drop(self.process.take());
        if !self.keep {
            remove_control_group(&self.group);
        }
    }
}

/// Forwards a free loopback port to the container's port 22, and returns it.
fn forwarded_port(socket: &Path) -> Result<u16> {
    let mut refused = String::new();
    for _ in 0..PORT_TRIES {
        let port = free_port()?;
        match slirp::forward(socket, port, 22)? {
            None => return Ok(port),
            Some(why) => refused = why,
        }
    }
    Err(Exit::Precondition.error(
        format_args!("no loopback port could be forwarded in {PORT_TRIES} tries: {refused}"),
        "stop the program that binds the free ports, then run the same command again",
    ))
}
