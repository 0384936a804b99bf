//! QEMU's command line and what accelerates it: pure, but for the probe.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Exit, Result};
use crate::process::Cmd;

/// The emulator of the one architecture images are made for.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// Longest wait for the first sign of life under an accelerator.
const PROBE: Duration = Duration::from_secs(6);

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// Linux's KVM.
    Kvm,
    /// macOS's Hypervisor.framework.
    Hvf,
    /// Emulation: works everywhere, about ten times slower.
    Tcg,
}

/// A verdict on acceleration, remembered for as long as host and QEMU stay the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// What to use.
    pub acceleration: Acceleration,
    /// Why, for a person.
    pub why: String,
    /// QEMU version and kernel release it was found with.
    pub host: String,
}

/// How the guest's kernel is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "boot", rename_all = "lowercase")]
pub enum Boot {
    /// The firmware starts the disk's own boot loader.
    Firmware,
    /// QEMU loads a kernel, which saves the firmware's and the boot loader's time.
    Direct {
        /// Kernel image.
        kernel: PathBuf,
        /// Initial RAM disk.
        initrd: PathBuf,
        /// Kernel command line.
        append: String,
    },
}

/// A virtual machine to start.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Its name, which must contain the run id.
    pub name: String,
    /// What runs it.
    pub acceleration: Acceleration,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The overlay it writes to.
    pub disk: PathBuf,
    /// Name of the block node of `disk`.
    pub node: String,
    /// Folder that becomes the NoCloud seed, a FAT file system labelled `cidata`.
    pub seed: PathBuf,
    /// Loopback port that leads to the guest's port 22.
    pub ssh_port: u16,
    /// Where the serial console is written.
    pub console: PathBuf,
    /// QMP socket.
    pub qmp: PathBuf,
    /// Where QEMU writes its process id.
    pub pid_file: PathBuf,
    /// How the kernel is found.
    pub boot: Boot,
}

impl Acceleration {
    /// The value of QEMU's `-accel`.
    fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            // One thread a virtual processor, and room for translated code: an npm install thrashes the default.
            Self::Tcg => "tcg,thread=multi,tb-size=1024",
        }
    }

    /// The value of QEMU's `-cpu`. Bun and the agents need AVX2, which plain `qemu64` lacks.
    fn cpu(self) -> &'static str {
        match self {
            Self::Kvm | Self::Hvf => "host",
            Self::Tcg => "max",
        }
    }

    /// Its name as in `ami.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Tcg => "tcg",
        }
    }
}

impl Vm {
    /// The command that starts it, qemu(1).
    pub fn command(&self) -> Cmd {
        let path = |p: &Path| escape(p);
        let mut args: Vec<String> = [
            "-name",
            &self.name,
            "-machine",
            "q35",
            "-accel",
            self.acceleration.option(),
            "-cpu",
            self.acceleration.cpu(),
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ]
        .map(str::to_owned)
        .to_vec();
        let mut add = |name: &str, value: String| args.extend([name.to_owned(), value]);
        add("-smp", self.cpus.to_string());
        add("-m", format!("{}M", self.memory_mib));
        // Appending, so that a console that is emptied goes on at its beginning.
        let console = self.console.display().to_string().replace(',', ",,");
        add("-chardev", format!("file,id=console,path={console},append=on"));
        add("-serial", "chardev:console".to_owned());
        add("-qmp", format!("unix:{},server=on,wait=off", path(&self.qmp)));
        add("-pidfile", self.pid_file.display().to_string());
        add(
            "-blockdev",
            format!(
                "driver=qcow2,node-name={},discard=unmap,detect-zeroes=unmap,file.driver=file,file.filename={},cache.direct=off",
                self.node,
                path(&self.disk)
            ),
        );
        // A full host disk is told to the guest, whose step then fails; QEMU's default stops the machine without a word.
        add("-device", format!("virtio-blk-pci,drive={},bootindex=1,werror=report,rerror=report", self.node));
        // vvfat presents a folder as a FAT disk, so that no ISO tool is needed on the host.
        add("-blockdev", format!("driver=vvfat,node-name=seed,dir={},label=cidata,read-only=on", path(&self.seed)));
        add("-device", "virtio-blk-pci,drive=seed".to_owned());
        add("-netdev", format!("user,id=net0,hostfwd=tcp:127.0.0.1:{}-:22", self.ssh_port));
        add("-device", "virtio-net-pci,netdev=net0,romfile=".to_owned());
        add("-device", "virtio-rng-pci".to_owned());
        if let Boot::Direct { kernel, initrd, append } = &self.boot {
            add("-kernel", kernel.display().to_string());
            add("-initrd", initrd.display().to_string());
            add("-append", append.clone());
        }
        Cmd::new(PROGRAM).args(args).hint("the run's qemu.log has the whole message")
    }
}

/// Finds what accelerates guests here: `wanted` if it is named and works, else the best that does.
pub fn probe(wanted: Option<Acceleration>, remembered: Option<&ProbeResult>) -> Result<ProbeResult> {
    let host = host()?;
    let result = |acceleration, why: String| ProbeResult { acceleration, why, host: host.clone() };
    let best = if cfg!(target_os = "macos") { Acceleration::Hvf } else { Acceleration::Kvm };
    match wanted {
        Some(Acceleration::Tcg) => return Ok(result(Acceleration::Tcg, "asked for".to_owned())),
        Some(asked) => {
            return match works(asked) {
                Ok(()) => Ok(result(asked, "asked for, and it works".to_owned())),
                Err(why) => Err(Exit::Precondition.error(
                    format_args!("acceleration {} does not work here: {why}", asked.name()),
                    "set `acceleration = \"auto\"` below [local] in ami.toml",
                )),
            };
        }
        None => {}
    }
    if let Some(old) = remembered.filter(|old| old.host == host) {
        return Ok(old.clone());
    }
    Ok(match works(best) {
        Ok(()) => result(best, format!("{} works", best.name())),
        Err(why) => result(Acceleration::Tcg, format!("{} does not work: {why}", best.name())),
    })
}

/// QEMU's version and the kernel's release: what a remembered verdict holds for.
fn host() -> Result<String> {
    let version = Cmd::new(PROGRAM).arg("--version").read()?;
    let version = version.lines().next().unwrap_or_default().to_owned();
    Ok(format!("{version}; {}", rustix::system::uname().release().to_string_lossy()))
}

/// Runs a machine with nothing but its firmware and waits for the firmware's first word.
///
/// That `/dev/kvm` exists and opens says little: in a nested guest without nested virtualisation it does both, and then the
/// first instruction never returns. SeaBIOS writes to the debug port 0x402 as soon as it runs.
fn works(acceleration: Acceleration) -> std::result::Result<(), String> {
    if acceleration == Acceleration::Kvm
        && let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm")
    {
        return Err(format!("/dev/kvm: {error}"));
    }
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (word, log) = (dir.path().join("firmware"), dir.path().join("qemu.log"));
    let process = Cmd::new(PROGRAM)
        .args(["-accel", acceleration.option(), "-cpu", acceleration.cpu(), "-machine", "pc", "-m", "64M"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-global", "isa-debugcon.iobase=0x402"])
        .args(["-debugcon".to_owned(), format!("file:{}", word.display())])
        .start(&log)
        .map_err(|e| e.to_string())?;
    let deadline = Instant::now() + PROBE;
    while Instant::now() < deadline {
        if std::fs::metadata(&word).is_ok_and(|m| m.len() > 0) {
            return Ok(());
        }
        if process.ended().is_some() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(said.trim().lines().next().unwrap_or("QEMU ended at once").to_owned());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("the firmware did not run within {} s", PROBE.as_secs()))
}

/// A comma ends an option's value; two stand for one (qemu(1)).
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm() -> Vm {
        Vm {
            name: "run-1/builder".to_owned(),
            acceleration: Acceleration::Tcg,
            cpus: 2,
            memory_mib: 2048,
            disk: "/s/a,b/disk.qcow2".into(),
            node: "root".to_owned(),
            seed: "/s/seed".into(),
            ssh_port: 2222,
            console: "/s/console.log".into(),
            qmp: "/t/qmp".into(),
            pid_file: "/s/pid".into(),
            boot: Boot::Firmware,
        }
    }

    #[test]
    fn the_command_line() {
        insta::assert_snapshot!(vm().command().to_string().replace(" -", "\n-"), @r"
        qemu-system-x86_64
        -name run-1/builder
        -machine q35
        -accel tcg,thread=multi,tb-size=1024
        -cpu max
        -nodefaults
        -no-user-config
        -display none
        -smp 2
        -m 2048M
        -chardev file,id=console,path=/s/console.log,append=on
        -serial chardev:console
        -qmp unix:/t/qmp,server=on,wait=off
        -pidfile /s/pid
        -blockdev driver=qcow2,node-name=root,discard=unmap,detect-zeroes=unmap,file.driver=file,file.filename=/s/a,,b/disk.qcow2,cache.direct=off
        -device virtio-blk-pci,drive=root,bootindex=1,werror=report,rerror=report
        -blockdev driver=vvfat,node-name=seed,dir=/s/seed,label=cidata,read-only=on
        -device virtio-blk-pci,drive=seed
        -netdev user,id=net0,hostfwd=tcp:127.0.0.1:2222-:22
        -device virtio-net-pci,netdev=net0,romfile=
        -device virtio-rng-pci
        ");
    }

    #[test]
    fn a_kernel_of_our_own_is_loaded_directly() {
        let boot = Boot::Direct { kernel: "/k".into(), initrd: "/i".into(), append: "root=LABEL=x".to_owned() };
        let line = Vm { boot, ..vm() }.command().to_string();
        assert!(line.ends_with("-kernel /k -initrd /i -append root=LABEL=x"), "{line}");
    }

    #[test]
    fn a_remembered_verdict_holds_for_the_same_host_only() {
        if Cmd::new(PROGRAM).arg("--version").read().is_err() {
            return; // no QEMU on this machine: `cargo xtask doctor` says so
        }
        let odd = ProbeResult { acceleration: Acceleration::Hvf, why: "remembered".to_owned(), host: host().unwrap() };
        assert_eq!(probe(None, Some(&odd)).unwrap(), odd);
        let elsewhere = ProbeResult { host: "another".to_owned(), ..odd };
        assert_ne!(probe(None, Some(&elsewhere)).unwrap().why, "remembered");
    }
}
