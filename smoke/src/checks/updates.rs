//! Automatic security updates: the effective configuration of apt, the timers that start them, and the installed updates.

use smoke::spec::UnattendedUpgrades;

use crate::check::{Check, CheckResult, Host};

pub(super) fn all(updates: Option<&UnattendedUpgrades>) -> Vec<Check> {
    let Some(updates) = updates else { return vec![] };
    let timer = |unit: &String| {
        let unit = unit.clone();
        let name = format!("timer-{}", unit.trim_end_matches(".timer"));
        Check::new(name, move |host| timer_active(host, &unit))
    };
    let mut checks = vec![Check::new("unattended-upgrades", configured), Check::new("security-updates", installed)];
    checks.extend(updates.timers.iter().map(timer));
    checks
}

/// apt updates its package lists and installs security updates daily, and `APT::Periodic::Enable` is not 0 (apt.systemd.daily(8)).
fn configured(host: &Host) -> CheckResult {
    let dump = host.stdout(&["apt-config", "dump"])?;
    let days = |name: &str| value(&dump, &format!("APT::Periodic::{name}")).and_then(|v| v.parse::<u32>().ok());
    for name in ["Update-Package-Lists", "Unattended-Upgrade"] {
        match days(name) {
            Some(1..) => {}
            found => {
                let found = found.map_or("not set".to_owned(), |n| n.to_string());
                return Err(format!("APT::Periodic::{name} is {found}, expected 1").into());
            }
        }
    }
    if days("Enable") == Some(0) {
        return Err("APT::Periodic::Enable is 0, which disables all periodic jobs".into());
    }
    let origins = dump.lines().filter(|l| {
        l.starts_with("Unattended-Upgrade::Origins-Pattern:") || l.starts_with("Unattended-Upgrade::Allowed-Origins:")
    });
    if !origins.into_iter().any(|l| l.to_lowercase().contains("security")) {
        return Err("no security archive among the origins of unattended-upgrades".into());
    }
    host.stdout(&["test", "-x", "/usr/bin/unattended-upgrade"]).map_err(|_| "unattended-upgrade is not installed")?;
    Ok("apt installs security updates daily".to_owned())
}

/// The build writes the package versions in the security archive to this file.
const SECURITY_VERSIONS: &str = "/etc/agent-ami/security-versions";

/// Every security update that the archive had at build time is installed. Compared with today's archive, an image would fail for each update
/// that is newer than the image.
fn installed(host: &Host) -> CheckResult {
    let known = std::fs::read_to_string(SECURITY_VERSIONS).map_err(|e| format!("{SECURITY_VERSIONS}: {e}"))?;
    let installed = host.stdout(&["dpkg-query", "-W", "-f", "${Package} ${Version}\n"])?;
    let mut older = Vec::new();
    for (name, expected, found) in differing(&known, &installed) {
        // Exit code 0: the relation is true (dpkg(1)).
        if host.run(&["dpkg", "--compare-versions", found, "lt", expected])?.ok() {
            older.push(format!("{name} is {found}, expected {expected}"));
        }
    }
    if !older.is_empty() {
        return Err(format!("security updates are not installed: {}", older.join("; ")).into());
    }
    Ok(format!("all {} security updates of the build time are installed", known.lines().count()))
}

/// Packages of the list that are installed in another version: name, version in the list, installed version.
fn differing<'a>(known: &'a str, installed: &'a str) -> Vec<(&'a str, &'a str, &'a str)> {
    let installed: std::collections::HashMap<&str, &str> =
        installed.lines().filter_map(|l| l.split_once(' ')).collect();
    let known = known.lines().filter_map(|l| l.split_once(' '));
    known
        .filter_map(|(name, version)| installed.get(name).filter(|f| **f != version).map(|f| (name, version, *f)))
        .collect()
}

/// The value of an option in `apt-config dump`; the last one takes effect.
fn value<'a>(dump: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = dump.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix(" \"")?.strip_suffix("\";"));
    lines.next_back()
}

/// The timer is enabled and active.
fn timer_active(host: &Host, unit: &str) -> CheckResult {
    host.booted()?;
    let output =
        host.stdout(&["systemctl", "show", unit, "-p", "UnitFileState", "-p", "ActiveState", "-p", "SubState"])?;
    let value = |name: &str| output.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("unknown").to_owned();
    let (enabled, active, state) = (value("UnitFileState="), value("ActiveState="), value("SubState="));
    if enabled == "enabled" && active == "active" {
        return Ok(format!("{unit} is {state}"));
    }
    Err(format!("{unit} is {enabled} and {active}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differing_versions_are_returned() {
        let known = "linux-image-amd64 6.12.1\nbash 5.2-1\ngone 1\n";
        let found = differing(known, "bash 5.2-1\nlinux-image-amd64 6.12.0\n");
        assert_eq!(found, [("linux-image-amd64", "6.12.1", "6.12.0")]);
    }

    #[test]
    fn last_value_of_an_option() {
        let dump = "APT \"\";\nAPT::Periodic \"\";\nAPT::Periodic::Enable \"1\";\nAPT::Periodic::Enable \"0\";\n";
        assert_eq!(value(dump, "APT::Periodic::Enable"), Some("0"));
        assert_eq!(value(dump, "APT::Periodic::Unattended-Upgrade"), None);
    }
}
