//! The system as a whole: units, cloud-init, root file system, release, architecture.

use serde::Deserialize;
use smoke::spec::{Disk, Spec};

use super::{Check, Failure, Host, Verdict};

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

/// The boot came to its end and no unit failed.
fn units(host: &Host) -> Verdict {
    let state = host.booted()?;
    let failed = host.ask(&["systemctl", "list-units", "--failed", "--plain", "--no-legend"])?;
    let failed: Vec<&str> = failed.lines().filter_map(|l| l.split_whitespace().next()).collect();
    // The unit of an isolated run, which another check may have started a moment ago.
    let failed: Vec<&str> = failed.into_iter().filter(|unit| !unit.starts_with("agent-ami-")).collect();
    if !failed.is_empty() {
        return Err(format!("failed: {}", failed.join(", ")).into());
    }
    // `degraded` without a failed unit: it was one, and has been fixed since the boot ended.
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

/// cloud-init is done and met no error. Since version 23.4 its exit code is 2 after mere warnings, so its words count.
fn cloud_init(host: &Host) -> Verdict {
    host.booted()?;
    let output = host.root(&["cloud-init", "status", "--wait", "--format", "json"], host.deadline)?;
    let found: CloudInit = serde_json::from_str(&output.stdout)
        .map_err(|e| Failure::from(format!("`cloud-init status` {}: {e}", output.gist())))?;
    if found.status != "done" || !found.errors.is_empty() {
        return Err(format!("cloud-init is {}: {}", found.status, found.errors.join("; ")).into());
    }
    Ok("done without error".to_owned())
}

fn size(disk: Disk) -> Verdict {
    let root = rustix::fs::statvfs("/")?;
    at_least("/ has", root.f_blocks * root.f_frsize, disk.root_min_gib)
}

fn free(disk: Disk) -> Verdict {
    let root = rustix::fs::statvfs("/")?;
    at_least("/ has free", root.f_bavail * root.f_frsize, disk.free_min_gib)
}

#[expect(clippy::cast_precision_loss, reason = "gibibytes with one digit are enough")]
fn at_least(what: &str, bytes: u64, gib: f64) -> Verdict {
    let message = format!("{what} {:.1} GiB, wanted {gib}", bytes as f64 / GIB);
    if bytes as f64 >= gib * GIB { Ok(message) } else { Err(message.into()) }
}

fn os(host: &Host) -> Verdict {
    let found = host.os();
    let wanted = &host.spec.instance.os;
    if wanted.contains(&found) { Ok(found) } else { Err(format!("{found}, wanted {}", wanted.join(" or ")).into()) }
}

fn arch(host: &Host) -> Verdict {
    let uname = rustix::system::uname();
    let found = uname.machine().to_string_lossy();
    let wanted = &host.spec.instance.arch;
    if found == wanted.as_str() { Ok(found.into_owned()) } else { Err(format!("{found}, wanted {wanted}").into()) }
}
