//! The dispatch scripts: root's, linked where the user looks for them; called by root they run an agent as the user, and nothing that the
//! user wrote as root. The agent is a stand-in that tells who it is; the way to it is that of Systems Manager: root, no terminal.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use smoke::spec::Dispatch;

use super::{Check, Failure, Host, Verdict};

const OWNED: &str = "dispatch-is-roots";
const DROPS: &str = "dispatch-drops";
/// The scripts write JSON with it.
const JQ: &str = "tool-jq";

/// Tells who it is.
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

/// Nobody but root can change what root runs, and the user's links lead there.
fn owned(host: &Host, dispatch: &Dispatch) -> Verdict {
    let root = Path::new(&dispatch.scripts);
    let mut files = Vec::new();
    collect(root, &mut files)?;
    for path in files.iter().map(PathBuf::as_path).chain(root.ancestors()) {
        let found = fs::symlink_metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
        if found.uid() != 0 || found.mode() & 0o022 != 0 {
            return Err(format!("{} can be changed by others than root", path.display()).into());
        }
    }
    let home = host.user.home.join(&dispatch.links);
    let scripts: Vec<&PathBuf> = files.iter().filter(|f| f.parent() == Some(root) && is_script(f)).collect();
    for script in &scripts {
        let link = home.join(name(script));
        let leads = fs::canonicalize(&link).map_err(|e| format!("{}: {e}", link.display()))?;
        if leads != **script {
            return Err(format!("{} leads to {}", link.display(), leads.display()).into());
        }
    }
    for folder in ["runs", "repos"].map(|n| home.join(n)) {
        let found = fs::symlink_metadata(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        if !found.is_dir() || found.uid() != host.user.uid {
            return Err(format!("{} is no folder of {}", folder.display(), host.user.name).into());
        }
    }
    if scripts.is_empty() {
        return Err(format!("{} holds no dispatch script", root.display()).into());
    }
    Ok(format!("{} scripts", scripts.len()))
}

/// The agent ran as the user, with the user's groups and home, its own key and nothing else of root's; what it made is the user's.
fn drops(host: &Host, dispatch: &Dispatch) -> Verdict {
    let told = told(host, dispatch)?;
    let said = |name: &str| told.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=')).unwrap_or("nothing");
    let groups = host.ask(&["id", "-G", &host.user.name])?;
    let mut groups: Vec<u32> = groups.split_whitespace().filter_map(|g| g.parse().ok()).collect();
    groups.sort_unstable();
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    for (what, wanted) in [
        ("uid", host.user.uid.to_string()),
        ("gid", host.user.gid.to_string()),
        ("groups", groups.join(",")),
        ("home", host.user.home.to_string_lossy().into_owned()),
        ("privileges", "1".to_owned()),
        ("key", "sk-smoke".to_owned()),
        ("secret", "none".to_owned()),
        ("task", "a task".to_owned()),
        ("status", "0".to_owned()),
        ("made by others", "0".to_owned()),
    ] {
        if said(what) != wanted {
            return Err(format!("{what} is {}, wanted {wanted}", said(what)).into());
        }
    }
    Ok(format!("root's call ran as {}, groups {}", host.user.name, groups.join(",")))
}

/// The user's env file was read, but never as root.
fn env_file(host: &Host, dispatch: &Dispatch) -> Verdict {
    let told = told(host, dispatch).map_err(|e| match e.follows.as_deref() {
        Some(JQ) => e,
        _ => e.follows(DROPS),
    })?;
    let ran: Vec<&str> = told.lines().filter_map(|l| l.strip_prefix("env file as=")).collect();
    if ran.contains(&"0") {
        return Err("what the user wrote into .env ran as root".into());
    }
    if ran.is_empty() {
        return Err(Failure::from(".env was not read").follows(DROPS));
    }
    Ok(format!("it runs as {}", ran.join(", ")))
}

/// What the agent told, and what was found afterwards; it is run once.
fn told(host: &Host, dispatch: &Dispatch) -> Result<String, Failure> {
    let told = host.once("dispatch", || {
        let scratch = host.scratch()?;
        let (bin, home) = (scratch.folder("bin")?, scratch.folder("executor")?);
        let agent = scratch.write("bin/claude", AGENT)?;
        fs::set_permissions(&agent, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(|e| e.to_string())?;
        // The user's, whoever writes into it first.
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
        let mut line = vec!["systemd-run", "--quiet", "--wait", "--pipe", "--collect"];
        line.extend(settings.iter().map(String::as_str));
        line.extend(["--", script.as_str(), "a task"]);
        let mut told = host.ask(&line)?;
        let mut files = Vec::new();
        collect(Path::new(&home), &mut files)?;
        let owner = |f: &PathBuf| fs::symlink_metadata(f).map_or(0, |m| m.uid());
        let others = files.iter().filter(|f| owner(f) != host.user.uid).count();
        let status = files.iter().find(|f| name(f) == "status").and_then(|f| fs::read_to_string(f).ok());
        let made =
            if files.iter().any(|f| name(f) == "made") { others.to_string() } else { "nothing was made".to_owned() };
        told.push_str(&format!("status={}\nmade by others={made}\n", status.unwrap_or_default().trim()));
        for uid in fs::read_to_string(&payload).unwrap_or_default().lines() {
            told.push_str(&format!("env file as={uid}\n"));
        }
        Ok(told)
    });
    told.map_err(|e| {
        let cause = if e.contains("install jq") { JQ } else { OWNED };
        Failure::from(e).follows(cause)
    })
}

/// The files and folders below a folder.
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
