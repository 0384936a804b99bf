//! `ami promote`: gate, diff, ask, write, read back.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::channel::{self, Move, QUARANTINED, promoted};
use super::smoke::chosen;
use crate::channel::points_at;
use crate::cli;
use crate::cloud::{self, Cloud, Image};
use crate::commands::{Context, Finish, Provider};
use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::event::{Phase, phase};
use crate::ledger::PromotionKind;
use crate::stage::promote::{self as stage, Before, Standing};
use crate::stage::smoke::DOCUMENT;
use crate::state::{Run, State};

/// Points the channel of `args` at `image` and its copies. `asked` is true when a person has agreed already.
#[expect(clippy::too_many_arguments, reason = "what a command knows, and what is asked of it")]
pub fn promote<P: Provider>(
    context: &Context,
    provider: &P,
    config: &Config,
    state: &State,
    run: &Arc<Run>,
    image: &Image,
    args: &cli::Promote,
    asked: bool,
) -> Result<serde_json::Value> {
    let name = args.channel.as_str();
    let configured = channel::configured(config, name)?;
    let target = channel::target(context, name, configured);
    let cloud = provider.open(context, config, state, Some(Arc::clone(run)))?;
    let events = context.events.as_ref();
    let _lock = state.lock(&format!("channel-{name}"), &context.line)?;
    phase(events, Phase::Promote, name, || {
        let images = channel::everywhere(&cloud, image)?;
        let record = cloud.document(image, DOCUMENT)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let required = channel::required(context, &cloud, &images, &args.best_effort)?;
        let standing = Standing {
            quarantined: cloud.marks(image)?.remove(QUARANTINED),
            before: before(context, &cloud, config, name, &images, args.overridden.as_deref())?,
        };
        stage::gate(&images, &required, record.as_ref(), &standing)?;
        let why = args.overridden.as_ref().map(|why| format!("override: {why}")).unwrap_or_default();
        let now = channel::name_of(&cloud::all_images(&cloud)?.0, &points_at(&cloud, &target)?);
        let (instead_of, kind) = (now.as_deref(), PromotionKind::Promote);
        let step = Move { target: &target, images: &images, instead_of, kind, why: &why, asked };
        let (outcome, summary) = channel::point(context, &cloud, state, run, &step)?;
        context.about(|about| about.show(name, &images));
        let data = serde_json::json!({ "channel": name, "images": images });
        Ok::<_, Error>((data, outcome, summary))
    })
}

/// What ami.toml wants of an image before it comes into this channel, and how it stands.
fn before<C: Cloud>(
    context: &Context,
    cloud: &C,
    config: &Config,
    name: &str,
    images: &[Image],
    overridden: Option<&str>,
) -> Result<Option<Before>> {
    let configured = channel::configured(config, name)?;
    if configured.after.is_empty() {
        return Ok(None);
    }
    let earlier = channel::configured(config, &configured.after)?;
    let there = points_at(cloud, &channel::target(context, &configured.after, earlier))?;
    let exactly = images.iter().all(|i| there.get(&i.region) == Some(&i.id));
    let since = match images.first().filter(|_| exactly) {
        // Without a mark nobody knows since when: the time begins now.
        Some(home) => {
            let mark = cloud.marks(home)?.remove(&promoted(&configured.after)).unwrap_or_default();
            let at = mark.split(' ').next().and_then(|at| at.parse().ok());
            Some(at.unwrap_or_else(Timestamp::now))
        }
        None => None,
    };
    Ok(Some(Before {
        channel: configured.after.clone(),
        soak: SignedDuration::from_hours(i64::try_from(configured.soak_hours).unwrap_or(i64::MAX / 3600)),
        since,
        now: Timestamp::now(),
        overridden: overridden.map(str::to_owned),
    }))
}

/// What a channel points at, by its copy in the first region where it points at anything.
fn pointed_at<C: Cloud>(context: &Context, cloud: &C, config: &Config, from: &str) -> Result<Image> {
    let there = points_at(cloud, &channel::target(context, from, channel::configured(config, from)?))?;
    let id = cloud.regions().iter().find_map(|region| there.get(region));
    let found = cloud::all_images(cloud)?.0.into_iter().find(|image| Some(&image.id) == id);
    found.ok_or_else(|| {
        let hint = format!("`cargo xtask ami promote IMAGE --channel {from}` points it at one");
        Exit::Judged.error(format_args!("{from} points at no image that is there"), hint)
    })
}

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Promote) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let image = match &args.from {
        Some(from) => pointed_at(context, &cloud, &config, from)?,
        None => chosen(&cloud, args.image.as_deref())?,
    };
    // A workflow's input that nobody filled in is an empty text.
    let overridden = args.overridden.clone().filter(|why| !why.trim().is_empty());
    let args = &cli::Promote { overridden, ..args.clone() };
    let run = context.begin_run(&state)?;
    // For the report. Where it is not known what was in the last release, there is nothing to tell.
    let since = super::bump::since(&cloud, &state, &image).ok().flatten();
    context.about(|about| about.since = since);
    let data = promote(context, provider, &config, &state, &run, &image, args, false)?;
    Ok(Finish::new(format!("{}: {}", args.channel, image.name), data))
}
