//! Copies an image and its documents to other regions. A region that already has a copy keeps it.

use crate::cloud::{Cloud, Copied, Fraction, Image};
use crate::contents::{MANIFEST, SBOM};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Observer, Outcome, Phase};
use crate::ids::Region;

/// The documents that are copied with an image.
const DOCUMENTS: [&str; 3] = [super::smoke::DOCUMENT, MANIFEST, SBOM];

/// Copies an image to `regions` and returns the image and its copies, the image first. All regions are tried; the error names those
/// that failed and the copies that exist. A failure in a region of `best_effort` is a warning.
pub fn run<C: Cloud>(
    cloud: &C,
    image: &Image,
    regions: &[Region],
    best_effort: &[Region],
    events: &dyn Observer,
) -> Result<Vec<Image>> {
    let mut everywhere = vec![image.clone()];
    let mut failed: Vec<(Region, Error)> = Vec::new();
    let targets: Vec<Region> = regions.iter().filter(|r| **r != image.region).cloned().collect();
    for region in &targets {
        events.event(Event::PhaseStarted { phase: Phase::Copy, subject: region.to_string() });
    }
    let on_progress = |region: &Region, what: &str, fraction: Fraction| {
        let message = format!("{region}: copying {}: {what}", image.name);
        events.event(Event::Progress { phase: Phase::Copy, message, fraction });
    };
    let mut documents = Vec::new();
    for name in DOCUMENTS {
        documents.extend(cloud.document(image, name)?.map(|bytes| (name, bytes)));
    }
    let mut done = |copied: Copied| {
        let region = copied.region;
        let result = copied.result.and_then(|(copy, made)| {
            documents.iter().try_for_each(|(name, bytes)| cloud.put_document(&copy, name, bytes))?;
            Ok((copy, made))
        });
        let (outcome, summary) = match &result {
            Ok((copy, true)) => (Outcome::Done, format!("copied: {} in {region}", copy.id)),
            Ok((copy, false)) => (Outcome::UpToDate, format!("up to date: {} in {region}", copy.id)),
            Err(error) => (Outcome::Failed, format!("{region}: {error}")),
        };
        events.event(Event::PhaseFinished { phase: Phase::Copy, outcome, seconds: copied.took.as_secs_f64(), summary });
        match result {
            Ok((copy, _)) => everywhere.push(copy),
            Err(error) if error.exit() == Exit::Interrupted => return Err(error),
            Err(error) if best_effort.contains(&region) => events.event(Event::Warning {
                message: format!("{} was not copied to {region}, a best-effort region: {error}", image.id),
                hint: format!("run `cargo xtask ami copy {} --region {region}` to try again", image.id),
            }),
            Err(error) => failed.push((region, error)),
        }
        Ok(())
    };
    cloud.copy(image, &targets, &on_progress, &mut done)?;
    match failed.len() {
        0 => Ok(everywhere),
        _ => {
            let names: Vec<&str> = failed.iter().map(|(region, _)| region.as_str()).collect();
            let made: Vec<String> = everywhere.iter().map(|i| format!("{} in {}", i.id, i.region)).collect();
            let message =
                format!("{} was not copied to {}; it exists as {}", image.id, names.join(", "), made.join(", "));
            let (_, first) = failed.swap_remove(0);
            Err(first.context(message))
        }
    }
}
