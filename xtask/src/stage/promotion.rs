//! The transaction of `ami promote` and `ami rollback`: plans the changes of a channel, records them in the ledger, applies each one and
//! reads it back.

use std::collections::BTreeMap;

use crate::channel::mark::{Promoted, promoted};
use crate::channel::{self, Change, Target, claim};
use crate::cloud::{Cloud, Image};
use crate::error::{Exit, Result};
use crate::event::{Event, Observer, Outcome};
use crate::ids::{Region, RunId};
use crate::ledger::{Intent, Promotion, PromotionKind};
use crate::state::{Run, State};

/// The mark that records why an image must not be used any more.
pub const QUARANTINED: &str = "quarantined";

/// A change of what a channel points at.
#[derive(Clone, Copy, Debug)]
pub struct Move<'a> {
    /// The channel's sinks.
    pub target: &'a Target,
    /// The images that the channel will point at, the home region's first.
    pub images: &'a [Image],
    /// The name of the image that the channel points at now, if all regions agree.
    pub instead_of: Option<&'a str>,
    /// Promotion or rollback.
    pub kind: PromotionKind,
    /// The reason, for the history.
    pub why: Option<&'a str>,
    /// The user has confirmed already.
    pub asked: bool,
}

/// Everything that a move needs, apart from the move.
#[derive(Clone, Copy)]
pub struct Transaction<'a, C> {
    /// The provider of images and parameters.
    pub cloud: &'a C,
    /// Contains the ledger. The caller holds the channel's lock in it.
    pub state: &'a State,
    /// The run that moves the channel.
    pub run: &'a Run,
    /// Receives diffs, notes and warnings.
    pub events: &'a dyn Observer,
    /// The user who moves the channel, for the history.
    pub who: &'a str,
    /// Print the diff and change nothing.
    pub dry_run: bool,
    /// Asks the user; an error if the answer is no.
    pub confirm: &'a dyn Fn(&str) -> Result<()>,
}

/// The last promotion of the channel that was interrupted in this state directory, if nothing has moved the channel since.
pub fn interrupted_promotion<C: Cloud>(
    cloud: &C,
    state: &State,
    target: &Target,
    run: &RunId,
) -> Result<Option<Promotion>> {
    let mut all = state.ledger().promotions(cloud.name())?;
    all.retain(|p| p.moves(&target.name, &target.image) && p.is_interrupted() && p.run != *run);
    Ok(all.pop())
}

impl<C: Cloud> Transaction<'_, C> {
    /// Reports the changes, asks for confirmation, and moves the channel. Returns the outcome and a summary of it.
    pub fn point(&self, step: &Move<'_>) -> Result<(Outcome, String)> {
        let (Move { target, images, .. }, run, ledger) = (step, self.run, self.state.ledger());
        let channel = &target.name;
        let ids: BTreeMap<Region, String> = images.iter().map(|i| (i.region.clone(), i.id.to_string())).collect();
        let shown = ids.values().cloned().collect::<Vec<_>>().join(", ");
        let changes = channel::plan(self.cloud, target, images)?;
        let mut history = ledger.promotions(self.cloud.name())?;
        history.retain(|p| p.moves(channel, &target.image));
        let unfinished = unfinished(&history, run.id(), channel)?;
        same_account(&history, target, images)?;
        if changes.is_empty() && !unfinished {
            // A promotion that was begun and changed nothing must not move the channel when it is resumed later.
            if !self.dry_run {
                ledger.end_promotion(run.id(), channel, &target.image)?;
            }
            return Ok((Outcome::UpToDate, format!("{channel} points at {shown} already")));
        }
        for change in &changes {
            self.events.event(Event::Diff { file: change.place().into(), diff: change.diff() });
        }
        if self.dry_run {
            return Ok((Outcome::UpToDate, "nothing was written: --dry-run".to_owned()));
        }
        // A promotion that was begun has been confirmed.
        if !step.asked && !unfinished {
            let name = images.first().map_or("nothing", |i| i.name.as_str());
            (self.confirm)(&format!("Point {channel} at {name}?"))?;
        }
        for image in *images {
            self.cloud.usable(image)?;
            self.cloud.promotable(image)?;
        }
        self.free_dead_claim(target)?;
        claim::take(self.cloud, target, run.id(), self.who)?;
        let moved = self.change(step, &changes, ids);
        let released = claim::release(self.cloud, target, run.id());
        moved.and(released)?;
        ledger.end_promotion(run.id(), channel, &target.image)?;
        Ok((Outcome::Done, format!("{channel} points at {shown}")))
    }

    /// Releases the claim of a dead run of this state directory. Without that a rollback would wait an hour, until the claim expires.
    fn free_dead_claim(&self, target: &Target) -> Result<()> {
        let Some(holder) = claim::held(self.cloud, target)?.and_then(|claim| claim.run) else { return Ok(()) };
        let state = self.state;
        if holder == *self.run.id() || state.ledger().run(&holder)?.is_none() || state.is_alive(&holder)? {
            return Ok(());
        }
        let message = format!("released the claim of {holder}, which was interrupted while it moved {}", target.name);
        self.events.event(Event::Note { message });
        claim::release(self.cloud, target, &holder)
    }

    /// Makes the changes and reads back what the channel points at. The caller holds the claim on it.
    fn change(&self, step: &Move<'_>, changes: &[Change], ids: BTreeMap<Region, String>) -> Result<()> {
        let Move { target, images, .. } = step;
        let channel = &target.name;
        // Another process may have moved the channel between the plan and the claim.
        if channel::plan(self.cloud, target, images)? != changes {
            let hint = "run the command again and review the new diff";
            return Err(Exit::Failed.error(format_args!("{channel} was moved by another process meanwhile"), hint));
        }
        self.state.ledger().begin_promotion(&self.promotion(step, ids))?;
        for change in changes {
            self.write(channel, change)?;
        }
        let since = Promoted { at: jiff::Timestamp::now(), run: self.run.id().clone(), who: self.who.to_owned() };
        for image in *images {
            self.cloud.mark(image, &promoted(channel), &since.to_string())?;
            // `ami delete` and `ami gc` keep the images of a channel anyway, so the channel is moved even if the protection fails.
            if let Err(error) = self.cloud.protect(image) {
                let message = format!("{} is not protected from deregistration: {error}", image.id);
                let hint = "`cargo xtask iam-policy` prints the required permissions".to_owned();
                self.events.event(Event::Warning { message, hint });
            }
        }
        let now = channel::points_at(self.cloud, target)?;
        match images.iter().find(|i| now.get(&i.region) != Some(&i.id)) {
            None => Ok(()),
            Some(image) => {
                let found = now.get(&image.region).map_or("nothing".to_owned(), ToString::to_string);
                Err(Exit::Failed.error(
                    format_args!("{channel} was pointed at {} in {} and points at {found}", image.id, image.region),
                    format_args!(
                        "another process moves the channel; `cargo xtask ami history --channel {channel}` lists the moves of this machine"
                    ),
                ))
            }
        }
    }

    fn promotion(&self, step: &Move<'_>, ids: BTreeMap<Region, String>) -> Promotion {
        let home = step.images.first();
        Promotion {
            run: self.run.id().clone(),
            on: self.cloud.name().to_owned(),
            channel: step.target.name.clone(),
            of: step.target.image.clone(),
            account: home.and_then(|i| i.account.clone()),
            kind: step.kind,
            image: home.map(|i| i.name.clone()).unwrap_or_default(),
            instead_of: step.instead_of.map(str::to_owned),
            version: home.map(|i| i.version.clone()).unwrap_or_default(),
            ids,
            who: self.who.to_owned(),
            why: step.why.map(str::to_owned),
            at: jiff::Timestamp::now(),
            ended: None,
            superseded: None,
        }
    }

    fn write(&self, channel: &str, change: &Change) -> Result<()> {
        // A parameter is written by a call to the provider, which records its calls in the ledger itself.
        if matches!(change, Change::Parameter(_)) {
            channel::apply(self.cloud, change)?;
        } else {
            let intent = Intent {
                action: "channel:Write".to_owned(),
                subject: Some(channel.to_owned()),
                token: Some(change.place()),
                ..Intent::default()
            };
            self.run.journal(&intent, || channel::apply(self.cloud, change).map(|()| ((), vec![change.place()])))?;
        }
        self.events.event(Event::Note { message: format!("{} written and read back", change.place()) });
        Ok(())
    }
}

/// True if this run has begun to move the channel before; an error if the channel was moved by another run since.
fn unfinished(history: &[Promotion], run: &RunId, channel: &str) -> Result<bool> {
    let mine = history.iter().rfind(|p| p.run == *run);
    if let Some(by) = mine.and_then(|p| p.superseded.as_ref()) {
        return Err(Exit::Precondition.error(
            format_args!("{channel} was moved by {by} after {run} was interrupted"),
            format_args!(
                "`cargo xtask ami history --channel {channel}` lists its moves; to point it at another image, promote that image"
            ),
        ));
    }
    Ok(mine.is_some_and(Promotion::is_interrupted))
}

/// Returns an error if the channel last pointed at images of another account: readers of its env file expect ids of one account.
fn same_account(history: &[Promotion], target: &Target, images: &[Image]) -> Result<()> {
    let Some(account) = images.first().and_then(|i| i.account.as_deref()) else { return Ok(()) };
    let last = history.iter().rev().filter(|p| p.ended.is_some()).find_map(|p| p.account.as_deref());
    match last.filter(|last| *last != account) {
        None => Ok(()),
        Some(last) => Err(Exit::Precondition.error(
            format_args!(
                "{} of {} was last pointed at images of account {last}, and these are of account {account}",
                target.name, target.image
            ),
            format_args!(
                "use another profile, or give each account its own state directory and env files: --state DIR, AGENT_AMI_CHANNELS_{}_ENV_FILE",
                target.name.to_uppercase().replace('-', "_")
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promotion(account: Option<&str>, ended: bool) -> Promotion {
        Promotion {
            run: "run-1".into(),
            on: "aws".to_owned(),
            channel: "staging".into(),
            of: "locus-agent".to_owned(),
            account: account.map(str::to_owned),
            kind: PromotionKind::Promote,
            image: "v1".to_owned(),
            instead_of: None,
            version: "1.0.0".to_owned(),
            ids: BTreeMap::new(),
            who: "ann".to_owned(),
            why: None,
            at: "2026-11-21T10:00:00Z".parse().unwrap(),
            ended: ended.then(|| "2026-11-21T10:00:01Z".parse().unwrap()),
            superseded: None,
        }
    }

    #[test]
    fn a_channel_stays_in_its_account() {
        let target = Target { name: "staging".into(), image: "locus-agent".to_owned(), ..Target::default() };
        let image = |account: &str| Image { account: Some(account.to_owned()), ..Image::sample() };
        let history = [promotion(Some("111111111111"), true), promotion(None, true)];
        same_account(&history, &target, &[image("111111111111")]).unwrap();
        let error = same_account(&history, &target, &[image("222222222222")]).unwrap_err();
        assert_eq!(error.exit(), Exit::Precondition);
        assert!(
            error.to_string().contains("of account 111111111111, and these are of account 222222222222"),
            "{error}"
        );
        // A promotion that was interrupted does not count, and local images have no account.
        same_account(&[promotion(Some("111111111111"), false)], &target, &[image("222222222222")]).unwrap();
        same_account(&history, &target, &[Image { account: None, ..Image::sample() }]).unwrap();
    }
}
