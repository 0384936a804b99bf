//! The dispatch scripts: root owns them, and the user's directory has links to them. Called by root without a terminal, as Systems Manager
//! does, they run the agent as the user, and root executes nothing that the user can write. The agent in these checks is a script that prints
//! its user, groups and environment.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use smoke::spec::Dispatch;

use crate::check::{Check, CheckResult, Failure, Host};

const OWNED: &str = "dispatch-is-roots";
const DROPS: &str = "dispatch-drops";
/// The dispatch scripts write JSON with jq.
/// The unit in which root calls the script. The check `systemd-units`, which runs at the same time, ignores it: a failed unit exists for a moment.
const UNIT: &str = "--unit=smoke-dispatch";
const JQ: &str = "tool-jq";

/// The agent: prints its identity and some variables, and creates a file.
const AGENT: &str = r#"#!/bin/bash
echo "uid=$(id -u)"
echo "gid=$(id -g)"
echo "groups=$(id -G | tr ' ' '\n' | sort -n | paste -sd,)"
echo "home=$HOME"
echo "privileges=$(grep NoNewPrivs /proc/self/status | cut -f 2)"
echo "key=${ANTHROPIC_API_KEY-none}"
echo "secret=${SMOKE_SECRET-none}"
echo "task=${*: -1}"
touch made
"#;

pub(super) fn all(dispatch: Option<&Dispatch>) -> Vec<Check> {
    let Some(dispatch) = dispatch.cloned() else { return vec![] };
    let (one, two, three) = (dispatch.clone(), dispatch.clone(), dispatch);
    vec![
        Check::new(OWNED, move |host| owned(host, &one)),
        Check::new(DROPS, move |host| drops(host, &two)),
        Check::new("dispatch-env-file", move |host| env_file(host, &three)),
    ]
}

/// Only root can write to the scripts and the directories above them, and the user's links point to them.
fn owned(host: &Host, dispatch: &Dispatch) -> CheckResult {
    let root = Path::new(&dispatch.scripts);
    let mut files = Vec::new();
    collect(root, &mut files)?;
    for path in files.iter().map(PathBuf::as_path).chain(root.ancestors()) {
        let found = fs::symlink_metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
        if found.uid() != 0 || found.mode() & 0o022 != 0 {
            return Err(format!("{} is writable by other accounts than root", path.display()).into());
        }
    }
    let home = host.user.home.join(&dispatch.links);
    let scripts: Vec<&PathBuf> = files.iter().filter(|f| f.parent() == Some(root) && is_script(f)).collect();
    for script in &scripts {
        let link = home.join(name(script));
        let target = fs::canonicalize(&link).map_err(|e| format!("{}: {e}", link.display()))?;
        if target != **script {
            return Err(format!("{} is a link to {}", link.display(), target.display()).into());
        }
    }
    for dir in ["runs", "repos"].map(|n| home.join(n)) {
        let found = fs::symlink_metadata(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        if !found.is_dir() || found.uid() != host.user.uid {
            return Err(format!("{} is not a directory that {} owns", dir.display(), host.user.name).into());
        }
    }
    if scripts.is_empty() {
        return Err(format!("{} has no dispatch script", root.display()).into());
    }
    Ok(format!("{} scripts", scripts.len()))
}

/// The agent ran as the user, with the user's groups and home. Of root's environment it got its API key only. The user owns the files that it
/// created.
fn drops(host: &Host, dispatch: &Dispatch) -> CheckResult {
    let output = dispatch_once(host, dispatch)?;
    let value = |name: &str| output.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=')).unwrap_or("missing");
    let groups = host.stdout(&["id", "-G", &host.user.name])?;
    let mut groups: Vec<u32> = groups.split_whitespace().filter_map(|g| g.parse().ok()).collect();
    groups.sort_unstable();
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    for (name, expected) in [
        ("uid", host.user.uid.to_string()),
        ("gid", host.user.gid.to_string()),
        ("groups", groups.join(",")),
        ("home", host.user.home.to_string_lossy().into_owned()),
        ("privileges", "1".to_owned()),
        ("key", "sk-smoke".to_owned()),
        ("secret", "none".to_owned()),
        ("task", "a task".to_owned()),
        ("status", "0".to_owned()),
        ("files of others", "0".to_owned()),
    ] {
        if value(name) != expected {
            return Err(format!("{name} is {}, expected {expected}", value(name)).into());
        }
    }
    Ok(format!("called by root, the agent runs as {}, groups {}", host.user.name, groups.join(",")))
}

/// The user's `.env` was read, but not as root.
fn env_file(host: &Host, dispatch: &Dispatch) -> CheckResult {
    let output = dispatch_once(host, dispatch).map_err(|e| match e.cause.as_deref() {
        Some(JQ) => e,
        _ => e.caused_by(DROPS),
    })?;
    let uids: Vec<&str> = output.lines().filter_map(|l| l.strip_prefix("env file as=")).collect();
    if uids.contains(&"0") {
        return Err("a command in the user's .env ran as root".into());
    }
    if uids.is_empty() {
        return Err(Failure::from(".env was not read").caused_by(DROPS));
    }
    Ok(format!(".env is read as uid {}", uids.join(", ")))
}

/// Calls dispatch.sh as root, once for all checks. Returns the output of the agent, then what was found in its directory.
fn dispatch_once(host: &Host, dispatch: &Dispatch) -> Result<String, Failure> {
    let output = host.once("dispatch", || {
        let scratch = host.scratch()?;
        let (bin, home) = (scratch.directory("bin")?, scratch.directory("executor")?);
        let agent = scratch.write("bin/claude", AGENT)?;
        fs::set_permissions(&agent, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(|e| e.to_string())?;
        // Created now, so that the user owns it even if root appends to it first.
        let payload = scratch.write("payload", "")?;
        scratch.write("executor/.env", &format!("id -u >>{payload}\n"))?;
        let script = host.user.home.join(&dispatch.links).join("dispatch.sh").to_string_lossy().into_owned();
        let settings = [
            format!("--setenv=DISPATCH_HOME={home}"),
            format!("--setenv=DISPATCH_PATH={bin}"),
            format!("--setenv=DISPATCH_USER={}", host.user.name),
            "--setenv=ANTHROPIC_API_KEY=sk-smoke".to_owned(),
            "--setenv=SMOKE_SECRET=root's".to_owned(),
        ];
        let mut line = vec!["systemd-run", "--quiet", "--wait", "--pipe", "--collect", UNIT];
        line.extend(settings.iter().map(String::as_str));
        line.extend(["--", script.as_str(), "a task"]);
        let mut output = host.stdout(&line)?;
        let mut files = Vec::new();
        collect(Path::new(&home), &mut files)?;
        let owner = |f: &PathBuf| fs::symlink_metadata(f).map_or(0, |m| m.uid());
        let others = files.iter().filter(|f| owner(f) != host.user.uid).count();
        let status = files.iter().find(|f| name(f) == "status").and_then(|f| fs::read_to_string(f).ok());
        let others = if files.iter().any(|f| name(f) == "made") { others.to_string() } else { "no file".to_owned() };
        output.push_str(&format!("status={}\nfiles of others={others}\n", status.unwrap_or_default().trim()));
        for uid in fs::read_to_string(&payload).unwrap_or_default().lines() {
            output.push_str(&format!("env file as={uid}\n"));
        }
        Ok(output)
    });
    output.map_err(|e| {
        // From the hint of scripts/agent/lib/run.sh.
        let cause = if e.contains("install jq") { JQ } else { OWNED };
        Failure::from(e).caused_by(cause)
    })
}

/// Adds all files and directories below a directory.
fn collect(dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    for entry in fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?.flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(&entry.path(), found)?;
        }
    }
    Ok(())
}

fn is_script(path: &Path) -> bool {
    name(path).starts_with("dispatch") && path.extension().is_some_and(|e| e == "sh")
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
