//! Images and channels, as `xtask` lists and changes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde::Deserialize;
use smoke::report::Outcome as Verdict;
use tokio::sync::Mutex;
use xtask::cloud::{Image, ImageId};
use xtask::error::Exit;
use xtask::ids::ChannelName;
use xtask::stage::smoke::Record;

use crate::model::{Check, SmokeReport};
use crate::problem::Problem;
use crate::process::{Outcome, Xtask};
use crate::words;

/// Time for which a list is used again. Requests in this time do not start a process.
const FRESH: Duration = Duration::from_secs(5);
/// The longest time for reading.
const READING: Duration = Duration::from_secs(120);
/// The longest time for deleting and promoting: EC2 parameters and snapshots of several regions.
const CHANGING: Duration = Duration::from_secs(900);

/// The images of the provider.
#[derive(Debug)]
pub struct Images {
    xtask: Arc<Xtask>,
    list: Mutex<Option<(Instant, Arc<Vec<Used>>)>>,
}

/// An image with what `ami list --long` adds.
#[derive(Clone, Debug)]
pub struct Used {
    pub image: Image,
    pub channels: Vec<ChannelName>,
    pub smoke_passed: Option<bool>,
}

/// The output of `ami list --long`.
#[derive(Debug, Deserialize)]
struct Listing {
    images: Vec<Image>,
    uses: BTreeMap<ImageId, UseOfImage>,
}

#[derive(Debug, Default, Deserialize)]
struct UseOfImage {
    channels: Vec<ChannelName>,
    smoke_passed: Option<bool>,
}

impl Images {
    pub fn new(xtask: Arc<Xtask>) -> Self {
        Self { xtask, list: Mutex::new(None) }
    }

    /// All images, newest first. The list may be some seconds old.
    pub async fn all(&self) -> Result<Arc<Vec<Used>>, Problem> {
        // Requests that arrive together wait for one process.
        let mut list = self.list.lock().await;
        if let Some((_, images)) = list.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(Arc::clone(images));
        }
        let outcome = self.xtask.query(&words::list(), READING).await.map_err(|e| Problem::busy(e, 10))?;
        if !outcome.ok {
            return Err(Problem::busy(format!("cannot list the images: {}", outcome.summary), 10));
        }
        let mut listing: Listing = serde_json::from_value(outcome.data)
            .map_err(|e| Problem::internal(format!("could not parse the output of `ami list`: {e}")))?;
        let used = listing.images.into_iter().map(|image| {
            let UseOfImage { channels, smoke_passed } = listing.uses.remove(&image.id).unwrap_or_default();
            Used { image, channels, smoke_passed }
        });
        let mut images: Vec<Used> = used.collect();
        images.sort_by(|a, b| (b.image.created, &b.image.id).cmp(&(a.image.created, &a.image.id)));
        let images = Arc::new(images);
        *list = Some((Instant::now(), Arc::clone(&images)));
        Ok(images)
    }

    /// Makes the next request read the list again.
    pub async fn changed(&self) {
        *self.list.lock().await = None;
    }

    /// The image of this id.
    pub async fn one(&self, id: &str) -> Result<Used, Problem> {
        let found = self.all().await?.iter().find(|used| used.image.id.0 == id).cloned();
        found.ok_or_else(|| Problem::not_found(format!("no image `{id}`")))
    }

    /// The result of an image's smoke test; `None` if it was not tested.
    pub async fn smoke(&self, id: &str) -> Result<Option<SmokeReport>, Problem> {
        self.one(id).await?;
        let outcome = self.xtask.query(&words::show(id), READING).await.map_err(|e| Problem::busy(e, 10))?;
        if !outcome.ok {
            return Err(failed(&outcome));
        }
        let record: Option<Record> = serde_json::from_value(outcome.data["smoke"].clone())
            .map_err(|e| Problem::internal(format!("could not parse the output of `ami show`: {e}")))?;
        Ok(record.map(|record| report(id, record)))
    }

    /// Deletes an image. A channel that points at it is never overridden, because its customers could not start instances any more.
    pub async fn delete(&self, id: &str, force: bool) -> Result<(), Problem> {
        self.changed().await;
        let used = self.one(id).await?;
        if let Some(channel) = used.channels.first() {
            let detail = format!("the channel `{channel}` points at {id}; promote another image first");
            return Err(Problem::conflict(detail));
        }
        let deleted = self.change(&words::delete(id, force)).await;
        deleted.map(drop)
    }

    /// Points a channel at an image. Returns what changed, as one line.
    pub async fn promote(&self, id: &str, channel: &ChannelName) -> Result<String, Problem> {
        self.changed().await;
        self.one(id).await?;
        Ok(self.change(&words::promote(id, channel)).await?.summary)
    }

    /// Points a channel back at its previous image.
    pub async fn rollback(&self, channel: &ChannelName, reason: &str, image: Option<&str>) -> Result<String, Problem> {
        Ok(self.change(&words::rollback(channel, reason, image)).await?.summary)
    }

    async fn change(&self, words: &[String]) -> Result<Outcome, Problem> {
        let outcome = self.xtask.query(words, CHANGING).await.map_err(Problem::internal)?;
        self.changed().await;
        if outcome.ok { Ok(outcome) } else { Err(failed(&outcome)) }
    }
}

/// The answer to a request whose command failed, by its exit code.
fn failed(outcome: &Outcome) -> Problem {
    let status = match outcome.exit {
        code if code == Exit::Usage as u8 => StatusCode::UNPROCESSABLE_ENTITY,
        code if code == Exit::Precondition as u8 || code == Exit::ImageFailed as u8 => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Problem::new(status, outcome.summary.clone())
}

fn report(id: &str, record: Record) -> SmokeReport {
    let names = record.passes.into_iter().map(Some).chain(std::iter::repeat(None));
    let passes = record.reports.into_iter().zip(names);
    let checks = passes.flat_map(|(report, pass)| {
        let pass = pass.unwrap_or_else(|| "unknown".to_owned());
        report.checks.into_iter().map(move |check| Check {
            pass: pass.clone(),
            name: check.name,
            outcome: name(check.outcome).to_owned(),
            seconds: check.seconds,
            message: check.message,
        })
    });
    SmokeReport { image_id: id.to_owned(), passed: record.passed, at: record.at.to_string(), checks: checks.collect() }
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Quarantined => "quarantined",
        Verdict::Skipped => "skipped",
    }
}
