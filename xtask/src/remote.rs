//! A way into a machine: commands run there, files put there. How it is reached (SSH, AWS Systems Manager) is the implementor's;
//! what is run is the caller's.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Exit, Result};
use crate::event::Stream;
use crate::process::{Ended, Finished, quote};

/// An open way in, as the login user, who may use sudo(8).
pub trait Remote: fmt::Debug {
    /// Runs a short command, feeding it `stdin`; returns what it left, whatever its exit code.
    fn output(&self, command: &str, stdin: &[u8]) -> Result<Finished>;

    /// Runs a long command and hands over each line as it comes.
    ///
    /// `Ok(None)` means that the way in was lost, which a step that reboots expects.
    fn stream(
        &self,
        command: &str,
        timeout: Option<Duration>,
        line: &mut dyn FnMut(Stream, &str),
    ) -> Result<Option<Ended>>;

    /// Copies a local file or folder there, as scp(1) does: into a folder if `remote` ends with a slash. Modes are kept.
    fn upload(&self, local: &Path, remote: &str) -> Result<()>;

    /// The line a person types to get in.
    fn login_line(&self) -> String;

    /// The public half of the key the machine was started with, if it was started with one.
    fn launch_key(&self) -> Option<PathBuf>;

    /// Runs a short command that must succeed and returns its standard output.
    fn read(&self, command: &str) -> Result<String> {
        let finished = self.output(command, b"")?;
        if finished.code != 0 {
            let message =
                format!("`{command}` on the machine ended with {}: {}", finished.code, finished.stderr.trim());
            return Err(Exit::Failed.error(message, format_args!("look on the machine: {}", self.login_line())));
        }
        Ok(finished.stdout)
    }

    /// Writes a file with this mode.
    fn put(&self, bytes: &[u8], path: &str, mode: u32) -> Result<()> {
        let path_quoted = quote(path);
        let finished =
            self.output(&format!("umask 077; cat > {path_quoted} && chmod {mode:o} {path_quoted}"), bytes)?;
        if finished.code != 0 {
            let message = format!("cannot write {path} on the machine: {}", finished.stderr.trim());
            return Err(Exit::Failed.error(message, "the folder must exist and be writable for the login user"));
        }
        Ok(())
    }
}
