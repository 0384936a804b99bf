//! Promote: the gate that an image must pass before a channel points at it.
//!
//! Pure: what is known comes in, the verdict goes out.

use jiff::{SignedDuration, Timestamp};

use super::smoke::Record;
use crate::cloud::Image;
use crate::error::{Exit, Result};

/// What is known of an image beyond its records.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Why it must not be used any more.
    pub quarantined: Option<String>,
    /// What it must have gone through before.
    pub before: Option<Before>,
}

/// The channel an image must have been in, and for how long.
#[derive(Clone, Debug)]
pub struct Before {
    /// That channel.
    pub channel: String,
    /// For how long.
    pub soak: SignedDuration,
    /// Since when the channel has pointed at exactly these images; `None` if it does not.
    pub since: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
    /// Why it may be skipped, in a person's words.
    pub overridden: Option<String>,
}

/// Judges whether an image may be promoted: smoke passed for exactly this disk, every region has it, nobody put it under quarantine,
/// and it was long enough where it had to be before.
pub fn gate(images: &[Image], regions: &[String], record: Option<&Record>, standing: &Standing) -> Result<()> {
    let Some(home) = images.first() else {
        return Err(Exit::Usage.error("no image to promote", "build one with `cargo xtask ami build`"));
    };
    let refuse = |what: String, hint: String| {
        Err(Exit::Judged.error(format_args!("{} may not be promoted: {what}", home.id), hint))
    };
    if let Some(why) = &standing.quarantined {
        return refuse(
            format!("it is under quarantine: {why}"),
            "promote another image: `cargo xtask ami list`".to_owned(),
        );
    }
    let smoke = format!("run `cargo xtask ami smoke {}`", home.id);
    match record {
        None => return refuse("it has no smoke report".to_owned(), smoke),
        Some(record) if record.content != home.content => {
            return refuse("its smoke report was made for another disk".to_owned(), smoke);
        }
        Some(record) if !record.passed => return refuse("its smoke test failed".to_owned(), smoke),
        // A record that says `passed` over reports that do not is not believed.
        Some(record) if record.reports.is_empty() || !record.reports.iter().all(::smoke::report::Report::passed) => {
            return refuse("its smoke report holds a failed or empty pass".to_owned(), smoke);
        }
        Some(_) => {}
    }
    let missing: Vec<&str> =
        regions.iter().filter(|r| !images.iter().any(|i| i.region == **r)).map(String::as_str).collect();
    if !missing.is_empty() {
        return refuse(
            format!("it is not in {}", missing.join(", ")),
            format!("run `cargo xtask ami copy {}`", home.id),
        );
    }
    if let Some(other) = images.iter().find(|i| i.content != home.content) {
        return refuse(
            format!("{} in {} has another disk", other.id, other.region),
            format!("delete {} and copy again", other.id),
        );
    }
    match &standing.before {
        Some(before) => soaked(before).or_else(|(what, hint)| refuse(what, hint)),
        None => Ok(()),
    }
}

/// Judges the time in the channel before; an override takes the place of both rules.
fn soaked(before: &Before) -> std::result::Result<(), (String, String)> {
    let Before { channel, soak, since, now, overridden } = before;
    if overridden.is_some() {
        return Ok(());
    }
    let hint = "or pass --override \"REASON\", which is written down";
    match since {
        None => {
            let what = format!("{channel} does not point at it");
            Err((what, format!("`cargo xtask ami promote --channel {channel}` first, {hint}")))
        }
        Some(since) if now.duration_since(*since) < *soak => {
            let left = *soak - now.duration_since(*since);
            let what = format!("it has been in {channel} since {since}, and {} hours are wanted", soak.as_hours());
            Err((what, format!("wait {} h {} min more, {hint}", left.as_hours(), left.as_mins() % 60)))
        }
        Some(_) => Ok(()),
    }
}
