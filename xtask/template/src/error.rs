//! The one error type that leaves a module: what went wrong, how to fix it, and which exit code it means.
//!
//! A module that a caller must tell apart defines its own typed error (with `thiserror` and `miette::Diagnostic`, so that
//! it can carry source spans and a `help` line) and converts it here with [`Exit::because`]. Nothing in this file prints.

use std::fmt;

/// The process exit codes, a stable interface for scripts and workflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// The image was judged bad: a smoke check failed, or it may not be promoted.
    ImageFailed = 1,
    /// Usage or configuration: the command line, `ami.toml`, a template, a spec.
    Usage = 2,
    /// A precondition is missing: a tool, a credential, a permission, disk space, a lock.
    Precondition = 3,
    /// The cloud or a tool failed.
    Failed = 4,
    /// Interrupted by SIGINT or SIGTERM and cleaned up.
    Interrupted = 130,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure that is ready to be shown: the diagnostic and the exit code it stands for.
pub struct Error {
    exit: Exit,
    report: miette::Report,
}

impl Exit {
    /// An error with this exit code from a diagnostic (a typed error with spans, or `miette::miette!(help = "...", "...")`).
    pub fn because(self, report: impl Into<miette::Report>) -> Error {
        Error { exit: self, report: report.into() }
    }

    /// An error with this exit code from one message and the hint that fixes it.
    pub fn error(self, message: impl fmt::Display, hint: impl fmt::Display) -> Error {
        self.because(miette::miette!(help = hint.to_string(), "{message}"))
    }
}

impl Error {
    /// The exit code this error stands for.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The same error with another exit code: who catches it may know better what it means.
    #[must_use]
    pub fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The diagnostic, for a reporter to render.
    pub fn report(&self) -> &miette::Report {
        &self.report
    }

    /// The same error told from one step further out: `message` first, this error as its cause. Exit code and hint stay.
    #[must_use]
    pub fn context(self, message: impl fmt::Display) -> Self {
        let help = self.report.help().map(|h| h.to_string());
        let wrapped = Wrapped { message: message.to_string(), help, inner: self.report };
        Self { exit: self.exit, report: wrapped.into() }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (exit {})", self.report, self.exit as u8)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.report, f)
    }
}

/// A file that could not be read or written is a failed tool, unless the caller knows better.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::StorageFull => "free some disk space, then run the same command again",
            std::io::ErrorKind::PermissionDenied => {
                "check who owns the path, or set another state directory in ami.toml"
            }
            _ => "run the same command again; if it stays, the path in the message is where to look",
        };
        let exit = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::PermissionDenied => Exit::Precondition,
            _ => Exit::Failed,
        };
        exit.error(error, hint)
    }
}

struct Wrapped {
    message: String,
    help: Option<String>,
    inner: miette::Report,
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.message, self.inner)
    }
}

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.inner.as_ref())
    }
}

impl miette::Diagnostic for Wrapped {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn diagnostic_source(&self) -> Option<&dyn miette::Diagnostic> {
        Some(self.inner.as_ref())
    }
}

/// An error without colour and box drawing, the same on every terminal: for logs and tests.
pub fn plain(error: &Error) -> String {
    let theme = miette::GraphicalTheme::unicode_nocolor();
    let handler = miette::GraphicalReportHandler::new_themed(theme).with_width(120).with_links(false);
    let mut text = String::new();
    match handler.render_report(&mut text, error.report.as_ref()) {
        Ok(()) => text,
        Err(_) => error.to_string(),
    }
}
