//! `DISPATCH_ISOLATE=1`: an agent in a unit of its own tries to get out of it, and every way is refused. The agent is a script; the metadata
//! service is the instance's own, or a listener at its address where there is none.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

use smoke::spec::Dispatch;

use super::{Check, Failure, Host, Verdict};

/// What the agent tries, a line of output for each.
const ATTEMPTS: &str = include_str!("isolate/attempts.sh");

/// Where EC2 has the instance metadata service, and where containers get credentials.
const CREDENTIALS: [&str; 2] = ["169.254.169.254", "169.254.170.2"];

/// What dispatch ends with where the machine cannot hold a unit to its sandbox.
const NOT_HERE: i32 = 69;
/// And what it says then.
const UNABLE: &str = "does not hold a unit to";

/// The process that the agent leaves behind.
const LEFT: &str = "sleep 8642";

pub(super) fn all(dispatch: Option<&Dispatch>) -> Vec<Check> {
    let Some(dispatch) = dispatch.filter(|d| d.isolate).cloned() else { return vec![] };
    vec![Check::new("dispatch-isolates", move |host| isolates(host, &dispatch))]
}

fn isolates(host: &Host, dispatch: &Dispatch) -> Verdict {
    let place = Place::make(host)?;
    let _listeners = listeners(host)?;
    let script = format!("{}/dispatch.sh", dispatch.scripts);
    let settings = [
        "--setenv=DISPATCH_ISOLATE=1".to_owned(),
        format!("--setenv=DISPATCH_HOME={}", place.home.display()),
        format!("--setenv=DISPATCH_PATH={}", place.bin.display()),
        "--setenv=DISPATCH_TASKS=200".to_owned(),
        "--setenv=DISPATCH_MEMORY=300M".to_owned(),
        "--setenv=ANTHROPIC_API_KEY=sk-smoke-isolated".to_owned(),
    ];
    let mut line = vec!["systemd-run", "--quiet", "--wait", "--pipe", "--collect"];
    line.extend(settings.iter().map(String::as_str));
    line.extend(["--", script.as_str(), "a task"]);
    let (output, shown) = while_shown(host, || host.root(&line, host.deadline));
    let output = output?;
    let said = output.stderr.contains(UNABLE) || output.stdout.contains(UNABLE);
    if output.code == Some(NOT_HERE) && said && host.root(&["systemd-detect-virt", "--container"], host.deadline)?.ok()
    {
        return Ok(format!("refused in a container: {}", output.gist()));
    }
    if !output.ok() {
        // jq is what dispatch itself needs.
        return Err(Failure::from(format!("`{}` {}", line.join(" "), output.gist())).follows("tool-jq"));
    }
    let refused = attempts_refused(&output.stdout)?;
    if !shown.contains("LoadCredential=") || shown.contains("sk-smoke-isolated") {
        return Err("a key stands among the unit's properties, or no unit was seen".into());
    }
    if host.root(&["pgrep", "-fx", LEFT], host.deadline)?.ok() {
        return Err("what the agent left behind goes on".into());
    }
    Ok(format!("{} ways out refused: {}", refused.len(), refused.join(", ")))
}

/// Names of what was refused; an error if anything was not, or if the agent could not work or did not finish.
fn attempts_refused(said: &str) -> Result<Vec<&str>, String> {
    let wrong: Vec<&str> = said.lines().filter(|l| l.starts_with("escaped ") || l.starts_with("broken ")).collect();
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    if !said.lines().any(|l| l == "finished") {
        return Err(format!("the agent did not finish: {}", said.lines().last().unwrap_or("it said nothing")));
    }
    let names =
        |verdict| said.lines().filter_map(move |l| l.strip_prefix(verdict)?.split_once(": ")).map(|(name, _)| name);
    // As many as the script has.
    let lines = |start: &str| ATTEMPTS.lines().filter(|l| l.trim_start().starts_with(start)).count();
    let (refused, worked): (Vec<&str>, usize) = (names("refused ").collect(), names("works ").count());
    let tried = lines("attempt ") + lines("in_shell ") + lines("in_python ");
    if refused.len() < tried || worked != lines("works ") {
        return Err(format!("only {} of {tried} attempts and {worked} controls answered", refused.len()));
    }
    Ok(refused)
}

/// Runs it, and meanwhile collects what systemd shows of isolated runs to whoever asks.
fn while_shown<T>(host: &Host, run: impl FnOnce() -> T) -> (T, String) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let shown = scope.spawn(|| {
            let mut shown = String::new();
            while !ended.load(Ordering::Relaxed) {
                let line = ["systemctl", "show", "--all", "agent-ami-*.service"];
                shown.push_str(&host.ask(&line).unwrap_or_default());
                thread::sleep(Duration::from_secs(2));
            }
            shown
        });
        let answer = run();
        ended.store(true, Ordering::Relaxed);
        (answer, shown.join().unwrap_or_default())
    })
}

/// Folders for one run, which go when this is dropped.
struct Place {
    bin: PathBuf,
    home: PathBuf,
}

impl Place {
    /// The agent's stand-in lies where the unit can read and run it: its /tmp is its own, and /run is mounted noexec. What it makes lies in its
    /// user's home.
    fn make(host: &Host) -> Result<Self, String> {
        let entry = host.ask(&["getent", "passwd", "agent"])?;
        let home = PathBuf::from(entry.split(':').nth(5).ok_or("the user agent has no home")?);
        let name = format!("smoke-{}", std::process::id());
        let place = Self { bin: home.with_file_name(format!("{name}-bin")), home: home.join(name) };
        let agent = place.bin.join("claude");
        fs::create_dir(&place.bin)
            .and_then(|()| fs::write(&agent, ATTEMPTS))
            .and_then(|()| fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::set_permissions(&place.bin, fs::Permissions::from_mode(0o755)))
            .map_err(|e| format!("{}: {e}", agent.display()))?;
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for folder in [&self.bin, &self.home] {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Addresses of `lo` that listen until this is dropped.
struct Listeners<'a> {
    host: &'a Host,
    added: Vec<(String, TcpListener)>,
}

impl Drop for Listeners<'_> {
    fn drop(&mut self) {
        for (address, _) in &self.added {
            let _ = self.host.ask(&["ip", "address", "del", address, "dev", "lo"]);
        }
    }
}

/// Something that answers at each address from which credentials come, so that a refusal says something.
fn listeners(host: &Host) -> Result<Listeners<'_>, String> {
    let mut listeners = Listeners { host, added: Vec::new() };
    for ip in CREDENTIALS {
        let socket: SocketAddr = format!("{ip}:80").parse().map_err(|e| format!("{ip}: {e}"))?;
        if TcpStream::connect_timeout(&socket, Duration::from_secs(3)).is_ok() {
            continue;
        }
        let address = format!("{ip}/32");
        host.ask(&["ip", "address", "add", &address, "dev", "lo"])?;
        match TcpListener::bind(socket) {
            Ok(listener) => listeners.added.push((address, listener)),
            Err(e) => {
                let _ = host.ask(&["ip", "address", "del", &address, "dev", "lo"]);
                return Err(format!("{socket}: {e}"));
            }
        }
        TcpStream::connect_timeout(&socket, Duration::from_secs(10)).map_err(|e| format!("{socket}: {e}"))?;
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the script prints where everything is as it must be.
    fn good() -> String {
        let mut said: String = (0..80).map(|n| format!("refused way-{n}: no\n")).collect();
        let works = ATTEMPTS.lines().filter(|l| l.starts_with("works ")).count();
        said.extend((0..works).map(|n| format!("works thing-{n}: yes\n")));
        said + "finished\n"
    }

    #[test]
    fn one_way_out_is_enough_to_fail() {
        assert_eq!(attempts_refused(&good()).unwrap().len(), 80);
        let escaped = good() + "escaped sudo: root\n";
        assert_eq!(attempts_refused(&escaped).unwrap_err(), "escaped sudo: root");
    }

    #[test]
    fn an_agent_that_cannot_work_or_did_not_try_all_proves_nothing() {
        assert!(
            attempts_refused(&good().replace("works thing-0", "broken thing-0"))
                .unwrap_err()
                .contains("broken thing-0")
        );
        assert!(attempts_refused(&good().replace("finished\n", "")).unwrap_err().contains("did not finish"));
        let few: String = good().lines().skip(60).map(|l| format!("{l}\n")).collect();
        assert!(attempts_refused(&few).unwrap_err().contains("attempts"));
    }
}
