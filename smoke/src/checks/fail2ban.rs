//! fail2ban: the server answers, the jail has its settings, and a failed login is really counted.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use smoke::spec::Fail2ban;

use super::{Check, Failure, Host, Verdict};
use crate::network;

const RUNNING: &str = "fail2ban-running";

pub(super) fn all(fail2ban: Option<&Fail2ban>) -> Vec<Check> {
    let Some(Fail2ban { jail, settings }) = fail2ban.cloned() else { return vec![] };
    let mut checks = vec![Check::new(RUNNING, running)];
    checks.extend(settings_checks(&jail, settings));
    checks.push(Check::new("fail2ban-counts", move |host| counts(host, &jail)));
    checks
}

fn settings_checks(jail: &str, settings: BTreeMap<String, String>) -> impl Iterator<Item = Check> {
    settings.into_iter().map(move |(name, wanted)| {
        let jail = jail.to_owned();
        Check::new(format!("fail2ban-{name}"), move |host| setting(host, &jail, &name, &wanted))
    })
}

/// Asks the server, once it should be up.
fn client(host: &Host, line: &[&str]) -> Result<String, Failure> {
    host.booted()?;
    let line: Vec<&str> = ["fail2ban-client"].into_iter().chain(line.iter().copied()).collect();
    host.ask(&line).map_err(|e| Failure::from(e).follows(RUNNING))
}

fn running(host: &Host) -> Verdict {
    let said = client(host, &["ping"])?;
    if said.contains("pong") { Ok(said.trim().to_owned()) } else { Err(format!("it answers {:?}", said.trim()).into()) }
}

fn setting(host: &Host, jail: &str, name: &str, wanted: &str) -> Verdict {
    let found = client(host, &["get", jail, name])?;
    let found = found.trim();
    if found == wanted { Ok(found.to_owned()) } else { Err(format!("{name} is {found}, wanted {wanted}").into()) }
}

/// A stranger tries to log in as nobody; the jail counts one more failure.
fn counts(host: &Host, jail: &str) -> Verdict {
    let before = total_failed(&client(host, &["status", jail])?)?;
    let link = network::link(host, host.deadline)?;
    let stranger = format!("agent-ami-stranger@{}", link.here);
    let login = [
        "ssh",
        "-F",
        "/dev/null",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "ConnectTimeout=60",
        &stranger,
        "true",
    ];
    let output = network::run(host, &login, host.deadline)?;
    if !output.stderr.contains("Permission denied") {
        return Err(format!("a stranger's login was not refused by sshd: it {}", output.gist()).into());
    }
    let patience = host.deadline.min(Instant::now() + Duration::from_secs(30));
    loop {
        let now = total_failed(&client(host, &["status", jail])?)?;
        if now > before {
            return Ok(format!("a failed login from {} was counted: {before} -> {now}", link.there));
        }
        if Instant::now() >= patience {
            return Err(format!("a failed login from {} was not counted: still {now}", link.there).into());
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// The jail's `Total failed`.
fn total_failed(status: &str) -> Result<u64, String> {
    let line = status.lines().find_map(|l| l.split_once("Total failed:"));
    line.and_then(|(_, n)| n.trim().parse().ok()).ok_or_else(|| "the jail's status tells no count".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_the_status() {
        let status = "Status for the jail: sshd\n|- Filter\n|  |- Currently failed:\t1\n|  |- Total failed:\t12\n|  `- Journal matches:\t_SYSTEMD_UNIT=ssh.service\n`- Actions\n   `- Banned IP list:\t\n";
        assert_eq!(total_failed(status), Ok(12));
        assert!(total_failed("Sorry but the jail 'sshd' does not exist").is_err());
    }
}
