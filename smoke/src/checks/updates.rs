//! Automatic security updates: what apt makes of all its configuration, and the timers that start them.

use smoke::spec::UnattendedUpgrades;

use super::{Check, Host, Verdict};

pub(super) fn all(updates: Option<&UnattendedUpgrades>) -> Vec<Check> {
    let Some(updates) = updates else { return vec![] };
    let timer = |unit: &String| {
        let unit = unit.clone();
        let name = format!("timer-{}", unit.trim_end_matches(".timer"));
        Check::new(name, move |host| timer_waits(host, &unit))
    };
    let mut checks = vec![Check::new("unattended-upgrades", configured), Check::new("security-updates", installed)];
    checks.extend(updates.timers.iter().map(timer));
    checks
}

/// Lists are updated and security updates are installed daily; nothing turns the whole off (apt.systemd.daily(8)).
fn configured(host: &Host) -> Verdict {
    let dump = host.ask(&["apt-config", "dump"])?;
    let days = |name: &str| value(&dump, &format!("APT::Periodic::{name}")).and_then(|v| v.parse::<u32>().ok());
    for name in ["Update-Package-Lists", "Unattended-Upgrade"] {
        match days(name) {
            Some(1..) => {}
            found => {
                let found = found.map_or("not set".to_owned(), |n| n.to_string());
                return Err(format!("APT::Periodic::{name} is {found}, wanted 1").into());
            }
        }
    }
    if days("Enable") == Some(0) {
        return Err("APT::Periodic::Enable is 0: nothing runs".into());
    }
    let origins = dump.lines().filter(|l| {
        l.starts_with("Unattended-Upgrade::Origins-Pattern:") || l.starts_with("Unattended-Upgrade::Allowed-Origins:")
    });
    if !origins.into_iter().any(|l| l.to_lowercase().contains("security")) {
        return Err("no security origin among those that are upgraded".into());
    }
    host.ask(&["test", "-x", "/usr/bin/unattended-upgrade"]).map_err(|_| "unattended-upgrade is not installed")?;
    Ok("apt installs security updates daily".to_owned())
}

/// Where the build wrote down which security updates there were when the image was made.
const KNOWN: &str = "/etc/agent-ami/security-versions";

/// Every security update that was known when the image was made is installed: none was kept back, and the archive was read.
fn installed(host: &Host) -> Verdict {
    let known = std::fs::read_to_string(KNOWN).map_err(|e| format!("{KNOWN}: {e}"))?;
    let said = host.ask(&["dpkg-query", "-W", "-f", "${Package} ${Version}\n"])?;
    let mut older = Vec::new();
    for (name, wanted, found) in differing(&known, &said) {
        // Exit code 0: the relation is true (dpkg(1)).
        if host.root(&["dpkg", "--compare-versions", found, "lt", wanted], host.deadline)?.ok() {
            older.push(format!("{name} is {found}, and {wanted} was out"));
        }
    }
    if !older.is_empty() {
        return Err(format!("security updates are not installed: {}", older.join("; ")).into());
    }
    Ok(format!("{} security updates were known, all are installed", known.lines().count()))
}

/// Packages of the list that are installed in another version: name, the list's version, the installed one.
fn differing<'a>(known: &'a str, installed: &'a str) -> Vec<(&'a str, &'a str, &'a str)> {
    let found: std::collections::HashMap<&str, &str> = installed.lines().filter_map(|l| l.split_once(' ')).collect();
    let known = known.lines().filter_map(|l| l.split_once(' '));
    known.filter_map(|(name, wanted)| found.get(name).filter(|f| **f != wanted).map(|f| (name, wanted, *f))).collect()
}

/// The value of an option in `apt-config dump`: the last one counts.
fn value<'a>(dump: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = dump.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix(" \"")?.strip_suffix("\";"));
    lines.next_back()
}

/// The timer is enabled and waits for its time, or its service runs right now.
fn timer_waits(host: &Host, unit: &str) -> Verdict {
    host.booted()?;
    let said = host.ask(&["systemctl", "show", unit, "-p", "UnitFileState", "-p", "ActiveState", "-p", "SubState"])?;
    let value = |name: &str| said.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("unknown").to_owned();
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
    fn only_what_differs_is_compared() {
        let known = "linux-image-amd64 6.12.1\nbash 5.2-1\ngone 1\n";
        let found = differing(known, "bash 5.2-1\nlinux-image-amd64 6.12.0\n");
        assert_eq!(found, [("linux-image-amd64", "6.12.1", "6.12.0")]);
    }

    #[test]
    fn the_last_value_of_an_option_counts() {
        let dump = "APT \"\";\nAPT::Periodic \"\";\nAPT::Periodic::Enable \"1\";\nAPT::Periodic::Enable \"0\";\n";
        assert_eq!(value(dump, "APT::Periodic::Enable"), Some("0"));
        assert_eq!(value(dump, "APT::Periodic::Unattended-Upgrade"), None);
    }
}
