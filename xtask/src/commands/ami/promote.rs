//! `ami promote`: gate, diff, ask, write, read back.

use super::smoke::chosen;
use crate::cli;
use crate::cloud::{self, Cloud, Image};
use crate::commands::{Context, Finish, Provider};
use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::stage::promote as stage;
use crate::stage::smoke::DOCUMENT;
use crate::state::State;

/// Points `channel` at `image` and its copies, which only regions of `best_effort` may lack. `asked` is true when a person has
/// agreed already.
#[expect(clippy::too_many_arguments, reason = "what a command knows, and what is asked of it")]
pub fn promote<P: Provider>(
    context: &Context,
    provider: &P,
    config: &Config,
    state: &State,
    image: &Image,
    channel: &str,
    best_effort: &cli::BestEffort,
    asked: bool,
) -> Result<serde_json::Value> {
    let known = || config.channels.keys().cloned().collect::<Vec<_>>().join(", ");
    let target = config.channels.get(channel).ok_or_else(|| {
        Exit::Usage
            .error(format_args!("ami.toml has no channel `{channel}`"), format_args!("its channels are: {}", known()))
    })?;
    let cloud = provider.open(context, config, state, None)?;
    let events = context.events.as_ref();
    let _lock = state.lock(&format!("channel-{channel}"), &context.line)?;
    phase(events, Phase::Promote, channel, || {
        let images = copies(&cloud, image)?;
        let record = cloud.document(image, DOCUMENT)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        stage::gate(&images, &required(context, &cloud, &images, best_effort)?, record.as_ref())?;
        let file = context.root.join(&target.env_file);
        let change = stage::plan(&file, &images)?;
        let ids: Vec<&str> = images.iter().map(|i| i.id.0.as_str()).collect();
        let data = serde_json::json!({ "channel": channel, "file": target.env_file, "images": images });
        if change.is_empty() {
            return Ok((data, Outcome::UpToDate, format!("{channel} points at {} already", ids.join(", "))));
        }
        events.event(Event::Diff {
            file: target.env_file.clone(),
            diff: change.diff(&target.env_file.display().to_string()),
        });
        if context.common.dry_run {
            return Ok((data, Outcome::UpToDate, "nothing was written: --dry-run".to_owned()));
        }
        if !asked {
            context.confirm(&format!("Point {channel} at {}?", image.name))?;
        }
        stage::apply(&file, &change, events)?;
        Ok::<_, Error>((data, Outcome::Done, format!("{channel} points at {}", ids.join(", "))))
    })
}

/// The regions that must have the image; those that may lack it and do are told.
fn required<C: Cloud>(
    context: &Context,
    cloud: &C,
    images: &[Image],
    best_effort: &cli::BestEffort,
) -> Result<Vec<String>> {
    let best_effort = super::copy::best_effort(cloud, best_effort)?;
    let mut required = cloud.regions().to_vec();
    required.retain(|region| {
        let lacks = best_effort.contains(region) && !images.iter().any(|i| i.region == *region);
        if lacks {
            let message = format!("{region} lacks the image and keeps what it had");
            let hint = format!("`cargo xtask ami copy --region {region}`, then promote again");
            context.events.event(Event::Warning { message, hint });
        }
        !lacks
    });
    Ok(required)
}

/// The image in every region, home first: the same name and the same disk.
fn copies<C: Cloud>(cloud: &C, image: &Image) -> Result<Vec<Image>> {
    let (all, _) = cloud::all_images(cloud)?;
    let mut images: Vec<Image> = all.into_iter().filter(|i| i.name == image.name && i.region != image.region).collect();
    images.insert(0, image.clone());
    let order = |i: &Image| cloud.regions().iter().position(|r| *r == i.region);
    images.sort_by_key(order);
    Ok(images)
}

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Promote) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let image = chosen(&provider.open(context, &config, &state, None)?, args.image.as_deref())?;
    let data = promote(context, provider, &config, &state, &image, &args.channel, &args.best_effort, false)?;
    Ok(Finish::new(format!("{}: {}", args.channel, image.name), data))
}
