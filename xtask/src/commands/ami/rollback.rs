//! `ami rollback`: points a channel back at an earlier image in all regions, and quarantines the bad one, which cannot be promoted again.

use std::sync::Arc;

use super::promote::transaction;
use crate::channel::mark::{Promoted, promoted};
use crate::channel::{Target, points_at};
use crate::cli;
use crate::cloud::{self, Cloud, DAMAGED, Image};
use crate::commands::{Context, Finish, Provider};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Phase, phase};
use crate::ledger::PromotionKind;
use crate::stage::promotion::{Move, QUARANTINED, interrupted_promotion};
use crate::stage::rollback::{self as stage, Back, Candidate, InterruptedPromotion, Known, Options};
use crate::state::{Run, State};

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Rollback) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let name = args.channel.as_str();
    let (of, _) = config.image(args.of.as_deref())?;
    let target = context.targets(&config).one(of, name)?;
    let run = context.begin_run(&state)?;
    let cloud = provider.open(context, &config, &state, Some(Arc::clone(&run)))?;
    let _lock = state.lock(&format!("channel-{name}"), &context.line)?;
    let events = context.events.as_ref();
    let (bad, images, all) = phase(events, Phase::Promote, name, || {
        let (mut all, _) = cloud::all_images(&cloud)?;
        all.retain(|image| image.image == of);
        let back = back(&cloud, &state, &run, &target, &all, args)?;
        let Some(home) = all.iter().find(|i| i.name == back.to) else {
            let message = format!("{} does not exist any more", back.to);
            return Err(Exit::Failed.error(message, "run the same command again"));
        };
        let images = cloud::everywhere(&cloud, &all, home);
        if !back.bad.is_empty() {
            let message = format!("to be quarantined: {}", back.bad.join(", "));
            events.event(Event::Note { message });
        }
        // The channel is changed before the image is quarantined, so that no more instances are launched from the bad image.
        let (instead_of, kind) = (back.bad.first().map(String::as_str), PromotionKind::Rollback);
        let step = Move { target: &target, images: &images, instead_of, kind, why: Some(&args.reason), asked: false };
        let (outcome, summary) =
            transaction(context, &cloud, &state, &run, &|question| context.confirm(question)).point(&step)?;
        Ok::<_, Error>(((back.bad, images, all), outcome, summary))
    })?;
    context.about(|about| about.show(name, &images));
    let mut quarantined = Vec::new();
    if !context.common.dry_run {
        for image in all.iter().filter(|i| bad.contains(&i.name)) {
            cloud.mark(image, QUARANTINED, &args.reason)?;
            quarantined.push(image.id.clone());
        }
        for name in &bad {
            let message = format!("{name} is quarantined: it cannot be promoted, and `ami gc` keeps it");
            context.events.event(Event::Note { message });
        }
    }
    let back = images.first().map(|i| i.name.clone()).unwrap_or_default();
    Ok(Finish::new(
        format!("{name} points at {back} again"),
        serde_json::json!({ "channel": name, "image": of, "images": images, "quarantined": quarantined }),
    ))
}

/// The image to return to and the bad images. A resumed run keeps its decision.
fn back<C: Cloud>(
    cloud: &C,
    state: &State,
    run: &Run,
    target: &Target,
    all: &[Image],
    args: &cli::Rollback,
) -> Result<Back> {
    let candidates = candidates(cloud, state, target, all)?;
    let begun = state.ledger().promotions(cloud.name())?;
    let begun = begun.into_iter().find(|p| p.run == *run.id() && p.moves(&target.name, &target.image));
    if let Some(begun) = begun {
        // The channel may point back already, so the bad image is read from the ledger and not from the channel.
        let mut bad: Vec<String> = begun.instead_of.into_iter().collect();
        if !args.bad.is_empty() {
            bad = stage::named(&candidates, &args.bad)?;
        }
        bad.retain(|name| !args.keep && *name != begun.image);
        return Ok(Back { to: begun.image, bad });
    }
    let stands = stage::points_at_images(cloud, all, &points_at(cloud, target)?);
    let interrupted_promotion = interrupted_promotion(cloud, state, target, run.id())?;
    let interrupted_promotion = interrupted_promotion.map(|p| InterruptedPromotion { run: p.run, image: p.image });
    let known = Known {
        candidates: &candidates,
        regions: cloud.regions(),
        stands: &stands,
        interrupted_promotion: interrupted_promotion.as_ref(),
    };
    let request = Options { to: args.to.as_deref(), bad: &args.bad, keep: args.keep };
    stage::decide(&target.name, known, request)
}

/// The images that the channel may return to, with their last promotions by the ledger and by their marks, which every machine sees.
fn candidates<C: Cloud>(cloud: &C, state: &State, target: &Target, all: &[Image]) -> Result<Vec<Candidate>> {
    let history = state.ledger().promotions(cloud.name())?;
    let mut candidates = Vec::new();
    for image in all.iter().filter(|i| i.copied_from.is_none()) {
        let marks = cloud.marks(image)?;
        let mark =
            marks.get(&promoted(&target.name)).and_then(|mark| mark.parse::<Promoted>().ok().map(|mark| mark.at));
        let written = history.iter().filter(|p| p.channel == target.name && p.image == image.name && p.ended.is_some());
        let last = written.map(|p| p.at).chain(mark).max();
        candidates.push(Candidate {
            name: image.name.clone(),
            version: image.version.clone(),
            ids: all.iter().filter(|i| i.name == image.name).map(|i| i.id.to_string()).collect(),
            regions: all.iter().filter(|i| i.name == image.name).map(|i| i.region.clone()).collect(),
            promoted: last,
            quarantined: marks.get(QUARANTINED).cloned(),
            damaged: marks.get(DAMAGED).cloned(),
        });
    }
    Ok(candidates)
}
