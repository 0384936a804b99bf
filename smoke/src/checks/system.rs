//! The system: units, cloud-init, root file system, operating system, architecture.

use serde::Deserialize;
use smoke::spec::{Disk, Spec};

use crate::check::{Check, CheckResult, Failure, Host};

const GIB: f64 = (1_u64 << 30) as f64;

pub(super) fn all(spec: &Spec) -> Vec<Check> {
    let mut checks = Vec::new();
    if spec.instance.systemd {
        checks.push(Check::new("systemd-units", units));
    }
    if spec.instance.cloud_init {
        checks.push(Check::new("cloud-init", cloud_init));
    }
    if let Some(disk) = spec.disk {
        checks.push(Check::new("disk-size", move |_| size(disk)));
        checks.push(Check::new("disk-free", move |_| free(disk)));
    }
    checks.push(Check::new("os", os));
    checks.push(Check::new("arch", arch));
    checks
}

/// systemd has finished booting and no unit failed.
fn units(host: &Host) -> CheckResult {
    let state = host.booted()?;
    let failed = host.stdout(&["systemctl", "list-units", "--failed", "--plain", "--no-legend"])?;
    let failed: Vec<&str> = failed.lines().filter_map(|l| l.split_whitespace().next()).collect();
    // Units that the checks of dispatch start at the same time, and those of isolated runs.
    let ours = |unit: &&str| ["agent-ami-", "smoke-"].iter().any(|prefix| unit.starts_with(prefix));
    let failed: Vec<&str> = failed.into_iter().filter(|unit| !ours(unit)).collect();
    if !failed.is_empty() {
        return Err(format!("failed: {}", failed.join(", ")).into());
    }
    // `degraded` without a failed unit: a unit had failed and was reset or restarted since.
    if ["running", "degraded"].contains(&state.as_str()) {
        Ok(state)
    } else {
        Err(format!("the system is {state}").into())
    }
}

#[derive(Deserialize)]
struct CloudInit {
    status: String,
    #[serde(default)]
    errors: Vec<String>,
}

/// cloud-init has finished without errors. The exit code is not used: since version 23.4 it is 2 after warnings.
fn cloud_init(host: &Host) -> CheckResult {
    host.booted()?;
    let output = host.run(&["cloud-init", "status", "--wait", "--format", "json"])?;
    let found: CloudInit = serde_json::from_str(&output.stdout)
        .map_err(|e| Failure::from(format!("`cloud-init status` {}: {e}", output.summary())))?;
    if found.status != "done" || !found.errors.is_empty() {
        return Err(format!("cloud-init is {}: {}", found.status, found.errors.join("; ")).into());
    }
    Ok("done without errors".to_owned())
}

fn size(disk: Disk) -> CheckResult {
    let root = rustix::fs::statvfs("/")?;
    at_least("/ has", root.f_blocks * root.f_frsize, disk.root_min_gib)
}

fn free(disk: Disk) -> CheckResult {
    let root = rustix::fs::statvfs("/")?;
    at_least("/ has free", root.f_bavail * root.f_frsize, disk.free_min_gib)
}

#[expect(clippy::cast_precision_loss, reason = "the message has one decimal place")]
fn at_least(what: &str, bytes: u64, gib: f64) -> CheckResult {
    let message = format!("{what} {:.1} GiB, required {gib}", bytes as f64 / GIB);
    if bytes as f64 >= gib * GIB { Ok(message) } else { Err(message.into()) }
}

fn os(host: &Host) -> CheckResult {
    let found = host.os();
    let expected = &host.spec.instance.os;
    if expected.contains(&found) {
        Ok(found)
    } else {
        Err(format!("{found}, expected {}", expected.join(" or ")).into())
    }
}

fn arch(host: &Host) -> CheckResult {
    let uname = rustix::system::uname();
    let found = uname.machine().to_string_lossy();
    let expected = &host.spec.instance.arch;
    if found == expected.as_str() {
        Ok(found.into_owned())
    } else {
        Err(format!("{found}, expected {expected}").into())
    }
}
