//! How long a boot took, and what of it took longest: part of the report, and of `ami diff`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One boot of an instance. Durations are seconds; what was not measured is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Boot {
    /// From starting the machine, or from ordering its restart, until it answered over SSH. Only who started it can measure that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_ssh: Option<f64>,
    /// The firmware, where it reports its time (UEFI).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<f64>,
    /// The boot loader, where it reports its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loader: Option<f64>,
    /// The kernel, until the first process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<f64>,
    /// systemd in the initial RAM disk, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<f64>,
    /// From the first process until everything that starts at boot had started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userspace: Option<f64>,
    /// From the kernel's start until sshd accepted connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_active: Option<f64>,
    /// What systemd-detect-virt calls the machine; `qemu` is one without hardware virtualisation.
    pub virtualization: String,
    /// The units that took longest to start, longest first.
    pub slowest: Vec<Unit>,
    /// What sshd waited for, last first.
    pub ssh_chain: Vec<Link>,
    /// cloud-init's stages in their order.
    pub cloud_init: Vec<Unit>,
}

/// A unit, or a stage of cloud-init, and how long it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// How long it took to start.
    pub seconds: f64,
}

/// A unit that another one waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// When it was active, after the first process began.
    pub at: f64,
    /// How long it took to start.
    pub seconds: f64,
}

impl Boot {
    /// True if a processor is emulated, which makes everything about ten times slower.
    pub fn emulated(&self) -> bool {
        self.virtualization == "qemu"
    }

    /// The slowest units for a message: `a.service 12.8 s, b.service 9.6 s`.
    pub fn slowest_text(&self, most: usize) -> String {
        list(self.slowest.iter().take(most))
    }

    /// All of cloud-init's stages together.
    pub fn cloud_init_total(&self) -> Option<f64> {
        (!self.cloud_init.is_empty()).then(|| self.cloud_init.iter().map(|stage| stage.seconds).sum())
    }

    /// The parts of a boot that were measured: what and how long, in the order in which they happen.
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

    /// One line: all parts and the slowest units.
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
    fn a_line_has_what_was_measured_and_no_more() {
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
    fn what_was_not_measured_is_not_in_the_json_and_is_read_back() {
        let boot = Boot { kernel: Some(1.5), ..Boot::default() };
        let json = serde_json::to_string(&boot).unwrap();
        assert!(!json.contains("firmware"), "{json}");
        assert_eq!(serde_json::from_str::<Boot>(&json).unwrap(), boot);
        assert_eq!(serde_json::from_str::<Boot>("{}").unwrap(), Boot::default());
    }
}
