//! `ami watch`: a promoted image stays what it was: there, unchanged and launchable, in every region. For a scheduled workflow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::channel::{Target, points_at, targets};
use crate::cli;
use crate::cloud::{Cloud, ImageId, Listed};
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::event::{Event, Phase};
use crate::signals;

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Watch) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    targets::configured(&config, &args.channel)?;
    let mut targets = context.targets(&config).all();
    targets.retain(|t| t.name == args.channel);
    if let Some(of) = &args.of {
        let (of, _) = config.image(Some(of))?;
        targets.retain(|t| t.image == of);
    }
    let cloud = provider.open(context, &config, &state, None)?;
    let mut watched = Vec::new();
    for target in targets {
        let wanted = points_at(&cloud, &target)?;
        if !wanted.is_empty() {
            watched.push((target, wanted));
        }
    }
    if watched.is_empty() {
        let hint = format!("`cargo xtask ami promote --channel {}` points it at one", args.channel);
        return Err(Exit::ImageFailed.error(format_args!("{} points at no image", args.channel), hint));
    }
    let regions: BTreeSet<&String> = watched.iter().flat_map(|(_, wanted)| wanted.keys()).collect();
    let (started, mut looks) = (Instant::now(), 0_u32);
    loop {
        looks += 1;
        for (target, wanted) in &watched {
            look(&cloud, target, wanted)?;
        }
        let left = args.within.unwrap_or_default().saturating_sub(started.elapsed());
        if left.is_zero() {
            break;
        }
        let message = format!("look {looks}: all {} regions well, {} min left", regions.len(), left.as_secs() / 60);
        context.events.event(Event::Progress { phase: Phase::Promote, message, fraction: None });
        pause(left.min(args.every))?;
    }
    let images: Vec<_> = watched.iter().map(|(t, ids)| serde_json::json!({ "image": t.image, "ids": ids })).collect();
    Ok(Finish::new(
        format!("{} is well in {} regions, {looks} looks", args.channel, regions.len()),
        serde_json::json!({ "channel": args.channel, "regions": regions, "images": images, "looks": looks }),
    ))
}

/// Looks once at what a channel pointed at when the watch began.
fn look<C: Cloud>(cloud: &C, target: &Target, wanted: &BTreeMap<String, ImageId>) -> Result<()> {
    let now = points_at(cloud, target)?;
    let mut wrong = Vec::new();
    for region in cloud.regions() {
        wrong.extend(wrong_in(cloud, region, wanted, &now)?.map(|what| format!("{region}: {what}")));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let Target { name, image, .. } = target;
    let hint = format!(
        "`cargo xtask ami rollback --channel {name} --image {image} --reason ...` goes back to the last good image"
    );
    Err(Exit::ImageFailed.error(format_args!("{name} of {image} is not as it was\n{}", wrong.join("\n")), hint))
}

/// What is wrong with the channel in a region, if anything is.
fn wrong_in<C: Cloud>(
    cloud: &C,
    region: &str,
    wanted: &BTreeMap<String, ImageId>,
    now: &BTreeMap<String, ImageId>,
) -> Result<Option<String>> {
    let Some(id) = wanted.get(region) else {
        let best_effort = cloud.best_effort().iter().any(|r| r == region);
        return Ok((!best_effort).then(|| "the channel points at nothing there".to_owned()));
    };
    match now.get(region) {
        Some(there) if there == id => {}
        Some(there) => return Ok(Some(format!("it pointed at {id} and points at {there} now"))),
        None => return Ok(Some(format!("it pointed at {id} and points at nothing now"))),
    }
    let found = cloud.images(region)?.into_iter().find(|listed| match listed {
        Listed::Image(image) => image.id == *id,
        Listed::Corrupt(corrupt) => corrupt.id == *id,
    });
    Ok(match found {
        None => Some(format!("{id} is gone")),
        Some(Listed::Corrupt(corrupt)) => Some(format!("{id}: {}", corrupt.problem)),
        Some(Listed::Image(image)) => match cloud.launchable(&image) {
            Ok(()) => None,
            Err(error) if error.exit() == Exit::Interrupted => return Err(error),
            Err(error) => Some(format!("no instance of {id} would start: {error}")),
        },
    })
}

/// Sleeps, and wakes for a signal.
fn pause(time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        signals::pause((until - Instant::now()).min(Duration::from_secs(1)))?;
    }
    signals::check()
}
