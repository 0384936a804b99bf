//! A running QEMU machine: started, entered, restarted, snapshotted and stopped.

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

/// How often a machine is started again because another process was faster on its port.
const PORT_TRIES: u32 = 5;
/// How long a guest may take to power off before the plug is pulled.
const POWER_OFF: Duration = Duration::from_secs(180);

/// How to start a machine.
#[derive(Clone, Debug)]
pub(super) struct Start<'a> {
    /// `builder`, `smoke`.
    pub(super) name: &'a str,
    /// What it is for.
    pub(super) purpose: Purpose,
    /// The disk it writes to.
    pub(super) disk: PathBuf,
    /// How it boots.
    pub(super) boot: Boot,
    /// Virtual processors, memory, patience.
    pub(super) size: Size,
    /// What runs it.
    pub(super) acceleration: Acceleration,
}

/// What `[local]` in ami.toml says about machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// How long a boot may take.
    pub boot_timeout: Duration,
}

/// A machine that lets us in.
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
    /// Where on the console the boot that is waited for begins.
    boot_begins: u64,
    second_try: Option<String>,
    began: Instant,
    boot_seconds: Option<f64>,
}

/// How a kernel that gives up says so (Linux, kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

impl VirtualMachine {
    /// Starts QEMU; nobody has been let in yet.
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
                let said = fs::read_to_string(&log).unwrap_or_default();
                // Another process took the port between our look and QEMU's bind: try the next.
                if said.contains("hostfwd") || said.contains("host forwarding") {
                    last = Some(said);
                    fs::remove_file(&log)?;
                    continue;
                }
                return Err(Exit::Failed.error(
                    format_args!("QEMU ended at once: {}", tail(&said, 5)),
                    "`cargo xtask doctor` looks at QEMU and its acceleration",
                ));
            }
            let target = Target {
                host: Ipv4Addr::LOCALHOST.to_string(),
                port,
                user: "ubuntu".to_owned(),
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
        let said = last.unwrap_or_default();
        Err(Exit::Precondition.error(
            format_args!("no free loopback port in {PORT_TRIES} tries: {}", tail(&said, 3)),
            "another program takes every port as it becomes free; stop it, then run the same command again",
        ))
    }

    /// Waits for SSH and cloud-init, `patience` for each.
    pub(super) fn enter(&mut self, patience: Duration, told: &dyn Fn(&str)) -> Result<()> {
        let alive = || match self.process.ended() {
            None => self.panicked().map_or(Ok(()), |line| {
                Err(Exit::Failed.error(
                    format_args!("the machine's kernel panicked: {line}"),
                    "the console's last lines above tell what it was doing",
                ))
            }),
            Some(code) => Err(Exit::Failed.error(
                format_args!("the machine ended (QEMU exit code {code}) before it let us in\n{}", self.last_words()),
                "the console's last lines above tell how far it came",
            )),
        };
        let waited = |so_far: Duration| told(&format!("booting, {} s: {}", so_far.as_secs(), self.console_line()));
        let ssh = self.target.connect(patience, alive, waited).map_err(|error| {
            if error.exit() == Exit::Interrupted {
                error
            } else {
                error.context(format!("the machine's console ends with\n{}", self.last_words()))
            }
        })?;
        self.boot_seconds = Some(self.began.elapsed().as_secs_f64());
        wait_for_cloud_init(&ssh, patience, told, &|| self.last_words())?;
        self.boot_id = ssh.read("cat /proc/sys/kernel/random/boot_id")?;
        self.ssh = Some(ssh);
        Ok(())
    }

    /// The line with which the kernel of this boot gave up, if it did.
    fn panicked(&self) -> Option<String> {
        self.console
            .since(self.boot_begins)
            .lines()
            .find(|line| line.contains(PANIC))
            .map(|line| line.trim().to_owned())
    }

    /// The last line of the console that says something.
    fn console_line(&self) -> String {
        let console = plain(&self.console.text());
        let line = console.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or("no output yet");
        line.chars().filter(|c| !c.is_control()).take(70).collect()
    }

    fn last_words(&self) -> String {
        let words = tail(&self.console.text(), 15);
        if words.is_empty() { fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default() } else { words }
    }

    /// Notes why this machine stands in for another.
    pub(super) fn instead_of(&mut self, why: String) {
        self.second_try = Some(why);
    }

    /// The disk the machine writes to now.
    pub(super) fn disk(&self) -> &Path {
        self.disk.path()
    }

    /// Flushes the guest and puts `next`, an overlay that exists, on top of the disk, which never changes again.
    pub(super) fn snapshot(&mut self, next: PathBuf) -> Result<()> {
        self.remote().read("sync")?;
        self.disk.snapshot(next)
    }

    /// Powers the guest off and returns when QEMU is gone.
    pub(super) fn power_off(self, told: &dyn Fn(&str)) -> Result<()> {
        told("powering off");
        // The connection ends with the guest; what ssh says about that is not news.
        let _ = self.remote().output("sudo systemctl poweroff", b"");
        let started = Instant::now();
        while !self.process.wait(Duration::from_millis(200)) {
            signals::check()?;
            if started.elapsed() > POWER_OFF {
                return Err(Exit::Failed.error(
                    format_args!(
                        "the machine did not power off within {} s\n{}",
                        POWER_OFF.as_secs(),
                        self.last_words()
                    ),
                    "the console's last lines above name the unit that did not stop",
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

    fn reboot(&mut self, told: &dyn Fn(&str)) -> Result<()> {
        self.began = Instant::now();
        let _ = self.remote().output("sudo systemctl reboot", b"");
        self.reboot_finished(told)
    }

    fn reboot_finished(&mut self, told: &dyn Fn(&str)) -> Result<()> {
        let before = self.boot_id.clone();
        let deadline = Instant::now() + self.size.boot_timeout;
        self.boot_begins = self.console.length();
        loop {
            // sshd of the boot that is ending may still answer: only a new boot id counts.
            self.ssh = None;
            signals::pause(Duration::from_secs(2))?;
            match self.enter(self.size.boot_timeout, told) {
                Ok(()) if self.boot_id != before => return Ok(()),
                Ok(()) => {}
                // Text that the kernel patches while it runs is now and then executed half-patched by an emulated processor. A person would
                // press the button too; on a real one it is the image's fault.
                Err(error)
                    if self.panicked().is_some()
                        && self.acceleration == Acceleration::Tcg
                        && self.second_try.is_none() =>
                {
                    told("the kernel panicked; resetting the machine");
                    self.second_try = Some(crate::error::plain(&error));
                    self.boot_begins = self.console.length();
                    self.began = Instant::now();
                    self.disk.control()?.reset()?;
                }
                // The boot that is ending let us in and then hung up; a machine that is gone does not come back.
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
                    Exit::Failed.error("the machine did not restart in time", "its console log shows what it is doing")
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

/// Text without the escape sequences that firmware, boot loader and agetty draw with (ECMA-48, sections 5.4 and 5.6).
fn plain(console: &str) -> String {
    const SEQUENCES: &str = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_c78=>])";
    match regex_lite::Regex::new(SEQUENCES) {
        Ok(sequences) => sequences.replace_all(console, "").into_owned(),
        Err(_) => console.to_owned(),
    }
}

/// Makes the key that opens a machine, and the seed that its cloud-init finds in `seed`; returns the private key's file.
pub(super) fn key_and_seed(run: &Run, name: &str, purpose: Purpose) -> Result<PathBuf> {
    let dir = run.path(name);
    let key = dir.join("id_ed25519");
    Cmd::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", run.id(), "-f"]).arg(&key).read()?;
    let public = fs::read_to_string(dir.join("id_ed25519.pub"))?;
    seed::write(&dir.join("seed"), &format!("{}-{name}", run.id()), &public, purpose)?;
    Ok(key)
}

/// Waits until cloud-init has finished, so that nothing runs beside a step. Whether it succeeded is for the smoke test to check.
pub(super) fn wait_for_cloud_init(
    ssh: &Ssh,
    patience: Duration,
    on_progress: &dyn Fn(&str),
    last_words: &dyn Fn() -> String,
) -> Result<()> {
    on_progress("waiting for cloud-init");
    if ssh.stream("cloud-init status --wait", Some(patience), &mut |_, _| {})? == Some(Ended::TimedOut) {
        let message = format!("cloud-init has not finished after {} s\n{}", patience.as_secs(), last_words());
        return Err(Exit::Failed.error(message, "a slow machine may need a longer `boot_timeout_secs`"));
    }
    Ok(())
}

/// A loopback port that is free now.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Makes the throw-away disk of an instance.
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
    fn escape_sequences_are_taken_out() {
        let drawn = "\x1b[!p\x1b]104\x07\x1b[?7h\x1b[32766;32766HBooting\x1b[0;1;31m now\x1b[0m\x1bc.";
        assert_eq!(plain(drawn), "Booting now.");
        assert_eq!(plain("\x1b]104\x1b\\login:"), "login:");
    }
}
