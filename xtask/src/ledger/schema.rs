//! The tables of the ledger, their versions, and the handling of damaged files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use rusqlite::{Connection, ErrorCode};

/// The statements that upgrade the schema, one batch for each version. Version n is the result of the first n batches.
const VERSIONS: &[&str] = &[
    "
    CREATE TABLE run (
        id TEXT PRIMARY KEY,
        command TEXT NOT NULL,
        words TEXT NOT NULL,
        provider TEXT NOT NULL,
        began TEXT NOT NULL,
        resumed INTEGER NOT NULL DEFAULT 0,
        ended TEXT,
        outcome TEXT,
        summary TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE TABLE call (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        run TEXT NOT NULL REFERENCES run (id),
        action TEXT NOT NULL,
        region TEXT NOT NULL,
        token TEXT NOT NULL,
        subject TEXT NOT NULL,
        tags TEXT NOT NULL,
        at TEXT NOT NULL,
        settled TEXT,
        ids TEXT NOT NULL DEFAULT '[]',
        error TEXT
    ) STRICT;
    CREATE INDEX call_of_run ON call (run);
    CREATE TABLE note (
        run TEXT NOT NULL REFERENCES run (id),
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (run, key)
    ) STRICT;
    CREATE TABLE promotion (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        run TEXT NOT NULL REFERENCES run (id),
        channel TEXT NOT NULL,
        kind TEXT NOT NULL,
        image TEXT NOT NULL,
        instead_of TEXT NOT NULL,
        version TEXT NOT NULL,
        ids TEXT NOT NULL,
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        at TEXT NOT NULL,
        ended TEXT
    ) STRICT;
    CREATE INDEX promotion_of_channel ON promotion (channel);
    CREATE TABLE damaged (
        file TEXT NOT NULL
    ) STRICT;
    CREATE TABLE filled_again (
        provider TEXT PRIMARY KEY
    ) STRICT;
",
    "
    ALTER TABLE promotion ADD COLUMN superseded TEXT;
    ALTER TABLE promotion ADD COLUMN account TEXT;
    ALTER TABLE promotion ADD COLUMN kind_of_image TEXT NOT NULL DEFAULT '';
    -- A name is IMAGE-vVERSION-YYYYMMDD-HHmm.
    UPDATE promotion SET kind_of_image = substr(image, 1, length(image) - length('-v' || version) - 14);
",
];

/// Opens a ledger and upgrades it to the newest schema version.
pub(super) fn open(file: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(file)?;
    // Command lines are private. Errors are ignored, because some file systems have no modes.
    let _ = fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600));
    // Concurrent commands wait for each other's writes, which are one row each.
    connection.busy_timeout(Duration::from_secs(20))?;
    // WAL: readers do not wait for writers. FULL: a committed row survives a power loss.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let outcome: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if outcome != "ok" {
        return Err(damaged(&outcome));
    }
    upgrade(&mut connection)?;
    Ok(connection)
}

fn upgrade(connection: &mut Connection) -> rusqlite::Result<()> {
    let version =
        |c: &Connection| c.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0)).map(|n| n as usize);
    if version(connection)? == VERSIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // Another process may have upgraded it in the meantime.
    let seen = version(&transaction)?;
    if seen > VERSIONS.len() {
        let message = format!("its schema version {seen} is newer than version {} of this program", VERSIONS.len());
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(message),
        ));
    }
    for batch in &VERSIONS[seen..] {
        transaction.execute_batch(batch)?;
    }
    transaction.pragma_update(None, "user_version", VERSIONS.len() as u32)?;
    transaction.commit()
}

fn damaged(outcome: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(outcome.to_owned()))
}

/// True if the file is damaged, so that retrying cannot succeed.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Renames a damaged ledger and its WAL files. Returns the new path.
pub(super) fn set_aside(file: &Path) -> std::io::Result<PathBuf> {
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S-%3f");
    let with_suffix = |suffix: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = with_suffix(&format!(".damaged-{now}"));
    fs::rename(file, &aside)?;
    for suffix in ["-wal", "-shm"] {
        // The write-ahead log of the old file must not be replayed into the new one.
        let mut to = aside.as_os_str().to_owned();
        to.push(suffix);
        match fs::rename(with_suffix(suffix), to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}
