//! The Systems Manager agent: whatever ends it, systemd brings it back. Where the agent itself is not there (a local machine), a unit of
//! its name stands in for it, and the verdict says so.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use smoke::spec::SsmAgent;

use super::{Check, Host, Verdict};

const POLICY: &str = "ssm-agent-policy";
const UNITS: [&str; 2] = ["snap.amazon-ssm-agent.amazon-ssm-agent.service", "amazon-ssm-agent.service"];

/// As the package's unit, of which the policy keeps what it does not name.
const STAND_IN: &str = "[Unit]
Description=Stand-in for amazon-ssm-agent

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
        Check::new("ssm-agent-comes-back", move |host| comes_back(host, agent)),
    ]
}

/// The unit, and in brackets what is to be said of it.
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
            host.once("ssm-agent stand-in", || {
                host.stand_in(UNITS[1], STAND_IN, host.deadline).map(|()| String::new())
            })?;
            Ok((UNITS[1], " (a stand-in: the agent is not here)"))
        }
    }
}

fn property(host: &Host, unit: &str, name: &str) -> Result<String, String> {
    Ok(host.ask(&["systemctl", "show", "--property", name, "--value", unit])?.trim().to_owned())
}

/// What systemd will do, by its own word.
fn policy(host: &Host, agent: SsmAgent) -> Verdict {
    let (unit, note) = unit(host)?;
    let said = host.ask(&["systemctl", "show", unit])?;
    let said: BTreeMap<&str, &str> = said.lines().filter_map(|l| l.split_once('=')).collect();
    let value = |name: &str| said.get(name).copied().unwrap_or("unknown");
    let after = format!("{}s", agent.restart_secs);
    for (name, wanted) in [("Restart", "always"), ("RestartUSec", after.as_str()), ("StartLimitIntervalUSec", "0")] {
        if value(name) != wanted {
            return Err(format!("{unit}: {name} is {}, wanted {wanted}{note}", value(name)).into());
        }
    }
    // The package's exit code for "do not start me again" stays.
    let text = fs::read_to_string(value("FragmentPath")).unwrap_or_default();
    if text.contains("RestartPreventExitStatus=194") && value("RestartPreventExitStatus") != "194" {
        let found = value("RestartPreventExitStatus");
        return Err(format!("{unit}: RestartPreventExitStatus is {found}, the package's 194 is gone{note}").into());
    }
    Ok(format!("{unit} comes back always, after {after}{note}"))
}

/// It is killed, and comes back.
fn comes_back(host: &Host, agent: SsmAgent) -> Verdict {
    killed(host, agent).map_err(|e| e.follows(POLICY))
}

fn killed(host: &Host, agent: SsmAgent) -> Verdict {
    let (unit, note) = unit(host)?;
    if property(host, unit, "Restart")? != "always" {
        return Err(format!("{unit} is not killed: it would not come back{note}").into());
    }
    host.ask(&["systemctl", "start", unit])?;
    let before = property(host, unit, "MainPID")?;
    if before == "0" {
        return Err(format!("{unit} does not run{note}").into());
    }
    host.ask(&["systemctl", "kill", "--kill-who=main", "--signal=KILL", unit])?;
    let killed = Instant::now();
    // Besides systemd's own time, which is not quick where machines are emulated.
    let patience = host.deadline.min(killed + Duration::from_secs(agent.restart_secs + 60));
    while Instant::now() < patience {
        let now = property(host, unit, "MainPID")?;
        if now != before && now != "0" && property(host, unit, "ActiveState")? == "active" {
            return Ok(format!("{unit} was killed and came back after {} s{note}", killed.elapsed().as_secs()));
        }
        thread::sleep(Duration::from_millis(500));
    }
    Err(format!("{unit} was killed and has not come back for {} s{note}", killed.elapsed().as_secs()).into())
}
