//! Stores the lines of a build as events, in batches.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::log::Log;
use crate::store::Store;

/// Lines that wait to be stored. If the database is slower, the build's output waits.
const WAITING: usize = 2000;
/// Lines in one statement. SQLite accepts 32766 values.
const BATCH: usize = 500;
/// Time for which lines are collected.
const PAUSE: Duration = Duration::from_millis(200);
/// Events of a build above which the output of steps is no longer stored.
const MOST: i64 = 200_000;
/// Attempts to store a batch, one per second.
const ATTEMPTS: u32 = 300;

/// Stores the lines of one build.
#[derive(Debug)]
pub struct Recorder {
    lines: mpsc::Sender<String>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Starts to store after the last event of the build. `changed` is notified of each batch.
    pub async fn start(store: Store, log: Log, build: Uuid, changed: Arc<Notify>) -> sqlx::Result<Self> {
        let last = store.last_event(build).await?;
        let (lines, queue) = mpsc::channel(WAITING);
        let task = tokio::spawn(record(store, log, build, last, queue, changed));
        Ok(Self { lines, task })
    }

    /// Adds a line.
    pub async fn line(&self, line: String) {
        // Fails only if the task has ended, which is when the events cannot be stored.
        let _ = self.lines.send(line).await;
    }

    /// Adds a message of the server.
    pub async fn note(&self, message: &str) {
        self.line(serde_json::json!({ "event": "note", "message": message }).to_string()).await;
    }

    /// Waits until all lines are stored.
    pub async fn end(self) {
        drop(self.lines);
        // A panic of the task leaves the log incomplete, which is no reason to fail the build.
        let _ = self.task.await;
    }
}

async fn record(
    store: Store,
    log: Log,
    build: Uuid,
    mut last: i64,
    mut queue: mpsc::Receiver<String>,
    changed: Arc<Notify>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut shortened = false;
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        if last > MOST {
            batch.retain(|line| !line.contains("\"step-output\""));
            if !std::mem::replace(&mut shortened, true) {
                let message = format!("the log has {MOST} events: the output of further steps is not stored");
                batch.push(serde_json::json!({ "event": "note", "message": message }).to_string());
            }
        }
        let mut attempts = 0;
        last = loop {
            match store.append(build, last, &batch).await {
                Ok(last) => break last,
                // The database refuses them: another worker took the build, and writes its events under the same numbers.
                Err(sqlx::Error::Database(error)) => {
                    return log.build(build, &format!("cannot store its events: {error}"));
                }
                Err(_) if attempts < ATTEMPTS => attempts += 1,
                Err(error) => return log.build(build, &format!("cannot store its events: {error}")),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        batch.clear();
        changed.notify_waiters();
        tokio::time::sleep(PAUSE).await;
    }
}
