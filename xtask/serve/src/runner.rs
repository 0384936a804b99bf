//! Runs claimed builds: starts or resumes the process, stores its events, renews the lease, and writes the result.
//!
//! A build belongs to the state directory in which its run began: only a server with this directory resumes it. A server holds the lock of its
//! state directory, so that there is never a second process for one build.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use uuid::Uuid;
use xtask::ids::Region;
use xtask::ledger::{RunOutcome, RunRecord};
use xtask::state::{State, new_run_id};

use crate::accept::Template;
use crate::images::Images;
use crate::inline;
use crate::log::Log;
use crate::process::{self, Outcome, Xtask, outcome};
use crate::recorder::Recorder;
use crate::settings::Settings;
use crate::store::{Claim, Lease, Store};
use crate::words;

/// Ends of a build's process without a result after which the build fails.
const MOST_CRASHES: i64 = 2;
/// Time for which a cancelled build may clean up, before it is ended at once.
const CLEANUP: Duration = Duration::from_secs(120);
/// Time after which a process that does not react to a second SIGTERM is killed.
const HANGING: Duration = Duration::from_secs(10);
/// The longest time for deleting what a build left.
const GC: Duration = Duration::from_secs(600);
/// Time between two attempts to write a result that the database did not accept.
const RETRY: Duration = Duration::from_secs(2);

/// Runs builds on this machine.
#[derive(Debug)]
pub struct Runner {
    pub settings: Arc<Settings>,
    pub store: Store,
    pub xtask: Arc<Xtask>,
    pub images: Arc<Images>,
    pub log: Log,
    /// Identifies the state directory.
    pub home: String,
    /// Builds that may run at the same time.
    pub slots: Arc<Semaphore>,
    /// Notified when a build or its events have changed.
    pub changed: Arc<Notify>,
    pub drain: watch::Receiver<Drain>,
    /// The builds that run now.
    pub running: Running,
}

/// The builds that a server runs.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Mutex<BTreeMap<Uuid, Option<Region>>>>);

impl Running {
    /// Adds a build. `None` if it runs already: its lease has ended while the database did not answer.
    fn add(&self, build: Uuid) -> Option<RunningGuard> {
        match self.locked().entry(build) {
            Entry::Occupied(_) => None,
            Entry::Vacant(entry) => {
                entry.insert(None);
                Some(RunningGuard(self.clone(), build))
            }
        }
    }

    /// The number of builds in a region.
    pub fn count(&self, region: &Region) -> usize {
        self.locked().values().flatten().filter(|running| *running == region).count()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Uuid, Option<Region>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a build from [`Running`] when it is dropped.
struct RunningGuard(Running, Uuid);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.locked().remove(&self.1);
    }
}

impl RunningGuard {
    fn in_region(&self, region: &Region) {
        self.0.locked().insert(self.1, Some(region.clone()));
    }
}

/// How far the server has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    No,
    /// No build is begun; running ones continue.
    Waiting,
    /// Running builds are interrupted, and go back into the queue.
    Interrupting,
}

/// Why a process is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stop {
    Cancelled(String),
    Draining,
    Lost,
}

/// How a build is continued, by what the ledger has about its run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    Start,
    Resume,
    /// A process of an earlier server still cleans up.
    Wait,
    Succeeded(Option<String>),
    Failed(String),
}

/// How the process of a build ended.
enum End {
    Result(Outcome),
    /// Without a result: it was killed.
    Crashed(String),
    Stopped(Stop),
}

impl Runner {
    /// Runs a build if it can be claimed. Otherwise another worker has it, or it has ended.
    pub async fn run(&self, build: Uuid) -> sqlx::Result<()> {
        let Ok(_slot) = self.slots.acquire().await else { return Ok(()) };
        if *self.drain.borrow() > Drain::No {
            return Ok(());
        }
        let Some(running) = self.running.add(build) else { return Ok(()) };
        let new_run = new_run_id().map_err(|e| sqlx::Error::Io(std::io::Error::other(e.to_string())))?;
        let Some(claim) = self.store.claim(build, &self.home, &new_run, self.settings.lease).await? else {
            return Ok(());
        };
        running.in_region(&claim.request.region);
        self.changed.notify_waiters();
        self.log.build(build, &format!("building as {}", claim.run));
        let recorder = Recorder::start(self.store.clone(), self.log.clone(), build, Arc::clone(&self.changed)).await?;
        let end = self.carry_out(&claim, &recorder).await;
        recorder.end().await;
        self.settle(&claim, end).await;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Resumes the builds of this state directory that a server before this one had begun.
    pub async fn resume(self: Arc<Self>) -> sqlx::Result<()> {
        for build in self.store.to_resume(&self.home).await? {
            if self.slots.available_permits() == 0 {
                break;
            }
            let runner = Arc::clone(&self);
            tokio::spawn(async move {
                if let Err(error) = runner.run(build).await {
                    runner.log.build(build, &format!("cannot be resumed: {error}"));
                }
            });
        }
        Ok(())
    }

    /// Starts or resumes the process, and follows it to its end.
    async fn carry_out(&self, claim: &Claim, recorder: &Recorder) -> Result<End, String> {
        let words = loop {
            if let Some(stop) = self.heartbeat(claim).await {
                return Ok(End::Stopped(stop));
            }
            match self.next(claim).await? {
                Next::Start => {
                    let source = match &claim.request.template {
                        Template::Source(source) => source.clone(),
                        Template::Inline(content) => self.stored(content.clone()).await?,
                    };
                    break words::build(&claim.request, &source, &claim.run);
                }
                Next::Resume => {
                    recorder.note(&format!("{} was interrupted and is resumed", claim.run)).await;
                    break words::resume(&claim.run);
                }
                Next::Wait => tokio::time::sleep(self.beat()).await,
                Next::Succeeded(image) => {
                    let data = serde_json::json!({ "image": { "id": image } });
                    let summary = "the run had ended".to_owned();
                    return Ok(End::Result(Outcome { ok: true, exit: 0, summary, error: None, data }));
                }
                Next::Failed(why) => return Err(why),
            }
        };
        let running = self.xtask.start(&words).map_err(|e| format!("cannot start the build: {e}"))?;
        Ok(self.follow(claim, running, recorder).await)
    }

    /// The source of an inline template.
    async fn stored(&self, content: String) -> Result<String, String> {
        let dir = self.settings.dir();
        let stored = tokio::task::spawn_blocking(move || inline::stored(&dir, &content));
        stored.await.map_err(|e| e.to_string())?
    }

    /// What is to be done for the run of a build, by the ledger of this state directory.
    async fn next(&self, claim: &Claim) -> Result<Next, String> {
        let (dir, run) = (self.settings.state.clone(), claim.run.clone());
        let look = move || -> xtask::error::Result<Next> {
            let state = State::open(dir)?;
            let record = state.ledger().run(&run)?;
            let image = state.ledger().noted(&run, "image")?;
            Ok(next(record.as_ref(), state.is_alive(&run)?, image))
        };
        let looked = tokio::task::spawn_blocking(look).await.map_err(|e| e.to_string())?;
        looked.map_err(|e| format!("cannot read the ledger: {e}"))
    }

    /// Time between two heartbeats. At most a second, because a heartbeat also reads whether the build is to be cancelled.
    fn beat(&self) -> Duration {
        (self.settings.lease / 3).min(Duration::from_secs(1))
    }

    /// Renews the lease. Returns why the build is to be stopped, if it is.
    async fn heartbeat(&self, claim: &Claim) -> Option<Stop> {
        match self.store.renew(claim, self.settings.lease).await {
            Ok(Lease::Held) if *self.drain.borrow() == Drain::Interrupting => Some(Stop::Draining),
            Ok(Lease::Held) => None,
            Ok(Lease::Cancelled(by)) => Some(Stop::Cancelled(by)),
            Ok(Lease::Lost) => Some(Stop::Lost),
            // The build continues: no other server resumes a run of this state directory.
            Err(error) => {
                self.log.build(claim.id, &format!("cannot renew the lease: {error}"));
                None
            }
        }
    }

    async fn follow(&self, claim: &Claim, mut running: process::Running, recorder: &Recorder) -> End {
        let mut result = None;
        let mut stop: Option<(Stop, Instant)> = None;
        let mut beat = tokio::time::interval(self.beat());
        let mut drain = self.drain.clone();
        loop {
            tokio::select! {
                line = running.next_line() => {
                    let Some(line) = line else { break };
                    result = outcome(&line).or(result);
                    recorder.line(line).await;
                }
                _ = beat.tick() => match (self.heartbeat(claim).await, &stop) {
                    (Some(why), None) => {
                        running.signal(Signal::TERM);
                        stop = Some((why, Instant::now()));
                    }
                    // The second SIGTERM ends it at once.
                    (_, Some((_, since))) if since.elapsed() > CLEANUP + HANGING => running.signal(Signal::KILL),
                    (_, Some((_, since))) if since.elapsed() > CLEANUP => running.signal(Signal::TERM),
                    _ => {}
                },
                () = interrupting(&mut drain), if stop.is_none() => {
                    running.signal(Signal::TERM);
                    stop = Some((Stop::Draining, Instant::now()));
                }
            }
        }
        let ended = running.end().await;
        match (stop, result) {
            // It had ended before the signal arrived.
            (_, Some(result)) if result.ok => End::Result(result),
            // It was killed, and has not cleaned up.
            (Some((Stop::Draining, _)), None) => End::Crashed(ended),
            (Some((why, _)), _) => End::Stopped(why),
            (None, Some(result)) => End::Result(result),
            (None, None) => End::Crashed(ended),
        }
    }

    /// Writes the end of a build. Repeats until the database has it.
    async fn settle(&self, claim: &Claim, end: Result<End, String>) {
        if let Ok(End::Stopped(Stop::Cancelled(_))) = &end {
            self.clean_up(claim).await;
        }
        // Before the build is seen to have ended: who sees it finds its image.
        self.images.changed().await;
        loop {
            let written = match &end {
                Ok(End::Result(outcome)) if outcome.ok => {
                    match outcome.data.pointer("/image/id").and_then(|id| id.as_str()) {
                        Some(image) => self.store.finish(claim, Ok(image)).await,
                        None => self.store.finish(claim, Err("the build ended without an image")).await,
                    }
                }
                Ok(End::Result(outcome)) => self.store.finish(claim, Err(&outcome.summary)).await,
                Ok(End::Crashed(how)) if claim.crashes >= MOST_CRASHES => {
                    let error = format!(
                        "the process of {} ended {} times without a result: {how}",
                        claim.run,
                        claim.crashes + 1
                    );
                    self.store.finish(claim, Err(&error)).await
                }
                Ok(End::Crashed(_)) => self.store.crashed(claim).await,
                Ok(End::Stopped(Stop::Draining)) => self.store.release(claim).await,
                Ok(End::Stopped(Stop::Cancelled(by))) => self.store.finish_cancelled(claim, by).await,
                Ok(End::Stopped(Stop::Lost)) => Ok(false),
                Err(error) => self.store.finish(claim, Err(error)).await,
            };
            match written {
                Ok(true) => return self.log.build(claim.id, &ended(&end)),
                Ok(false) => return self.log.build(claim.id, "ended by another worker"),
                Err(error) => self.log.build(claim.id, &format!("cannot write the result: {error}")),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Deletes what a cancelled build left: all of it was deleted by the process itself, unless it had to be killed.
    async fn clean_up(&self, claim: &Claim) {
        let began = self.next(claim).await.is_ok_and(|next| next == Next::Resume);
        if began && let Err(error) = self.xtask.query(&words::clean_up(&claim.run), GC).await {
            self.log.build(claim.id, &format!("cannot delete what {} left: {error}", claim.run));
        }
    }
}

/// Waits until running builds are interrupted. Never ends if the server is not stopped.
async fn interrupting(drain: &mut watch::Receiver<Drain>) {
    if drain.wait_for(|drain| *drain == Drain::Interrupting).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How a build ended, for the log.
fn ended(end: &Result<End, String>) -> String {
    match end {
        Ok(End::Result(outcome)) => outcome.summary.clone(),
        Ok(End::Crashed(how)) => format!("its process ended without a result: {how}"),
        Ok(End::Stopped(Stop::Draining)) => "interrupted; the next server resumes it".to_owned(),
        Ok(End::Stopped(Stop::Cancelled(by))) => format!("cancelled by {by}"),
        Ok(End::Stopped(Stop::Lost)) => "lost".to_owned(),
        Err(error) => error.clone(),
    }
}

fn next(record: Option<&RunRecord>, is_alive: bool, image: Option<String>) -> Next {
    let Some(record) = record else { return Next::Start };
    match record.outcome {
        _ if is_alive => Next::Wait,
        None | Some(RunOutcome::Interrupted) => Next::Resume,
        Some(RunOutcome::Done) => Next::Succeeded(image),
        Some(RunOutcome::Failed) => Next::Failed(record.summary.clone()),
        Some(RunOutcome::Cleaned) => Next::Failed(format!("what {} had made was deleted by `ami gc`", record.id)),
    }
}
