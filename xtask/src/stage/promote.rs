//! The conditions that an image must meet before a channel may point at it.
//!
//! [`gate`] is pure: it decides by what its arguments contain.

use jiff::{SignedDuration, Timestamp};

use super::smoke::Record;
use crate::cloud::{Cloud, Image};
use crate::error::{Exit, Result};
use crate::event::{Event, Observer};
use crate::ids::{ChannelName, Region};
use crate::recipe::Digest;

/// An image's smoke reports, and what a promotion requires of them.
#[derive(Clone, Debug)]
pub struct SmokeResult {
    /// The record of the last smoke test with all passes.
    pub record: Option<Record>,
    /// The record of the last smoke test without some of the passes.
    pub partial: Option<Record>,
    /// Digest of the current smoke spec.
    pub spec: Digest,
    /// The required passes: each boot on each instance type.
    pub passes: Vec<String>,
}

/// What decides whether an image may be promoted, apart from its copies.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The reason of its quarantine, if it is quarantined.
    pub quarantined: Option<String>,
    /// If its marks could not be read: where they were moved. The image may be quarantined then.
    pub damaged: Option<String>,
    /// Its smoke reports.
    pub smoke: SmokeResult,
    /// The image that the channel points at now, if that image still exists.
    pub instead_of: Option<Image>,
    /// The channel that must have pointed at the image before, if ami.toml requires one.
    pub before: Option<Before>,
}

/// A channel that must have pointed at an image before another one may, and for how long.
#[derive(Clone, Debug)]
pub struct Before {
    /// The channel's name.
    pub channel: ChannelName,
    /// How long it must have pointed at the image.
    pub soak: SignedDuration,
    /// Since when the channel has pointed at exactly these images; `None` if it points at others.
    pub since: Option<Timestamp>,
    /// The current time.
    pub now: Timestamp,
    /// The user's reason for skipping this condition.
    pub overridden: Option<String>,
}

/// Returns an error unless the image may be promoted. It must not be quarantined; it must have passed the current smoke spec in all passes
/// and with exactly this disk; every region must have a copy; it must have the architecture of the image that it replaces; and the channel
/// before must have pointed at it for long enough.
pub fn gate(images: &[Image], regions: &[Region], standing: &Standing) -> Result<()> {
    let Some(home) = images.first() else {
        return Err(Exit::Usage.error("no image to promote", "build one with `cargo xtask ami build`"));
    };
    let refuse = |what: String, hint: String| {
        Err(Exit::ImageFailed.error(format_args!("{} may not be promoted: {what}", home.id), hint))
    };
    if let Some(why) = &standing.quarantined {
        return refuse(
            format!("it is quarantined: {why}"),
            "promote another image; `cargo xtask ami list` lists them".to_owned(),
        );
    }
    if let Some(damaged) = &standing.damaged {
        return refuse(
            format!("its marks were damaged, so it may be quarantined: {damaged}"),
            "read them; if none is `quarantined`, delete marks.json beside the image's record".to_owned(),
        );
    }
    if let Err(what) = smoke_passed(home, &standing.smoke) {
        return refuse(what, format!("run `cargo xtask ami smoke {}`", home.id));
    }
    let missing: Vec<&str> =
        regions.iter().filter(|r| !images.iter().any(|i| i.region == **r)).map(Region::as_str).collect();
    if !missing.is_empty() {
        return refuse(
            format!("it is not in {}", missing.join(", ")),
            format!("run `cargo xtask ami copy {}`", home.id),
        );
    }
    if let Some(other) = images.iter().find(|i| i.content != home.content) {
        return refuse(
            format!("{} in {} has another disk", other.id, other.region),
            format!("delete {}, then copy the image again", other.id),
        );
    }
    let other_arch = |i: &&Image| i.arch.is_some() && home.arch.is_some() && i.arch != home.arch;
    if let Some(other) = standing.instead_of.iter().chain(images).find(other_arch) {
        let arch = |i: &Image| i.arch.clone().unwrap_or_default();
        return refuse(
            format!("it is for {}, and {} in the channel is for {}", arch(home), other.name, arch(other)),
            "define a separate image in ami.toml for each architecture".to_owned(),
        );
    }
    match &standing.before {
        Some(before) => soak_over(before).or_else(|(what, hint)| refuse(what, hint)),
        None => Ok(()),
    }
}

/// The regions that must have the image. A region of `best_effort` that does not have it is left out, with a warning.
pub fn required<C: Cloud>(cloud: &C, images: &[Image], best_effort: &[Region], events: &dyn Observer) -> Vec<Region> {
    let mut required = cloud.regions().to_vec();
    required.retain(|region| {
        let lacks = best_effort.contains(region) && !images.iter().any(|i| i.region == *region);
        if lacks {
            let message = format!("{region} does not have the image, so its pointer is not changed");
            let hint = format!("run `cargo xtask ami copy --region {region}`, then promote again");
            events.event(Event::Warning { message, hint });
        }
        !lacks
    });
    required
}

/// Returns an error if the smoke records do not show that the image passed the current spec.
fn smoke_passed(image: &Image, smoke: &SmokeResult) -> std::result::Result<(), String> {
    let Some(record) = &smoke.record else {
        return Err(match smoke.partial {
            Some(_) => "it has no smoke report with all passes, only one of `--no-reboot`".to_owned(),
            None => "it has no smoke report".to_owned(),
        });
    };
    if record.content != image.content {
        return Err("its smoke report is of another disk".to_owned());
    }
    if !record.passed {
        return Err("its smoke test failed".to_owned());
    }
    // `passed` is not trusted if the reports contradict it.
    if record.reports.is_empty() || !record.reports.iter().all(::smoke::report::Report::passed) {
        return Err("its smoke report has a failed or empty pass".to_owned());
    }
    if record.spec_sha256 != smoke.spec {
        return Err(format!(
            "it was tested with another smoke spec ({}) than the current one ({})",
            record.spec_sha256.short(),
            smoke.spec.short()
        ));
    }
    if !record.covers(image, smoke.spec, &smoke.passes) {
        let missing = smoke.passes.iter().filter(|pass| !record.passes.contains(pass)).cloned().collect::<Vec<_>>();
        return Err(format!("its smoke report has no pass {}", missing.join(", ")));
    }
    match &smoke.partial {
        Some(later) if !later.passed && later.content == image.content && later.at > record.at => {
            Err(format!("a later smoke test without all passes failed at {}", later.at))
        }
        _ => Ok(()),
    }
}

/// Checks that the channel before points at the image, and for long enough. An override skips both checks.
fn soak_over(before: &Before) -> std::result::Result<(), (String, String)> {
    let Before { channel, soak, since, now, overridden } = before;
    if overridden.is_some() {
        return Ok(());
    }
    let hint = "or pass --override \"REASON\", which is recorded";
    match since {
        None => {
            let what = format!("{channel} does not point at it");
            Err((what, format!("run `cargo xtask ami promote --channel {channel}` first, {hint}")))
        }
        Some(since) if now.duration_since(*since) < *soak => {
            let left = *soak - now.duration_since(*since);
            let what = format!("it has been in {channel} since {since}, and {} hours are required", soak.as_hours());
            Err((what, format!("wait {} h {} min more, {hint}", left.as_hours(), left.as_mins() % 60)))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::smoke::report::{Check, Outcome, Report};

    fn image() -> Image {
        Image { region: "a".into(), arch: Some("x86_64".to_owned()), ..Image::sample() }
    }

    fn record(passes: &[&str], at: &str, outcome: Outcome) -> Record {
        let check = Check { name: "os".to_owned(), outcome, seconds: 0.1, message: String::new() };
        let report = Report {
            schema: 1,
            boot_id: "b".to_owned(),
            host_keys: Vec::new(),
            os: "debian 13".to_owned(),
            checks: vec![check],
            wall_seconds: 0.1,
            slowest_seconds: 0.1,
            boot: None,
        };
        Record {
            schema: 1,
            content: Digest::of(b"disk"),
            spec_sha256: Digest::of(b"spec"),
            passed: outcome == Outcome::Pass,
            at: at.parse().unwrap(),
            passes: passes.iter().map(|p| (*p).to_owned()).collect(),
            reports: passes.iter().map(|_| report.clone()).collect(),
        }
    }

    fn standing(record: Option<Record>) -> Standing {
        let passes = ["first boot", "after reboot"].map(str::to_owned).into();
        Standing {
            quarantined: None,
            damaged: None,
            smoke: SmokeResult { record, partial: None, spec: Digest::of(b"spec"), passes },
            instead_of: None,
            before: None,
        }
    }

    const FULL: [&str; 2] = ["first boot", "after reboot"];

    fn refused(standing: &Standing) -> String {
        let error = gate(&[image()], &["a".into()], standing).unwrap_err();
        assert_eq!(error.exit(), Exit::ImageFailed);
        error.to_string()
    }

    #[test]
    fn an_image_must_have_passed_all_passes_of_the_current_spec() {
        let good = record(&FULL, "2026-11-01T00:00:00Z", Outcome::Pass);
        gate(&[image()], &["a".into()], &standing(Some(good.clone()))).unwrap();
        assert!(refused(&standing(None)).contains("no smoke report"));
        let first_only = record(&FULL[..1], "2026-11-01T00:00:00Z", Outcome::Pass);
        assert!(refused(&standing(Some(first_only))).contains("has no pass after reboot"));
        let of_old_spec = Record { spec_sha256: Digest::of(b"old"), ..good.clone() };
        assert!(refused(&standing(Some(of_old_spec))).contains("another smoke spec"));
        let mut later = standing(Some(good.clone()));
        later.smoke.partial = Some(record(&FULL[..1], "2026-11-02T00:00:00Z", Outcome::Fail));
        assert!(refused(&later).contains("a later smoke test without all passes failed"));
        later.smoke.partial = Some(record(&FULL[..1], "2026-10-01T00:00:00Z", Outcome::Fail));
        gate(&[image()], &["a".into()], &later).unwrap();
    }

    #[test]
    fn damaged_marks_and_another_architecture_are_refused() {
        let good = record(&FULL, "2026-11-01T00:00:00Z", Outcome::Pass);
        let mut with = standing(Some(good));
        with.damaged = Some("they are in x".to_owned());
        assert!(refused(&with).contains("they are in x"));
        with.damaged = None;
        with.instead_of = Some(Image { name: "v0".to_owned(), arch: Some("arm64".to_owned()), ..image() });
        assert!(refused(&with).contains("it is for x86_64, and v0 in the channel is for arm64"));
    }
}
