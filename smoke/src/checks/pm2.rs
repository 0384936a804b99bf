//! PM2: it keeps a process for the login user, and comes up at boot.

use std::fs;

use serde::Deserialize;
use smoke::spec::Pm2;

use super::{Check, Failure, Host, Verdict};

const PROCESS: &str = "agent-ami-smoke";

pub(super) fn all(pm2: Option<&Pm2>) -> Vec<Check> {
    let Some(pm2) = pm2.cloned() else { return vec![] };
    let unit = pm2.unit.clone();
    let mut checks =
        vec![Check::new("pm2-process", process), Check::new("pm2-boot-unit", move |host| boot_unit(host, &unit))];
    checks.extend(pm2.log_max_mib.map(|most| Check::new("pm2-logs", move |host| logs(host, most))));
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

/// A process is started, listed as online, really runs, and is gone when it is deleted.
fn process(host: &Host) -> Verdict {
    host.booted()?;
    let scratch = host.scratch()?;
    let script = scratch.write("sleeper.js", "setInterval(() => {}, 1000);\n")?;
    let follows = |e: String| Failure::from(e).follows("tool-pm2");
    host.ask_as_user(&["pm2", "start", &script, "--name", PROCESS], None).map_err(follows)?;
    let found = listed(host);
    let deleted = host.ask_as_user(&["pm2", "delete", PROCESS], None);
    let process = found.map_err(follows)?;
    let pid = process.pid;
    if process.pm2_env.status != "online" || pid == 0 {
        return Err(format!("the process is {} with pid {pid}", process.pm2_env.status).into());
    }
    deleted.map_err(follows)?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if command.contains("sleeper.js") {
        return Err(format!("the process with pid {pid} still runs after `pm2 delete`").into());
    }
    Ok("a process starts, is listed, and is gone when deleted".to_owned())
}

fn listed(host: &Host) -> Result<Listed, String> {
    let said = host.ask_as_user(&["pm2", "jlist"], None)?;
    // A daemon that was just started announces itself before the list.
    let json = said.lines().rev().find(|l| l.starts_with("[{") || *l == "[]").unwrap_or_default();
    let all: Vec<Listed> = serde_json::from_str(json).map_err(|e| format!("`pm2 jlist` said no list: {e}"))?;
    all.into_iter().find(|p| p.name == PROCESS).ok_or_else(|| "`pm2 jlist` does not list the process".to_owned())
}

/// A log that is longer than the limit is rotated by what the timer starts, and the timer waits.
fn logs(host: &Host, most: u64) -> Verdict {
    host.booted()?;
    let timer = host.ask(&["systemctl", "show", "logrotate.timer", "-p", "ActiveState", "-p", "UnitFileState"])?;
    if !timer.contains("ActiveState=active") || !timer.contains("UnitFileState=enabled") {
        return Err(format!("logrotate.timer does not wait: {}", timer.trim().replace('\n', ", ")).into());
    }
    let scratch = host.scratch()?;
    let follows = |e: String| Failure::from(e).follows("pm2-process");
    let log = Log::make(host, most).map_err(follows)?;
    // With a state file of its own: the instance's says when each log was rotated last.
    let line = ["logrotate", "-s", &scratch.join("state"), "/etc/logrotate.conf"];
    let output = host.root(&line, host.deadline)?;
    let left = fs::metadata(&log.file).map_or(0, |m| m.len());
    if left > most << 20 || log.rotated().is_empty() {
        return Err(
            format!("a log of {} MiB stays as it is; `{}` {}", left >> 20, line.join(" "), output.gist()).into()
        );
    }
    Ok(format!("a log of more than {most} MiB is rotated"))
}

/// A log of PM2's, and what becomes of it; both go when this is dropped.
struct Log {
    folder: std::path::PathBuf,
    file: std::path::PathBuf,
}

impl Log {
    fn make(host: &Host, most: u64) -> Result<Self, String> {
        let folder = host.user.home.join(".pm2/logs");
        let log = Self { file: folder.join(format!("{PROCESS}-rotate.log")), folder };
        // As the user: the folder is his.
        let size = format!("{}M", most + 1);
        host.ask_as_user(&["truncate", "-s", &size, &log.file.to_string_lossy()], None)?;
        Ok(log)
    }

    /// What stands beside the log under its name with something behind it.
    fn rotated(&self) -> Vec<std::path::PathBuf> {
        let all = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|e| e.path());
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

/// The unit is enabled, and it came up at this boot.
fn boot_unit(host: &Host, unit: &str) -> Verdict {
    host.booted()?;
    let said = host.ask(&["systemctl", "show", unit, "-p", "UnitFileState", "-p", "ActiveState"])?;
    let value = |name: &str| said.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("unknown").to_owned();
    let (enabled, active) = (value("UnitFileState="), value("ActiveState="));
    if enabled != "enabled" {
        return Err(format!("{unit} is {enabled}: it does not come up at boot").into());
    }
    if active != "active" {
        Err(format!("{unit} is {active}").into())
    } else {
        Ok(format!("{unit} is enabled and active"))
    }
}
