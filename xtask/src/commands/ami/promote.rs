//! `ami promote`: gate, diff, ask, write, read back.

use super::smoke::chosen;
use crate::cli;
use crate::cloud::{self, Cloud as _, Image, local::Local};
use crate::commands::{Context, Finish};
use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::stage::promote as stage;
use crate::stage::smoke::DOCUMENT;
use crate::state::State;

/// Points `channel` at `image` and its copies. `asked` is true when a person has agreed already.
pub fn promote(
    context: &Context,
    config: &Config,
    state: &State,
    image: &Image,
    channel: &str,
    asked: bool,
) -> Result<serde_json::Value> {
    let known = || config.channels.keys().cloned().collect::<Vec<_>>().join(", ");
    let target = config.channels.get(channel).ok_or_else(|| {
        Exit::Usage
            .error(format_args!("ami.toml has no channel `{channel}`"), format_args!("its channels are: {}", known()))
    })?;
    let local = context.local(config, state, None);
    let events = context.events.as_ref();
    let _lock = state.lock(&format!("channel-{channel}"), &context.line)?;
    phase(events, Phase::Promote, channel, || {
        let images = copies(&local, image)?;
        let record = local.document(image, DOCUMENT)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        stage::gate(&images, local.regions(), record.as_ref())?;
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

/// The image in every region, home first: the same name and the same disk.
fn copies(local: &Local, image: &Image) -> Result<Vec<Image>> {
    let (all, _) = cloud::all_images(local)?;
    let mut images: Vec<Image> = all.into_iter().filter(|i| i.name == image.name && i.region != image.region).collect();
    images.insert(0, image.clone());
    let order = |i: &Image| local.regions().iter().position(|r| *r == i.region);
    images.sort_by_key(order);
    Ok(images)
}

/// Runs the command.
pub fn run(context: &Context, args: &cli::Promote) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let image = chosen(&context.local(&config, &state, None), &config, args.image.as_deref())?;
    let data = promote(context, &config, &state, &image, &args.channel, false)?;
    Ok(Finish::new(format!("{}: {}", args.channel, image.name), data))
}
