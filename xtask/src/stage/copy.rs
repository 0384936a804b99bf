//! Copy: the image goes to the other regions; what a region has already is not copied again.

use crate::cloud::{Cloud, Image};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Observer, Outcome, Phase, phase};

/// The documents that travel with an image.
const DOCUMENTS: [&str; 3] = [super::smoke::DOCUMENT, "manifest.json", "sbom.cdx.json"];

/// Copies an image to `regions` and returns it in every region, its own first. Every region is tried; the error names those
/// that failed.
pub fn run<C: Cloud>(cloud: &C, image: &Image, regions: &[String], events: &dyn Observer) -> Result<Vec<Image>> {
    let mut everywhere = vec![image.clone()];
    let mut failed: Vec<(String, Error)> = Vec::new();
    for region in regions.iter().filter(|r| **r != image.region) {
        let result = phase(events, Phase::Copy, region.clone(), || {
            let told = |done, all| {
                let message = format!("copying {}", image.name);
                events.event(Event::Progress { phase: Phase::Copy, message, fraction: Some((done, all)) });
            };
            let (copy, made) = cloud.copy(image, region, &told)?;
            for name in DOCUMENTS {
                if let Some(bytes) = cloud.document(image, name)? {
                    cloud.put_document(&copy, name, &bytes)?;
                }
            }
            let outcome = if made { Outcome::Done } else { Outcome::UpToDate };
            let verb = if made { "copied" } else { "up to date" };
            let summary = format!("{verb}: {} in {region}", copy.id);
            Ok::<_, Error>((copy, outcome, summary))
        });
        match result {
            Ok(copy) => everywhere.push(copy),
            Err(error) if error.exit() == Exit::Interrupted => return Err(error),
            Err(error) => failed.push((region.clone(), error)),
        }
    }
    match failed.len() {
        0 => Ok(everywhere),
        _ => {
            let names: Vec<&str> = failed.iter().map(|(region, _)| region.as_str()).collect();
            let message = format!("{} could not be copied to {}", image.id, names.join(", "));
            let (_, first) = failed.swap_remove(0);
            Err(first.context(message))
        }
    }
}
