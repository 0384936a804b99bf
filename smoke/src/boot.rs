//! Boot times: part of the smoke report and of `ami diff`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One boot of an instance. Times are in seconds; a value that was not measured is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Boot {
    /// From the start of the machine, or the request to restart it, until it accepted SSH. Measured from outside the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ssh: Option<f64>,
    /// Firmware; only UEFI reports its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<f64>,
    /// Boot loader, if it reports its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loader: Option<f64>,
    /// From the kernel's start to the first process. Absent in a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<f64>,
    /// systemd in the initial RAM disk, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<f64>,
    /// From the first process until systemd had started all units of the boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userspace: Option<f64>,
    /// From the kernel's start until the unit of sshd was active; in a container, from its first process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_active: Option<f64>,
    /// Output of `systemd-detect-virt --vm`; `qemu` is an emulated processor, `kvm` a virtual machine.
    pub virtualization: String,
    /// The units that took longest to start, slowest first.
    pub slowest: Vec<Unit>,
    /// Units that sshd waited for (`systemd-analyze critical-chain`), sshd first.
    pub ssh_chain: Vec<Link>,
    /// Stages of cloud-init in their order.
    pub cloud_init: Vec<Unit>,
}

/// Time of a unit, or of a stage of cloud-init.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// Name of the unit or stage.
    pub name: String,
    /// Time it took to start.
    pub seconds: f64,
}

/// A unit in the chain that sshd waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Name of the unit.
    pub name: String,
    /// When it became active, after the start of the first process.
    pub at: f64,
    /// Time it took to start.
    pub seconds: f64,
}

impl Boot {
    /// True if the processor is emulated, which makes a boot about ten times slower.
    pub fn emulated(&self) -> bool {
        self.virtualization == "qemu"
    }

    /// At most `most` of the slowest units, as text: `a.service 12.8 s, b.service 9.6 s`.
    pub fn slowest_text(&self, most: usize) -> String {
        list(self.slowest.iter().take(most))
    }

    /// Sum of cloud-init's stages; `None` without stages.
    pub fn cloud_init_total(&self) -> Option<f64> {
        (!self.cloud_init.is_empty()).then(|| self.cloud_init.iter().map(|stage| stage.seconds).sum())
    }

    /// Name and time of each part that was measured, in chronological order.
    pub fn parts(&self) -> Vec<(&'static str, f64)> {
        let parts = [
            ("machine start to SSH", self.to_ssh),
            ("firmware", self.firmware),
            ("boot loader", self.loader),
            ("kernel", self.kernel),
            ("initrd", self.initrd),
            ("userspace", self.userspace),
            ("kernel start to sshd", self.ssh_active),
            ("cloud-init", self.cloud_init_total()),
        ];
        parts.into_iter().filter_map(|(name, seconds)| Some((name, seconds?))).collect()
    }

    /// All parts and the three slowest units, in one line.
    pub fn line(&self) -> String {
        let mut line = String::new();
        for (name, seconds) in self.parts() {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}{name} {seconds:.1} s", if line.is_empty() { "" } else { ", " });
        }
        if !self.slowest.is_empty() {
            let _ = write!(line, "; slowest: {}", self.slowest_text(3));
        }
        line
    }
}

fn list<'a>(units: impl Iterator<Item = &'a Unit>) -> String {
    units.map(|unit| format!("{} {:.1} s", unit.name, unit.seconds)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_only_measured_values() {
        let unit = |name: &str, seconds| Unit { name: name.to_owned(), seconds };
        let boot = Boot {
            to_ssh: Some(51.04),
            kernel: Some(6.1),
            userspace: Some(40.0),
            slowest: vec![unit("pm2-ubuntu.service", 12.8), unit("ufw.service", 7.3)],
            cloud_init: vec![unit("init-local", 2.0), unit("init-network", 3.5)],
            ..Boot::default()
        };
        assert_eq!(
            boot.line(),
            "machine start to SSH 51.0 s, kernel 6.1 s, userspace 40.0 s, cloud-init 5.5 s; \
             slowest: pm2-ubuntu.service 12.8 s, ufw.service 7.3 s"
        );
        assert_eq!(Boot::default().line(), "");
    }

    #[test]
    fn json_leaves_out_values_that_were_not_measured() {
        let boot = Boot { kernel: Some(1.5), ..Boot::default() };
        let json = serde_json::to_string(&boot).unwrap();
        assert!(!json.contains("firmware"), "{json}");
        assert_eq!(serde_json::from_str::<Boot>(&json).unwrap(), boot);
        assert_eq!(serde_json::from_str::<Boot>("{}").unwrap(), Boot::default());
    }
}
