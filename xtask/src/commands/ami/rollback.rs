//! `ami rollback`: a channel goes back to the image before, in all regions at once; the bad one is never promoted again.

use std::sync::Arc;

use super::channel::{self, Move, QUARANTINED, promoted};
use crate::channel::points_at;
use crate::cli;
use crate::cloud::{self, Cloud, Image};
use crate::commands::{Context, Finish, Provider};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Phase, phase};
use crate::ledger::PromotionKind;
use crate::stage::rollback::{self as stage, Candidate};
use crate::state::State;

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Rollback) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let name = args.channel.as_str();
    let target = channel::target(context, name, channel::configured(&config, name)?);
    let run = context.begin_run(&state)?;
    let cloud = provider.open(context, &config, &state, Some(Arc::clone(&run)))?;
    let _lock = state.lock(&format!("channel-{name}"), &context.line)?;
    let events = context.events.as_ref();
    let (bad, images) = phase(events, Phase::Promote, name, || {
        let (all, _) = cloud::all_images(&cloud)?;
        let begun = state.ledger().promotions(cloud.name())?;
        let begun = begun.into_iter().find(|p| p.run == run.id() && p.channel == name);
        let (bad, wanted) = match begun {
            // Taken up again: the channel may point back already.
            Some(begun) => (Some(begun.instead_of), begun.image),
            None => {
                let bad = channel::name_of(&all, &points_at(&cloud, &target)?);
                let candidates = candidates(&cloud, &state, name, &all)?;
                let wanted = stage::choose(&candidates, cloud.regions(), bad.as_deref(), args.to.as_deref())?;
                (bad, wanted)
            }
        };
        let Some(home) = all.iter().find(|i| i.name == wanted) else {
            return Err(Exit::Failed.error(format_args!("{wanted} is gone"), "run the same command again"));
        };
        let images = channel::everywhere(&cloud, home)?;
        // The channel first: that is what hurts.
        let (instead_of, kind) = (bad.as_deref(), PromotionKind::Rollback);
        let step = Move { target: &target, images: &images, instead_of, kind, why: &args.reason, asked: false };
        let (outcome, summary) = channel::point(context, &cloud, &state, &run, &step)?;
        Ok::<_, Error>(((bad.filter(|b| *b != wanted && !b.is_empty()), images), outcome, summary))
    })?;
    context.about(|about| about.show(name, &images));
    let mut quarantined = Vec::new();
    if let Some(bad) = bad.filter(|_| !args.keep && !context.common.dry_run) {
        let (all, _) = cloud::all_images(&cloud)?;
        for image in all.iter().filter(|i| i.name == bad) {
            cloud.mark(image, QUARANTINED, &args.reason)?;
            quarantined.push(image.id.clone());
        }
        let message = format!("{bad} is under quarantine: it is not promoted any more, and not collected by accident");
        context.events.event(Event::Note { message });
    }
    let back = images.first().map(|i| i.name.clone()).unwrap_or_default();
    Ok(Finish::new(
        format!("{name} is back at {back}"),
        serde_json::json!({ "channel": name, "images": images, "quarantined": quarantined }),
    ))
}

/// The images that can be gone back to, as far as they are known: from the ledger, and from the marks that every machine sees.
fn candidates<C: Cloud>(cloud: &C, state: &State, name: &str, all: &[Image]) -> Result<Vec<Candidate>> {
    let history = state.ledger().promotions(cloud.name())?;
    let mut candidates = Vec::new();
    for image in all.iter().filter(|i| i.copied_from.is_none()) {
        let marks = cloud.marks(image)?;
        let mark = marks.get(&promoted(name)).and_then(|m| m.split(' ').next().map(str::to_owned));
        let written = history.iter().filter(|p| p.channel == name && p.image == image.name && p.ended.is_some());
        let last = written.map(|p| p.at.clone()).chain(mark).max();
        candidates.push(Candidate {
            name: image.name.clone(),
            version: image.version.clone(),
            ids: all.iter().filter(|i| i.name == image.name).map(|i| i.id.to_string()).collect(),
            regions: all.iter().filter(|i| i.name == image.name).map(|i| i.region.clone()).collect(),
            promoted: last,
            quarantined: marks.get(QUARANTINED).cloned(),
        });
    }
    Ok(candidates)
}
