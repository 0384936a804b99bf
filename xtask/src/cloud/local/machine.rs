//! A QEMU virtual machine: start, connect, restart, snapshot and power off.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;

use super::super::Machine;
use super::console::Console;
use super::layers::overlay;
use super::live::{LiveDisk, NODE};
use super::qemu::{Acceleration, Boot, Vm};
use super::seed::{self, Purpose};
use crate::error::{Exit, Result};
use crate::process::{Background, Cmd, Ended, tail};
use crate::remote::Remote;
use crate::signals;
use crate::ssh::{Ssh, Target};
use crate::state::Run;

/// Maximum number of starts when other processes bind the chosen port first.
const PORT_TRIES: u32 = 5;
/// Timeout for powering off the guest.
const POWER_OFF: Duration = Duration::from_secs(180);

/// The parameters of a machine.
#[derive(Clone, Debug)]
pub(super) struct Start<'a> {
    /// `builder`, `smoke`.
    pub(super) name: &'a str,
    pub(super) purpose: Purpose,
    /// The login user.
    pub(super) user: &'a str,
    /// The disk it writes to.
    pub(super) disk: PathBuf,
    pub(super) boot: Boot,
    pub(super) size: Size,
    pub(super) acceleration: Acceleration,
}

/// The settings of machines in section `[local]` of ami.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Timeout of a boot.
    pub boot_timeout: Duration,
}

/// A running QEMU process. [`VirtualMachine::enter`] connects to it.
#[derive(Debug)]
pub struct VirtualMachine {
    ssh: Option<Ssh>,
    target: Target,
    console: Console,
    process: Background,
    dir: PathBuf,
    size: Size,
    acceleration: Acceleration,
    disk: LiveDisk,
    boot_id: String,
    /// Length of the console file when the current boot began.
    boot_begins: u64,
    second_try: Option<String>,
    began: Instant,
    boot_seconds: Option<f64>,
}

/// Prefix of the kernel's message at a panic (Linux, kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

impl VirtualMachine {
    /// Starts QEMU, without connecting to the machine.
    pub(super) fn start(run: &Run, start: Start<'_>) -> Result<Self> {
        let dir = run.path(start.name);
        fs::create_dir_all(&dir)?;
        let key = key_and_seed(run, start.name, start.purpose)?;
        let mut last = None;
        for _ in 0..PORT_TRIES {
            let port = free_port()?;
            let vm = Vm {
                name: format!("{}/{}", run.id(), start.name),
                acceleration: start.acceleration,
                cpus: start.size.cpus,
                memory_mib: start.size.memory_mib,
                disk: start.disk.clone(),
                node: NODE.to_owned(),
                seed: dir.join("seed"),
                ssh_port: port,
                console: dir.join("console.log"),
                qmp: run.sockets().join(format!("{}.qmp", start.name)),
                pid_file: dir.join("pid"),
                boot: start.boot.clone(),
            };
            let log = dir.join("qemu.log");
            let began = Instant::now();
            let process = vm.command().start(&log)?;
            if process.wait(Duration::from_millis(400)) {
                let output = fs::read_to_string(&log).unwrap_or_default();
                // Another process bound the port after `free_port` and before QEMU: try another one.
                if output.contains("hostfwd") || output.contains("host forwarding") {
                    last = Some(output);
                    fs::remove_file(&log)?;
                    continue;
                }
                return Err(Exit::Failed.error(
                    format_args!("QEMU exited at once: {}", tail(&output, 5)),
                    "check QEMU and its acceleration with `cargo xtask doctor`",
                ));
            }
            let target = Target {
                host: Ipv4Addr::LOCALHOST.to_string(),
                port,
                user: start.user.to_owned(),
                key: key.clone(),
                known_hosts: dir.join("known_hosts"),
                sockets: run.sockets().to_owned(),
            };
            return Ok(Self {
                ssh: None,
                target,
                console: Console::watch(vm.console)?,
                process,
                dir,
                size: start.size,
                acceleration: start.acceleration,
                disk: LiveDisk::new(vm.qmp, start.disk),
                boot_id: String::new(),
                boot_begins: 0,
                second_try: None,
                began,
                boot_seconds: None,
            });
        }
        let output = last.unwrap_or_default();
        Err(Exit::Precondition.error(
            format_args!("no loopback port could be forwarded in {PORT_TRIES} tries: {}", tail(&output, 3)),
            "stop the program that binds the free ports, then run the same command again",
        ))
    }

    /// Waits for SSH and cloud-init, at most `timeout` for each.
    pub(super) fn enter(&mut self, timeout: Duration, on_progress: &dyn Fn(&str)) -> Result<()> {
        let alive = || match self.process.ended() {
            None => self.panicked().map_or(Ok(()), |line| {
                Err(Exit::Failed.error(
                    format_args!("the machine's kernel panicked: {line}"),
                    "see the console lines above for the cause",
                ))
            }),
            Some(code) => Err(Exit::Failed.error(
                format_args!("QEMU exited with code {code} before SSH answered\n{}", self.console_tail()),
                "see the console lines above for how far the boot got",
            )),
        };
        let waited =
            |so_far: Duration| on_progress(&format!("booting, {} s: {}", so_far.as_secs(), self.console_line()));
        let ssh = self.target.connect(timeout, alive, waited).map_err(|error| {
            if error.exit() == Exit::Interrupted {
                error
            } else {
                error.context(format!("the machine's console ends with\n{}", self.console_tail()))
            }
        })?;
        self.boot_seconds = Some(self.began.elapsed().as_secs_f64());
        wait_for_cloud_init(&ssh, timeout, on_progress, &|| self.console_tail())?;
        self.boot_id = ssh.read("cat /proc/sys/kernel/random/boot_id")?;
        self.ssh = Some(ssh);
        Ok(())
    }

    /// The kernel's panic message of the current boot.
    fn panicked(&self) -> Option<String> {
        self.console
            .since(self.boot_begins)
            .lines()
            .find(|line| line.contains(PANIC))
            .map(|line| line.trim().to_owned())
    }

    /// The last line of the console that is not empty, without control characters.
    fn console_line(&self) -> String {
        let console = plain(&self.console.text());
        let line = console.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or("no output yet");
        line.chars().filter(|c| !c.is_control()).take(70).collect()
    }

    fn console_tail(&self) -> String {
        let lines = tail(&self.console.text(), 15);
        if lines.is_empty() { fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default() } else { lines }
    }

    /// Records why this machine replaces another one.
    pub(super) fn instead_of(&mut self, why: String) {
        self.second_try = Some(why);
    }

    /// The overlay that the machine currently writes to.
    pub(super) fn disk(&self) -> &Path {
        self.disk.path()
    }

    /// Flushes the guest's file systems and makes `next`, an existing overlay, the top of the disk. The overlay below it is then read-only.
    pub(super) fn snapshot(&mut self, next: PathBuf) -> Result<()> {
        self.remote().read("sync")?;
        self.disk.snapshot(next)
    }

    /// Powers off the guest. Returns when QEMU has exited.
    pub(super) fn power_off(self, on_progress: &dyn Fn(&str)) -> Result<()> {
        on_progress("powering off");
        // The connection ends with the guest, so ssh's error is expected.
        let _ = self.remote().output("sudo systemctl poweroff", b"");
        let started = Instant::now();
        while !self.process.wait(Duration::from_millis(200)) {
            signals::check()?;
            if started.elapsed() > POWER_OFF {
                return Err(Exit::Failed.error(
                    format_args!(
                        "the machine did not power off within {} s\n{}",
                        POWER_OFF.as_secs(),
                        self.console_tail()
                    ),
                    "see the console lines above for the unit that did not stop",
                ));
            }
        }
        Ok(())
    }
}

impl Machine for VirtualMachine {
    #[expect(clippy::expect_used, reason = "start() and reboot() return a machine only when the connection is open")]
    fn remote(&self) -> &dyn Remote {
        self.ssh.as_ref().expect("a machine that was returned is connected")
    }

    fn reboot(&mut self, on_progress: &dyn Fn(&str)) -> Result<()> {
        self.began = Instant::now();
        let _ = self.remote().output("sudo systemctl reboot", b"");
        self.reboot_finished(on_progress)
    }

    fn reboot_finished(&mut self, on_progress: &dyn Fn(&str)) -> Result<()> {
        let before = self.boot_id.clone();
        let deadline = Instant::now() + self.size.boot_timeout;
        self.boot_begins = self.console.length();
        loop {
            // sshd of the ending boot may still answer, so the restart is finished only when the boot id differs.
            self.ssh = None;
            signals::pause(Duration::from_secs(2))?;
            match self.enter(self.size.boot_timeout, on_progress) {
                Ok(()) if self.boot_id != before => return Ok(()),
                Ok(()) => {}
                // An emulated processor occasionally executes kernel text that the kernel is patching, and panics. One reset is tried. With
                // hardware acceleration a panic is a defect of the image.
                Err(error)
                    if self.panicked().is_some()
                        && self.acceleration == Acceleration::Tcg
                        && self.second_try.is_none() =>
                {
                    on_progress("the kernel panicked; resetting the machine");
                    self.second_try = Some(crate::error::plain(&error));
                    self.boot_begins = self.console.length();
                    self.began = Instant::now();
                    self.disk.control()?.reset()?;
                }
                // An error may mean that the ending boot closed the connection. It is final in these cases only.
                Err(error)
                    if error.exit() == Exit::Interrupted
                        || self.process.ended().is_some()
                        || self.panicked().is_some()
                        || Instant::now() > deadline =>
                {
                    return Err(error);
                }
                Err(_) => {}
            }
            if Instant::now() > deadline {
                return Err(
                    Exit::Failed.error("the machine did not restart in time", "see its console log for the cause")
                );
            }
        }
    }

    fn console(&self) -> String {
        self.console.text()
    }

    fn second_try(&mut self) -> Option<String> {
        self.second_try.take()
    }

    fn boot_seconds(&self) -> Option<f64> {
        self.boot_seconds
    }

    fn keep(&mut self) -> Result<String> {
        self.process.release();
        Ok(self.target.login_line())
    }
}

/// Removes the escape sequences that firmware, boot loader and agetty print (ECMA-48, sections 5.4 and 5.6).
fn plain(console: &str) -> String {
    const SEQUENCES: &str = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_c78=>])";
    match regex_lite::Regex::new(SEQUENCES) {
        Ok(sequences) => sequences.replace_all(console, "").into_owned(),
        Err(_) => console.to_owned(),
    }
}

/// Generates the SSH key of a machine and writes its seed to `seed`. Returns the private key's file.
pub(super) fn key_and_seed(run: &Run, name: &str, purpose: Purpose) -> Result<PathBuf> {
    let dir = run.path(name);
    let key = dir.join("id_ed25519");
    Cmd::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", run.id(), "-f"]).arg(&key).read()?;
    let public = fs::read_to_string(dir.join("id_ed25519.pub"))?;
    seed::write(&dir.join("seed"), &format!("{}-{name}", run.id()), &public, purpose)?;
    Ok(key)
}

/// Waits until cloud-init has finished, so that it does not run concurrently with a step. The smoke test checks whether it succeeded.
pub(super) fn wait_for_cloud_init(
    ssh: &Ssh,
    timeout: Duration,
    on_progress: &dyn Fn(&str),
    console_tail: &dyn Fn() -> String,
) -> Result<()> {
    on_progress("waiting for cloud-init");
    if ssh.stream("cloud-init status --wait", Some(timeout), &mut |_, _| {})? == Some(Ended::TimedOut) {
        let message = format!("cloud-init has not finished after {} s\n{}", timeout.as_secs(), console_tail());
        return Err(Exit::Failed.error(message, "increase `boot_timeout_secs` below [local] if the machine is slow"));
    }
    Ok(())
}

/// A loopback port that is currently free. Another process may bind it before the caller does.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Creates a temporary overlay on `below`, in `dir`.
pub(super) fn instance_disk(dir: &Path, below: &Path, size_gib: Option<u64>) -> Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let disk = dir.join("disk.qcow2");
    overlay(&disk, below, size_gib)?;
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_removed() {
        let drawn = "\x1b[!p\x1b]104\x07\x1b[?7h\x1b[32766;32766HBooting\x1b[0;1;31m now\x1b[0m\x1bc.";
        assert_eq!(plain(drawn), "Booting now.");
        assert_eq!(plain("\x1b]104\x1b\\login:"), "login:");
    }
}
