//! The server's log on standard error, and the audit log. The only module that prints.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use uuid::Uuid;
use xtask::event::clean;
use xtask::sensitive::redacted;

/// The audit log's name in the server's directory.
const AUDIT: &str = "audit.jsonl";

/// Writes both logs.
#[derive(Clone, Debug)]
pub struct Log {
    audit: Arc<Mutex<std::fs::File>>,
    pub audit_file: PathBuf,
}

/// Who asked for what: a line of the audit log.
#[derive(Clone, Debug, Serialize)]
pub struct Asked<'a> {
    /// When, RFC 3339.
    pub at: jiff::Timestamp,
    /// The token's name; absent for a request without a valid token.
    pub who: Option<&'a str>,
    /// The client's address.
    pub from: String,
    /// The method and the path.
    pub what: &'a str,
    /// The status of the answer.
    pub status: u16,
}

impl Log {
    /// Opens the audit log in a directory. Only this user can read it.
    pub fn open(dir: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let audit_file = dir.join(AUDIT);
        let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&audit_file)?;
        Ok(Self { audit: Arc::new(Mutex::new(file)), audit_file })
    }

    /// Prints a line.
    #[expect(clippy::print_stderr, reason = "this is the module that prints")]
    pub fn line(&self, text: &str) {
        let at = jiff::Timestamp::now().strftime("%FT%TZ");
        eprintln!("{at} {}", clean::text(&redacted(text)));
    }

    /// Prints a line about a build.
    pub fn build(&self, build: Uuid, text: &str) {
        self.line(&format!("build {build}: {text}"));
    }

    /// Adds a line to the audit log.
    pub fn audit(&self, asked: &Asked<'_>) {
        let Ok(mut line) = serde_json::to_vec(asked) else { return };
        line.push(b'\n');
        let mut file = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(&line) {
            self.line(&format!("cannot write {}: {error}", self.audit_file.display()));
        }
    }
}
