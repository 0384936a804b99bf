//! Rollback: which image a channel goes back to, and which one is put under quarantine. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::cloud::{Cloud, Image, ImageId};
use crate::error::{Error, Exit, Result};

/// An image that a channel could point at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its id in each region.
    pub ids: Vec<String>,
    /// The regions that have it.
    pub regions: Vec<String>,
    /// When the channel was last pointed at it, RFC 3339, if ever.
    pub promoted: Option<String>,
    /// Why it must not be used any more.
    pub quarantined: Option<String>,
    /// Where its marks are, if they were damaged: whether it is under quarantine is not known then.
    pub damaged: Option<String>,
}

/// What a channel points at, by the names of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stands {
    /// At nothing, in no region.
    Nowhere,
    /// At one image in all regions where it points at anything.
    At(String),
    /// At different images: each with its regions. An id that no image has stands for itself.
    Split(BTreeMap<String, Vec<String>>),
}

/// A promotion that was interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfDone {
    /// The run that was interrupted.
    pub run: String,
    /// The name of the image that it moved the channel to.
    pub image: String,
}

/// What is known when a rollback is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The images that the channel could point at.
    pub candidates: &'a [Candidate],
    /// The regions that must have the image.
    pub regions: &'a [String],
    /// What the channel points at.
    pub stands: &'a Stands,
    /// The promotion that was interrupted last, if nothing has moved the channel since.
    pub half_done: Option<&'a HalfDone>,
}

/// What a rollback was asked to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Version, name or id of the image to go back to.
    pub to: Option<&'a str>,
    /// Versions, names or ids of the images to put under quarantine.
    pub bad: &'a [String],
    /// Put none under quarantine.
    pub keep: bool,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Back {
    /// The name of the image that the channel will point at.
    pub to: String,
    /// The names of the images that are put under quarantine.
    pub bad: Vec<String>,
}

/// Reads what a channel points at. `all` are the images that are there, `regions` those that must agree.
pub fn stands(all: &[Image], now: &BTreeMap<String, ImageId>, regions: &[String]) -> Stands {
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (region, id) in now.iter().filter(|(region, _)| regions.contains(region)) {
        let name = all.iter().find(|i| i.id == *id).map_or_else(|| id.to_string(), |i| i.name.clone());
        by_name.entry(name).or_default().push(region.clone());
    }
    match by_name.len() {
        0 => Stands::Nowhere,
        1 => by_name.into_keys().next().map_or(Stands::Nowhere, Stands::At),
        _ => Stands::Split(by_name),
    }
}

/// The same for the regions of a provider. Regions that may lack an image keep what they had, so they need not agree with the others.
pub fn channel_stands<C: Cloud>(cloud: &C, all: &[Image], now: &BTreeMap<String, ImageId>) -> Stands {
    let regions: Vec<String> = cloud.regions().iter().filter(|r| !cloud.best_effort().contains(r)).cloned().collect();
    stands(all, now, &regions)
}

impl Stands {
    /// The image's name, where all regions agree.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::At(name) => Some(name),
            Self::Nowhere | Self::Split(_) => None,
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Nowhere => Vec::new(),
            Self::At(name) => vec![name],
            Self::Split(names) => names.keys().map(String::as_str).collect(),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Nowhere => "it points at no image".to_owned(),
            Self::At(name) => format!("it points at {name}"),
            Self::Split(names) => {
                let each = names.iter().map(|(name, regions)| format!("{name} in {}", regions.join(", ")));
                format!("it points at {}", each.collect::<Vec<_>>().join(" and at "))
            }
        }
    }
}

/// Decides where a channel goes back to and which image is bad. An error where that is not certain: quarantine on the wrong image takes
/// away the good one.
pub fn decide(channel: &str, known: Known<'_>, wanted: Wanted<'_>) -> Result<Back> {
    let half_done = known.half_done.filter(|h| known.stands.name() != Some(h.image.as_str()));
    let uncertain = half_done.is_some() || matches!(known.stands, Stands::Split(_));
    if wanted.to.is_none() && uncertain {
        return Err(undecided(channel, known.stands, half_done));
    }
    let to = choose(known.candidates, known.regions, known.stands.name(), wanted.to)?;
    let mut suspects: BTreeSet<&str> = known.stands.names().into_iter().collect();
    suspects.extend(half_done.map(|h| h.image.as_str()));
    suspects.remove(to.as_str());
    if wanted.keep {
        return Ok(Back { to, bad: Vec::new() });
    }
    if !wanted.bad.is_empty() {
        let bad = named(known.candidates, wanted.bad)?;
        if bad.contains(&to) {
            return Err(Exit::Usage.error(format_args!("--bad and --to both name {to}"), "name another one in --to"));
        }
        return Ok(Back { to, bad });
    }
    if suspects.len() > 1 {
        let names = suspects.iter().copied().collect::<Vec<_>>().join(", ");
        return Err(Exit::Usage.error(
            format_args!("more than one image could be the bad one: {names}"),
            "name those to put under quarantine with --bad NAME (repeatable), or pass --keep for none",
        ));
    }
    Ok(Back { to, bad: suspects.into_iter().map(str::to_owned).collect() })
}

fn undecided(channel: &str, stands: &Stands, half_done: Option<&HalfDone>) -> Error {
    let shown = stands.shown();
    match half_done {
        Some(HalfDone { run, image }) => Exit::Precondition.error(
            format_args!("{run} was interrupted while it moved {channel} to {image}: {shown}"),
            format_args!(
                "to finish the promotion: `cargo xtask ami resume {run}`; to go back: add --to VERSION, the image that is good; \
                 what else the channel points at and {image} are the bad ones then"
            ),
        ),
        None => Exit::Precondition.error(
            format_args!("the regions of {channel} disagree: {shown}"),
            "add --to VERSION, the image that is good; what else the channel points at is the bad one then",
        ),
    }
}

/// The image that a person named: the one that was in the channel last, if several are of one version.
fn find<'a>(candidates: &'a [Candidate], wanted: &str) -> Result<&'a Candidate> {
    let named = |c: &&Candidate| c.name == wanted || c.version == wanted || c.ids.iter().any(|id| id == wanted);
    candidates.iter().filter(named).max_by(|a, b| a.promoted.cmp(&b.promoted)).ok_or_else(|| {
        Exit::Usage.error(format_args!("no image `{wanted}`"), "`cargo xtask ami list` shows what is there")
    })
}

/// The names of the images that a person named.
pub fn named(candidates: &[Candidate], wanted: &[String]) -> Result<Vec<String>> {
    wanted.iter().map(|one| find(candidates, one).map(|candidate| candidate.name.clone())).collect()
}

/// The image to go back to: the one that was asked for, or the last good one before the one that is there now.
fn choose(candidates: &[Candidate], regions: &[String], now: Option<&str>, to: Option<&str>) -> Result<String> {
    let lacking = |c: &Candidate| {
        regions.iter().filter(|r| !c.regions.contains(r)).map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    if let Some(to) = to {
        let wanted = find(candidates, to)?;
        if let Some(why) = &wanted.quarantined {
            return Err(Exit::ImageFailed
                .error(format_args!("{} is under quarantine: {why}", wanted.name), "go back to another one"));
        }
        if !lacking(wanted).is_empty() {
            return Err(Exit::ImageFailed.error(
                format_args!("{} is not in {}", wanted.name, lacking(wanted)),
                format_args!("`cargo xtask ami copy {}`, then roll back", wanted.name),
            ));
        }
        return Ok(wanted.name.clone());
    }
    let good = |c: &&Candidate| {
        let known_good = c.quarantined.is_none() && c.damaged.is_none();
        c.promoted.is_some() && known_good && Some(c.name.as_str()) != now && lacking(c).is_empty()
    };
    let last = candidates.iter().filter(good).max_by(|a, b| a.promoted.cmp(&b.promoted));
    last.map(|c| c.name.clone()).ok_or_else(|| {
        let damaged: Vec<String> =
            candidates.iter().filter_map(|c| Some(format!("; {}: {}", c.name, c.damaged.as_ref()?))).collect();
        Exit::ImageFailed.error(
            format_args!(
                "there is no image to go back to: none that was in this channel, is in every region and is not under quarantine{}",
                damaged.concat()
            ),
            "name one: --to VERSION; `cargo xtask ami list` shows what is there",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, promoted: Option<&str>) -> Candidate {
        Candidate {
            name: name.to_owned(),
            version: name.trim_start_matches('v').to_owned(),
            ids: vec![format!("ami-{name}")],
            regions: vec!["a".to_owned(), "b".to_owned()],
            promoted: promoted.map(str::to_owned),
            quarantined: None,
            damaged: None,
        }
    }

    fn history() -> Vec<Candidate> {
        vec![candidate("v1", Some("2026-01-01")), candidate("v2", Some("2026-02-01")), candidate("v3", None)]
    }

    fn decided(stands: &Stands, half_done: Option<&HalfDone>, wanted: Wanted<'_>) -> Result<(String, Vec<String>)> {
        let known = Known { candidates: &history(), regions: &regions(), stands, half_done };
        decide("staging", known, wanted).map(|back| (back.to, back.bad))
    }

    /// v3 in region a, v2 still in region b.
    fn split() -> Stands {
        Stands::Split([("v2", "b"), ("v3", "a")].map(|(n, r)| (n.to_owned(), vec![r.to_owned()])).into())
    }

    fn to(version: &str) -> Wanted<'_> {
        Wanted { to: Some(version), ..Wanted::default() }
    }

    #[test]
    fn a_half_moved_channel_needs_to_know_which_image_is_good() {
        let half = HalfDone { run: "run-1".to_owned(), image: "v3".to_owned() };
        for stands in [split(), Stands::At("v2".to_owned())] {
            let error = decided(&stands, Some(&half), Wanted::default()).unwrap_err();
            assert_eq!(error.exit(), Exit::Precondition);
            let text = crate::error::plain(&error);
            assert!(text.contains("ami resume run-1") && text.contains("--to VERSION"), "{text}");
            // The tried fault: v2, which is good, was put under quarantine and the channel went back to v1.
            assert_eq!(decided(&stands, Some(&half), to("2")).unwrap(), ("v2".to_owned(), vec!["v3".to_owned()]));
            let error = decided(&stands, Some(&half), to("1")).unwrap_err();
            assert!(error.to_string().contains("v2, v3"), "{error}");
        }
        let bad = ["v3".to_owned()];
        let named = Wanted { to: Some("1"), bad: &bad, keep: false };
        assert_eq!(decided(&split(), Some(&half), named).unwrap(), ("v1".to_owned(), vec!["v3".to_owned()]));
        let kept = Wanted { to: Some("1"), bad: &[], keep: true };
        assert_eq!(decided(&split(), Some(&half), kept).unwrap(), ("v1".to_owned(), Vec::new()));
    }

    #[test]
    fn regions_that_disagree_without_a_promotion_of_this_machine_are_named() {
        let error = decided(&split(), None, Wanted::default()).unwrap_err();
        assert!(error.to_string().contains("v2 in b and at v3 in a"), "{error}");
        assert_eq!(decided(&split(), None, to("v2")).unwrap(), ("v2".to_owned(), vec!["v3".to_owned()]));
    }

    #[test]
    fn a_promotion_that_was_interrupted_after_its_last_write_is_gone_back_from() {
        let half = HalfDone { run: "run-1".to_owned(), image: "v3".to_owned() };
        let moved = Stands::At("v3".to_owned());
        let back = decided(&moved, Some(&half), Wanted::default()).unwrap();
        assert_eq!(back, ("v2".to_owned(), vec!["v3".to_owned()]));
        let both = ["v2".to_owned()];
        let error = decided(&moved, None, Wanted { to: Some("2"), bad: &both, keep: false }).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
    }

    #[test]
    fn an_image_whose_marks_are_lost_is_gone_back_to_only_by_name() {
        let mut all = history();
        all[1].damaged = Some("the marks are in x".to_owned());
        assert_eq!(choose(&all, &regions(), Some("v3"), None).unwrap(), "v1");
        assert_eq!(choose(&all, &regions(), Some("v3"), Some("2")).unwrap(), "v2");
        all[0].damaged = Some("the marks are in y".to_owned());
        assert!(choose(&all, &regions(), Some("v3"), None).unwrap_err().to_string().contains("in y"));
    }

    fn regions() -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }

    #[test]
    fn it_goes_back_to_the_last_good_one() {
        let mut all = vec![
            candidate("v1", Some("2026-01-01")),
            candidate("v2", Some("2026-02-01")),
            candidate("v3", Some("2026-03-01")),
            candidate("v4", None),
        ];
        assert_eq!(choose(&all, &regions(), Some("v3"), None).unwrap(), "v2");
        all[1].quarantined = Some("boots no more".to_owned());
        assert_eq!(choose(&all, &regions(), Some("v3"), None).unwrap(), "v1");
        all[0].regions.pop();
        let error = choose(&all, &regions(), Some("v3"), None).unwrap_err();
        assert_eq!(error.exit(), Exit::ImageFailed);
    }

    #[test]
    fn one_that_is_named_must_be_there_whole_and_good() {
        let mut all = vec![candidate("v1", None), candidate("v2", Some("2026-02-01"))];
        assert_eq!(choose(&all, &regions(), Some("v2"), Some("1")).unwrap(), "v1");
        assert_eq!(choose(&all, &regions(), None, Some("ami-v2")).unwrap(), "v2");
        assert_eq!(choose(&all, &regions(), None, Some("9")).unwrap_err().exit(), Exit::Usage);
        all[0].regions.pop();
        assert!(choose(&all, &regions(), None, Some("v1")).unwrap_err().to_string().contains("is not in b"));
        all[0].quarantined = Some("leaks".to_owned());
        assert!(choose(&all, &regions(), None, Some("v1")).unwrap_err().to_string().contains("quarantine: leaks"));
    }
}
