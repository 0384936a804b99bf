//! PM2: it runs a process of the login user, starts at boot, and its logs are rotated.

use std::fs;

use serde::Deserialize;
use smoke::spec::Pm2;

use crate::check::{Check, CheckResult, Failure, Host};

const PROCESS: &str = "agent-ami-smoke";

pub(super) fn all(pm2: Option<&Pm2>) -> Vec<Check> {
    let Some(pm2) = pm2.cloned() else { return vec![] };
    let unit = pm2.unit.clone();
    let mut checks =
        vec![Check::new("pm2-process", process), Check::new("pm2-boot-unit", move |host| boot_unit(host, &unit))];
    checks.extend(pm2.log_max_mib.map(|limit| Check::new("pm2-logs", move |host| logs(host, limit))));
    checks
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    pid: u32,
    pm2_env: Environment,
}

#[derive(Deserialize)]
struct Environment {
    status: String,
}

/// PM2 starts a process, lists it as online with a pid, and ends it with `pm2 delete`.
fn process(host: &Host) -> CheckResult {
    host.booted()?;
    let scratch = host.scratch()?;
    let script = scratch.write("sleeper.js", "setInterval(() => {}, 1000);\n")?;
    let failure = |e: String| Failure::from(e).caused_by("tool-pm2");
    host.user_stdout(&["pm2", "start", &script, "--name", PROCESS], None).map_err(failure)?;
    let found = listed(host);
    let deleted = host.user_stdout(&["pm2", "delete", PROCESS], None);
    let process = found.map_err(failure)?;
    let pid = process.pid;
    if process.pm2_env.status != "online" || pid == 0 {
        return Err(format!("the process is {} with pid {pid}", process.pm2_env.status).into());
    }
    deleted.map_err(failure)?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if command.contains("sleeper.js") {
        return Err(format!("process {pid} still runs after `pm2 delete`").into());
    }
    Ok("starts, lists and deletes a process".to_owned())
}

fn listed(host: &Host) -> Result<Listed, String> {
    let output = host.user_stdout(&["pm2", "jlist"], None)?;
    // If the command starts the daemon, its messages come before the list.
    let json = output.lines().rev().find(|l| l.starts_with("[{") || *l == "[]").unwrap_or_default();
    let all: Vec<Listed> =
        serde_json::from_str(json).map_err(|e| format!("cannot parse the output of `pm2 jlist`: {e}"))?;
    all.into_iter().find(|p| p.name == PROCESS).ok_or_else(|| "`pm2 jlist` does not list the process".to_owned())
}

/// logrotate rotates a log above the limit, in MiB, and its timer is enabled and active.
fn logs(host: &Host, limit: u64) -> CheckResult {
    host.booted()?;
    let timer = host.stdout(&["systemctl", "show", "logrotate.timer", "-p", "ActiveState", "-p", "UnitFileState"])?;
    if !timer.contains("ActiveState=active") || !timer.contains("UnitFileState=enabled") {
        return Err(format!("logrotate.timer is not enabled and active: {}", timer.trim().replace('\n', ", ")).into());
    }
    let scratch = host.scratch()?;
    let log = Log::create(host, limit).map_err(|e| Failure::from(e).caused_by("pm2-process"))?;
    // Another state file: the instance's has the time of the last rotation of each log.
    let line = ["logrotate", "-s", &scratch.join("state"), "/etc/logrotate.conf"];
    let output = host.run(&line)?;
    let size = fs::metadata(&log.file).map_or(0, |m| m.len());
    if size > limit << 20 || log.rotated().is_empty() {
        return Err(
            format!("a log of {} MiB is not rotated; `{}` {}", size >> 20, line.join(" "), output.summary()).into()
        );
    }
    Ok(format!("a log of more than {limit} MiB is rotated"))
}

/// A log file in PM2's directory; dropping this removes it and its rotated copies.
struct Log {
    dir: std::path::PathBuf,
    file: std::path::PathBuf,
}

impl Log {
    fn create(host: &Host, limit: u64) -> Result<Self, String> {
        let dir = host.user.home.join(".pm2/logs");
        let log = Self { file: dir.join(format!("{PROCESS}-rotate.log")), dir };
        // As the user, who owns the directory.
        let size = format!("{}M", limit + 1);
        host.user_stdout(&["truncate", "-s", &size, &log.file.to_string_lossy()], None)?;
        Ok(log)
    }

    /// The files beside the log whose names are its name and a suffix.
    fn rotated(&self) -> Vec<std::path::PathBuf> {
        let all = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|e| e.path());
        let start = self.file.to_string_lossy().into_owned() + ".";
        all.filter(|p| p.to_string_lossy().starts_with(&start)).collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        for file in self.rotated().iter().chain([&self.file]) {
            let _ = fs::remove_file(file);
        }
    }
}

/// The unit is enabled, and active after this boot.
fn boot_unit(host: &Host, unit: &str) -> CheckResult {
    host.booted()?;
    let output = host.stdout(&["systemctl", "show", unit, "-p", "UnitFileState", "-p", "ActiveState"])?;
    let value = |name: &str| output.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("unknown").to_owned();
    let (enabled, active) = (value("UnitFileState="), value("ActiveState="));
    if enabled != "enabled" {
        return Err(format!("{unit} is {enabled}: it does not start at boot").into());
    }
    if active != "active" {
        Err(format!("{unit} is {active}").into())
    } else {
        Ok(format!("{unit} is enabled and active"))
    }
}
