//! `pins …`: reports versions that are newer than the pinned ones, and updates the pins.

use std::path::PathBuf;

use super::ami::plan::Reading;
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

/// Looks up newer versions. A failed lookup is a warning; it is an error if all of them fail.
fn look_up(context: &Context, tools: &std::path::Path, min_age: MinAge) -> Result<Vec<Pin>> {
    let events = context.events.as_ref();
    phase(events, Phase::Freshness, "npm, Python packages", || {
        let on_progress = |name: &str| {
            events.event(Event::Progress { phase: Phase::Freshness, message: name.to_owned(), fraction: None });
        };
        let pins = pins::look(&context.root, tools, min_age, &on_progress)?;
        let unknown: Vec<&Pin> = pins.iter().filter(|pin| pin.problem.is_some()).collect();
        if let Some(first) = unknown.first() {
            let why = first.problem.as_deref().unwrap_or_default();
            let message =
                format!("{} of {} pins could not be looked up: {}: {why}", unknown.len(), pins.len(), first.name);
            if unknown.len() == pins.len() {
                return Err(Exit::Failed.error(message, "check the network connection; nothing was changed"));
            }
            let hint = "run `cargo xtask doctor` to find missing tools; the other pins were looked up".to_owned();
            events.event(Event::Warning { message, hint });
        }
        let newer = pins.iter().filter(|pin| pin.newest.is_some()).count();
        Ok::<_, Error>((pins, Outcome::Done, format!("{newer} newer")))
    })
}

/// Reviews that are due, and end-of-life dates.
fn due(context: &Context) -> Result<Vec<Finding>> {
    dates::check(&context.root, jiff::Zoned::now().date())
}

/// The directory where uv is installed, in the state directory; created if it does not exist.
fn tools(context: &Context) -> Result<PathBuf> {
    let dir = context.in_state(&context.config()?, "tools");
    fs_err::create_dir_all(&dir)?;
    Ok(dir)
}

/// A table of the pins with a newer version, also one that is too young, or with a failed lookup; the others are counted.
fn table(pins: &[Pin], due: &[Finding]) -> String {
    let mut text = String::new();
    let width = pins.iter().map(|pin| pin.name.len()).max().unwrap_or(0);
    for pin in pins {
        let what = match (&pin.newest, &pin.young, &pin.problem) {
            (Some(newest), Some(young), _) => format!("-> {newest}  ({young} is too young)"),
            (Some(newest), None, _) => format!("-> {newest}"),
            (None, Some(young), _) => format!("{young} is too young"),
            (None, None, Some(problem)) => format!("unknown: {problem}"),
            (None, None, None) => continue,
        };
        text.push_str(&format!("{:width$}  {:10} {what}  {}\n", pin.name, pin.have, pin.place.display()));
    }
    let same = pins.iter().filter(|pin| (&pin.newest, &pin.young, &pin.problem) == (&None, &None, &None)).count();
    text.push_str(&format!("{same} of {} are up to date\n", pins.len()));
    for finding in due {
        text.push_str(&format!("{}\n", finding.message));
    }
    text
}

/// Images whose newest build has another base than a new build would have.
fn bases<P: Provider>(context: &Context, provider: &P) -> Result<Vec<String>> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let home = cloud.home();
    let (images, _) = cloud::all_images(&cloud)?;
    let mut found = Vec::new();
    for name in config.images.keys() {
        let Some(last) = images.iter().rev().find(|image| image.region == home && image.image == *name) else {
            continue;
        };
        let args = cli::Build { image: Some(name.clone()), ..cli::Build::default() };
        let request = ami::request::Request::resolve(context, provider, &config, &args)?;
        // The base of a template that only Packer reads is unknown.
        let Reading::Whole(whole) = ami::plan::reading(context, provider, &config, &request)? else { continue };
        let Some(built_on) = &last.base else { continue };
        if let Some(base) = cloud.existing_base(&whole.0.source)?.filter(|base| base.digest != built_on.digest) {
            found
                .push(format!("{} is built on {}, but {} is newer: release it again", last.name, built_on.id, base.id));
        }
    }
    Ok(found)
}
