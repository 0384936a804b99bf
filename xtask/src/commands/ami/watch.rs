//! `ami watch`: checks that the images of a channel stay available, unchanged and launchable in every region. For scheduled workflows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::channel::{Target, points_at, targets};
use crate::cli;
use crate::cloud::{Cloud, ImageId, Listed};
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::event::{Event, Phase};
use crate::ids::Region;
use crate::signals;

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Watch) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    targets::configured(&config, &args.channel)?;
    let mut targets = context.targets(&config).all();
    targets.retain(|t| t.name == args.channel.as_str());
    if let Some(of) = &args.of {
        let (of, _) = config.image(Some(of))?;
        targets.retain(|t| t.image == of);
    }
    let cloud = provider.open(context, &config, &state, None)?;
    let mut watched = Vec::new();
    for target in targets {
        let expected = points_at(&cloud, &target)?;
        if !expected.is_empty() {
            watched.push((target, expected));
        }
    }
    if watched.is_empty() {
        let hint = format!("run `cargo xtask ami promote --channel {}`", args.channel);
        return Err(Exit::ImageFailed.error(format_args!("{} points at no image", args.channel), hint));
    }
    let regions: BTreeSet<&Region> = watched.iter().flat_map(|(_, expected)| expected.keys()).collect();
    let (started, mut checks) = (Instant::now(), 0_u32);
    loop {
        checks += 1;
        for (target, expected) in &watched {
            check(&cloud, target, expected)?;
        }
        let left = args.within.unwrap_or_default().saturating_sub(started.elapsed());
        if left.is_zero() {
            break;
        }
        let message = format!("check {checks} passed in {} regions, {} min left", regions.len(), left.as_secs() / 60);
        context.events.event(Event::Progress { phase: Phase::Promote, message, fraction: None });
        pause(left.min(args.every))?;
    }
    let images: Vec<_> = watched.iter().map(|(t, ids)| serde_json::json!({ "image": t.image, "ids": ids })).collect();
    Ok(Finish::new(
        format!("{} passed {checks} checks in {} regions", args.channel, regions.len()),
        serde_json::json!({ "channel": args.channel, "regions": regions, "images": images, "looks": checks }),
    ))
}

/// Checks once that a channel still points at the expected images, and that these can be launched.
fn check<C: Cloud>(cloud: &C, target: &Target, expected: &BTreeMap<Region, ImageId>) -> Result<()> {
    let now = points_at(cloud, target)?;
    let mut problems = Vec::new();
    for region in cloud.regions() {
        problems.extend(problem_in(cloud, region, expected, &now)?.map(|what| format!("{region}: {what}")));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let Target { name, image, .. } = target;
    let hint = format!(
        "run `cargo xtask ami rollback --channel {name} --image {image} --reason ...` to return to the last good image"
    );
    Err(Exit::ImageFailed.error(format_args!("{name} of {image} failed its check\n{}", problems.join("\n")), hint))
}

/// The problem with a channel in a region, if there is one.
fn problem_in<C: Cloud>(
    cloud: &C,
    region: &Region,
    expected: &BTreeMap<Region, ImageId>,
    now: &BTreeMap<Region, ImageId>,
) -> Result<Option<String>> {
    let Some(id) = expected.get(region) else {
        let best_effort = cloud.best_effort().contains(region);
        return Ok((!best_effort).then(|| "the channel points at no image".to_owned()));
    };
    match now.get(region) {
        Some(there) if there == id => {}
        Some(there) => return Ok(Some(format!("the channel pointed at {id} and now points at {there}"))),
        None => return Ok(Some(format!("the channel pointed at {id} and now points at no image"))),
    }
    let found = cloud.images(region)?.into_iter().find(|listed| match listed {
        Listed::Image(image) => image.id == *id,
        Listed::Corrupt(corrupt) => corrupt.id == *id,
    });
    Ok(match found {
        None => Some(format!("{id} does not exist any more")),
        Some(Listed::Corrupt(corrupt)) => Some(format!("{id}: {}", corrupt.problem)),
        Some(Listed::Image(image)) => match cloud.launchable(&image) {
            Ok(()) => None,
            Err(error) if error.exit() == Exit::Interrupted => return Err(error),
            Err(error) => Some(format!("no instance of {id} can be launched: {error}")),
        },
    })
}

/// Sleeps; an interrupt ends it with an error.
fn pause(time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        signals::pause((until - Instant::now()).min(Duration::from_secs(1)))?;
    }
    signals::check()
}
