//! The host firewall: the status that UFW reports, and connections from a second host.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use smoke::spec::Ufw;

use crate::check::{Check, CheckResult, Failure, Host};
use crate::network;

pub(super) fn all(ufw: Option<&Ufw>) -> Vec<Check> {
    let Some(ufw) = ufw.cloned() else { return vec![] };
    let allowed = ufw.allow.clone();
    vec![
        Check::new("ufw-active", active),
        Check::new("ufw-default-deny", default_deny),
        Check::new("ufw-allowed-ports", move |host| allowed_ports(host, &allowed)),
        Check::new("ufw-blocks", move |host| blocks(host, &ufw.allow)),
    ]
}

fn status(host: &Host) -> Result<String, String> {
    host.booted()?;
    host.stdout_once(&["ufw", "status", "verbose"])
}

/// The status, if UFW is active.
fn rules(host: &Host) -> Result<String, Failure> {
    let status = status(host).map_err(|e| Failure::from(e).caused_by("ufw-active"))?;
    if is_active(&status) { Ok(status) } else { Err(Failure::from("UFW is not active").caused_by("ufw-active")) }
}

fn is_active(status: &str) -> bool {
    status.lines().any(|l| l.trim() == "Status: active")
}

fn active(host: &Host) -> CheckResult {
    let status = status(host)?;
    if is_active(&status) { Ok("UFW is active".to_owned()) } else { Err(first_line(&status).into()) }
}

fn default_deny(host: &Host) -> CheckResult {
    let status = rules(host)?;
    let line = status.lines().find(|l| l.starts_with("Default:")).unwrap_or("UFW reports no default policy");
    let denied = ["deny (incoming)", "reject (incoming)"].iter().any(|policy| line.contains(policy));
    if denied { Ok(line.to_owned()) } else { Err(line.into()) }
}

fn allowed_ports(host: &Host, expected: &[String]) -> CheckResult {
    let found = allowed_in(&rules(host)?);
    let expected: BTreeSet<String> = expected.iter().cloned().collect();
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    if found == expected {
        return Ok(format!("allowed: {}", list(&found)));
    }
    Err(format!("allowed: {}; expected: {}", list(&found), list(&expected)).into())
}

/// The ports with a rule that allows incoming connections in the output of `ufw status verbose`, of IPv4 and IPv6.
fn allowed_in(status: &str) -> BTreeSet<String> {
    let rules = status.lines().skip_while(|l| !l.starts_with("--")).skip(1);
    let to = |line: &str| {
        let columns: Vec<&str> = line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        let [to, action, ..] = columns[..] else { return None };
        let allows = action.starts_with("ALLOW IN") || action.starts_with("LIMIT IN");
        allows.then(|| to.replace(" (v6)", ""))
    };
    rules.filter_map(to).collect()
}

/// The second host reaches an allowed port, but not a listener on another port.
fn blocks(host: &Host, allowed: &[String]) -> CheckResult {
    rules(host)?;
    let link = host.second_host(host.deadline)?;
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    let open = allowed.iter().find_map(|rule| rule.strip_suffix("/tcp")?.parse::<u16>().ok());
    let started = Instant::now();
    if let Some(open) = open
        && !network::reaches(SocketAddr::from((link.here, open)), Duration::from_secs(30), host.deadline)?
    {
        return Err(format!("port {open} is allowed but does not answer to {}", link.there).into());
    }
    // Dropped packets have no answer, so the timeout is a multiple of the time that an answer took.
    let timeout = Duration::from_secs(3).max(started.elapsed() * 3);
    if network::reaches(SocketAddr::from((link.here, port)), timeout, host.deadline)? {
        let message = format!("port {port} is not allowed but answers to {}", link.there);
        return Err(Failure::from(message).caused_by("ufw-default-deny"));
    }
    Ok(format!("{} reaches {} only", link.there, open.map_or("no port".to_owned(), |p| format!("port {p}"))))
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or("`ufw status` has no output").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Status: active\nLogging: on (low)\nDefault: deny (incoming), allow (outgoing), disabled (routed)\nNew profiles: skip\n\nTo                         Action      From\n--                         ------      ----\n22/tcp                     ALLOW IN    Anywhere\n80,443/tcp (Nginx Full)    LIMIT IN    10.0.0.0/8\n25/tcp                     DENY IN     Anywhere\n22/tcp (v6)                ALLOW IN    Anywhere (v6)\n\n8080/tcp                   ALLOW OUT   Anywhere\n";

    #[test]
    fn rules_from_the_status() {
        assert!(is_active(STATUS) && !is_active("Status: inactive\n"));
        let found: Vec<String> = allowed_in(STATUS).into_iter().collect();
        assert_eq!(found, ["22/tcp", "80,443/tcp (Nginx Full)"]);
    }
}
