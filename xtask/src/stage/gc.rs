//! Decides which images are deprecated, disabled or removed, which orphaned resources are removed, and why. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::cloud::{Image, Kind, Orphan};
use crate::ids::{Region, RunId};

pub mod layers;

/// The settings below `[retention]` in ami.toml.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How long an image is kept after it was replaced.
    pub keep: SignedDuration,
    /// How long an image is deprecated before it is disabled or removed.
    pub deprecated: SignedDuration,
    /// How long an image is disabled before it is removed; `None` if images are not disabled.
    pub disabled: Option<SignedDuration>,
    /// How many versions of an image are kept regardless of their age.
    pub keep_last: usize,
    /// The most removals of one plan.
    pub max_removals: usize,
    /// How long a resource without an expiry is kept if its run is unknown.
    pub grace: SignedDuration,
}

/// What the decisions depend on, apart from the policy and the time.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// All images, of all regions.
    pub images: Vec<Image>,
    /// By image id, everything that refers to the image: channels, instances, launch templates.
    pub users: BTreeMap<String, Vec<String>>,
    /// By image name, the reason of its quarantine.
    pub quarantined: BTreeMap<String, String>,
    /// By image name, the channels that were pointed at the image, and when.
    pub promoted: BTreeMap<String, Vec<(String, Timestamp)>>,
    /// By image id, since when the image has been deprecated.
    pub deprecated: BTreeMap<String, Timestamp>,
    /// By image id, since when the image has been disabled.
    pub disabled: BTreeMap<String, Timestamp>,
    /// Resources of runs that are not part of a finished image.
    pub orphans: Vec<Orphan>,
    /// The runs whose process is alive.
    pub living: BTreeSet<RunId>,
    /// The other runs in this machine's ledger.
    pub known: BTreeSet<RunId>,
}

/// What happens to an image, a layer or an orphaned resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is kept.
    Keep,
    /// The image is marked as deprecated. Instances of it can still be launched.
    Deprecate,
    /// The image is disabled. No instance of it can be launched until it is enabled again.
    Disable,
    /// It is removed.
    Remove,
}

/// The decision about an image, a layer or an orphaned resource.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// What happens to it.
    pub action: Action,
    /// `image`, `layer`, or the kind of orphaned resource.
    pub what: &'static str,
    pub id: String,
    pub region: Region,
    /// The image's name, the layer's step, or the run that the resource belongs to.
    pub of: String,
    /// The reason for the action, for display.
    pub reason: String,
    /// Its cost in US dollars per month, if a price is known.
    pub monthly: Option<f64>,
    /// Its size, if known.
    pub bytes: Option<u64>,
}

/// US dollars per GiB and month of a snapshot (Amazon EBS pricing, standard tier, us-east-1; most regions cost more).
const SNAPSHOT: f64 = 0.05;
/// US dollars per GiB and month of a gp3 volume (Amazon EBS pricing, us-east-1).
const VOLUME: f64 = 0.08;

/// Decides about all images and orphaned resources. `local` is true for a provider whose storage costs no money.
pub fn plan(facts: &Facts, policy: &Policy, now: Timestamp, local: bool) -> Vec<Decision> {
    let mut decisions: Vec<Decision> = facts.images.iter().map(|i| image(facts, policy, i, now, local)).collect();
    decisions.extend(facts.orphans.iter().map(|l| orphan(facts, policy, l, now, local)));
    let mut left = policy.max_removals;
    for decision in decisions.iter_mut().filter(|d| d.action == Action::Remove) {
        match left.checked_sub(1) {
            Some(rest) => left = rest,
            None => {
                decision.action = Action::Keep;
                decision.reason = format!(
                    "at most {} removals per command (max_removals); next time: {}",
                    policy.max_removals, decision.reason
                );
            }
        }
    }
    decisions
}

fn image(facts: &Facts, policy: &Policy, image: &Image, now: Timestamp, local: bool) -> Decision {
    let (action, reason) = decide(facts, policy, image, now);
    // EC2 does not report how much data a snapshot has; the size of the disk is its upper bound.
    let gib = image.disk_bytes as f64 / f64::from(1 << 30);
    Decision {
        action,
        what: "image",
        id: image.id.to_string(),
        region: image.region.clone(),
        of: image.name.clone(),
        reason,
        monthly: (!local).then_some(gib * SNAPSHOT),
        bytes: Some(image.disk_bytes),
    }
}

fn decide(facts: &Facts, policy: &Policy, image: &Image, now: Timestamp) -> (Action, String) {
    let keep = |reason: String| (Action::Keep, reason);
    // A user of one copy keeps all copies: a channel moves them together.
    let family = || facts.images.iter().filter(|i| i.name == image.name);
    let users: BTreeSet<&str> =
        family().flat_map(|i| facts.users.get(&i.id.0).into_iter().flatten()).map(String::as_str).collect();
    if !users.is_empty() {
        return keep(format!("in use: {}", users.into_iter().collect::<Vec<_>>().join(", ")));
    }
    if let Some(why) = facts.quarantined.get(&image.name) {
        return keep(format!("quarantined ({why}): delete it by name when it is not needed any more"));
    }
    if family().any(|i| facts.living.contains(&i.run)) {
        return keep(format!("{} is still running", image.run));
    }
    let newer = newer(facts, image);
    if newer.len() < policy.keep_last {
        return keep(format!("one of the last {} of {}", policy.keep_last, image.image));
    }
    let Some(replaced) = replaced(facts, image, &newer) else {
        return keep("no image has replaced it".to_owned());
    };
    let age = now.duration_since(replaced);
    let days = policy.keep.as_hours() / 24;
    if age < policy.keep {
        return keep(format!("replaced {} days ago, kept for {days}", age.as_hours() / 24));
    }
    let (age, notice) = (age.as_hours() / 24, policy.deprecated.as_hours() / 24);
    let next = if policy.disabled.is_some() { "disabled" } else { "removed" };
    let Some(since) = facts.deprecated.get(&image.id.0) else {
        let reason = format!("replaced {age} days ago; {next} after {notice} days of deprecation");
        return (Action::Deprecate, reason);
    };
    if now.duration_since(*since) < policy.deprecated {
        return keep(format!("deprecated since {since}; {next} after {notice} days"));
    }
    let Some(disabled) = policy.disabled else {
        let reason = format!("replaced {age} days ago, deprecated for at least {notice} days, not in use");
        return (Action::Remove, reason);
    };
    let rest = disabled.as_hours() / 24;
    match facts.disabled.get(&image.id.0) {
        None => (
            Action::Disable,
            format!("deprecated for at least {notice} days; removed after {rest} days of being disabled"),
        ),
        Some(since) if now.duration_since(*since) < disabled => {
            keep(format!("disabled since {since}; removed after {rest} days"))
        }
        Some(_) => (Action::Remove, format!("replaced {age} days ago, disabled for at least {rest} days, not in use")),
    }
}

/// True if both images were built from one image of ami.toml and for one architecture. Old records have no architecture; they match any.
fn same_kind(one: &Image, other: &Image) -> bool {
    one.image == other.image && (one.arch == other.arch || one.arch.is_none() || other.arch.is_none())
}

/// The names of newer images of the same kind, with the creation time of their first copy.
fn newer<'a>(facts: &'a Facts, image: &Image) -> BTreeMap<&'a str, Timestamp> {
    let made = |i: &Image| i.created;
    let mine = facts.images.iter().filter(|i| i.name == image.name).filter_map(made).min();
    let others = facts.images.iter().filter(|i| same_kind(i, image) && i.name != image.name);
    let mut newer = BTreeMap::new();
    for (other, at) in others.filter_map(|i| Some((i, made(i)?))) {
        // An image without a creation time is not replaced by any.
        if mine.is_some_and(|mine| at > mine) {
            let first = newer.entry(other.name.as_str()).or_insert(at);
            *first = at.min(*first);
        }
    }
    newer
}

/// When an image was replaced: when the last of its channels was pointed at another image, or, if it was in no channel, when the next image
/// was created.
fn replaced(facts: &Facts, image: &Image, newer: &BTreeMap<&str, Timestamp>) -> Option<Timestamp> {
    let Some(promoted) = facts.promoted.get(&image.name).filter(|p| !p.is_empty()) else {
        return newer.values().min().copied();
    };
    let mut last: Option<Timestamp> = None;
    for (channel, at) in promoted {
        let after = facts.promoted.iter().filter(|(name, _)| **name != image.name).flat_map(|(_, moves)| moves);
        let next = after.filter(|(c, later)| c == channel && later > at).map(|(_, later)| *later).min()?;
        last = last.max(Some(next));
    }
    last
}

fn orphan(facts: &Facts, policy: &Policy, orphan: &Orphan, now: Timestamp, local: bool) -> Decision {
    let run = orphan.run.as_deref().unwrap_or_default();
    let expired = orphan.expires.as_deref().and_then(|at| at.parse::<Timestamp>().ok()).is_some_and(|at| at < now);
    let (action, reason) = if facts.living.contains(run) {
        (Action::Keep, format!("{run} is still running"))
    } else if facts.known.contains(run) {
        (Action::Remove, format!("{run} has ended"))
    } else if expired {
        (Action::Remove, "expired".to_owned())
    } else if orphan.expires.is_none() && began(run).is_some_and(|at| now.duration_since(at) > policy.grace) {
        (Action::Remove, format!("{run} began more than {} hours ago", policy.grace.as_hours()))
    } else {
        (Action::Keep, "a run on another machine may still use it".to_owned())
    };
    let price = match orphan.kind {
        Kind::Volume => Some(VOLUME),
        Kind::Snapshot => Some(SNAPSHOT),
        Kind::KeyPair | Kind::SecurityGroup | Kind::Claim => Some(0.0),
        Kind::Machine | Kind::UnfinishedImage | Kind::Directory => None,
    };
    let gib = orphan.bytes.map_or(0.0, |bytes| bytes as f64 / f64::from(1 << 30));
    Decision {
        action,
        what: orphan.kind.name(),
        id: orphan.id.clone(),
        region: orphan.region.clone(),
        of: run.to_owned(),
        reason,
        monthly: price.filter(|_| !local).map(|price| price * gib),
        bytes: orphan.bytes,
    }
}

/// When a run began. A run's id contains it: `run-20261121-100000-abcdef`.
fn began(run: &str) -> Option<Timestamp> {
    let digits: String = run.strip_prefix("run-")?.chars().take(15).collect();
    let at = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", digits).ok()?;
    at.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::ImageId;
    use crate::recipe::Digest;

    const POLICY: Policy = Policy {
        keep: SignedDuration::from_hours(30 * 24),
        deprecated: SignedDuration::from_hours(7 * 24),
        disabled: None,
        keep_last: 1,
        max_removals: 10,
        grace: SignedDuration::from_hours(24),
    };

    fn day(n: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + n * 86_400).unwrap()
    }

    fn made(name: &str, on: i64) -> Image {
        Image {
            id: ImageId(format!("ami-{name}")),
            name: name.to_owned(),
            created: Some(day(on)),
            content: Digest::of(name.as_bytes()),
            disk_bytes: 20 << 30,
            run: format!("run-{name}").into(),
            ..Image::sample()
        }
    }

    /// v1 of day 0, replaced in production on day 10 by v2; v3 of day 20 was never promoted.
    fn facts() -> Facts {
        let promoted = |on: i64| vec![("production".to_owned(), day(on))];
        Facts {
            images: vec![made("v1", 0), made("v2", 5), made("v3", 20)],
            promoted: [("v1".to_owned(), promoted(1)), ("v2".to_owned(), promoted(10))].into(),
            users: [("ami-v2".to_owned(), vec!["channel production".to_owned()])].into(),
            ..Facts::default()
        }
    }

    fn actions(facts: &Facts, on: i64) -> Vec<(Action, String)> {
        plan(facts, &POLICY, day(on), false).into_iter().map(|d| (d.action, d.reason)).collect()
    }

    #[test]
    fn an_image_is_deprecated_a_month_after_it_was_replaced_and_removed_after_that() {
        let mut facts = facts();
        assert_eq!(actions(&facts, 39)[0], (Action::Keep, "replaced 29 days ago, kept for 30".to_owned()));
        assert_eq!(actions(&facts, 41)[0].0, Action::Deprecate);
        facts.deprecated.insert("ami-v1".to_owned(), day(41));
        assert_eq!(actions(&facts, 47)[0].0, Action::Keep);
        let all = plan(&facts, &POLICY, day(48), false);
        assert_eq!((all[0].action, all[0].monthly), (Action::Remove, Some(1.0)));
        assert_eq!(all[1].reason, "in use: channel production");
        assert_eq!(all[2].reason, "one of the last 1 of locus-agent");
    }

    #[test]
    fn an_image_is_disabled_before_it_is_removed_if_the_policy_has_that() {
        let policy = Policy { disabled: Some(SignedDuration::from_hours(3 * 24)), ..POLICY };
        let first = |facts: &Facts, on: i64| {
            let decision = plan(facts, &policy, day(on), false).swap_remove(0);
            (decision.action, decision.reason)
        };
        let mut facts = facts();
        assert!(first(&facts, 41).1.ends_with("disabled after 7 days of deprecation"));
        facts.deprecated.insert("ami-v1".to_owned(), day(41));
        assert_eq!(first(&facts, 47).0, Action::Keep);
        assert_eq!(first(&facts, 48).0, Action::Disable);
        facts.disabled.insert("ami-v1".to_owned(), day(48));
        assert_eq!(first(&facts, 50), (Action::Keep, format!("disabled since {}; removed after 3 days", day(48))));
        assert_eq!(first(&facts, 51).0, Action::Remove);
    }

    #[test]
    fn an_image_is_not_replaced_by_one_of_another_architecture() {
        let of = |name: &str, on: i64, arch: &str| Image { arch: Some(arch.to_owned()), ..made(name, on) };
        let mut facts = Facts { images: vec![of("x", 0, "x86_64"), of("arm", 20, "arm64")], ..Facts::default() };
        assert_eq!(actions(&facts, 400)[0].1, "one of the last 1 of locus-agent");
        facts.images.push(of("x-again", 20, "x86_64"));
        assert_eq!(actions(&facts, 400)[0].0, Action::Deprecate);
        assert_eq!(actions(&facts, 400)[1].0, Action::Keep);
    }

    #[test]
    fn images_in_use_quarantined_or_of_a_running_run_are_kept() {
        let mut facts = facts();
        facts.deprecated.insert("ami-v1".to_owned(), day(41));
        facts.quarantined.insert("v1".to_owned(), "boots no more".to_owned());
        assert!(actions(&facts, 400)[0].1.contains("quarantined (boots no more)"));
        facts.quarantined.clear();
        facts.living.insert("run-v1".into());
        assert_eq!(actions(&facts, 400)[0].0, Action::Keep);
        facts.living.clear();
        // A copy that is in use keeps all the others.
        let copy = Image { id: ImageId("ami-copy".to_owned()), region: "eu-west-1".into(), ..made("v1", 0) };
        facts.images.push(copy);
        facts.users.insert("ami-copy".to_owned(), vec!["instance i-1".to_owned()]);
        assert_eq!(actions(&facts, 400)[0], (Action::Keep, "in use: instance i-1".to_owned()));
    }

    #[test]
    fn orphans_are_removed_when_their_run_has_ended_or_they_expired() {
        let orphan = |run: &str, expires: Option<Timestamp>| Orphan {
            kind: Kind::Volume,
            id: "vol-1".to_owned(),
            region: "us-east-1".into(),
            run: Some(run.into()),
            expires: expires.map(|at| at.to_string()),
            bytes: Some(20 << 30),
        };
        let facts = Facts {
            orphans: vec![
                orphan("run-dead", None),
                orphan("run-alive", Some(day(0))),
                orphan("run-20231101-000000-aa", Some(day(9))),
                orphan("run-20231101-000000-aa", Some(day(2))),
                orphan("run-20231101-000000-aa", None),
                orphan("run-20231114-220000-aa", None),
            ],
            living: ["run-alive".into()].into(),
            known: ["run-dead".into(), "run-alive".into()].into(),
            ..Facts::default()
        };
        let (keep, remove) = (Action::Keep, Action::Remove);
        let now = Timestamp::from_second(1_700_000_000 + 5 * 86_400).unwrap();
        let at = |n: i64| plan(&facts, &POLICY, now, false)[usize::try_from(n).unwrap()].clone();
        assert_eq!([0, 1, 2, 3, 4].map(|n| at(n).action), [remove, keep, keep, remove, remove]);
        let early = plan(&facts, &POLICY, day(0), false);
        assert_eq!(early[5].action, keep, "{}", early[5].reason);
        assert!((at(0).monthly.unwrap() - 1.6).abs() < 1e-9);
    }

    #[test]
    fn a_plan_has_at_most_max_removals() {
        let mut facts = facts();
        facts.images = (0..5).map(|n| made(&format!("v{n}"), n)).collect();
        facts.promoted.clear();
        facts.users.clear();
        facts.deprecated = facts.images.iter().map(|i| (i.id.to_string(), day(50))).collect();
        let policy = Policy { max_removals: 2, ..POLICY };
        let all = plan(&facts, &policy, day(400), false);
        assert_eq!(all.iter().filter(|d| d.action == Action::Remove).count(), 2);
        assert!(all[2].reason.starts_with("at most 2 removals per command"), "{}", all[2].reason);
    }
}
