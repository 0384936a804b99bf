//! Runs programs with a deadline. The only place in the judge that spawns a process: whatever is started here is gone, with
//! all its children, when its time is over.

use std::io::{Read, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// More than this of a program's output is not kept.
const MOST: usize = 4 << 20;

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
    let (mut stdout, mut stderr) = (Pipe::new(child.stdout.take()), Pipe::new(child.stderr.take()));
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.as_bytes().to_vec();
        // A program that does not read its input closes it or leaves it; that is its right.
        thread::spawn(move || pipe.write_all(&input));
    }
    let code = wait(child, deadline, &mut || {
        stdout.drain();
        stderr.drain();
    });
    Ok(Output { code: code.map_err(|e| format!("{name} {e}"))?, stdout: stdout.text(), stderr: stderr.text() })
}

/// Waits for the end and has `drain` read what was written meanwhile: the last time when the program has ended, because what it wrote
/// is in the pipe by then, however busy the machine is. What a daemon that it left behind writes later is not waited for.
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

/// The reading end of a pipe, and what was read of it.
struct Pipe<R> {
    pipe: Option<R>,
    bytes: Vec<u8>,
}

impl<R: Read + AsFd> Pipe<R> {
    fn new(pipe: Option<R>) -> Self {
        // A pipe that cannot be set so is not read at all, rather than waited for.
        Self { pipe: pipe.filter(|p| rustix::io::ioctl_fionbio(p, true).is_ok()), bytes: Vec::new() }
    }

    /// Reads what is in the pipe now.
    fn drain(&mut self) {
        let mut buffer = [0; 8192];
        while let Some(Ok(read @ 1..)) = self.pipe.as_mut().map(|pipe| pipe.read(&mut buffer)) {
            let room = MOST.saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(&buffer[..read.min(room)]);
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

    /// A program that ends on a busy machine: what it wrote is there, whether or not anybody had time to read it before.
    #[test]
    fn nothing_that_was_written_is_lost() {
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
    fn a_daemon_that_holds_the_pipe_does_not_hold_us() {
        let started = Instant::now();
        let output = sh("setsid sleep 20 & echo started", "", 10_000).unwrap();
        assert_eq!(output.stdout, "started\n");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
