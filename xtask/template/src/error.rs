//! The error type of all modules: a diagnostic with its cause and a hint, and an exit code.
//!
//! A module whose callers distinguish errors defines its own type (with `thiserror` and `miette::Diagnostic`, so that it has source spans and a
//! `help` line) and converts it with [`Exit::because`].

use std::fmt;

/// The exit codes of the process. Scripts and workflows may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// The command did what it was asked to.
    Done = 0,
    /// A check failed: a smoke check, a condition for promotion, a part of the test suite.
    ImageFailed = 1,
    /// Usage or configuration: the command line, `ami.toml`, a template, a spec.
    Usage = 2,
    /// A precondition is missing: a tool, a credential, a permission, disk space, a lock.
    Precondition = 3,
    /// AWS or a tool failed.
    Failed = 4,
    /// Interrupted by SIGINT or SIGTERM and cleaned up.
    Interrupted = 130,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A diagnostic and the exit code that it results in.
pub struct Error {
    exit: Exit,
    /// The exit code of the command that failed.
    command: Option<i32>,
    report: miette::Report,
}

impl Exit {
    /// All codes, in order.
    pub const ALL: [Self; 6] =
        [Self::Done, Self::ImageFailed, Self::Usage, Self::Precondition, Self::Failed, Self::Interrupted];

    /// What the code means, for the reference.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "The command did what it was asked to, or had nothing to do.",
            Self::ImageFailed => {
                "A check failed: a smoke check, a condition for promotion, a node that is not online, generated files that are out of date, a \
                 part of the test suite."
            }
            Self::Usage => "The command line, ami.toml, a template or a smoke spec is wrong.",
            Self::Precondition => "A precondition is missing: a tool, a credential, a permission, disk space, a lock.",
            Self::Failed => "AWS or a tool failed.",
            Self::Interrupted => "SIGINT or SIGTERM interrupted the command; it cleaned up.",
        }
    }

    /// An error with this exit code from a diagnostic (a typed error with spans, or `miette::miette!(help = "...", "...")`).
    pub fn because(self, report: impl Into<miette::Report>) -> Error {
        Error { exit: self, command: None, report: report.into() }
    }

    /// An error with this exit code from one message and the hint that fixes it.
    pub fn error(self, message: impl fmt::Display, hint: impl fmt::Display) -> Error {
        self.because(miette::miette!(help = hint.to_string(), "{message}"))
    }
}

impl Error {
    /// The exit code that the error results in.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The same error with another exit code, for a caller that knows the cause better.
    #[must_use]
    pub fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The same error, caused by a command that ended with this exit code.
    #[must_use]
    pub fn of_command(self, code: i32) -> Self {
        Self { command: Some(code), ..self }
    }

    /// The exit code of the command that caused the error, if one did.
    pub fn command_exit(&self) -> Option<i32> {
        self.command
    }

    /// The diagnostic, for a reporter to render.
    pub fn report(&self) -> &miette::Report {
        &self.report
    }

    /// The error `message`, with this error as its cause. Exit code and hint stay.
    #[must_use]
    pub fn context(self, message: impl fmt::Display) -> Self {
        let help = self.report.help().map(|h| h.to_string());
        let wrapped = Wrapped { message: message.to_string(), help, inner: self.report };
        Self { exit: self.exit, command: self.command, report: wrapped.into() }
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

/// A file that could not be read or written; a caller that knows the cause better sets another exit code.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::StorageFull => "free some disk space, then run the same command again",
            std::io::ErrorKind::PermissionDenied => {
                "check who owns the path, or set another state directory in ami.toml"
            }
            _ => "run the same command again; if the error stays, check the path in the message",
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
