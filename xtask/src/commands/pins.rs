//! `pins …`: is there something newer than what is pinned, and taking it.

use std::path::PathBuf;

use super::{Context, Provider, ami};
use crate::cli;
use crate::cloud::{self, Cloud as _};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::pins::{self, MinAge, Pin};
use crate::validate::{Finding, pins as dates};

pub(super) mod check;
mod propose;
pub(super) mod update;

/// Asks for newer versions. What could not be asked is a warning; if nothing could, an error.
fn looked(context: &Context, tools: &std::path::Path, min_age: MinAge) -> Result<Vec<Pin>> {
    let events = context.events.as_ref();
    phase(events, Phase::Freshness, "npm, Python packages", || {
        let told = |name: &str| {
            events.event(Event::Progress { phase: Phase::Freshness, message: name.to_owned(), fraction: None });
        };
        let pins = pins::look(&context.root, tools, min_age, &told)?;
        let unknown: Vec<&Pin> = pins.iter().filter(|pin| pin.problem.is_some()).collect();
        if let Some(first) = unknown.first() {
            let why = first.problem.as_deref().unwrap_or_default();
            let message =
                format!("{} of {} pins could not be asked about: {}: {why}", unknown.len(), pins.len(), first.name);
            if unknown.len() == pins.len() {
                return Err(
                    Exit::Failed.error(message, "without a network nobody knows what is newer; nothing was changed")
                );
            }
            let hint = "`cargo xtask doctor` tells what is missing; the others were asked".to_owned();
            events.event(Event::Warning { message, hint });
        }
        let newer = pins.iter().filter(|pin| pin.newest.is_some()).count();
        Ok::<_, Error>((pins, Outcome::Done, format!("{newer} newer")))
    })
}

/// Reviews that are due and ends of life.
fn due(context: &Context) -> Result<Vec<Finding>> {
    dates::check(&context.root, jiff::Zoned::now().date())
}

/// Where uv lies.
fn tools(context: &Context) -> Result<PathBuf> {
    let folder = context.in_state(&context.config()?, "tools");
    fs_err::create_dir_all(&folder)?;
    Ok(folder)
}

/// A table for a person: what is newer first, then what is not known; the rest is counted.
fn table(pins: &[Pin], due: &[Finding]) -> String {
    let mut text = String::new();
    let width = pins.iter().map(|pin| pin.name.len()).max().unwrap_or(0);
    for pin in pins {
        let what = match (&pin.newest, &pin.young, &pin.problem) {
            (Some(newest), Some(young), _) => format!("-> {newest}  ({young} is too young)"),
            (Some(newest), None, _) => format!("-> {newest}"),
            (None, Some(young), _) => format!("{young} is too young"),
            (None, None, Some(problem)) => format!("not known: {problem}"),
            (None, None, None) => continue,
        };
        text.push_str(&format!("{:width$}  {:10} {what}  {}\n", pin.name, pin.have, pin.place.display()));
    }
    let same = pins.iter().filter(|pin| (&pin.newest, &pin.young, &pin.problem) == (&None, &None, &None)).count();
    text.push_str(&format!("{same} of {} are the newest\n", pins.len()));
    for finding in due {
        text.push_str(&format!("{}\n", finding.message));
    }
    text
}

/// Images whose newest build stands on another base than a build of today would.
fn bases<P: Provider>(context: &Context, provider: &P) -> Result<Vec<String>> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let home = cloud.regions().first().cloned().unwrap_or_default();
    let (images, _) = cloud::all_images(&cloud)?;
    let mut found = Vec::new();
    for name in config.images.keys() {
        let Some(last) = images.iter().rev().find(|image| image.region == home && image.image == *name) else {
            continue;
        };
        let (recipe, _) = ami::plan::recipe(context, provider, &config, name, None, &cli::Build::default())?;
        if let Some(base) = cloud.base_at_hand(&recipe.source)?.filter(|base| base.digest != last.base.digest) {
            found.push(format!("{} stands on {}; {} is newer: release it again", last.name, last.base.id, base.id));
        }
    }
    Ok(found)
}
