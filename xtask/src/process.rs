//! The only module that spawns processes: short commands through xshell, long ones through duct.
//!
//! A command is displayed as a line that can be pasted into a shell, but it is run without one. Long-running children have their own
//! process groups, so that they receive signals from this process and not from the terminal at Ctrl-C.

use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use duct::unix::HandleExt as _;

use crate::error::{Error, Exit, Result};
use crate::event::Stream;
use crate::signals;

mod lines;

pub use lines::Tail;
use lines::for_each_line;

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// Time without output after which the pipe of a child that has ended is no longer read.
const SILENCE: Duration = Duration::from_secs(1);
/// Maximum time for which the pipe of a child that has ended is read, even if other processes write to it.
const DRAIN: Duration = Duration::from_secs(5);
/// Maximum number of lines of output in an error message.
pub const TAIL: usize = 40;
/// Maximum number of lines that are buffered. If the reader is slower, the pipe fills and the child blocks.
const BUFFERED: usize = 64;

/// A command to run: program, arguments, environment, working directory.
#[derive(Clone, Debug)]
pub struct Cmd {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    env_remove: Vec<String>,
    dir: Option<PathBuf>,
    stdin: Vec<u8>,
    hint: String,
    stop: (rustix::process::Signal, Duration),
}

/// Exit code and output of a command.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit code; 128 + n when signal n ended it, as in a shell.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// How a streamed command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// Stopped at its timeout.
    TimedOut,
}

impl Cmd {
    /// A command without arguments.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            env_remove: Vec::new(),
            dir: None,
            stdin: Vec::new(),
            hint: "run the command in a shell to see its full output".to_owned(),
            stop: (rustix::process::Signal::TERM, GRACE),
        }
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable of the child.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Removes a variable from the environment that the child inherits.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<String>) -> Self {
        self.env_remove.push(name.into());
        self
    }

    /// Removes the `CARGO_PKG_*` and `CARGO_MANIFEST_*` variables of this crate, which `cargo run` sets. Some build scripts, such as ring's,
    /// depend on them, so a nested cargo that inherits them rebuilds crates that one started from a shell does not.
    #[must_use]
    pub fn without_our_crate(self) -> Self {
        let of_crate = |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(of_crate);
        names.fold(self, Self::env_remove)
    }

    /// Sets the child's working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Sets the child's standard input, which is empty by default.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets the hint of the error if the command fails.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Makes [`Cmd::stream`] end the command by SIGINT instead of SIGTERM, and by SIGKILL after `grace`.
    #[must_use]
    pub fn gently(mut self, grace: Duration) -> Self {
        self.stop = (rustix::process::Signal::INT, grace);
        self
    }

    /// Replaces this process by the command (execve(2)). Returns only if that fails.
    #[expect(clippy::disallowed_methods, reason = "neither library can replace the process")]
    pub fn replace(&self) -> Error {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(k, v)| (k, v)));
        for name in &self.env_remove {
            command.env_remove(name);
        }
        self.not_started(&command.exec().to_string())
    }

    /// Like [`Cmd::output`], for commands on a guest: more than `max` bytes on one stream are an error, and end the command.
    pub fn output_within(&self, max: usize) -> Result<Finished> {
        let (out_read, out_write) = std::io::pipe()?;
        let (err_read, err_write) = std::io::pipe()?;
        let handle = {
            let expression = self.configured().stdout_file(out_write).stderr_file(err_write).unchecked();
            expression.start().map_err(|e| self.not_started(&e.to_string()))?
        };
        let read = |pipe: std::io::PipeReader| {
            let mut bytes = Vec::new();
            let result = pipe.take(max as u64 + 1).read_to_end(&mut bytes);
            if bytes.len() > max {
                // Fails if the command has ended already.
                let _ = handle.kill();
            }
            result.map(|_| bytes)
        };
        let (stdout, stderr) = std::thread::scope(|scope| {
            let stderr = scope.spawn(|| read(err_read));
            let stdout = read(out_read);
            (stdout, stderr.join().unwrap_or_else(|_| Ok(Vec::new())))
        });
        let (stdout, stderr) = (stdout?, stderr?);
        let status = handle.wait()?.status;
        if stdout.len() > max || stderr.len() > max {
            return Err(self.failed(&format!("it wrote more than {} MiB", max >> 20)));
        }
        Ok(Finished {
            code: code_of(status),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }

    /// Runs a short command. Any exit code is `Ok`; an error means that the command could not be started.
    pub fn output(&self) -> Result<Finished> {
        let shell = xshell::Shell::new().map_err(|e| self.failed(&e.to_string()))?;
        if let Some(dir) = &self.dir {
            shell.change_dir(dir);
        }
        let program = &self.program;
        let mut cmd = xshell::cmd!(shell, "{program}").args(&self.args).stdin(&self.stdin).quiet().ignore_status();
        for (name, value) in &self.env {
            cmd = cmd.env(name, value);
        }
        for name in &self.env_remove {
            cmd = cmd.env_remove(name);
        }
        let output = cmd.output().map_err(|e| self.not_started(&e.to_string()))?;
        Ok(Finished {
            code: code_of(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a short command and returns its standard output. An exit code other than 0 is an error with the last lines of its output.
    pub fn read(&self) -> Result<String> {
        let finished = self.output()?;
        if finished.code != 0 {
            signals::check()?; // Ctrl-C on the terminal also ends a short child, which is not its failure
            let output = if finished.stderr.trim().is_empty() { &finished.stdout } else { &finished.stderr };
            return Err(self.failed(&format!("exit code {}\n{}", finished.code, tail(output, TAIL))));
        }
        Ok(finished.stdout)
    }

    /// Runs a long command and passes each line of its output to `line`. The timeout or a signal to this process ends the command's process
    /// group by SIGTERM, then SIGKILL; [`Cmd::gently`] changes the first signal and the time between them.
    pub fn stream(&self, timeout: Option<Duration>, mut line: impl FnMut(Stream, &str)) -> Result<Ended> {
        let (out_read, out_write) = std::io::pipe()?;
        let (err_read, err_write) = std::io::pipe()?;
        let handle = {
            let expression = self.expression().stdout_file(out_write).stderr_file(err_write).unchecked();
            expression.start().map_err(|e| self.not_started(&e.to_string()))?
        };
        let group = handle.pids().first().copied();
        let _guard = group.map(signals::kill_on_second_signal);
        let (send, receive) = std::sync::mpsc::sync_channel(BUFFERED);
        for (stream, pipe) in [(Stream::Stdout, out_read), (Stream::Stderr, err_read)] {
            let send = send.clone();
            // Not joined: processes that the child started may keep the pipe open long after the child has ended.
            std::thread::Builder::new().name("reader".to_owned()).spawn(move || {
                for_each_line(pipe, |text| {
                    // Fails after this function has returned.
                    let _ = send.send((stream, text));
                });
            })?;
        }
        drop(send);
        let deadline = timeout.map(|t| Instant::now() + t);
        let mut stopping: Option<Instant> = None;
        let mut quiet: Option<Instant> = None;
        let mut ended: Option<Instant> = None;
        let mut polled = Instant::now();
        let mut timed_out = false;
        loop {
            match receive.recv_timeout(Duration::from_millis(100)) {
                // Output after the signal to stop is discarded, because there may be much of it.
                Ok((stream, text)) => {
                    if stopping.is_none() {
                        line(stream, &text);
                    }
                    quiet = None;
                }
                // A daemon or an SSH master that the child started can keep the pipe open, so the child's end is decisive.
                Err(RecvTimeoutError::Timeout) if handle.try_wait()?.is_some() => {
                    if quiet.get_or_insert_with(Instant::now).elapsed() > SILENCE {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if polled.elapsed() > Duration::from_millis(100) {
                polled = Instant::now();
                if ended.is_none() && handle.try_wait()?.is_some() {
                    ended = Some(polled);
                }
            }
            if ended.is_some_and(|at| at.elapsed() > DRAIN) {
                break;
            }
            let late = deadline.is_some_and(|d| Instant::now() >= d);
            match stopping {
                None if late || signals::interrupted() => {
                    timed_out = late && !signals::interrupted();
                    stop_group(group, self.stop.0);
                    stopping = Some(Instant::now());
                }
                Some(since) if since.elapsed() > self.stop.1 => {
                    stop_group(group, rustix::process::Signal::KILL);
                    stopping = Some(Instant::now());
                }
                _ => {}
            }
        }
        let status = handle.wait()?.status;
        if timed_out {
            return Ok(Ended::TimedOut);
        }
        signals::check()?;
        Ok(Ended::Code(code_of(status)))
    }

    /// Starts a background process (a VM, an SSH master) with its output appended to `log`. Dropping the handle kills it.
    pub fn start(&self, log: &Path) -> Result<Background> {
        let file = fs_err::OpenOptions::new().create(true).append(true).open(log)?.into_file();
        let expression = self.expression().stdout_file(file.try_clone()?).stderr_file(file).unchecked();
        let handle = expression.start().map_err(|e| self.not_started(&e.to_string()))?;
        let pid = handle.pids().first().copied().unwrap_or_default();
        Ok(Background { handle, pid, released: false, _guard: signals::kill_on_second_signal(pid) })
    }

    /// The command in a new process group.
    fn expression(&self) -> duct::Expression {
        self.configured().before_spawn(|command| {
            command.process_group(0);
            Ok(())
        })
    }

    fn configured(&self) -> duct::Expression {
        let mut expression = duct::cmd(&self.program, &self.args);
        if let Some(dir) = &self.dir {
            expression = expression.dir(dir);
        }
        for (name, value) in &self.env {
            expression = expression.env(name, value);
        }
        for name in &self.env_remove {
            expression = expression.env_remove(name);
        }
        if self.stdin.is_empty() { expression.stdin_null() } else { expression.stdin_bytes(self.stdin.clone()) }
    }

    fn failed(&self, what: &str) -> Error {
        Exit::Failed.error(format_args!("`{self}` failed: {what}"), &self.hint)
    }

    fn not_started(&self, what: &str) -> Error {
        let program = self.program.to_string_lossy();
        Exit::Precondition.error(
            format_args!("cannot start `{program}`: {what}"),
            format_args!(
                "see the package of {program} with `cargo xtask doctor`; install it with `cargo xtask doctor --install`"
            ),
        )
    }
}

/// The command as a line for a shell, with its environment variables first.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quote(&value.to_string_lossy()))?;
        }
        f.write_str(&quote(&self.program.to_string_lossy()))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quote(&arg.to_string_lossy())))
    }
}

/// A background process. Dropping it kills the process group and waits, unless it was released.
#[derive(Debug)]
pub struct Background {
    handle: duct::Handle,
    pid: u32,
    released: bool,
    _guard: signals::GroupGuard,
}

impl Background {
    /// The process id, which is also the id of the process group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The exit code; `None` while it runs.
    pub fn ended(&self) -> Option<i32> {
        self.handle.try_wait().ok().flatten().map(|output| code_of(output.status))
    }

    /// Makes dropping this handle leave the process running.
    pub fn release(&mut self) {
        self.released = true;
    }

    /// Sends SIGTERM and waits at most `timeout`. True if it has ended.
    pub fn terminate(&self, timeout: Duration) -> bool {
        // Fails if it has ended already.
        let _ = self.handle.send_signal(signal_hook::consts::SIGTERM);
        self.wait(timeout)
    }

    /// Waits at most `timeout` for its end. True if it has ended.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.ended().is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !self.released && self.ended().is_none() {
            stop_group(Some(self.pid), rustix::process::Signal::KILL);
            // Reaps it, so that no zombie remains and its files are closed before the caller removes them.
            let _ = self.handle.wait();
        }
    }
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Quotes a word for a POSIX shell if necessary.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn stop_group(leader: Option<u32>, signal: rustix::process::Signal) {
    let pid = leader.and_then(|p| i32::try_from(p).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // Fails if the group has ended already.
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

fn code_of(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Cmd {
        Cmd::new("sh").args(["-c", script])
    }

    /// Without the limit of buffered lines, `yes` with a timeout of 6 s used 1.2 GB of memory and ended after 235 s.
    #[test]
    fn a_flood_blocks_on_its_reader_and_ends_at_its_timeout() {
        let started = Instant::now();
        let mut taken = 0_u32;
        let ended = sh("yes 'a line that is as long as others'").stream(Some(Duration::from_secs(1)), |_, _| {
            taken += 1;
            std::thread::sleep(Duration::from_millis(2));
        });
        assert_eq!(ended.unwrap(), Ended::TimedOut);
        assert!(taken > 10 && started.elapsed() < Duration::from_secs(10), "{taken} lines, {:?}", started.elapsed());
    }

    /// A grandchild outlives the child and keeps writing to the same pipe.
    #[test]
    fn output_of_a_surviving_grandchild_does_not_block_the_stream() {
        let started = Instant::now();
        let ended = sh("setsid timeout 60 yes & exit 3").stream(None, |_, _| {}).unwrap();
        assert_eq!(ended, Ended::Code(3));
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }

    #[test]
    fn output_beyond_the_limit_is_an_error() {
        let error = sh("yes").output_within(1 << 20).unwrap_err();
        assert!(error.to_string().contains("more than 1 MiB"), "{error}");
        let finished = sh("echo out; echo err >&2; exit 7").output_within(1 << 20).unwrap();
        assert_eq!((finished.code, finished.stdout.as_str(), finished.stderr.as_str()), (7, "out\n", "err\n"));
    }

    #[test]
    fn a_command_is_displayed_quoted_for_a_shell() {
        let cmd = Cmd::new("printf").env("A", "x y").args(["%s", "it's", "", "plain-1.0"]);
        assert_eq!(cmd.to_string(), r"A='x y' printf %s 'it'\''s' '' plain-1.0");
        let again = sh(&Cmd::new("printf").args(["[%s]", "it's", "", "a b"]).to_string()).read().unwrap();
        assert_eq!(again, "[it's][][a b]");
    }

    #[test]
    fn an_error_has_the_exit_code_and_the_last_lines() {
        let error = sh("seq 100 >&2; exit 3").read().unwrap_err();
        assert_eq!(error.exit(), Exit::Failed);
        let text = error.to_string();
        assert!(text.contains("exit code 3") && text.contains("\n100"), "{text}");
        assert!(text.contains("\n61\n") && !text.contains("\n60\n"), "only the last 40 lines: {text}");
    }

    #[test]
    fn variables_that_cargo_sets_for_this_crate_are_removed() {
        let output = |cmd: Cmd| cmd.read().unwrap();
        let script = "echo \"${CARGO_PKG_NAME-none} ${CARGO_MANIFEST_DIR+some} ${PATH:+some}\"";
        assert_eq!(output(sh(script)), "xtask some some\n");
        assert_eq!(output(sh(script).without_our_crate()), "none  some\n");
    }

    #[test]
    fn a_missing_program_is_a_precondition() {
        let error = Cmd::new("no-such-program-7").read().unwrap_err();
        assert_eq!(error.exit(), Exit::Precondition);
        assert!(error.report().help().unwrap().to_string().contains("doctor"));
    }

    #[test]
    fn streams_both_outputs_and_returns_the_code() {
        let mut seen = Vec::new();
        let ended = sh("echo one; echo two >&2; printf 'a\\rb\\n'; exit 7")
            .stream(None, |stream, line| seen.push((stream, line.to_owned())))
            .unwrap();
        seen.sort_by(|a, b| a.1.cmp(&b.1));
        assert_eq!(ended, Ended::Code(7));
        let expected = [(Stream::Stdout, "b"), (Stream::Stdout, "one"), (Stream::Stderr, "two")];
        assert_eq!(seen, expected.map(|(s, l)| (s, l.to_owned())));
    }

    #[test]
    fn a_surviving_grandchild_does_not_block_the_stream() {
        let mut lines = Vec::new();
        let started = Instant::now();
        let cmd = Cmd::new("sh").args(["-c", "echo one; (trap '' TERM; exec sleep 60) & echo two >&2; exit 3"]);
        let ended = cmd.stream(None, |_, line| lines.push(line.to_owned())).unwrap();
        lines.sort();
        assert_eq!((ended, lines), (Ended::Code(3), vec!["one".to_owned(), "two".to_owned()]));
        assert!(started.elapsed() < Duration::from_secs(30), "it waited for the grandchild");
    }

    #[test]
    fn a_timeout_ends_the_whole_process_group() {
        let started = Instant::now();
        let ended = sh("sleep 30 & sleep 30").stream(Some(Duration::from_millis(200)), |_, _| {}).unwrap();
        assert_eq!(ended, Ended::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(5), "the grandchild kept the pipe open");
    }

    #[test]
    fn dropping_a_background_process_ends_it() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let process = sh("sleep 60 & wait").start(log.path()).unwrap();
        let pid = rustix::process::Pid::from_raw(process.pid().cast_signed()).unwrap();
        assert!(rustix::process::test_kill_process_group(pid).is_ok());
        drop(process);
        // A killed orphan stays in its group until init reaps it, so the check is repeated.
        let ended = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            rustix::process::test_kill_process_group(pid).is_err()
        });
        assert!(ended);
    }
}
