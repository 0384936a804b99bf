//! The database: builds with their leases, and their events. SQLite or PostgreSQL, by the same statements.
//!
//! Every statement changes one row by a condition, so that no transaction spans two of them. Times are milliseconds since 1970, because both
//! databases compare them alike.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::{AnyPool, Row as _};
use uuid::Uuid;
use xtask::ids::{Region, RunId};

use crate::accept::Accepted;
use crate::model::{Build, BuildDetails, Status};
use crate::percent::encoded;

mod enqueue;
mod events;
mod lease;
mod list;
mod schema;

pub use enqueue::{Enqueued, NewBuild};
pub use events::StoredEvent;
pub use lease::{Claim, Lease};
pub use list::Cursor;

/// Connections to the database at the same time.
const CONNECTIONS: u32 = 8;
/// Time after which a statement that waits for a connection fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the queue and its builds are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// A file in the state directory.
    Sqlite(std::path::PathBuf),
    /// The URL of a PostgreSQL database.
    Postgres(String),
}

/// An open database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
}

impl Store {
    /// Connects, and creates the tables if they do not exist.
    pub async fn open(database: &Database) -> sqlx::Result<Self> {
        sqlx::any::install_default_drivers();
        let options = AnyPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
        let pool = match database {
            Database::Sqlite(file) => {
                let options = options.after_connect(|connection, _| {
                    Box::pin(async move {
                        // FULL: an accepted build survives a power loss.
                        let sql = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000";
                        sqlx::raw_sql(sql).execute(connection).await.map(drop)
                    })
                });
                options.connect_with(sqlite(file)?).await?
            }
            Database::Postgres(url) => options.connect_with(url.parse()?).await?,
        };
        schema::create(&pool).await?;
        Ok(Self { pool })
    }

    /// An error if the database does not answer.
    pub async fn ping(&self) -> sqlx::Result<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(drop)
    }

    /// A build; `None` if there is none with this id.
    pub async fn build(&self, id: Uuid) -> sqlx::Result<Option<BuildDetails>> {
        let row = sqlx::query(list::BY_ID).bind(id.to_string()).fetch_optional(&self.pool).await?;
        row.as_ref().map(details).transpose()
    }
}

fn sqlite(file: &Path) -> sqlx::Result<AnyConnectOptions> {
    // The path is percent-encoded, because the options are a URL.
    let path = file.to_string_lossy().split('/').map(encoded).collect::<Vec<_>>().join("/");
    format!("sqlite://{path}?mode=rwc").parse()
}

/// Milliseconds since 1970.
fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A value that this program wrote, but cannot read.
fn damaged(what: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(what))
}

fn timestamp(millis: i64) -> sqlx::Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(damaged)
}

fn uuid(row: &AnyRow) -> sqlx::Result<Uuid> {
    Uuid::try_parse(row.try_get("id")?).map_err(damaged)
}

fn accepted(row: &AnyRow) -> sqlx::Result<Accepted> {
    serde_json::from_str(row.try_get("request")?).map_err(damaged)
}

/// A build from the columns of [`list::BY_ID`].
fn details(row: &AnyRow) -> sqlx::Result<BuildDetails> {
    let time = |column: &str| -> sqlx::Result<Option<Timestamp>> {
        row.try_get::<Option<i64>, _>(column)?.map(timestamp).transpose()
    };
    let status: String = row.try_get("status")?;
    let request = accepted(row)?;
    Ok(BuildDetails {
        build: Build {
            build_id: uuid(row)?,
            status: status.parse::<Status>().map_err(|e| damaged(std::io::Error::other(e)))?,
            provider: request.provider,
            region: Region::from(row.try_get::<String, _>("region")?),
            image_id: row.try_get("image_id")?,
            started_at: time("started_at")?,
            completed_at: time("completed_at")?,
            error: row.try_get("error")?,
        },
        created_at: timestamp(row.try_get("created_at")?)?,
        run_id: row.try_get::<Option<String>, _>("run_id")?.map(RunId::from),
        requested_by: row.try_get("requested_by")?,
        template_source: request.template.shown(),
    })
}
