//! Runs programs with a deadline. The only place in the judge that spawns a process: whatever is started here is gone, with
//! all its children, when its time is over.

use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// More than this of a program's output is not kept.
const MOST: u64 = 4 << 20;
/// How long a daemon that was left behind may hold the pipes after its parent ended.
const GRACE: Duration = Duration::from_millis(300);

/// How a program ended and what it said.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub(crate) fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// The line that tells most, for a message: one that speaks of an error, else the last one.
    pub(crate) fn gist(&self) -> String {
        let telling = |line: &&str| {
            let line = line.to_lowercase();
            ["eacces", "error:", "denied", "not found", "no such"].iter().any(|word| line.contains(word))
        };
        let lines = || self.stdout.lines().chain(self.stderr.lines()).map(str::trim).filter(|l| !l.is_empty());
        let said = lines().rfind(telling).or_else(|| lines().next_back()).unwrap_or("it said nothing");
        let code = self.code.map_or("a signal".to_owned(), |c| c.to_string());
        format!("ended with {code}: {said}")
    }
}

/// A program that has not been started yet.
#[expect(clippy::disallowed_methods, reason = "this is the one place where the judge spawns")]
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}

/// Runs a program to its end. An error says that it could not be started or did not end in time.
pub(crate) fn run(mut command: Command, input: &str, deadline: Instant) -> Result<Output, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|e| format!("{name} cannot be started: {e}"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read its input closes it; that is its right.
        let _ = pipe.write_all(input.as_bytes());
    }
    let code = wait(child, deadline).map_err(|e| format!("{name} {e}"))?;
    Ok(Output { code, stdout: stdout.text(), stderr: stderr.text() })
}

fn wait(mut child: Child, deadline: Instant) -> Result<Option<i32>, String> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            return Ok(status.code());
        }
        if Instant::now() >= deadline {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            return Err(format!("did not end within {} s", started.elapsed().as_secs()));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// What a thread reads from a pipe.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<()>,
}

impl Collected {
    fn text(self) -> String {
        let _ = self.ended.recv_timeout(GRACE);
        let bytes = self.bytes.lock().map(|b| b.clone()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let (tell, ended) = mpsc::channel();
    let sink = Arc::clone(&bytes);
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        let mut pipe = pipe.map(|p| p.take(MOST));
        while let Some(Ok(read @ 1..)) = pipe.as_mut().map(|p| p.read(&mut buffer)) {
            if let Ok(mut sink) = sink.lock() {
                sink.extend_from_slice(&buffer[..read]);
            }
        }
        let _ = tell.send(());
    });
    Collected { bytes, ended }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &str, millis: u64) -> Result<Output, String> {
        let mut command = program("sh");
        command.args(["-c", script]);
        run(command, input, Instant::now() + Duration::from_millis(millis))
    }

    #[test]
    fn output_input_and_exit_code() {
        let output = sh("cat; echo oops >&2; exit 3", "in", 5000).unwrap();
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(3), "in", "oops\n"));
        assert_eq!(output.gist(), "ended with 3: oops");
    }

    #[test]
    fn the_whole_group_is_killed_at_the_deadline() {
        let dir = std::env::temp_dir().join(format!("smoke-exec-{}", std::process::id()));
        let script = format!("(sleep 1; touch {}) & sleep 30", dir.display());
        let started = Instant::now();
        assert!(sh(&script, "", 200).unwrap_err().contains("did not end within"));
        assert!(started.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(1500));
        assert!(!dir.exists(), "a child outlived its deadline");
    }

    #[test]
    fn a_daemon_that_holds_the_pipe_does_not_hold_us() {
        let started = Instant::now();
        let output = sh("setsid sleep 20 & echo started", "", 10_000).unwrap();
        assert_eq!(output.stdout, "started\n");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
