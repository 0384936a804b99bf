//! `DISPATCH_ISOLATE=1`: the agent, here a script, attempts to leave its systemd unit, and each attempt must be refused. The metadata service
//! is that of the instance, or a listener on its address where there is none.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

use smoke::spec::Dispatch;

use crate::check::{Check, CheckResult, Failure, Host};

/// The agent. It prints a line for each attempt.
const ATTEMPTS: &str = include_str!("isolate/attempts.sh");

/// Addresses of the instance metadata service and of the credentials endpoint of containers.
const CREDENTIALS: [&str; 2] = ["169.254.169.254", "169.254.170.2"];

/// Exit code of dispatch where the machine does not enforce the sandbox of a unit.
const NO_SANDBOX: i32 = 69;
/// Part of its message then (scripts/agent/lib/isolated.sh).
const NO_SANDBOX_MESSAGE: &str = "this machine does not enforce";

/// Command line of a background process that the agent starts.
const BACKGROUND_PROCESS: &str = "sleep 8642";

/// The unit in which root calls the script. The check `systemd-units`, which runs at the same time, ignores it: a failed unit exists for a moment.
const UNIT: &str = "--unit=smoke-isolate";

pub(super) fn all(dispatch: Option<&Dispatch>) -> Vec<Check> {
    let Some(dispatch) = dispatch.filter(|d| d.isolate).cloned() else { return vec![] };
    vec![Check::new("dispatch-isolates", move |host| isolates(host, &dispatch))]
}

fn isolates(host: &Host, dispatch: &Dispatch) -> CheckResult {
    let dirs = Directories::create(host)?;
    let _listeners = listeners(host)?;
    let script = format!("{}/dispatch.sh", dispatch.scripts);
    let settings = [
        "--setenv=DISPATCH_ISOLATE=1".to_owned(),
        format!("--setenv=DISPATCH_HOME={}", dirs.home.display()),
        format!("--setenv=DISPATCH_PATH={}", dirs.bin.display()),
        "--setenv=DISPATCH_TASKS=200".to_owned(),
        "--setenv=DISPATCH_MEMORY=300M".to_owned(),
        "--setenv=ANTHROPIC_API_KEY=sk-smoke-isolated".to_owned(),
    ];
    let mut line = vec!["systemd-run", "--quiet", "--wait", "--pipe", "--collect", UNIT];
    line.extend(settings.iter().map(String::as_str));
    line.extend(["--", script.as_str(), "a task"]);
    let (output, properties) = while_reading_properties(host, || host.run(&line));
    let output = output?;
    let no_sandbox = output.stderr.contains(NO_SANDBOX_MESSAGE) || output.stdout.contains(NO_SANDBOX_MESSAGE);
    if output.code == Some(NO_SANDBOX) && no_sandbox && host.run(&["systemd-detect-virt", "--container"])?.ok() {
        return Ok(format!("refused in a container: {}", output.summary()));
    }
    if !output.ok() {
        // The dispatch scripts require jq.
        return Err(Failure::from(format!("`{}` {}", line.join(" "), output.summary())).caused_by("tool-jq"));
    }
    let refused = attempts_refused(&output.stdout)?;
    if !properties.contains("LoadCredential=") {
        return Err("no unit of an isolated run was found, or it has no LoadCredential=".into());
    }
    if properties.contains("sk-smoke-isolated") {
        return Err("the properties of the unit contain the agent's API key".into());
    }
    if host.run(&["pgrep", "-fx", BACKGROUND_PROCESS])?.ok() {
        return Err("a background process of the agent still runs".into());
    }
    Ok(format!("{} attempts refused: {}", refused.len(), refused.join(", ")))
}

/// Names of the refused attempts. An error if an attempt succeeded, if something that an agent needs failed, or if the script did not finish.
fn attempts_refused(output: &str) -> Result<Vec<&str>, String> {
    let findings: Vec<&str> =
        output.lines().filter(|l| l.starts_with("escaped ") || l.starts_with("broken ")).collect();
    if !findings.is_empty() {
        return Err(findings.join("; "));
    }
    if !output.lines().any(|l| l == "finished") {
        return Err(format!("the agent did not finish: {}", output.lines().last().unwrap_or("no output")));
    }
    let names =
        |result| output.lines().filter_map(move |l| l.strip_prefix(result)?.split_once(": ")).map(|(name, _)| name);
    // The numbers of attempts and controls in the script.
    let lines = |start: &str| ATTEMPTS.lines().filter(|l| l.trim_start().starts_with(start)).count();
    let (refused, worked): (Vec<&str>, usize) = (names("refused ").collect(), names("works ").count());
    let attempts = lines("attempt ") + lines("in_shell ") + lines("in_python ");
    if refused.len() < attempts || worked != lines("works ") {
        return Err(format!("only {} of {attempts} attempts and {worked} controls have a result", refused.len()));
    }
    Ok(refused)
}

/// Calls `run`, and meanwhile collects the properties of the units of isolated runs, which every user can read.
fn while_reading_properties<T>(host: &Host, run: impl FnOnce() -> T) -> (T, String) {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut properties = String::new();
            while !ended.load(Ordering::Relaxed) {
                let line = ["systemctl", "show", "--all", "agent-ami-*.service"];
                properties.push_str(&host.stdout(&line).unwrap_or_default());
                thread::sleep(Duration::from_secs(2));
            }
            properties
        });
        let result = run();
        ended.store(true, Ordering::Relaxed);
        (result, reader.join().unwrap_or_default())
    })
}

/// Directories of one run; dropping this removes them.
struct Directories {
    bin: PathBuf,
    home: PathBuf,
}

impl Directories {
    /// The unit must be able to read and execute the agent: it has a private /tmp, and /run is mounted noexec. The agent writes to its user's
    /// home.
    fn create(host: &Host) -> Result<Self, String> {
        let entry = host.stdout(&["getent", "passwd", "agent"])?;
        let home = PathBuf::from(entry.split(':').nth(5).ok_or("the user `agent` has no home")?);
        let name = format!("smoke-{}", std::process::id());
        let dirs = Self { bin: home.with_file_name(format!("{name}-bin")), home: home.join(name) };
        let agent = dirs.bin.join("claude");
        let login_home = host.user.home.to_string_lossy();
        let attempts = ATTEMPTS.replace("@LOGIN_USER@", &host.user.name).replace("@LOGIN_HOME@", &login_home);
        fs::create_dir(&dirs.bin)
            .and_then(|()| fs::write(&agent, attempts))
            .and_then(|()| fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::set_permissions(&dirs.bin, fs::Permissions::from_mode(0o755)))
            .map_err(|e| format!("{}: {e}", agent.display()))?;
        Ok(dirs)
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        for dir in [&self.bin, &self.home] {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

/// Listeners on addresses added to `lo`; dropping this removes the addresses.
struct Listeners<'a> {
    host: &'a Host,
    added: Vec<(String, TcpListener)>,
}

impl Drop for Listeners<'_> {
    fn drop(&mut self) {
        for (address, _) in &self.added {
            let _ = self.host.stdout(&["ip", "address", "del", address, "dev", "lo"]);
        }
    }
}

/// Listens on each address of [`CREDENTIALS`] that does not answer: without a server, an attempt to connect would fail in any case.
fn listeners(host: &Host) -> Result<Listeners<'_>, String> {
    let mut listeners = Listeners { host, added: Vec::new() };
    for ip in CREDENTIALS {
        let socket: SocketAddr = format!("{ip}:80").parse().map_err(|e| format!("{ip}: {e}"))?;
        if TcpStream::connect_timeout(&socket, Duration::from_secs(3)).is_ok() {
            continue;
        }
        let address = format!("{ip}/32");
        host.stdout(&["ip", "address", "add", &address, "dev", "lo"])?;
        match TcpListener::bind(socket) {
            Ok(listener) => listeners.added.push((address, listener)),
            Err(e) => {
                let _ = host.stdout(&["ip", "address", "del", &address, "dev", "lo"]);
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

    /// Output of the script where all attempts are refused.
    fn good() -> String {
        let mut output: String = (0..80).map(|n| format!("refused way-{n}: no\n")).collect();
        let works = ATTEMPTS.lines().filter(|l| l.starts_with("works ")).count();
        output.extend((0..works).map(|n| format!("works thing-{n}: yes\n")));
        output + "finished\n"
    }

    #[test]
    fn one_escape_fails_the_check() {
        assert_eq!(attempts_refused(&good()).unwrap().len(), 80);
        let escaped = good() + "escaped sudo: root\n";
        assert_eq!(attempts_refused(&escaped).unwrap_err(), "escaped sudo: root");
    }

    #[test]
    fn incomplete_output_fails_the_check() {
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
