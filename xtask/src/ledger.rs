//! The ledger: a SQLite journal in the state directory. Each call that creates or changes something is written to it before it is made,
//! and its outcome afterwards. It also has the history of promotions and rollbacks.
//!
//! Runs, calls and channels are stored as texts and ids, independent of providers. This module prints nothing.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, Row, params};

use crate::error::{Error, Exit, Result};
use crate::ids::{Region, RunId};
use crate::sensitive::redacted;

mod names;
mod pause;
mod promotions;
mod schema;

use pause::Pause;
pub use promotions::{Promotion, PromotionKind};

/// An open ledger.
#[derive(Debug)]
pub struct Ledger {
    connection: Mutex<Connection>,
    file: PathBuf,
    pause: Pause,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RunRecord {
    /// Its id, with which everything it created is tagged.
    pub id: RunId,
    /// The command line, for messages.
    pub command: String,
    /// Its arguments after `cargo xtask`, to run it again.
    pub words: Vec<String>,
    /// `local` or `aws`.
    pub on: String,
    /// When it began, RFC 3339.
    pub began: Timestamp,
    /// How often it was resumed.
    pub resumed: u32,
    /// When it ended, RFC 3339; `None` while it runs and if it was killed.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
    /// The summary that it printed at its end.
    pub summary: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// It succeeded.
    Done,
    /// It ended with an error.
    Failed,
    /// A signal ended it, and it cleaned up.
    Interrupted,
    /// It did not finish, and `ami gc --run` removed its resources.
    Cleaned,
}

/// A call that will create or change something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// `ec2:RunInstances`, `local:StartMachine`.
    pub action: String,
    /// The region; `None` if the call has none.
    pub region: Option<Region>,
    /// The client token, by which EC2 recognizes a repeated call; `None` if the call has none.
    pub token: Option<String>,
    /// The name or id of what is created or changed; `None` if it has neither yet.
    pub subject: Option<String>,
    /// The tags that it will have, `key=value`, sorted.
    pub tags: Vec<String>,
}

/// The record of a call.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Call {
    /// Its number in the order of all calls.
    pub seq: i64,
    /// See [`Intent`].
    pub action: String,
    /// See [`Intent`].
    pub region: Option<Region>,
    /// See [`Intent`].
    pub token: Option<String>,
    /// See [`Intent`].
    pub subject: Option<String>,
    /// See [`Intent`].
    pub tags: Vec<String>,
    /// When the intent was written, RFC 3339.
    pub at: String,
    /// When the outcome was written, RFC 3339; `None` if it is unknown whether the call was carried out.
    pub settled: Option<String>,
    /// The ids of what it created or changed.
    pub ids: Vec<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Identifies an intent whose outcome has yet to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an intent without an outcome is a call with an unknown effect"]
pub struct Ticket(i64);

impl Ledger {
    /// Opens the ledger, or creates it. A damaged one is moved aside and replaced by an empty one, see [`Ledger::lacks`].
    pub fn open(file: &Path) -> Result<Self> {
        let connection = schema::open(file).or_else(|error| fixed(file, &error));
        let (connection, file) = (Mutex::new(connection?), file.to_owned());
        Ok(Self { connection, file, pause: Pause::from_environment() })
    }

    /// The file of the damaged ledger that this one replaced; `None` once the provider's entries have been rebuilt from tags.
    pub fn lacks(&self, on: &str) -> Result<Option<PathBuf>> {
        let sql = "SELECT file FROM damaged WHERE NOT EXISTS (SELECT 1 FROM filled_again WHERE provider = ?1)";
        let file: Vec<String> = self.read(sql, params![on], |row| row.get(0))?;
        Ok(file.into_iter().next().map(PathBuf::from))
    }

    /// Records that the entries of a provider have been rebuilt after a damage.
    pub fn rebuilt(&self, on: &str) -> Result<()> {
        self.write("INSERT OR IGNORE INTO filled_again (provider) VALUES (?1)", params![on])
    }

    /// Writes the beginning of a run. The command is redacted.
    pub fn begin_run(&self, id: &RunId, command: &str, words: &[String], on: &str) -> Result<()> {
        self.write(
            "INSERT INTO run (id, command, words, provider, began) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, redacted(command), json(&words.iter().map(|w| redacted(w)).collect::<Vec<_>>()), on, now()],
        )
    }

    /// Writes the end of a run.
    pub fn end_run(&self, id: &RunId, outcome: RunOutcome, summary: &str) -> Result<()> {
        self.write(
            "UPDATE run SET ended = ?2, outcome = ?3, summary = ?4 WHERE id = ?1",
            params![id, now(), outcome.name(), redacted(summary)],
        )
    }

    /// Removes the end of a run that is resumed, and counts the resumption.
    pub fn reopen_run(&self, id: &RunId) -> Result<()> {
        self.write(
            "UPDATE run SET resumed = resumed + 1, ended = NULL, outcome = NULL, summary = '' WHERE id = ?1",
            params![id],
        )
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<RunRecord>> {
        self.read(&format!("SELECT {RUN} FROM run ORDER BY began, id"), params![], run)
    }

    pub fn run(&self, id: &str) -> Result<Option<RunRecord>> {
        let found = self.read(&format!("SELECT {RUN} FROM run WHERE id = ?1"), params![id], run)?;
        Ok(found.into_iter().next())
    }

    /// Stores a value for when the run is resumed. A value that is already stored under the key is kept.
    pub fn note(&self, run: &RunId, key: &str, value: &str) -> Result<()> {
        self.write(
            "INSERT OR IGNORE INTO note (run, key, value) VALUES (?1, ?2, ?3)",
            params![run, key, redacted(value)],
        )
    }

    /// The value that [`Ledger::note`] stored.
    pub fn noted(&self, run: &RunId, key: &str) -> Result<Option<String>> {
        let found =
            self.read("SELECT value FROM note WHERE run = ?1 AND key = ?2", params![run, key], |row| row.get(0))?;
        Ok(found.into_iter().next())
    }

    /// Writes an intent. If this fails, the call must not be made.
    pub fn intend(&self, run: &RunId, intent: &Intent) -> Result<Ticket> {
        let Intent { action, region, token, subject, tags } = intent;
        let seq = {
            let connection = self.connection();
            let sql =
                "INSERT INTO call (run, action, region, token, subject, tags, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let tags: Vec<_> = tags.iter().map(|tag| redacted(tag)).collect();
            let subject = subject.as_deref().map(redacted);
            // The columns are NOT NULL since the first version of the schema.
            let (region, token) = (region.as_deref().unwrap_or_default(), token.as_deref().unwrap_or_default());
            let values = params![run, action, region, token, subject.unwrap_or_default(), json(&tags), now()];
            connection.execute(sql, values).map_err(|e| self.failed(&e))?;
            connection.last_insert_rowid()
        };
        self.pause.before();
        Ok(Ticket(seq))
    }

    /// Writes the outcome of an intent: the ids of what was created, or the error.
    pub fn settle(&self, ticket: Ticket, outcome: &std::result::Result<Vec<String>, String>) -> Result<()> {
        self.pause.after();
        let (ids, error) = match outcome {
            Ok(ids) => (ids.as_slice(), None),
            Err(error) => ([].as_slice(), Some(error)),
        };
        self.write(
            "UPDATE call SET settled = ?2, ids = ?3, error = ?4 WHERE seq = ?1",
            params![ticket.0, now(), json(ids), error.map(|e| redacted(e))],
        )
    }

    /// Calls `work` between writing its intent and its outcome. `work` returns the ids of what it created.
    pub fn journal<T>(
        &self,
        run: &RunId,
        intent: &Intent,
        work: impl FnOnce() -> Result<(T, Vec<String>)>,
    ) -> Result<T> {
        let ticket = self.intend(run, intent)?;
        match work() {
            Ok((value, ids)) => {
                self.settle(ticket, &Ok(ids))?;
                Ok(value)
            }
            Err(error) => {
                // The error of `work` is returned, because it is the cause.
                let _ = self.settle(ticket, &Err(error.to_string()));
                Err(error)
            }
        }
    }

    /// The calls of a run, in order.
    pub fn calls(&self, run: &RunId) -> Result<Vec<Call>> {
        let columns =
            "seq, action, nullif(region, ''), nullif(token, ''), nullif(subject, ''), tags, at, settled, ids, error";
        self.read(&format!("SELECT {columns} FROM call WHERE run = ?1 ORDER BY seq"), params![run], |row| {
            Ok(Call {
                seq: row.get(0)?,
                action: row.get(1)?,
                region: row.get(2)?,
                token: row.get(3)?,
                subject: row.get(4)?,
                tags: list(row, 5)?,
                at: row.get(6)?,
                settled: row.get(7)?,
                ids: list(row, 8)?,
                error: row.get(9)?,
            })
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, sql: &str, values: impl rusqlite::Params) -> Result<()> {
        self.connection().execute(sql, values).map(drop).map_err(|e| self.failed(&e))
    }

    fn read<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        each: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let connection = self.connection();
        let rows = connection.prepare(sql).and_then(|mut statement| statement.query_map(values, each)?.collect());
        rows.map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &rusqlite::Error) -> Error {
        failed(error, &self.file)
    }
}

/// Opens a ledger that could not be opened a second time, under a lock. If it is damaged, an empty one replaces it. The lock and the second
/// attempt are for processes that find the same damage: the first one replaces the file, and the others open the new one. They may also
/// have failed during the replacement, with any error.
fn fixed(file: &Path, first: &rusqlite::Error) -> Result<Connection> {
    let Ok(lock) = fs_err::File::create(file.with_extension("lock")) else { return Err(failed(first, file)) };
    lock.file().lock()?;
    match schema::open(file) {
        Err(error) if schema::is_damage(&error) => {
            let aside = schema::set_aside(file)?;
            let failed = |e| failed(&e, file);
            let connection = schema::open(file).map_err(failed)?;
            let sql = "INSERT INTO damaged (file) VALUES (?1)";
            connection.execute(sql, params![aside.to_string_lossy()]).map_err(failed)?;
            Ok(connection)
        }
        opened => opened.map_err(|error| failed(&error, file)),
    }
}

/// The columns of a run, in the order in which [`run`] reads them.
const RUN: &str = "id, command, words, provider, began, resumed, ended, outcome, summary";

fn run(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    let outcome: Option<String> = row.get(7)?;
    Ok(RunRecord {
        id: row.get(0)?,
        command: row.get(1)?,
        words: list(row, 2)?,
        on: row.get(3)?,
        began: names::timestamp(row, 4)?,
        resumed: row.get(5)?,
        ended: names::optional_timestamp(row, 6)?,
        outcome: outcome.as_deref().and_then(RunOutcome::named),
        summary: row.get(8)?,
    })
}

impl RunRecord {
    /// True if the run is to be resumed, or its resources removed: it was killed, interrupted, or failed. `alive` is the result of
    /// `State::is_alive`.
    pub fn is_unfinished(&self, alive: bool) -> bool {
        !alive && !matches!(self.outcome, Some(RunOutcome::Done | RunOutcome::Cleaned))
    }

    /// Its state for tables: the name of its outcome, `running`, or `killed` for a run that died without an outcome.
    pub fn standing(&self, alive: bool) -> &'static str {
        match self.outcome {
            Some(outcome) => outcome.name(),
            None if alive => "running",
            None => "killed",
        }
    }
}

impl RunOutcome {
    const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Interrupted, Self::Cleaned];

    /// Its name in the ledger and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Cleaned => "cleaned",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }
}

fn now() -> String {
    Timestamp::now().to_string()
}

fn json<T: serde::Serialize>(words: &[T]) -> String {
    serde_json::json!(words).to_string()
}

/// Parses a column that contains a JSON array of strings.
fn list(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<String>> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}

/// Converts an SQLite error. Exit code and hint depend on its cause.
fn failed(error: &rusqlite::Error, file: &Path) -> Error {
    let message = format!("the ledger {} cannot be used: {error}", file.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Exit::Precondition
            .error(message, "free some disk space; a call whose intent could not be written was not made"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Exit::Precondition
            .error(message, "run the command again; another process had the ledger locked for too long"),
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
            Exit::Precondition.error(message, "check the owner of the state directory, or use another one with --state")
        }
        _ => Exit::Failed.error(message, "run the same command again; a damaged ledger is moved aside and recreated"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(action: &str) -> Intent {
        Intent {
            action: action.to_owned(),
            region: Some("us-east-1".into()),
            token: Some("t-1".to_owned()),
            subject: Some("builder".to_owned()),
            tags: vec!["agent-ami:run=run-1".to_owned()],
        }
    }

    fn opened(dir: &tempfile::TempDir) -> Ledger {
        Ledger::open(&dir.path().join("ledger.db")).unwrap()
    }

    fn with_run(dir: &tempfile::TempDir) -> Ledger {
        let ledger = opened(dir);
        let words = ["ami".to_owned(), "release".to_owned(), "a b".to_owned()];
        ledger.begin_run(&"run-1".into(), "cargo xtask ami release 'a b'", &words, "aws").unwrap();
        ledger
    }

    #[test]
    fn an_intent_is_written_before_the_call_and_the_outcome_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = with_run(&dir);
        let made = ledger.journal(&"run-1".into(), &intent("ec2:RunInstances"), || {
            // Another process can read the intent during the call.
            let seen = opened(&dir).calls(&"run-1".into()).unwrap();
            assert_eq!((seen.len(), &seen[0].settled), (1, &None));
            Ok((7, vec!["i-1".to_owned()]))
        });
        assert_eq!(made.unwrap(), 7);
        let refused: Result<()> = ledger.journal(&"run-1".into(), &intent("ec2:CreateImage"), || {
            Err(Exit::Failed.error("no capacity", "try again"))
        });
        refused.unwrap_err();
        let calls = opened(&dir).calls(&"run-1".into()).unwrap();
        assert_eq!(
            (calls[0].ids.as_slice(), calls[0].tags.as_slice()),
            (["i-1".to_owned()].as_slice(), intent("").tags.as_slice())
        );
        assert_eq!(calls[1].error.as_deref(), Some("no capacity"));
        assert!(calls.iter().all(|c| c.settled.is_some()));
    }

    #[test]
    fn runs_and_notes_are_read_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = with_run(&dir);
        assert_eq!(ledger.run("run-1").unwrap().unwrap().words[2], "a b");
        assert_eq!(ledger.run("run-2").unwrap(), None);
        ledger.end_run(&"run-1".into(), RunOutcome::Failed, "throttled").unwrap();
        let run = opened(&dir).runs().unwrap().remove(0);
        assert_eq!(
            (run.outcome, run.summary.as_str(), run.on.as_str()),
            (Some(RunOutcome::Failed), "throttled", "aws")
        );
        ledger.note(&"run-1".into(), "base", "ami-1").unwrap();
        ledger.note(&"run-1".into(), "base", "ami-2").unwrap();
        assert_eq!(ledger.noted(&"run-1".into(), "base").unwrap().as_deref(), Some("ami-1"));
        assert_eq!(ledger.noted(&"run-1".into(), "other").unwrap(), None);
        ledger.reopen_run(&"run-1".into()).unwrap();
        assert_eq!(ledger.run("run-1").unwrap().unwrap().outcome, None);
    }

    #[test]
    fn a_call_of_an_unknown_run_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let _ = opened(&dir).intend(&"run-9".into(), &intent("ec2:RunInstances")).unwrap_err();
    }

    #[test]
    fn a_damaged_ledger_is_moved_aside_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        drop(with_run(&dir));
        let file = dir.path().join("ledger.db");
        let mut bytes = std::fs::read(&file).unwrap();
        let size = bytes.len();
        bytes[100..size].fill(0x5a);
        std::fs::write(&file, &bytes).unwrap();
        let ledger = Ledger::open(&file).unwrap();
        let aside = ledger.lacks("aws").unwrap().unwrap();
        assert_eq!(std::fs::read(aside).unwrap().len(), size, "the damaged file is not kept");
        assert_eq!(ledger.runs().unwrap(), []);
        ledger.rebuilt("local").unwrap();
        drop(ledger);
        assert!(opened(&dir).lacks("local").unwrap().is_none() && opened(&dir).lacks("aws").unwrap().is_some());

        std::fs::write(&file, "not a database at all, but a text of some length, longer than a page's header").unwrap();
        let open = || drop(Ledger::open(&file).unwrap());
        std::thread::scope(|scope| [scope.spawn(open), scope.spawn(open)].map(|t| t.join().unwrap()));
        assert!(opened(&dir).lacks("local").unwrap().is_some());
        let files = || std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
        let aside =
            files().filter(|name| name.contains(".damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm"));
        assert_eq!(aside.count(), 2, "each damaged file is moved aside once");
    }

    #[test]
    fn a_ledger_of_a_newer_version_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        drop(with_run(&dir));
        let file = dir.path().join("ledger.db");
        Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Ledger::open(&file).unwrap_err();
        assert!(error.to_string().contains("newer than version"), "{error}");
        assert_eq!(
            std::fs::read_dir(dir.path())
                .unwrap()
                .flatten()
                .filter(|e| e.file_name().to_string_lossy().contains("damaged"))
                .count(),
            0
        );
    }

    #[test]
    fn a_full_disk_is_an_error_and_the_call_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = with_run(&dir);
        let pages: u32 = ledger.connection().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        ledger.connection().query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
        let long = Intent { subject: Some("x".repeat(20_000)), ..intent("ec2:RunInstances") };
        let done: Result<()> = ledger.journal(&"run-1".into(), &long, || panic!("the call was made without an intent"));
        let error = done.unwrap_err();
        assert_eq!(error.exit(), Exit::Precondition);
        assert!(crate::error::plain(&error).contains("was not made"), "{error}");
        assert_eq!(opened(&dir).calls(&"run-1".into()).unwrap(), []);
    }
}
