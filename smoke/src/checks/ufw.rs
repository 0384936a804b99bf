//! The host firewall: what UFW says, and what a stranger on another network meets.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use smoke::spec::Ufw;

use super::{Check, Failure, Host, Verdict};
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
    host.ask_once(&["ufw", "status", "verbose"])
}

/// The status, if UFW is active; everything else about it follows from that.
fn rules(host: &Host) -> Result<String, Failure> {
    let status = status(host).map_err(|e| Failure::from(e).follows("ufw-active"))?;
    if is_active(&status) { Ok(status) } else { Err(Failure::from("UFW is not active").follows("ufw-active")) }
}

fn is_active(status: &str) -> bool {
    status.lines().any(|l| l.trim() == "Status: active")
}

fn active(host: &Host) -> Verdict {
    let status = status(host)?;
    if is_active(&status) { Ok("UFW is active".to_owned()) } else { Err(first_line(&status).into()) }
}

fn default_deny(host: &Host) -> Verdict {
    let status = rules(host)?;
    let line = status.lines().find(|l| l.starts_with("Default:")).unwrap_or("UFW tells no default");
    let closed = ["deny (incoming)", "reject (incoming)"].iter().any(|word| line.contains(word));
    if closed { Ok(line.to_owned()) } else { Err(line.into()) }
}

fn allowed_ports(host: &Host, wanted: &[String]) -> Verdict {
    let found = let_in(&rules(host)?);
    let wanted: BTreeSet<String> = wanted.iter().cloned().collect();
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    if found == wanted {
        return Ok(format!("let in: {}", list(&found)));
    }
    Err(format!("let in: {}; wanted: {}", list(&found), list(&wanted)).into())
}

/// What `ufw status verbose` says is let in, of both address families.
fn let_in(status: &str) -> BTreeSet<String> {
    let rules = status.lines().skip_while(|l| !l.starts_with("--")).skip(1);
    let to = |line: &str| {
        let columns: Vec<&str> = line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        let [to, action, ..] = columns[..] else { return None };
        let lets_in = action.starts_with("ALLOW IN") || action.starts_with("LIMIT IN");
        lets_in.then(|| to.replace(" (v6)", ""))
    };
    rules.filter_map(to).collect()
}

/// A stranger reaches sshd, but not a listener on a port that is not let in.
fn blocks(host: &Host, allowed: &[String]) -> Verdict {
    rules(host)?;
    let link = network::link(host, host.deadline)?;
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    let open = allowed.iter().find_map(|rule| rule.strip_suffix("/tcp")?.parse::<u16>().ok());
    let started = Instant::now();
    if let Some(open) = open
        && !network::reaches(host, SocketAddr::from((link.here, open)), Duration::from_secs(30), host.deadline)?
    {
        return Err(format!("port {open} does not answer to {}, which is to be let in", link.there).into());
    }
    // A packet that is dropped is never answered: wait clearly longer than an answer took.
    let wait = Duration::from_secs(3).max(started.elapsed() * 3);
    if network::reaches(host, SocketAddr::from((link.here, port)), wait, host.deadline)? {
        let message = format!("port {port}, which nobody lets in, answers to {}", link.there);
        return Err(Failure::from(message).follows("ufw-default-deny"));
    }
    Ok(format!("{} reaches {} only", link.there, open.map_or("nothing".to_owned(), |p| format!("port {p}"))))
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or("`ufw status` says nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Status: active\nLogging: on (low)\nDefault: deny (incoming), allow (outgoing), disabled (routed)\nNew profiles: skip\n\nTo                         Action      From\n--                         ------      ----\n22/tcp                     ALLOW IN    Anywhere\n80,443/tcp (Nginx Full)    LIMIT IN    10.0.0.0/8\n25/tcp                     DENY IN     Anywhere\n22/tcp (v6)                ALLOW IN    Anywhere (v6)\n\n8080/tcp                   ALLOW OUT   Anywhere\n";

    #[test]
    fn rules_are_read_as_ufw_prints_them() {
        assert!(is_active(STATUS) && !is_active("Status: inactive\n"));
        let found: Vec<String> = let_in(STATUS).into_iter().collect();
        assert_eq!(found, ["22/tcp", "80,443/tcp (Nginx Full)"]);
    }
}
