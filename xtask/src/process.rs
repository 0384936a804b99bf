//! The only place that spawns: short commands through xshell, long ones through duct.
//!
//! A command is a value that shows itself as a line one can paste into a shell; it never goes through a shell. Children stand
//! in process groups of their own, so that Ctrl-C reaches them through us and in order, not all at once from the terminal.

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

/// How long a child gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How long the pipe of a child that has ended must be silent before nobody listens any more.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long output of others is read when the child itself has ended.
const LAST_LINES: Duration = Duration::from_secs(5);
/// How many lines of output an error carries.
pub const TAIL: usize = 40;
/// So many lines wait for whoever takes them; then the child waits until there is room.
const WAITING: usize = 64;

/// A command to run: program, arguments, environment, folder.
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

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit code; 128 + n when signal n ended it, as shells count.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// How a streamed command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// We stopped it because its time was over.
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
            hint: "run the command by hand to see more".to_owned(),
            stop: (rustix::process::Signal::TERM, GRACE),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable for the child.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Takes a variable away from the child.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<String>) -> Self {
        self.env_remove.push(name.into());
        self
    }

    /// Takes away what the cargo that runs us says of our own crate. Another cargo that inherits it compiles more than one that a person
    /// starts: build scripts, ring's for one, name these variables as what they depend on.
    #[must_use]
    pub fn without_our_crate(self) -> Self {
        let ours = |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(ours);
        names.fold(self, Self::env_remove)
    }

    /// Sets the child's working folder.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Feeds the child's standard input; without it the input is empty.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// What to tell a person when the command fails.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// How a stream of it is ended early: by SIGINT, as a person would at a terminal, and with so much time to clean up.
    #[must_use]
    pub fn gently(mut self, grace: Duration) -> Self {
        self.stop = (rustix::process::Signal::INT, grace);
        self
    }

    /// Becomes the command, with our own input and output (execve(2)). Returns only if that fails.
    #[expect(clippy::disallowed_methods, reason = "neither library can replace the process")]
    pub fn replace(&self) -> Error {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(k, v)| (k, v)));
        for name in &self.env_remove {
            command.env_remove(name);
        }
        self.not_started(&command.exec().to_string())
    }

    /// Like [`Cmd::output`], for what a guest says: more than `most` bytes on one stream are an error, and end the command.
    pub fn output_within(&self, most: usize) -> Result<Finished> {
        let (out_read, out_write) = std::io::pipe()?;
        let (err_read, err_write) = std::io::pipe()?;
        let handle = {
            let expression = self.configured().stdout_file(out_write).stderr_file(err_write).unchecked();
            expression.start().map_err(|e| self.not_started(&e.to_string()))?
        };
        let read = |pipe: std::io::PipeReader| {
            let mut bytes = Vec::new();
            let result = pipe.take(most as u64 + 1).read_to_end(&mut bytes);
            if bytes.len() > most {
                // It may have ended by itself.
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
        if stdout.len() > most || stderr.len() > most {
            return Err(self.failed(&format!("it wrote more than {} MiB", most >> 20)));
        }
        Ok(Finished {
            code: code_of(status),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }

    /// Runs a short command and returns what it left, whatever its exit code. An error means that it could not be started.
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

    /// Runs a short command; anything but exit code 0 is an error that carries the end of its output.
    pub fn read(&self) -> Result<String> {
        let finished = self.output()?;
        if finished.code != 0 {
            signals::check()?; // the terminal's Ctrl-C reached the child too
            let said = if finished.stderr.trim().is_empty() { &finished.stdout } else { &finished.stderr };
            return Err(self.failed(&format!("exit code {}\n{}", finished.code, tail(said, TAIL))));
        }
        Ok(finished.stdout)
    }

    /// Runs a long command and hands over every line as it comes. A signal to us ends it: SIGTERM, grace, SIGKILL.
    pub fn stream(&self, timeout: Option<Duration>, mut line: impl FnMut(Stream, &str)) -> Result<Ended> {
        let (out_read, out_write) = std::io::pipe()?;
        let (err_read, err_write) = std::io::pipe()?;
        let handle = {
            let expression = self.expression().stdout_file(out_write).stderr_file(err_write).unchecked();
            expression.start().map_err(|e| self.not_started(&e.to_string()))?
        };
        let group = handle.pids().first().copied();
        let _doomed = group.map(signals::doom_group);
        let (send, receive) = std::sync::mpsc::sync_channel(WAITING);
        for (stream, pipe) in [(Stream::Stdout, out_read), (Stream::Stderr, err_read)] {
            let send = send.clone();
            // Not joined: what the child left behind may hold the pipe long after the child is gone.
            std::thread::Builder::new().name("reader".to_owned()).spawn(move || {
                for_each_line(pipe, |text| {
                    // Nobody listens any more once we have gone on.
                    let _ = send.send((stream, text));
                });
            })?;
        }
        drop(send);
        let deadline = timeout.map(|t| Instant::now() + t);
        let mut stopping: Option<Instant> = None;
        let mut quiet: Option<Instant> = None;
        let mut ended: Option<Instant> = None;
        let mut looked = Instant::now();
        let mut timed_out = false;
        loop {
            match receive.recv_timeout(Duration::from_millis(100)) {
                // What comes after the end of its time is nobody's any more, and there may be much of it.
                Ok((stream, text)) => {
                    if stopping.is_none() {
                        line(stream, &text);
                    }
                    quiet = None;
                }
                // A daemon of the child's, or an SSH master that was given the pipe, can hold it: the child's end is what counts.
                Err(RecvTimeoutError::Timeout) if handle.try_wait()?.is_some() => {
                    if quiet.get_or_insert_with(Instant::now).elapsed() > LAST_WORDS {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if looked.elapsed() > Duration::from_millis(100) {
                looked = Instant::now();
                if ended.is_none() && handle.try_wait()?.is_some() {
                    ended = Some(looked);
                }
            }
            if ended.is_some_and(|at| at.elapsed() > LAST_LINES) {
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

    /// Starts a process that lives beside us (a VM, an SSH master); dropping the handle ends it.
    pub fn start(&self, log: &Path) -> Result<Background> {
        let file = fs_err::OpenOptions::new().create(true).append(true).open(log)?.into_file();
        let expression = self.expression().stdout_file(file.try_clone()?).stderr_file(file).unchecked();
        let handle = expression.start().map_err(|e| self.not_started(&e.to_string()))?;
        let pid = handle.pids().first().copied().unwrap_or_default();
        Ok(Background { handle, pid, released: false, _doomed: signals::doom_group(pid) })
    }

    /// In a process group of its own.
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
                "`cargo xtask doctor` tells which package brings {program}; `cargo xtask doctor --install` installs it"
            ),
        )
    }
}

/// A command line that a shell takes back, variables first.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quote(&value.to_string_lossy()))?;
        }
        f.write_str(&quote(&self.program.to_string_lossy()))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quote(&arg.to_string_lossy())))
    }
}

/// A process that runs beside us. Dropping it kills its whole group and waits.
#[derive(Debug)]
pub struct Background {
    handle: duct::Handle,
    pid: u32,
    released: bool,
    _doomed: signals::DoomedGroup,
}

impl Background {
    /// Its process id, which is also its group's.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The exit code if it has ended.
    pub fn ended(&self) -> Option<i32> {
        self.handle.try_wait().ok().flatten().map(|output| code_of(output.status))
    }

    /// Lets it live on when this handle is dropped.
    pub fn release(&mut self) {
        self.released = true;
    }

    /// Asks it to end and waits at most `patience`. True if it is gone.
    pub fn terminate(&self, patience: Duration) -> bool {
        // It may have ended by itself.
        let _ = self.handle.send_signal(signal_hook::consts::SIGTERM);
        self.wait(patience)
    }

    /// Waits at most `patience` for it to end by itself. True if it is gone.
    pub fn wait(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
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
            // Reap it, so that no zombie stays and its files are closed before they are removed.
            let _ = self.handle.wait();
        }
    }
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Quotes a word for a POSIX shell where it needs it.
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
        // Gone already is as good as stopped.
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

    /// Six seconds of `yes` took 1.2 GB and a time-out of 6 s was over after 235 s.
    #[test]
    fn a_flood_waits_for_its_reader_and_ends_with_its_time() {
        let started = Instant::now();
        let mut taken = 0_u32;
        let ended = sh("yes 'a line that is as long as others'").stream(Some(Duration::from_secs(1)), |_, _| {
            taken += 1;
            std::thread::sleep(Duration::from_millis(2));
        });
        assert_eq!(ended.unwrap(), Ended::TimedOut);
        assert!(taken > 10 && started.elapsed() < Duration::from_secs(10), "{taken} lines, {:?}", started.elapsed());
    }

    /// What the child left behind writes on and on into the same pipe.
    #[test]
    fn a_flood_of_a_survivor_does_not_hold_us() {
        let started = Instant::now();
        let ended = sh("setsid timeout 60 yes & exit 3").stream(None, |_, _| {}).unwrap();
        assert_eq!(ended, Ended::Code(3));
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }

    #[test]
    fn an_answer_without_an_end_is_an_error() {
        let error = sh("yes").output_within(1 << 20).unwrap_err();
        assert!(error.to_string().contains("more than 1 MiB"), "{error}");
        let finished = sh("echo out; echo err >&2; exit 7").output_within(1 << 20).unwrap();
        assert_eq!((finished.code, finished.stdout.as_str(), finished.stderr.as_str()), (7, "out\n", "err\n"));
    }

    #[test]
    fn shows_itself_as_a_line_a_shell_takes_back() {
        let cmd = Cmd::new("printf").env("A", "x y").args(["%s", "it's", "", "plain-1.0"]);
        assert_eq!(cmd.to_string(), r"A='x y' printf %s 'it'\''s' '' plain-1.0");
        let again = sh(&Cmd::new("printf").args(["[%s]", "it's", "", "a b"]).to_string()).read().unwrap();
        assert_eq!(again, "[it's][][a b]");
    }

    #[test]
    fn a_failure_carries_exit_code_and_the_end_of_the_output() {
        let error = sh("seq 100 >&2; exit 3").read().unwrap_err();
        assert_eq!(error.exit(), Exit::Failed);
        let text = error.to_string();
        assert!(text.contains("exit code 3") && text.contains("\n100"), "{text}");
        assert!(text.contains("\n61\n") && !text.contains("\n60\n"), "only the last 40 lines: {text}");
    }

    #[test]
    fn what_cargo_says_of_our_crate_is_not_passed_on() {
        let said = |cmd: Cmd| cmd.read().unwrap();
        let script = "echo \"${CARGO_PKG_NAME-none} ${CARGO_MANIFEST_DIR+some} ${PATH:+some}\"";
        assert_eq!(said(sh(script)), "xtask some some\n");
        assert_eq!(said(sh(script).without_our_crate()), "none  some\n");
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
        let want = [(Stream::Stdout, "b"), (Stream::Stdout, "one"), (Stream::Stderr, "two")];
        assert_eq!(seen, want.map(|(s, l)| (s, l.to_owned())));
    }

    #[test]
    fn what_a_child_leaves_behind_does_not_hold_us() {
        let mut said = Vec::new();
        let started = Instant::now();
        let cmd = Cmd::new("sh").args(["-c", "echo one; (trap '' TERM; exec sleep 60) & echo two >&2; exit 3"]);
        let ended = cmd.stream(None, |_, line| said.push(line.to_owned())).unwrap();
        said.sort();
        assert_eq!((ended, said), (Ended::Code(3), vec!["one".to_owned(), "two".to_owned()]));
        assert!(started.elapsed() < Duration::from_secs(30), "it waited for the grandchild");
    }

    #[test]
    fn a_time_out_ends_the_whole_group() {
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
        // A killed orphan stays in its group until init reaps it, so look for a while.
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            rustix::process::test_kill_process_group(pid).is_err()
        });
        assert!(gone);
    }
}
