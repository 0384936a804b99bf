//! Reads of recent changes, which EC2 shows with a delay (EC2 developer guide, "Eventual consistency in the Amazon EC2 API").

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::{Image as Ami, ImageState};
use jiff::Timestamp;
use xtask::cloud::{Image, Listed};
use xtask::error::{Exit, Result};
use xtask::ids::Region;
use xtask::ledger::Call;

use super::Ec2;
use crate::{image, record};

/// Number of pauses after a call until EC2's responses are taken as complete: 20 seconds with the default pause of five.
const CONSISTENT_AFTER: u32 = 4;

impl Ec2 {
    /// An AMI as EC2 returns it now.
    pub(super) fn ami(&self, region: &Region, id: &str) -> Result<Ami> {
        let found = self.driver.wait(image::by_ids(&self.clients.ec2(region), &[id.to_owned()]))??;
        found.into_iter().next().ok_or_else(|| {
            Exit::Failed.error(
                format_args!("{id} does not exist in {region}"),
                "check with `cargo xtask ami list --on aws` whether it was deleted",
            )
        })
    }

    /// The record of a new image, read again until all its tags are visible.
    pub(super) fn read(&self, region: &Region, id: &str) -> Result<Image> {
        let mut left = 12;
        loop {
            match record::read(region, &self.ami(region, id)?) {
                Listed::Image(image) => return Ok(*image),
                Listed::Corrupt(_) if left > 0 => left -= 1,
                Listed::Corrupt(corrupt) => {
                    return Err(Exit::Failed.error(
                        format_args!("{}: {}", corrupt.place, corrupt.problem),
                        format_args!("inspect its tags, or remove it with `cargo xtask ami delete {id} --on aws`"),
                    ));
                }
            }
            self.driver.pause(self.settings.patience.pause)?;
        }
    }

    /// Waits until no image of this run is in progress, whatever the result: the builder must not be terminated before.
    pub(super) fn captured(&self, region: &Region) -> Result<()> {
        let (ec2, run) = (self.clients.ec2(region), self.run()?.id());
        let made = self.driver.wait(image::tagged(&ec2, record::RUN, Some(run)))??;
        let is_pending = |ami: &&Ami| ami.state() == Some(&ImageState::Pending);
        let is_copy = |ami: &&Ami| record::plain_tags(ami.tags()).contains_key(record::COPIED_FROM);
        for id in made.iter().filter(is_pending).filter(|ami| !is_copy(ami)).filter_map(Ami::image_id) {
            let waited = self.driver.wait(image::available(&ec2, id, self.settings.patience.image, &|_| {}))?;
            // `finish_capture` reports a failed image.
            drop(waited);
        }
        Ok(())
    }

    /// Tags an image, and waits until the tags are visible: other commands, also on other machines, depend on them.
    pub(super) fn tag_visibly(&self, region: &Region, ami: &Ami, tags: &BTreeMap<String, String>) -> Result<()> {
        let (ec2, id) = (self.clients.ec2(region), ami.image_id().unwrap_or_default());
        self.driver.finish(image::tag(&ec2, ami, tags))?;
        for _ in 0..image::VISIBLE {
            let there = record::plain_tags(self.ami(region, id)?.tags());
            if tags.iter().all(|(key, value)| there.get(key) == Some(value)) {
                return Ok(());
            }
            self.driver.pause(self.settings.patience.pause)?;
        }
        let names = tags.keys().cloned().collect::<Vec<_>>().join(", ");
        Err(Exit::Failed.error(
            format_args!("the tags {names} of {id} in {region} cannot be read back"),
            "run the same command again; another process may have changed them",
        ))
    }

    /// Waits until EC2 shows the results of the calls that this run made before it was interrupted, and of the calls of other unfinished
    /// runs of this state directory.
    pub(super) fn wait_until_consistent(&self) -> Result<()> {
        let ledger = self.state.ledger();
        let mut runs = ledger.runs()?;
        runs.retain(|run| run.on == "aws" && run.ended.is_none());
        let mut left = Duration::ZERO;
        for run in runs {
            left = left.max(unseen(
                &ledger.calls(&run.id)?,
                self.settings.patience.pause * CONSISTENT_AFTER,
                Timestamp::now(),
            ));
        }
        if left.is_zero() { Ok(()) } else { self.driver.pause(left) }
    }
}

/// Remaining time for which the results of these calls may be invisible.
fn unseen(calls: &[Call], visible: Duration, now: Timestamp) -> Duration {
    let at = |call: &Call| call.settled.as_ref().unwrap_or(&call.at).parse::<Timestamp>().ok();
    let Some(last) = calls.iter().filter_map(at).max() else { return Duration::ZERO };
    let since = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    visible.saturating_sub(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_recent_calls_may_be_invisible() {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let call = |began: i64, settled: Option<i64>| Call {
            seq: 1,
            action: "ec2:CreateImage".to_owned(),
            region: None,
            token: None,
            subject: None,
            tags: Vec::new(),
            at: at(began).to_string(),
            settled: settled.map(|second| at(second).to_string()),
            ids: Vec::new(),
            error: None,
        };
        let left = |calls: &[Call], now: i64| unseen(calls, Duration::from_secs(60), at(now)).as_secs();
        assert_eq!(left(&[], 0), 0);
        assert_eq!(left(&[call(0, Some(10)), call(20, None)], 25), 55, "the response was lost");
        assert_eq!(left(&[call(0, Some(10))], 25), 45);
        assert_eq!(left(&[call(0, Some(10))], 100), 0);
    }
}
