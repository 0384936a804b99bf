//! A command that stops itself (SIGSTOP) because of `LEDGER_PAUSE_AT`. The test kills it there, or changes something and continues it.

#![allow(dead_code, reason = "no test uses all of it")]

use std::process::Stdio;
use std::time::Duration;

#[path = "stop.rs"]
mod stop;
use stop::stops;

/// A stopped command.
pub(crate) struct Stopped(std::process::Child);

impl Stopped {
    #[expect(clippy::disallowed_methods, reason = "the test observes the process while it runs")]
    pub(crate) fn start(command: &assert_cmd::Command) -> Self {
        let mut plain = std::process::Command::new(command.get_program());
        plain.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => plain.env(name, value),
                None => plain.env_remove(name),
            };
        }
        let mut child = plain.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        if stops(&mut child, Duration::from_secs(60)) {
            return Self(child);
        }
        let stderr = child.wait_with_output().unwrap().stderr;
        panic!("the command exited without stopping: {}", String::from_utf8_lossy(&stderr));
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.signal(rustix::process::Signal::KILL);
        self.0.wait().unwrap();
    }

    /// Continues the command until it exits; returns its standard error, with each run of white space as one blank.
    pub(crate) fn finish(self, code: i32) -> String {
        self.signal(rustix::process::Signal::CONT);
        let output = self.0.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        stderr.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
