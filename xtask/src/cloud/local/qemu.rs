//! QEMU's command line, and the probe for hardware acceleration. Everything but the probe is pure.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Exit, Result};
use crate::process::Cmd;

/// The emulator of x86_64, the only architecture that local images are built for.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// Timeout for the first output of the firmware under an accelerator.
const PROBE: Duration = Duration::from_secs(6);

/// QEMU's accelerators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// Linux's KVM.
    Kvm,
    /// macOS's Hypervisor.framework.
    Hvf,
    /// QEMU's Tiny Code Generator: emulates the processor, works on every host, about ten times slower.
    Tcg,
}

/// The result of the probe, cached until the kernel or QEMU changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The accelerator to use.
    pub acceleration: Acceleration,
    /// The reason, for messages.
    pub why: String,
    /// QEMU version and kernel release at the time of the probe.
    pub host: String,
}

/// How the guest's kernel is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "boot", rename_all = "lowercase")]
pub enum Boot {
    /// By the boot loader on the disk, which the firmware starts.
    Firmware,
    /// By QEMU, which saves the time of firmware and boot loader.
    Direct {
        /// Kernel image.
        kernel: PathBuf,
        /// Initial RAM disk.
        initrd: PathBuf,
        /// Kernel command line.
        append: String,
    },
}

/// The configuration of a virtual machine.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Its name. It must contain the run's id, by which the processes of dead runs are found.
    pub name: String,
    /// The accelerator.
    pub acceleration: Acceleration,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The overlay it writes to.
    pub disk: PathBuf,
    /// Name of the block node of `disk`.
    pub node: String,
    /// Directory of the NoCloud seed, which the guest sees as a FAT file system labelled `cidata`.
    pub seed: PathBuf,
    /// Loopback port that is forwarded to the guest's port 22.
    pub ssh_port: u16,
    /// File for the output of the serial console.
    pub console: PathBuf,
    /// QMP socket.
    pub qmp: PathBuf,
    /// File for QEMU's process id.
    pub pid_file: PathBuf,
    /// How the kernel is loaded.
    pub boot: Boot,
}

impl Acceleration {
    /// The value of QEMU's `-accel`.
    fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            // One thread for each virtual processor, and 1 GiB for translated code: `npm install` exceeds the default size.
            Self::Tcg => "tcg,thread=multi,tb-size=1024",
        }
    }

    /// The value of QEMU's `-cpu`. Bun and the agents require AVX2, which the default `qemu64` lacks.
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
    /// The QEMU command line, qemu(1).
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
        // Append mode, so that QEMU writes at the beginning after `Console` has truncated the file.
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
        // Reports a full host disk to the guest, so that its step fails. By default QEMU pauses the machine silently.
        add("-device", format!("virtio-blk-pci,drive={},bootindex=1,werror=report,rerror=report", self.node));
        // vvfat exports a directory as a FAT disk, so that no ISO tool is needed on the host.
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
        Cmd::new(PROGRAM).args(args).hint("see the run's qemu.log for the full message")
    }
}

/// Chooses the accelerator: `requested`, which must work, or hardware acceleration if it works, else TCG. `cached` is returned if it was
/// found with the same kernel and QEMU.
pub fn probe(requested: Option<Acceleration>, cached: Option<&ProbeResult>) -> Result<ProbeResult> {
    let host = host()?;
    let result = |acceleration, why: String| ProbeResult { acceleration, why, host: host.clone() };
    let best = if cfg!(target_os = "macos") { Acceleration::Hvf } else { Acceleration::Kvm };
    match requested {
        Some(Acceleration::Tcg) => return Ok(result(Acceleration::Tcg, "requested".to_owned())),
        Some(requested) => {
            return match works(requested) {
                Ok(()) => Ok(result(requested, "requested, and it works".to_owned())),
                Err(why) => Err(Exit::Precondition.error(
                    format_args!("acceleration {} does not work on this host: {why}", requested.name()),
                    "set `acceleration = \"auto\"` below [local] in ami.toml",
                )),
            };
        }
        None => {}
    }
    if let Some(old) = cached.filter(|old| old.host == host) {
        return Ok(old.clone());
    }
    Ok(match works(best) {
        Ok(()) => result(best, format!("{} works", best.name())),
        Err(why) => result(Acceleration::Tcg, format!("{} does not work: {why}", best.name())),
    })
}

/// QEMU's version and the kernel's release, for which a cached result is valid.
fn host() -> Result<String> {
    let version = Cmd::new(PROGRAM).arg("--version").read()?;
    let version = version.lines().next().unwrap_or_default().to_owned();
    Ok(format!("{version}; {}", rustix::system::uname().release().to_string_lossy()))
}

/// Runs a machine that has only firmware, and waits for the firmware's first output.
///
/// It is not enough that `/dev/kvm` can be opened: that also works in a guest without nested virtualisation, where the first
/// instruction then never returns. SeaBIOS writes to the debug port 0x402 as soon as it runs.
fn works(acceleration: Acceleration) -> std::result::Result<(), String> {
    if acceleration == Acceleration::Kvm
        && let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm")
    {
        return Err(format!("/dev/kvm: {error}"));
    }
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (output, log) = (dir.path().join("firmware"), dir.path().join("qemu.log"));
    let process = Cmd::new(PROGRAM)
        .args(["-accel", acceleration.option(), "-cpu", acceleration.cpu(), "-machine", "pc", "-m", "64M"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-global", "isa-debugcon.iobase=0x402"])
        .args(["-debugcon".to_owned(), format!("file:{}", output.display())])
        .start(&log)
        .map_err(|e| e.to_string())?;
    let deadline = Instant::now() + PROBE;
    while Instant::now() < deadline {
        if std::fs::metadata(&output).is_ok_and(|m| m.len() > 0) {
            return Ok(());
        }
        if process.ended().is_some() {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(log.trim().lines().next().unwrap_or("QEMU exited at once").to_owned());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("the firmware did not run within {} s", PROBE.as_secs()))
}

/// Doubles commas, because a single one ends the value of an option (qemu(1)).
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
    fn a_direct_boot_passes_kernel_and_initrd() {
        let boot = Boot::Direct { kernel: "/k".into(), initrd: "/i".into(), append: "root=LABEL=x".to_owned() };
        let line = Vm { boot, ..vm() }.command().to_string();
        assert!(line.ends_with("-kernel /k -initrd /i -append root=LABEL=x"), "{line}");
    }

    #[test]
    fn a_cached_result_is_used_on_the_same_host_only() {
        if Cmd::new(PROGRAM).arg("--version").read().is_err() {
            return; // QEMU is not installed, which `cargo xtask doctor` reports
        }
        let odd = ProbeResult { acceleration: Acceleration::Hvf, why: "cached".to_owned(), host: host().unwrap() };
        assert_eq!(probe(None, Some(&odd)).unwrap(), odd);
        let elsewhere = ProbeResult { host: "another".to_owned(), ..odd };
        assert_ne!(probe(None, Some(&elsewhere)).unwrap().why, "cached");
    }
}
