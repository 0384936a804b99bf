//! Delivers builds to the workers: one apalis queue per region, in the database of the builds.
//!
//! apalis delivers at least once: it delivers again what a dead worker had taken, and a build may be offered twice. That is harmless, because a
//! build is run only by the worker that claims it (`store/lease.rs`). What apalis does not cover is covered by [`Queue::offer_idle`]: a build that was
//! written but not delivered, and one that waits behind a long build of another server.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use apalis::layers::WorkerBuilderExt as _;
use apalis::prelude::{BackendExt as _, Data, TaskBuilder, TaskSink as _, WorkerBuilder};
use apalis_postgres::PostgresStorage;
use apalis_sqlite::SqliteStorage;
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};
use uuid::Uuid;
use xtask::ids::Region;

use crate::runner::Runner;
use crate::store::Database;

/// Time between two looks into the queue.
const POLL: Duration = Duration::from_secs(1);
/// Time between two heartbeats of a worker of apalis.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Time after which a build that no worker took is delivered to a server without work.
const UNTAKEN: Duration = Duration::from_secs(5);
/// Time after which a worker that ended by an error of the database is started again.
const RESTART: Duration = Duration::from_secs(2);

/// What is delivered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivery {
    pub build: Uuid,
}

/// The queues.
#[derive(Clone, Debug)]
pub enum Queue {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Queue {
    /// Connects, and creates the tables of apalis if they do not exist.
    pub async fn open(database: &Database) -> Result<Self, sqlx::Error> {
        match database {
            Database::Sqlite(file) => {
                let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
                // Not `SqliteStorage::setup`, which turns synchronous writes off.
                let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
                let options = options.busy_timeout(Duration::from_secs(10));
                let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
                SqliteStorage::<()>::migrations().run(&pool).await?;
                Ok(Self::Sqlite(pool))
            }
            Database::Postgres(url) => {
                let pool = sqlx::postgres::PgPoolOptions::new().max_connections(8).connect(url).await?;
                PostgresStorage::<()>::migrations().run(&pool).await?;
                Ok(Self::Postgres(pool))
            }
        }
    }

    /// Adds a build to the queue of its region.
    pub async fn offer(&self, build: Uuid, region: &str) -> Result<(), String> {
        // A failed delivery is not repeated by apalis: the build itself records that it failed.
        let task = TaskBuilder::new(Delivery { build }).max_attempts(1).build();
        match self {
            Self::Sqlite(pool) => sqlite(pool, region).push_task(task).await.map_err(|e| e.to_string()),
            Self::Postgres(pool) => postgres(pool, region).push_task(task).await.map_err(|e| e.to_string()),
        }
    }

    /// Takes builds of a region and runs them, `at_once` at the same time. Never returns.
    pub async fn work(&self, runner: Arc<Runner>, region: String, at_once: usize) {
        loop {
            // A new name each time: apalis refuses one whose last heartbeat is recent.
            let name = format!("{region}-{}", Uuid::new_v4());
            let worked = match self {
                Self::Sqlite(pool) => {
                    let builder = WorkerBuilder::new(name).backend(sqlite(pool, &region).poll_with_interval(POLL));
                    let builder = builder.concurrency(at_once);
                    builder.data(Arc::clone(&runner)).build(deliver).run().await
                }
                Self::Postgres(pool) => {
                    let builder = WorkerBuilder::new(name).backend(postgres(pool, &region).poll_with_interval(POLL));
                    let builder = builder.concurrency(at_once);
                    builder.data(Arc::clone(&runner)).build(deliver).run().await
                }
            };
            if let Err(error) = worked {
                runner.log.line(&format!("the worker of {region} ended and is started again: {error}"));
            }
            tokio::time::sleep(RESTART).await;
        }
    }

    /// Offers builds that no worker took, as many as this server can run now. Returns how many.
    pub async fn offer_idle(&self, runner: &Runner) -> Result<usize, String> {
        let mut free = runner.slots.available_permits();
        if free == 0 {
            return Ok(0);
        }
        let mut regions: BTreeMap<&Region, usize> = BTreeMap::new();
        for region in &runner.settings.allowed.regions {
            regions.insert(region, runner.settings.concurrency.1.saturating_sub(runner.running.count(region)));
        }
        let mut offered = 0;
        for build in runner.store.undelivered(UNTAKEN).await.map_err(|e| e.to_string())? {
            let Some(in_region) = regions.get_mut(&build.region).filter(|in_region| **in_region > 0) else { continue };
            if free > 0 && runner.store.delivers(&build).await.map_err(|e| e.to_string())? {
                self.offer(build.id, &build.region).await?;
                (free, *in_region, offered) = (free - 1, *in_region - 1, offered + 1);
            }
        }
        Ok(offered)
    }

    /// Deletes the records of deliveries that have ended, and of workers that have.
    pub async fn tidy(&self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(pool) => {
                let sql = "DELETE FROM Jobs WHERE status IN ('Done', 'Failed', 'Killed') AND done_at < strftime('%s', 'now') - 3600";
                sqlx::query(sql).execute(pool).await?;
                let sql = "DELETE FROM Workers WHERE last_seen < strftime('%s', 'now') - 86400
                    AND id NOT IN (SELECT lock_by FROM Jobs WHERE lock_by IS NOT NULL)";
                sqlx::query(sql).execute(pool).await?;
            }
            Self::Postgres(pool) => {
                let sql = "DELETE FROM apalis.jobs WHERE status IN ('Done', 'Failed', 'Killed') AND done_at < now() - interval '1 hour'";
                sqlx::query(sql).execute(pool).await?;
                let sql = "DELETE FROM apalis.workers WHERE last_seen < now() - interval '1 day'
                    AND id NOT IN (SELECT lock_by FROM apalis.jobs WHERE lock_by IS NOT NULL)";
                sqlx::query(sql).execute(pool).await?;
            }
        }
        Ok(())
    }
}

async fn deliver(delivery: Delivery, runner: Data<Arc<Runner>>) -> Result<(), String> {
    // A panic would otherwise end the worker of the region.
    let run = AssertUnwindSafe(runner.run(delivery.build)).catch_unwind().await;
    let run = run.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::Error::other("a panic, which is a bug"))));
    run.map_err(|error| error.to_string())
        .inspect_err(|error| runner.log.build(delivery.build, &format!("cannot be run: {error}")))
}

fn sqlite(pool: &SqlitePool, region: &str) -> SqliteStorage<Delivery> {
    // One at a time, because those that wait in the worker are not run by another one.
    let config = apalis_sqlite::Config::default().queue(queue(region)).batch_size(1).heartbeat_interval(HEARTBEAT);
    SqliteStorage::new(pool).with_config(config)
}

fn postgres(pool: &PgPool, region: &str) -> PostgresStorage<Delivery> {
    let config = apalis_postgres::Config::default().queue(queue(region)).batch_size(1).heartbeat_interval(HEARTBEAT);
    PostgresStorage::new(pool).with_config(config)
}

/// The name of a region's queue.
fn queue(region: &str) -> String {
    format!("agent-ami-builds-{region}")
}
