//! The trait for running commands and copying files on a machine. Implementations use SSH or AWS Systems Manager.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Exit, Result};
use crate::event::Stream;
use crate::process::{Ended, Finished, quote};

/// An open connection as the login user, who can use sudo(8).
pub trait Remote: fmt::Debug {
    /// Runs a short command with `stdin` as its input. Any exit code is `Ok`.
    fn output(&self, command: &str, stdin: &[u8]) -> Result<Finished>;

    /// Runs a long command and passes each line of its output to `line`.
    ///
    /// `Ok(None)` means that the connection was lost, which is expected of a step that reboots.
    fn stream(
        &self,
        command: &str,
        timeout: Option<Duration>,
        line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Option<Ended>>;

    /// Copies a local file or directory to the machine like scp(1): into a directory if `remote` ends with a slash. Modes are preserved.
    fn upload(&self, local: &Path, remote: &str) -> Result<()>;

    /// The command that logs in to the machine, for messages.
    fn login_line(&self) -> String;

    /// The file of the public key that the machine was started with; `None` if there is no key.
    fn launch_key(&self) -> Option<PathBuf>;

    /// Runs a short command and returns its standard output. An exit code other than 0 is an error.
    fn read(&self, command: &str) -> Result<String> {
        let finished = self.output(command, b"")?;
        if finished.code != 0 {
            let message = format!(
                "`{command}` failed on the machine with exit code {}: {}",
                finished.code,
                finished.stderr.trim()
            );
            return Err(Exit::Failed.error(message, format_args!("log in to the machine: {}", self.login_line())));
        }
        Ok(finished.stdout)
    }

    /// Writes a file with the given mode to `path` on the machine.
    fn put(&self, bytes: &[u8], path: &str, mode: u32) -> Result<()> {
        let path_quoted = quote(path);
        let finished =
            self.output(&format!("umask 077; cat > {path_quoted} && chmod {mode:o} {path_quoted}"), bytes)?;
        if finished.code != 0 {
            let message = format!("cannot write {path} on the machine: {}", finished.stderr.trim());
            return Err(
                Exit::Failed.error(message, "check that the directory exists and that the login user can write to it")
            );
        }
        Ok(())
    }
}
