//! The clock is kept, and names are resolved.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use smoke::spec::Network;

use super::{Check, Host, Verdict};
use crate::dns;

/// A clock that is further off is wrong, whatever a service reports. AWS refuses a signature that is 5 minutes off
/// (docs.aws.amazon.com, "Signature Version 4").
const MOST: Duration = Duration::from_secs(60);

/// Kept for documentation (RFC 2606).
const ASKED: &str = "example.com";

pub(super) fn all(network: Option<&Network>) -> Vec<Check> {
    let Some(network) = network.cloned() else { return vec![] };
    let mut checks = Vec::new();
    if network.clock {
        checks.push(Check::new("clock", clock));
    }
    if network.names {
        checks.push(Check::new("names", names));
    }
    checks
}

/// Services that keep the clock: systemd's own, and those of Ubuntu's and Debian's images on AWS.
const SERVICES: [&str; 4] = ["systemd-timesyncd.service", "chrony.service", "ntpsec.service", "ntp.service"];

/// A service keeps the clock at every boot, and it is synchronised or nearly right. In a container the host keeps it.
fn clock(host: &Host) -> Verdict {
    host.booted()?;
    let in_container = host.root(&["systemd-detect-virt", "--quiet", "--container"], host.deadline)?.ok();
    let mut kept_by = None;
    for unit in SERVICES {
        let said = host.ask(&["systemctl", "show", unit, "-p", "UnitFileState", "-p", "ActiveState"])?;
        if said.contains("UnitFileState=enabled") && (in_container || said.contains("ActiveState=active")) {
            kept_by = Some(unit);
        }
    }
    let Some(unit) = kept_by else { return Err("no service keeps the clock (`timedatectl set-ntp true`)".into()) };
    let synchronised = host.ask(&["timedatectl", "show", "-p", "NTPSynchronized", "--value"])?.trim() == "yes";
    match host.clock_offset {
        Some(off) if off > MOST => Err(format!("the clock is {} s off", off.as_secs()).into()),
        _ if synchronised => Ok(format!("synchronised; {unit}")),
        Some(off) => Ok(format!("{} s off; {unit} has not heard a time server yet", off.as_secs())),
        None => Err(format!("{unit} has not synchronised the clock").into()),
    }
}

/// The instance's own name and localhost, without which sudo waits and services do not start, and a resolver that answers.
fn names(host: &Host) -> Verdict {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
    for name in ["localhost", name.trim()] {
        host.ask(&["getent", "hosts", name]).map_err(|_| format!("`{name}` is not resolved"))?;
    }
    // As the login user: what root can read is not enough.
    let servers = host.ask_as_user(&["cat", "/etc/resolv.conf"], None)?;
    let servers: Vec<IpAddr> =
        servers.lines().filter_map(|l| l.strip_prefix("nameserver ")?.trim().parse().ok()).collect();
    let Some(first) = servers.first() else { return Err("/etc/resolv.conf names no server".into()) };
    match dns::ask(*first, ASKED)? {
        // Also that there is no such name: where no internet is, a server may know its own names only.
        0 | 3 => Ok(format!("localhost, {} and, by {first}, others", name.trim())),
        code => Err(format!("{first} answers with code {code}").into()),
    }
}
