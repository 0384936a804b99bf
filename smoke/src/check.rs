//! What a check is: its name, its timeout, the function that runs it, its result, and the host that the function runs on.

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exec::{self, Output};
use crate::instance::Instance;

/// What was found, in one line; or why the check failed.
pub(crate) type CheckResult = Result<String, Failure>;

/// Why a check failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub message: String,
    /// The check whose failure would explain this one.
    pub cause: Option<String>,
}

impl Failure {
    /// Names the check whose failure would explain this one. This check is then skipped if that one fails as well, else it fails.
    pub(crate) fn caused_by(self, check: &str) -> Self {
        Self { cause: Some(check.to_owned()), ..self }
    }
}

impl<T: fmt::Display> From<T> for Failure {
    fn from(message: T) -> Self {
        Self { message: message.to_string(), cause: None }
    }
}

/// A check that has not run yet.
pub(crate) struct Check {
    pub name: String,
    pub timeout: Duration,
    pub run: Run,
}

type Run = Box<dyn FnOnce(&Host) -> CheckResult + Send>;
/// A check function without parameters from the spec.
pub(crate) type CheckFn = fn(&Host) -> CheckResult;

impl Check {
    /// A check with the default timeout. It is long because emulated machines are about ten times slower: `aider --version` alone takes a
    /// minute there.
    pub(crate) fn new(name: impl Into<String>, run: impl FnOnce(&Host) -> CheckResult + Send + 'static) -> Self {
        Self { name: name.into(), timeout: Duration::from_secs(480), run: Box::new(run) }
    }
}

/// The instance, and the deadline of the check that uses it.
pub(crate) struct Host {
    pub instance: Arc<Instance>,
    pub deadline: Instant,
}

impl Deref for Host {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl Host {
    /// Runs a program as root.
    pub(crate) fn run(&self, line: &[&str]) -> Result<Output, String> {
        exec::root(line, self.deadline)
    }

    /// Runs a program as root and returns its standard output; an error if its exit code is not 0.
    pub(crate) fn stdout(&self, line: &[&str]) -> Result<String, String> {
        exec::root_stdout(line, self.deadline)
    }

    /// Like [`Host::stdout`], but runs the program once for all checks.
    pub(crate) fn stdout_once(&self, line: &[&str]) -> Result<String, String> {
        self.once(&line.join(" "), || self.stdout(line))
    }

    /// Runs a program as the login user and returns its standard output; an error if its exit code is not 0.
    pub(crate) fn user_stdout(&self, line: &[&str], dir: Option<&Path>) -> Result<String, String> {
        self.run_as_user(line, dir, self.deadline)?.into_stdout(line)
    }

    /// Waits until systemd has finished booting. Returns its state: `running`, `degraded`...
    pub(crate) fn booted(&self) -> Result<String, String> {
        self.once("booted", || {
            if !self.spec.instance.systemd {
                return Ok("not checked".to_owned());
            }
            // The exit code is not 0 in the state `degraded`; the check `systemd-units` handles that.
            let output = self.run(&["systemctl", "is-system-running", "--wait"])?;
            Ok(output.stdout.trim().to_owned())
        })
    }
}
