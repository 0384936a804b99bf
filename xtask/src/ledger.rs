//! The ledger: a SQLite journal in the state folder. What is about to be made or changed is written down first, and what came of
//! it after; what was released, rolled back and put under quarantine stays in it.
//!
//! Knows runs, calls and channels as words and ids. No provider, no clock but the wall's, and nobody is told anything here.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, ErrorCode, Row, params};

use crate::error::{Error, Exit, Result};
use crate::sensitive::redacted;

mod pause;
mod promotions;
mod schema;

use pause::Pause;
pub use promotions::{Promotion, PromotionKind};

/// The journal, open.
#[derive(Debug)]
pub struct Ledger {
    connection: Mutex<Connection>,
    file: PathBuf,
    pause: Pause,
}

/// A run as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RunRecord {
    /// Its id, which everything it made bears.
    pub id: String,
    /// The command as typed.
    pub command: String,
    /// Its words after `cargo xtask`, to run it again.
    pub words: Vec<String>,
    /// `local` or `aws`.
    pub on: String,
    /// When it began, RFC 3339.
    pub began: String,
    /// How often it was taken up again.
    pub resumed: u32,
    /// When it ended; a run that was killed has no end.
    pub ended: Option<String>,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
    /// What it said at its end.
    pub summary: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// All that was asked for was done.
    Done,
    /// It failed, and said so.
    Failed,
    /// A signal ended it, and it cleaned up.
    Interrupted,
    /// It was killed; what it left has been taken away since.
    Cleaned,
}

/// A call that changes something, before it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// `ec2:RunInstances`, `local:StartMachine`.
    pub action: String,
    /// Where.
    pub region: String,
    /// The client token, by which the same call made again is known; empty where the call has none.
    pub token: String,
    /// What is made or changed, as far as it has a name before it has an id.
    pub subject: String,
    /// The tags it will bear, `key=value`, sorted.
    pub tags: Vec<String>,
}

/// A call as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Call {
    /// Its place among all calls.
    pub seq: i64,
    /// See [`Intent`].
    pub action: String,
    /// See [`Intent`].
    pub region: String,
    /// See [`Intent`].
    pub token: String,
    /// See [`Intent`].
    pub subject: String,
    /// See [`Intent`].
    pub tags: Vec<String>,
    /// When it was about to be made, RFC 3339.
    pub at: String,
    /// When its answer was written down; `None` means that nobody knows whether it was carried out.
    pub settled: Option<String>,
    /// What it made or changed.
    pub ids: Vec<String>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Names an intent that waits for its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an intent without an outcome looks like a call that was cut off"]
pub struct Ticket(i64);

impl Ledger {
    /// Opens the journal, making it if need be. A damaged one is set aside, see [`Ledger::lacks`].
    pub fn open(file: &Path) -> Result<Self> {
        let connection = schema::open(file).or_else(|error| fixed(file, &error));
        let (connection, file) = (Mutex::new(connection?), file.to_owned());
        Ok(Self { connection, file, pause: Pause::from_environment() })
    }

    /// The damaged journal in whose place this one is, as long as what it knew of a provider has not been read from tags again.
    pub fn lacks(&self, on: &str) -> Result<Option<PathBuf>> {
        let sql = "SELECT file FROM damaged WHERE NOT EXISTS (SELECT 1 FROM filled_again WHERE provider = ?1)";
        let file: Vec<String> = self.read(sql, params![on], |row| row.get(0))?;
        Ok(file.into_iter().next().map(PathBuf::from))
    }

    /// It has been read.
    pub fn filled_again(&self, on: &str) -> Result<()> {
        self.write("INSERT OR IGNORE INTO filled_again (provider) VALUES (?1)", params![on])
    }

    /// Writes down that a run begins.
    pub fn begin_run(&self, id: &str, command: &str, words: &[String], on: &str) -> Result<()> {
        self.write(
            "INSERT INTO run (id, command, words, provider, began) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, redacted(command), json(&words.iter().map(|w| redacted(w)).collect::<Vec<_>>()), on, now()],
        )
    }

    /// Writes down how it ended.
    pub fn end_run(&self, id: &str, outcome: RunOutcome, summary: &str) -> Result<()> {
        self.write(
            "UPDATE run SET ended = ?2, outcome = ?3, summary = ?4 WHERE id = ?1",
            params![id, now(), outcome.name(), redacted(summary)],
        )
    }

    /// A run is taken up again: it has no end any more.
    pub fn reopen_run(&self, id: &str) -> Result<()> {
        self.write(
            "UPDATE run SET resumed = resumed + 1, ended = NULL, outcome = NULL, summary = '' WHERE id = ?1",
            params![id],
        )
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<RunRecord>> {
        self.read(&format!("SELECT {RUN} FROM run ORDER BY began, id"), params![], run)
    }

    /// One run.
    pub fn run(&self, id: &str) -> Result<Option<RunRecord>> {
        let found = self.read(&format!("SELECT {RUN} FROM run WHERE id = ?1"), params![id], run)?;
        Ok(found.into_iter().next())
    }

    /// Writes down something that a run must find again when it is taken up: the first value stays.
    pub fn note(&self, run: &str, key: &str, value: &str) -> Result<()> {
        self.write(
            "INSERT OR IGNORE INTO note (run, key, value) VALUES (?1, ?2, ?3)",
            params![run, key, redacted(value)],
        )
    }

    /// Reads it back.
    pub fn noted(&self, run: &str, key: &str) -> Result<Option<String>> {
        let found =
            self.read("SELECT value FROM note WHERE run = ?1 AND key = ?2", params![run, key], |row| row.get(0))?;
        Ok(found.into_iter().next())
    }

    /// Writes down what is about to be done. When this fails, it must not be done.
    pub fn intend(&self, run: &str, intent: &Intent) -> Result<Ticket> {
        let Intent { action, region, token, subject, tags } = intent;
        let seq = {
            let connection = self.connection();
            let sql =
                "INSERT INTO call (run, action, region, token, subject, tags, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let tags: Vec<_> = tags.iter().map(|tag| redacted(tag)).collect();
            let values = params![run, action, region, token, redacted(subject), json(&tags), now()];
            connection.execute(sql, values).map_err(|e| self.told(&e))?;
            connection.last_insert_rowid()
        };
        self.pause.before();
        Ok(Ticket(seq))
    }

    /// Writes down what came of it.
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

    /// Does `work` between an intent and its outcome. `work` returns what it made, by id.
    pub fn journal<T>(&self, run: &str, intent: &Intent, work: impl FnOnce() -> Result<(T, Vec<String>)>) -> Result<T> {
        let ticket = self.intend(run, intent)?;
        match work() {
            Ok((value, ids)) => {
                self.settle(ticket, &Ok(ids))?;
                Ok(value)
            }
            Err(error) => {
                // The first error is the one to fix.
                let _ = self.settle(ticket, &Err(error.to_string()));
                Err(error)
            }
        }
    }

    /// The calls of a run, in order.
    pub fn calls(&self, run: &str) -> Result<Vec<Call>> {
        let columns = "seq, action, region, token, subject, tags, at, settled, ids, error";
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
        self.connection().execute(sql, values).map(drop).map_err(|e| self.told(&e))
    }

    fn read<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        each: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let connection = self.connection();
        let rows = connection.prepare(sql).and_then(|mut statement| statement.query_map(values, each)?.collect());
        rows.map_err(|e| self.told(&e))
    }

    fn told(&self, error: &rusqlite::Error) -> Error {
        told(error, &self.file)
    }
}

/// A second look at a journal that could not be opened, with nobody else beside: one that is damaged is replaced by a new one. Of two that find
/// it so, one replaces it and the other finds it whole, or found it in the middle of that, which has many faces.
fn fixed(file: &Path, first: &rusqlite::Error) -> Result<Connection> {
    let Ok(lock) = fs_err::File::create(file.with_extension("lock")) else { return Err(told(first, file)) };
    lock.file().lock()?;
    match schema::open(file) {
        Err(error) if schema::is_damage(&error) => {
            let aside = schema::set_aside(file)?;
            let told = |e| told(&e, file);
            let connection = schema::open(file).map_err(told)?;
            let sql = "INSERT INTO damaged (file) VALUES (?1)";
            connection.execute(sql, params![aside.to_string_lossy()]).map_err(told)?;
            Ok(connection)
        }
        opened => opened.map_err(|error| told(&error, file)),
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
        began: row.get(4)?,
        resumed: row.get(5)?,
        ended: row.get(6)?,
        outcome: outcome.as_deref().and_then(RunOutcome::named),
        summary: row.get(8)?,
    })
}

impl RunRecord {
    /// True if the run has to be taken up again or cleaned up after: it was killed, or failed half-way. `alive` is what the state
    /// folder says about its process.
    pub fn is_unfinished(&self, alive: bool) -> bool {
        !alive && !matches!(self.outcome, Some(RunOutcome::Done | RunOutcome::Cleaned))
    }

    /// Its outcome for a table.
    pub fn standing(&self, alive: bool) -> &'static str {
        match self.outcome {
            Some(outcome) => outcome.name(),
            None if alive => "under way",
            None => "cut off",
        }
    }
}

impl RunOutcome {
    const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Interrupted, Self::Cleaned];

    /// Its name in the journal and in tables.
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
    jiff::Timestamp::now().to_string()
}

fn json<T: serde::Serialize>(words: &[T]) -> String {
    serde_json::json!(words).to_string()
}

/// A column that holds a JSON list of texts.
fn list(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<String>> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}

/// What a failure of the journal means to a person.
fn told(error: &rusqlite::Error, file: &Path) -> Error {
    let message = format!("the ledger {} cannot be used: {error}", file.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Exit::Precondition
            .error(message, "the disk is full: free some space; the call that could not be written down was not made"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Exit::Precondition.error(message, "another command holds it longer than it should; run yours again")
        }
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
            Exit::Precondition.error(message, "check who owns the state folder, or set another with --state")
        }
        _ => Exit::Failed.error(message, "run the same command again; a damaged ledger is set aside and made anew"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(action: &str) -> Intent {
        Intent {
            action: action.to_owned(),
            region: "us-east-1".to_owned(),
            token: "t-1".to_owned(),
            subject: "builder".to_owned(),
            tags: vec!["agent-ami:run=run-1".to_owned()],
        }
    }

    fn opened(dir: &tempfile::TempDir) -> Ledger {
        Ledger::open(&dir.path().join("ledger.db")).unwrap()
    }

    fn with_run(dir: &tempfile::TempDir) -> Ledger {
        let ledger = opened(dir);
        let words = ["ami".to_owned(), "release".to_owned(), "a b".to_owned()];
        ledger.begin_run("run-1", "cargo xtask ami release 'a b'", &words, "aws").unwrap();
        ledger
    }

    #[test]
    fn what_was_intended_is_there_before_what_came_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = with_run(&dir);
        let made = ledger.journal("run-1", &intent("ec2:RunInstances"), || {
            // Another process sees it while the call is under way.
            let seen = opened(&dir).calls("run-1").unwrap();
            assert_eq!((seen.len(), &seen[0].settled), (1, &None));
            Ok((7, vec!["i-1".to_owned()]))
        });
        assert_eq!(made.unwrap(), 7);
        let refused: Result<()> =
            ledger.journal("run-1", &intent("ec2:CreateImage"), || Err(Exit::Failed.error("no room", "make some")));
        refused.unwrap_err();
        let calls = opened(&dir).calls("run-1").unwrap();
        assert_eq!(
            (calls[0].ids.as_slice(), calls[0].tags.as_slice()),
            (["i-1".to_owned()].as_slice(), intent("").tags.as_slice())
        );
        assert_eq!(calls[1].error.as_deref(), Some("no room"));
        assert!(calls.iter().all(|c| c.settled.is_some()));
    }

    #[test]
    fn a_run_is_told_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = with_run(&dir);
        assert_eq!(ledger.run("run-1").unwrap().unwrap().words[2], "a b");
        assert_eq!(ledger.run("run-2").unwrap(), None);
        ledger.end_run("run-1", RunOutcome::Failed, "throttled").unwrap();
        let run = opened(&dir).runs().unwrap().remove(0);
        assert_eq!(
            (run.outcome, run.summary.as_str(), run.on.as_str()),
            (Some(RunOutcome::Failed), "throttled", "aws")
        );
        ledger.note("run-1", "base", "ami-1").unwrap();
        ledger.note("run-1", "base", "ami-2").unwrap();
        assert_eq!(ledger.noted("run-1", "base").unwrap().as_deref(), Some("ami-1"));
        assert_eq!(ledger.noted("run-1", "other").unwrap(), None);
        ledger.reopen_run("run-1").unwrap();
        assert_eq!(ledger.run("run-1").unwrap().unwrap().outcome, None);
    }

    #[test]
    fn nothing_is_written_for_a_run_that_nobody_began() {
        let dir = tempfile::tempdir().unwrap();
        let _ = opened(&dir).intend("run-9", &intent("ec2:RunInstances")).unwrap_err();
    }

    #[test]
    fn a_damaged_journal_is_set_aside_and_the_work_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        drop(with_run(&dir));
        let file = dir.path().join("ledger.db");
        let mut bytes = std::fs::read(&file).unwrap();
        let size = bytes.len();
        bytes[100..size].fill(0x5a);
        std::fs::write(&file, &bytes).unwrap();
        let ledger = Ledger::open(&file).unwrap();
        let aside = ledger.lacks("aws").unwrap().unwrap();
        assert_eq!(std::fs::read(aside).unwrap().len(), size, "what can be saved is kept");
        assert_eq!(ledger.runs().unwrap(), []);
        ledger.filled_again("local").unwrap();
        drop(ledger);
        assert!(opened(&dir).lacks("local").unwrap().is_none() && opened(&dir).lacks("aws").unwrap().is_some());

        std::fs::write(&file, "not a database at all, but a text of some length, longer than a page's header").unwrap();
        let open = || drop(Ledger::open(&file).unwrap());
        std::thread::scope(|scope| [scope.spawn(open), scope.spawn(open)].map(|t| t.join().unwrap()));
        assert!(opened(&dir).lacks("local").unwrap().is_some());
        let files = || std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
        let aside =
            files().filter(|name| name.contains(".damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm"));
        assert_eq!(aside.count(), 2, "of two who find it damaged one sets it aside");
    }

    #[test]
    fn a_journal_from_the_future_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(with_run(&dir));
        let file = dir.path().join("ledger.db");
        Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Ledger::open(&file).unwrap_err();
        assert!(error.to_string().contains("newer than this program"), "{error}");
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
    fn a_full_disk_is_told_and_nothing_is_half_written() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = with_run(&dir);
        let pages: u32 = ledger.connection().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        ledger.connection().query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
        let long = Intent { subject: "x".repeat(20_000), ..intent("ec2:RunInstances") };
        let done: Result<()> = ledger.journal("run-1", &long, || panic!("it was done without being written down"));
        let error = done.unwrap_err();
        assert_eq!(error.exit(), Exit::Precondition);
        assert!(crate::error::plain(&error).contains("was not made"), "{error}");
        assert_eq!(opened(&dir).calls("run-1").unwrap(), []);
    }
}
