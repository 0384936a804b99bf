//! `ami watch`: a promoted image stays what it was: there, unchanged and launchable, in every region. For a scheduled workflow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::channel;
use crate::channel::points_at;
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
    let target = channel::target(context, &args.channel, channel::configured(&config, &args.channel)?);
    let cloud = provider.open(context, &config, &state, None)?;
    let wanted = points_at(&cloud, &target)?;
    if wanted.is_empty() {
        let hint = format!("`cargo xtask ami promote --channel {}` points it at one", args.channel);
        return Err(Exit::Judged.error(format_args!("{} points at no image", args.channel), hint));
    }
    let (started, mut looks) = (Instant::now(), 0_u32);
    loop {
        looks += 1;
        let now = points_at(&cloud, &target)?;
        let mut wrong = Vec::new();
        for region in cloud.regions() {
            if let Some(what) = wrong_in(&cloud, region, &wanted, &now)? {
                wrong.push(format!("{region}: {what}"));
            }
        }
        if !wrong.is_empty() {
            let hint = format!(
                "`cargo xtask ami rollback --channel {} --reason ...` goes back to the last good image",
                args.channel
            );
            return Err(
                Exit::Judged.error(format_args!("{} is not as it was\n{}", args.channel, wrong.join("\n")), hint)
            );
        }
        let left = args.within.unwrap_or_default().saturating_sub(started.elapsed());
        if left.is_zero() {
            break;
        }
        let message = format!("look {looks}: all {} regions well, {} min left", wanted.len(), left.as_secs() / 60);
        context.events.event(Event::Progress { phase: Phase::Promote, message, fraction: None });
        pause(left.min(args.every))?;
    }
    let regions: Vec<&String> = wanted.keys().collect();
    Ok(Finish::new(
        format!("{} is well in {} regions, {looks} looks", args.channel, wanted.len()),
        serde_json::json!({ "channel": args.channel, "regions": regions, "images": wanted, "looks": looks }),
    ))
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
