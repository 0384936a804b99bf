//! fail2ban: the server answers, the jail has the settings of the spec, and a failed login is counted.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use smoke::spec::Fail2ban;

use crate::check::{Check, CheckResult, Failure, Host};
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
    settings.into_iter().map(move |(name, expected)| {
        let jail = jail.to_owned();
        Check::new(format!("fail2ban-{name}"), move |host| setting(host, &jail, &name, &expected))
    })
}

/// Runs fail2ban-client after the boot has finished.
fn client(host: &Host, line: &[&str]) -> Result<String, Failure> {
    host.booted()?;
    let line: Vec<&str> = ["fail2ban-client"].into_iter().chain(line.iter().copied()).collect();
    host.stdout(&line).map_err(|e| Failure::from(e).caused_by(RUNNING))
}

fn running(host: &Host) -> CheckResult {
    let answer = client(host, &["ping"])?;
    let answer = answer.trim();
    if answer.contains("pong") { Ok(answer.to_owned()) } else { Err(format!("the server answers {answer:?}").into()) }
}

fn setting(host: &Host, jail: &str, name: &str, expected: &str) -> CheckResult {
    let found = client(host, &["get", jail, name])?;
    let found = found.trim();
    if found == expected { Ok(found.to_owned()) } else { Err(format!("{name} is {found}, expected {expected}").into()) }
}

/// Logins that are tried. A single one is not enough: journald reads the unit of a message from the process that sent it (`_SYSTEMD_UNIT=` in
/// systemd.journal-fields(7)). On a busy machine the sshd process of a refused login has exited by then, and the jail, which selects messages by
/// unit, does not see that login. It was seen in 1 of 25 runs.
const LOGINS: usize = 3;

/// Time for the jail to count a login. Three logins that are counted late would ban the second host (`maxretry` is 3), which other checks use.
const COUNTED_WITHIN: Duration = Duration::from_secs(15);

/// The second host tries to log in as a user that does not exist; the jail must count one more failure.
fn counts(host: &Host, jail: &str) -> CheckResult {
    let before = total_failed(&client(host, &["status", jail])?)?;
    let link = host.second_host(host.deadline)?;
    for login in 1..=LOGINS {
        refused_login(host, link.here)?;
        if let Some(now) = counted(host, jail, before)? {
            let which = if login == 1 { String::new() } else { format!(" at the {login}. attempt") };
            return Ok(format!("a failed login from {} was counted{which}: {before} -> {now}", link.there));
        }
    }
    Err(format!("{LOGINS} failed logins from {} were not counted: still {before}", link.there).into())
}

fn refused_login(host: &Host, address: Ipv4Addr) -> Result<(), Failure> {
    let unknown_user = format!("agent-ami-unknown@{address}");
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
        &unknown_user,
        "true",
    ];
    let output = network::run(&login, host.deadline)?;
    if output.stderr.contains("Permission denied") {
        return Ok(());
    }
    Err(format!("sshd did not refuse the login of an unknown user: ssh {}", output.summary()).into())
}

/// The jail's count as soon as it is above `before`, or `None` after a while.
fn counted(host: &Host, jail: &str, before: u64) -> Result<Option<u64>, Failure> {
    let timeout = host.deadline.min(Instant::now() + COUNTED_WITHIN);
    loop {
        let now = total_failed(&client(host, &["status", jail])?)?;
        if now > before {
            return Ok(Some(now));
        }
        if Instant::now() >= timeout {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// The jail's `Total failed`.
fn total_failed(status: &str) -> Result<u64, String> {
    let line = status.lines().find_map(|l| l.split_once("Total failed:"));
    line.and_then(|(_, n)| n.trim().parse().ok()).ok_or_else(|| "the status of the jail has no count".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_failed_from_the_status() {
        let status = "Status for the jail: sshd\n|- Filter\n|  |- Currently failed:\t1\n|  |- Total failed:\t12\n|  `- Journal matches:\t_SYSTEMD_UNIT=ssh.service\n`- Actions\n   `- Banned IP list:\t\n";
        assert_eq!(total_failed(status), Ok(12));
        assert!(total_failed("Sorry but the jail 'sshd' does not exist").is_err());
    }
}
