//! Clock synchronisation and name resolution.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use smoke::spec::Network;

use crate::check::{Check, CheckResult, Host};
use crate::dns;

/// Maximum offset of the clock, also if a service reports it as synchronised. AWS rejects a signature that is 5 minutes off
/// (docs.aws.amazon.com, "Signature Version 4").
const MAX_OFFSET: Duration = Duration::from_secs(60);

/// Reserved for documentation (RFC 2606).
const QUERIED_NAME: &str = "example.com";

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

/// Services that synchronise the clock: systemd's, and those in the images of Ubuntu and Debian on AWS.
const SERVICES: [&str; 4] = ["systemd-timesyncd.service", "chrony.service", "ntpsec.service", "ntp.service"];

/// A service that synchronises the clock is enabled and active, and the clock is synchronised or nearly right. In a container, where the host
/// sets the clock, the service need not be active.
fn clock(host: &Host) -> CheckResult {
    host.booted()?;
    let in_container = host.run(&["systemd-detect-virt", "--quiet", "--container"])?.ok();
    let mut enabled = None;
    for unit in SERVICES {
        let state = host.stdout(&["systemctl", "show", unit, "-p", "UnitFileState", "-p", "ActiveState"])?;
        if state.contains("UnitFileState=enabled") && (in_container || state.contains("ActiveState=active")) {
            enabled = Some(unit);
        }
    }
    let Some(unit) = enabled else {
        return Err("no service synchronises the clock; run `timedatectl set-ntp true`".into());
    };
    let synchronised = host.stdout(&["timedatectl", "show", "-p", "NTPSynchronized", "--value"])?.trim() == "yes";
    match host.clock_offset {
        Some(off) if off > MAX_OFFSET => Err(format!("the clock is {} s off", off.as_secs()).into()),
        _ if synchronised => Ok(format!("synchronised; {unit}")),
        Some(off) => Ok(format!("{} s off; {unit} has not synchronised it yet", off.as_secs())),
        None => Err(format!("{unit} has not synchronised the clock").into()),
    }
}

/// localhost and the host name are resolved, and the first name server of /etc/resolv.conf answers. Without its own name, sudo waits for a
/// timeout and some services do not start.
fn names(host: &Host) -> CheckResult {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
    for name in ["localhost", name.trim()] {
        host.stdout(&["getent", "hosts", name]).map_err(|_| format!("`{name}` is not resolved"))?;
    }
    // As the login user, who must be able to read the file.
    let servers = host.user_stdout(&["cat", "/etc/resolv.conf"], None)?;
    let servers: Vec<IpAddr> =
        servers.lines().filter_map(|l| l.strip_prefix("nameserver ")?.trim().parse().ok()).collect();
    let Some(first) = servers.first() else { return Err("/etc/resolv.conf has no name server".into()) };
    match dns::query(*first, QUERIED_NAME)? {
        // 3 is NXDOMAIN: without internet access a server may answer for local names only.
        0 | 3 => Ok(format!("localhost and {} are resolved; {first} answers", name.trim())),
        code => Err(format!("{first} answers with response code {code}").into()),
    }
}
