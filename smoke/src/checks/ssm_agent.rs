//! The Systems Manager agent: systemd restarts it whenever it exits. On a machine without the agent (a local one), the checks create a
//! placeholder unit with its name, and the message states that.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use smoke::spec::SsmAgent;

use crate::check::{Check, CheckResult, Host};

const POLICY: &str = "ssm-agent-policy";
const UNITS: [&str; 2] = ["snap.amazon-ssm-agent.amazon-ssm-agent.service", "amazon-ssm-agent.service"];

/// The settings of the package's unit.
const PLACEHOLDER: &str = "[Unit]
Description=Placeholder for amazon-ssm-agent

[Service]
ExecStart=/bin/sleep infinity
Restart=on-failure
RestartPreventExitStatus=194
RestartSec=15min
";

pub(super) fn all(agent: Option<SsmAgent>) -> Vec<Check> {
    let Some(agent) = agent else { return vec![] };
    vec![
        Check::new(POLICY, move |host| policy(host, agent)),
        Check::new("ssm-agent-comes-back", move |host| restarted(host, agent)),
    ]
}

/// The unit of the agent, and a note in brackets for messages if it is a placeholder.
fn unit(host: &Host) -> Result<(&'static str, &'static str), String> {
    let found = host.once("ssm-agent", || {
        for unit in UNITS {
            if property(host, unit, "LoadState")? == "loaded" {
                return Ok(unit.to_owned());
            }
        }
        Ok(String::new())
    })?;
    match UNITS.into_iter().find(|unit| *unit == found) {
        Some(unit) => Ok((unit, "")),
        None => {
            host.once("ssm-agent placeholder", || {
                host.create_placeholder(UNITS[1], PLACEHOLDER, host.deadline).map(|()| String::new())
            })?;
            Ok((UNITS[1], " (a placeholder unit: the agent is not installed)"))
        }
    }
}

fn property(host: &Host, unit: &str, name: &str) -> Result<String, String> {
    Ok(host.stdout(&["systemctl", "show", "--property", name, "--value", unit])?.trim().to_owned())
}

/// The restart policy as systemd reports it.
fn policy(host: &Host, agent: SsmAgent) -> CheckResult {
    let (unit, note) = unit(host)?;
    let output = host.stdout(&["systemctl", "show", unit])?;
    let properties: BTreeMap<&str, &str> = output.lines().filter_map(|l| l.split_once('=')).collect();
    let value = |name: &str| properties.get(name).copied().unwrap_or("unknown");
    let after = format!("{}s", agent.restart_secs);
    for (name, expected) in [("Restart", "always"), ("RestartUSec", after.as_str()), ("StartLimitIntervalUSec", "0")] {
        if value(name) != expected {
            return Err(format!("{unit}: {name} is {}, expected {expected}{note}", value(name)).into());
        }
    }
    // After this exit status of the agent, systemd must not restart it. The package sets it.
    let text = fs::read_to_string(value("FragmentPath")).unwrap_or_default();
    if text.contains("RestartPreventExitStatus=194") && value("RestartPreventExitStatus") != "194" {
        let found = value("RestartPreventExitStatus");
        return Err(
            format!("{unit}: RestartPreventExitStatus is {found}, expected the 194 of the package{note}").into()
        );
    }
    Ok(format!("{unit} is always restarted, after {after}{note}"))
}

/// systemd restarts the agent after a SIGKILL.
fn restarted(host: &Host, agent: SsmAgent) -> CheckResult {
    kill_and_wait(host, agent).map_err(|e| e.caused_by(POLICY))
}

fn kill_and_wait(host: &Host, agent: SsmAgent) -> CheckResult {
    let (unit, note) = unit(host)?;
    if property(host, unit, "Restart")? != "always" {
        return Err(format!("{unit} was not killed because systemd would not restart it{note}").into());
    }
    host.stdout(&["systemctl", "start", unit])?;
    let before = property(host, unit, "MainPID")?;
    if before == "0" {
        return Err(format!("{unit} is not running{note}").into());
    }
    host.stdout(&["systemctl", "kill", "--kill-who=main", "--signal=KILL", unit])?;
    let killed = Instant::now();
    // A minute more than RestartSec=, because an emulated machine is slow.
    let timeout = host.deadline.min(killed + Duration::from_secs(agent.restart_secs + 60));
    while Instant::now() < timeout {
        let now = property(host, unit, "MainPID")?;
        if now != before && now != "0" && property(host, unit, "ActiveState")? == "active" {
            return Ok(format!("{unit} was killed and restarted after {} s{note}", killed.elapsed().as_secs()));
        }
        thread::sleep(Duration::from_millis(500));
    }
    Err(format!("{unit} was killed and not restarted within {} s{note}", killed.elapsed().as_secs()).into())
}
