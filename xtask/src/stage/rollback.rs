//! Decides which image a channel is rolled back to, and which images are quarantined. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::cloud::{Cloud, Image, ImageId};
use crate::error::{Error, Exit, Result};
use crate::ids::{Region, RunId};

/// An image that a channel could point at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The image's name.
    pub name: String,
    /// The image's version.
    pub version: String,
    /// The ids of the image and its copies.
    pub ids: Vec<String>,
    /// The regions that have a copy.
    pub regions: Vec<Region>,
    /// When the channel was last pointed at the image, RFC 3339; `None` if it never was.
    pub promoted: Option<Timestamp>,
    /// The reason of its quarantine, if it is quarantined.
    pub quarantined: Option<String>,
    /// If its marks could not be read: where they were moved. The image may be quarantined then.
    pub damaged: Option<String>,
}

/// What a channel points at, as names of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointsAt {
    /// The channel points at nothing, in any region.
    Nowhere,
    /// The channel points at this image in every region where it points at an image.
    At(String),
    /// The channel points at different images. Each has a list of its regions; an image that does not exist any more is named by its id.
    Split(BTreeMap<String, Vec<Region>>),
}

/// A promotion that was interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterruptedPromotion {
    /// The run that was interrupted.
    pub run: RunId,
    /// The name of the image that it moved the channel to.
    pub image: String,
}

/// The state of the channel and its images before a rollback.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The images that the channel could point at.
    pub candidates: &'a [Candidate],
    /// The regions that must have the image.
    pub regions: &'a [Region],
    /// What the channel points at.
    pub stands: &'a PointsAt,
    /// The promotion that was interrupted last, if nothing has moved the channel since.
    pub interrupted_promotion: Option<&'a InterruptedPromotion>,
}

/// The options of a rollback.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Version, name or id of the image to roll back to.
    pub to: Option<&'a str>,
    /// Versions, names or ids of the images to quarantine.
    pub bad: &'a [String],
    /// Quarantine no image.
    pub keep: bool,
}

/// The decision of [`decide`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Back {
    /// The name of the image that the channel will point at.
    pub to: String,
    /// The names of the images that will be quarantined.
    pub bad: Vec<String>,
}

/// Finds the names of the images that a channel points at. `now` has the id in each region, `all` the existing images; only `regions`
/// are considered.
pub fn stands(all: &[Image], now: &BTreeMap<Region, ImageId>, regions: &[Region]) -> PointsAt {
    let mut by_name: BTreeMap<String, Vec<Region>> = BTreeMap::new();
    for (region, id) in now.iter().filter(|(region, _)| regions.contains(region)) {
        let name = all.iter().find(|i| i.id == *id).map_or_else(|| id.to_string(), |i| i.name.clone());
        by_name.entry(name).or_default().push(region.clone());
    }
    match by_name.len() {
        0 => PointsAt::Nowhere,
        1 => by_name.into_keys().next().map_or(PointsAt::Nowhere, PointsAt::At),
        _ => PointsAt::Split(by_name),
    }
}

/// The same for the regions of a provider, without the best-effort ones: those keep the previous image if a copy fails, so they may
/// point at another image than the others.
pub fn points_at_images<C: Cloud>(cloud: &C, all: &[Image], now: &BTreeMap<Region, ImageId>) -> PointsAt {
    let regions: Vec<Region> = cloud.regions().iter().filter(|r| !cloud.best_effort().contains(r)).cloned().collect();
    stands(all, now, &regions)
}

impl PointsAt {
    /// The image's name, if all regions agree.
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

/// Decides which image a channel is rolled back to and which images are quarantined. Returns an error if that is ambiguous: quarantining
/// the wrong image would make the good one unusable.
pub fn decide(channel: &str, known: Known<'_>, options: Options<'_>) -> Result<Back> {
    let interrupted_promotion = known.interrupted_promotion.filter(|h| known.stands.name() != Some(h.image.as_str()));
    let uncertain = interrupted_promotion.is_some() || matches!(known.stands, PointsAt::Split(_));
    if options.to.is_none() && uncertain {
        return Err(undecided(channel, known.stands, interrupted_promotion));
    }
    let to = choose(known.candidates, known.regions, known.stands.name(), options.to)?;
    let mut suspects: BTreeSet<&str> = known.stands.names().into_iter().collect();
    suspects.extend(interrupted_promotion.map(|h| h.image.as_str()));
    suspects.remove(to.as_str());
    if options.keep {
        return Ok(Back { to, bad: Vec::new() });
    }
    if !options.bad.is_empty() {
        let bad = named(known.candidates, options.bad)?;
        if bad.contains(&to) {
            return Err(
                Exit::Usage.error(format_args!("--bad and --to both name {to}"), "pass another image with --to")
            );
        }
        return Ok(Back { to, bad });
    }
    if suspects.len() > 1 {
        let names = suspects.iter().copied().collect::<Vec<_>>().join(", ");
        return Err(Exit::Usage.error(
            format_args!("more than one image could be the bad one: {names}"),
            "pass --bad NAME (repeatable) for each image to quarantine, or --keep to quarantine none",
        ));
    }
    Ok(Back { to, bad: suspects.into_iter().map(str::to_owned).collect() })
}

fn undecided(channel: &str, stands: &PointsAt, interrupted_promotion: Option<&InterruptedPromotion>) -> Error {
    let shown = stands.shown();
    match interrupted_promotion {
        Some(InterruptedPromotion { run, image }) => Exit::Precondition.error(
            format_args!("{run} was interrupted while it moved {channel} to {image}: {shown}"),
            format_args!(
                "run `cargo xtask ami resume {run}` to finish the promotion, or pass --to VERSION, the good image, to roll back; \
                 that quarantines {image}. If the channel points at further images, name the bad ones with --bad, or pass --keep"
            ),
        ),
        None => Exit::Precondition.error(
            format_args!("the regions of {channel} disagree: {shown}"),
            "pass --to VERSION, the good image, and --bad NAME for each image to quarantine, or --keep to quarantine none",
        ),
    }
}

/// The image with this name, version or id. Of several images with the same version, the one that was last in the channel.
fn find<'a>(candidates: &'a [Candidate], image: &str) -> Result<&'a Candidate> {
    let named = |c: &&Candidate| c.name == image || c.version == image || c.ids.iter().any(|id| id == image);
    candidates
        .iter()
        .filter(named)
        .max_by(|a, b| a.promoted.cmp(&b.promoted))
        .ok_or_else(|| Exit::Usage.error(format_args!("no image `{image}`"), "`cargo xtask ami list` lists the images"))
}

/// The names of the images that the user gave by name, version or id.
pub fn named(candidates: &[Candidate], images: &[String]) -> Result<Vec<String>> {
    images.iter().map(|one| find(candidates, one).map(|candidate| candidate.name.clone())).collect()
}

/// The image to roll back to: the one that `to` names, or the last good one that was in the channel before the current one.
fn choose(candidates: &[Candidate], regions: &[Region], now: Option<&str>, to: Option<&str>) -> Result<String> {
    let missing = |c: &Candidate| {
        regions.iter().filter(|r| !c.regions.contains(r)).map(Region::as_str).collect::<Vec<_>>().join(", ")
    };
    if let Some(to) = to {
        let image = find(candidates, to)?;
        if let Some(why) = &image.quarantined {
            return Err(Exit::ImageFailed
                .error(format_args!("{} is quarantined: {why}", image.name), "roll back to another image"));
        }
        if !missing(image).is_empty() {
            return Err(Exit::ImageFailed.error(
                format_args!("{} is not in {}", image.name, missing(image)),
                format_args!("run `cargo xtask ami copy {}`, then roll back", image.name),
            ));
        }
        return Ok(image.name.clone());
    }
    let good = |c: &&Candidate| {
        let known_good = c.quarantined.is_none() && c.damaged.is_none();
        c.promoted.is_some() && known_good && Some(c.name.as_str()) != now && missing(c).is_empty()
    };
    let last = candidates.iter().filter(good).max_by(|a, b| a.promoted.cmp(&b.promoted));
    last.map(|c| c.name.clone()).ok_or_else(|| {
        let damaged: Vec<String> =
            candidates.iter().filter_map(|c| Some(format!("; {}: {}", c.name, c.damaged.as_ref()?))).collect();
        Exit::ImageFailed.error(
            format_args!(
                "no image to roll back to: no other image was in this channel, is in every region and is not quarantined{}",
                damaged.concat()
            ),
            "name one with --to VERSION; `cargo xtask ami list` lists the images",
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
            regions: ["a", "b"].map(Region::from).into(),
            promoted: promoted.map(|day| format!("{day}T00:00:00Z").parse().unwrap()),
            quarantined: None,
            damaged: None,
        }
    }

    fn history() -> Vec<Candidate> {
        vec![candidate("v1", Some("2026-01-01")), candidate("v2", Some("2026-02-01")), candidate("v3", None)]
    }

    fn decided(
        stands: &PointsAt,
        interrupted_promotion: Option<&InterruptedPromotion>,
        options: Options<'_>,
    ) -> Result<(String, Vec<String>)> {
        let known = Known { candidates: &history(), regions: &regions(), stands, interrupted_promotion };
        decide("staging", known, options).map(|back| (back.to, back.bad))
    }

    /// v3 in region a, v2 still in region b.
    fn split() -> PointsAt {
        PointsAt::Split([("v2", "b"), ("v3", "a")].map(|(n, r)| (n.to_owned(), vec![r.into()])).into())
    }

    fn to(version: &str) -> Options<'_> {
        Options { to: Some(version), ..Options::default() }
    }

    #[test]
    fn a_half_moved_channel_requires_the_good_image_to_be_named() {
        let half = InterruptedPromotion { run: "run-1".into(), image: "v3".to_owned() };
        for stands in [split(), PointsAt::At("v2".to_owned())] {
            let error = decided(&stands, Some(&half), Options::default()).unwrap_err();
            assert_eq!(error.exit(), Exit::Precondition);
            let text = crate::error::plain(&error);
            assert!(text.contains("ami resume run-1") && text.contains("--to VERSION"), "{text}");
            // The opposite would quarantine v2, which is good, and roll the channel back to v1.
            assert_eq!(decided(&stands, Some(&half), to("2")).unwrap(), ("v2".to_owned(), vec!["v3".to_owned()]));
            let error = decided(&stands, Some(&half), to("1")).unwrap_err();
            assert!(error.to_string().contains("v2, v3"), "{error}");
        }
        let bad = ["v3".to_owned()];
        let named = Options { to: Some("1"), bad: &bad, keep: false };
        assert_eq!(decided(&split(), Some(&half), named).unwrap(), ("v1".to_owned(), vec!["v3".to_owned()]));
        let kept = Options { to: Some("1"), bad: &[], keep: true };
        assert_eq!(decided(&split(), Some(&half), kept).unwrap(), ("v1".to_owned(), Vec::new()));
    }

    #[test]
    fn regions_that_disagree_without_a_known_promotion_are_reported() {
        let error = decided(&split(), None, Options::default()).unwrap_err();
        assert!(error.to_string().contains("v2 in b and at v3 in a"), "{error}");
        assert_eq!(decided(&split(), None, to("v2")).unwrap(), ("v2".to_owned(), vec!["v3".to_owned()]));
    }

    #[test]
    fn a_promotion_that_was_interrupted_after_its_last_write_is_rolled_back() {
        let half = InterruptedPromotion { run: "run-1".into(), image: "v3".to_owned() };
        let moved = PointsAt::At("v3".to_owned());
        let back = decided(&moved, Some(&half), Options::default()).unwrap();
        assert_eq!(back, ("v2".to_owned(), vec!["v3".to_owned()]));
        let both = ["v2".to_owned()];
        let error = decided(&moved, None, Options { to: Some("2"), bad: &both, keep: false }).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
    }

    #[test]
    fn an_image_with_damaged_marks_must_be_named() {
        let mut all = history();
        all[1].damaged = Some("the marks are in x".to_owned());
        assert_eq!(choose(&all, &regions(), Some("v3"), None).unwrap(), "v1");
        assert_eq!(choose(&all, &regions(), Some("v3"), Some("2")).unwrap(), "v2");
        all[0].damaged = Some("the marks are in y".to_owned());
        assert!(choose(&all, &regions(), Some("v3"), None).unwrap_err().to_string().contains("in y"));
    }

    fn regions() -> Vec<Region> {
        ["a", "b"].map(Region::from).into()
    }

    #[test]
    fn the_last_good_image_is_chosen() {
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
    fn a_named_image_must_be_in_every_region_and_not_quarantined() {
        let mut all = vec![candidate("v1", None), candidate("v2", Some("2026-02-01"))];
        assert_eq!(choose(&all, &regions(), Some("v2"), Some("1")).unwrap(), "v1");
        assert_eq!(choose(&all, &regions(), None, Some("ami-v2")).unwrap(), "v2");
        assert_eq!(choose(&all, &regions(), None, Some("9")).unwrap_err().exit(), Exit::Usage);
        all[0].regions.pop();
        assert!(choose(&all, &regions(), None, Some("v1")).unwrap_err().to_string().contains("is not in b"));
        all[0].quarantined = Some("leaks".to_owned());
        assert!(choose(&all, &regions(), None, Some("v1")).unwrap_err().to_string().contains("quarantined: leaks"));
    }
}
