//! A command that stops itself where `LEDGER_PAUSE_AT` says, to be killed there or let go on when the world has changed.

#![allow(dead_code, reason = "shared by tests of which none needs all of it")]

use std::process::Stdio;
use std::time::Duration;

#[path = "stop.rs"]
mod stop;
use stop::comes_to_a_stop;

/// A command that stopped itself where it was told to.
pub(crate) struct Stopped(std::process::Child);

impl Stopped {
    #[expect(clippy::disallowed_methods, reason = "a process that is watched while it runs")]
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
        if comes_to_a_stop(&mut child, Duration::from_secs(60)) {
            return Self(child);
        }
        let said = child.wait_with_output().unwrap().stderr;
        panic!("it never came to where it should stop: {}", String::from_utf8_lossy(&said));
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.signal(rustix::process::Signal::KILL);
        self.0.wait().unwrap();
    }

    /// Lets it go on to its end; returns what it said.
    pub(crate) fn goes_on(self, code: i32) -> String {
        self.signal(rustix::process::Signal::CONT);
        let output = self.0.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
