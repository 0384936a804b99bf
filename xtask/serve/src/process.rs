//! Runs `xtask`: short commands whose result is awaited, and builds whose events are read line by line. The only module that starts processes.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Semaphore;
use xtask::cli::On;

use crate::settings::Settings;

/// Commands that are awaited at the same time.
const AT_ONCE: usize = 4;
/// The variables of this process that a child must not have: the server's own secrets, and the crate that `cargo run` set.
const REMOVED: &[&str] = &["AGENT_AMI_SERVE_DATABASE_URL", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME"];

/// How to run `xtask`.
#[derive(Debug)]
pub struct Xtask {
    program: PathBuf,
    root: PathBuf,
    state: PathBuf,
    on: On,
    slots: Semaphore,
}

/// The result that a command printed as its last line.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Outcome {
    pub ok: bool,
    /// The exit code.
    pub exit: u8,
    pub summary: String,
    pub error: Option<String>,
    #[serde(default)]
    pub data: Value,
}

/// A running command.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    // The child ends when the kernel closes this pipe, also if this process is killed.
    _supervision: ChildStdin,
}

impl Xtask {
    pub fn new(settings: &Settings) -> Self {
        let Settings { xtask, root, state, on, .. } = settings;
        Self {
            program: xtask.clone(),
            root: root.clone(),
            state: state.clone(),
            on: *on,
            slots: Semaphore::new(AT_ONCE),
        }
    }

    /// Starts a command.
    #[expect(clippy::disallowed_methods, reason = "this is the module that starts processes")]
    pub fn start(&self, words: &[String]) -> std::io::Result<Running> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(["--format=json", "--yes", "--on", self.on.name(), "--state"]).arg(&self.state).args(words);
        command.current_dir(&self.root).env("CARGO_MANIFEST_DIR", self.root.join("xtask"));
        for name in REMOVED {
            command.env_remove(name);
        }
        // Its own group, so that Ctrl-C reaches only the server, which waits for its builds.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let missing = || std::io::Error::other("a pipe of the process is missing");
        let (stdin, stdout) = (child.stdin.take().ok_or_else(missing)?, child.stdout.take().ok_or_else(missing)?);
        Ok(Running { child, lines: BufReader::new(stdout).lines(), _supervision: stdin })
    }

    /// Runs a command to its end and returns its result. An error if it takes longer than `timeout` or ends without a result.
    pub async fn query(&self, words: &[String], timeout: Duration) -> Result<Outcome, String> {
        let _slot = self.slots.acquire().await.map_err(|e| e.to_string())?;
        let run = async {
            let mut running = self.start(words).map_err(|e| format!("cannot run {}: {e}", self.program.display()))?;
            let mut last = None;
            while let Some(line) = running.next_line().await {
                last = outcome(&line).or(last);
            }
            let code = running.end().await;
            last.ok_or_else(|| format!("`xtask {}` ended with {code} and no result", words.join(" ")))
        };
        match tokio::time::timeout(timeout, run).await {
            Ok(result) => result,
            Err(_) => Err(format!("`xtask {}` takes longer than {} seconds", words.join(" "), timeout.as_secs())),
        }
    }
}

/// The result, if the line is one.
pub fn outcome(line: &str) -> Option<Outcome> {
    // Only the last line of a command has it, and most lines are long outputs.
    if !line.contains("\"result\"") {
        return None;
    }
    let value: Value = serde_json::from_str(line).ok()?;
    (value.get("event")? == "result").then(|| serde_json::from_value(value).ok())?
}

impl Running {
    /// The next line of its output; `None` at the end.
    pub async fn next_line(&mut self) -> Option<String> {
        // A line that is not UTF-8 ends the output like a closed pipe.
        self.lines.next_line().await.ok().flatten()
    }

    /// Sends a signal. The first SIGTERM makes `xtask` clean up and end, the second one end at once.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // Fails if it has ended already.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()?).ok()?)
    }

    /// Waits for its end. Returns how it ended, as text.
    pub async fn end(mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}
