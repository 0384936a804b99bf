//! Runs programs with a deadline. No other module of the smoke binary starts a process. At the deadline the program is killed with
//! its process group.

use std::io::{Read, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Bytes kept of each output stream; the rest is read and dropped.
const MAX_OUTPUT: usize = 4 << 20;

/// Exit code and output of a program.
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

    /// Standard output; an error that names the command line if the exit code is not 0.
    pub(crate) fn into_stdout(self, line: &[&str]) -> Result<String, String> {
        if self.ok() { Ok(self.stdout) } else { Err(format!("`{}` {}", line.join(" "), self.summary())) }
    }

    /// Exit code and one line of output for a message: the last line that mentions an error, else the last line.
    pub(crate) fn summary(&self) -> String {
        let is_error = |line: &&str| {
            let line = line.to_lowercase();
            ["eacces", "error:", "denied", "not found", "no such"].iter().any(|word| line.contains(word))
        };
        let lines = || self.stdout.lines().chain(self.stderr.lines()).map(str::trim).filter(|l| !l.is_empty());
        let line = lines().rfind(is_error).or_else(|| lines().next_back()).unwrap_or("no output");
        match self.code {
            Some(code) => format!("exited with {code}: {line}"),
            None => format!("was ended by a signal: {line}"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the only place in the smoke binary that starts a process")]
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}

/// Runs a program as root in `/`, with the system's PATH and the locale C.UTF-8.
pub(crate) fn root(line: &[&str], deadline: Instant) -> Result<Output, String> {
    let (name, args) = line.split_first().ok_or("no program")?;
    let mut command = program(name);
    command.args(args).env("LC_ALL", "C.UTF-8").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    run(command, "", deadline)
}

/// Like [`root`], and returns standard output; an error if the exit code is not 0.
pub(crate) fn root_stdout(line: &[&str], deadline: Instant) -> Result<String, String> {
    root(line, deadline)?.into_stdout(line)
}

/// Runs a program and waits for it. An error if it cannot be started or does not end before the deadline.
pub(crate) fn run(mut command: Command, input: &str, deadline: Instant) -> Result<Output, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|e| format!("cannot start {name}: {e}"))?;
    let (mut stdout, mut stderr) = (Pipe::new(child.stdout.take()), Pipe::new(child.stderr.take()));
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.as_bytes().to_vec();
        // A program may close its standard input or not read it: an error here is ignored.
        thread::spawn(move || pipe.write_all(&input));
    }
    let code = wait(child, deadline, &mut || {
        stdout.drain();
        stderr.drain();
    });
    Ok(Output { code: code.map_err(|e| format!("{name} {e}"))?, stdout: stdout.text(), stderr: stderr.text() })
}

/// Waits for the program to end and calls `drain` to read its pipes. The last call comes after the end: everything that the program
/// wrote is in the pipes by then. Output that a daemon in the background writes later is not waited for.
fn wait(mut child: Child, deadline: Instant, drain: &mut dyn FnMut()) -> Result<Option<i32>, String> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let status = child.try_wait().map_err(|e| e.to_string())?;
        drain();
        if let Some(status) = status {
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

/// The reading end of a pipe, and what was read from it.
struct Pipe<R> {
    pipe: Option<R>,
    bytes: Vec<u8>,
}

impl<R: Read + AsFd> Pipe<R> {
    fn new(pipe: Option<R>) -> Self {
        // Reading a pipe that stays blocking could wait past the deadline, so it is not read.
        Self { pipe: pipe.filter(|p| rustix::io::ioctl_fionbio(p, true).is_ok()), bytes: Vec::new() }
    }

    /// Reads what is in the pipe now.
    fn drain(&mut self) {
        let mut buffer = [0; 8192];
        while let Some(Ok(read @ 1..)) = self.pipe.as_mut().map(|pipe| pipe.read(&mut buffer)) {
            let capacity = MAX_OUTPUT.saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(&buffer[..read.min(capacity)]);
        }
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
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
        assert_eq!(output.summary(), "exited with 3: oops");
    }

    #[test]
    fn the_process_group_is_killed_at_the_deadline() {
        let dir = std::env::temp_dir().join(format!("smoke-exec-{}", std::process::id()));
        let script = format!("(sleep 1; touch {}) & sleep 30", dir.display());
        let started = Instant::now();
        assert!(sh(&script, "", 200).unwrap_err().contains("did not end within"));
        assert!(started.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(1500));
        assert!(!dir.exists(), "a child process outlived the deadline");
    }

    /// On a busy machine a program may end before its output was read for the first time.
    #[test]
    fn output_written_before_the_end_is_complete() {
        let busy = std::sync::atomic::AtomicBool::new(true);
        let spin = || {
            while busy.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(spin);
            }
            for _ in 0..50 {
                let output = sh("printf '%060000d' 7; echo oops >&2", "", 20_000).unwrap();
                assert_eq!((output.stdout.len(), output.stderr.as_str()), (60_000, "oops\n"));
            }
            busy.store(false, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn a_daemon_that_keeps_the_pipe_open_is_not_waited_for() {
        let started = Instant::now();
        let output = sh("setsid sleep 20 & echo started", "", 10_000).unwrap();
        assert_eq!(output.stdout, "started\n");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
