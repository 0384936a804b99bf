//! `ami promote`: points a channel at an image. Checks the requirements, prints the changes, asks for confirmation, writes and reads back.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::smoke::{chosen, spec_path};
use crate::channel::mark::{Promoted, promoted};
use crate::channel::{points_at, targets};
use crate::cli;
use crate::cloud::{self, Cloud, DAMAGED, Image, ImageId};
use crate::commands::{Context, Finish, Provider, Session};
use crate::config::Config;
use crate::error::{Error, Exit, Result};
use crate::event::{Phase, phase};
use crate::ids::Region;
use crate::ledger::PromotionKind;
use crate::recipe::Digest;
use crate::stage::promote::{self as stage, Before, SmokeResult, Standing};
use crate::stage::promotion::{Move, QUARANTINED, Transaction};
use crate::stage::rollback::{PointsAt, points_at_images};
use crate::stage::smoke::{self, DOCUMENT, PARTIAL, Record};
use crate::state::{Run, State};

/// What a promotion is asked to do.
pub struct Request<'a> {
    pub channel: &'a str,
    /// Regions that may lack the image.
    pub best_effort: Vec<Region>,
    /// Promote before the soak time is over, for this reason.
    pub overridden: Option<&'a str>,
    /// The user has confirmed the change already.
    pub confirmed: bool,
}

/// Points a channel at the image and its copies.
pub fn promote<P: Provider>(
    session: Session<'_, P>,
    image: &Image,
    request: &Request<'_>,
) -> Result<serde_json::Value> {
    let Session { context, config, state, run, .. } = session;
    let name = request.channel;
    let target = context.targets(config).one(&image.image, name)?;
    let cloud = session.cloud()?;
    let events = context.events.as_ref();
    let _lock = state.lock(&format!("channel-{name}"), &context.line)?;
    phase(events, Phase::Promote, name, || {
        let (all, _) = cloud::all_images(&cloud)?;
        let images = cloud::everywhere(&cloud, &all, image);
        let now = points_at(&cloud, &target)?;
        let required = stage::required(&cloud, &images, &request.best_effort, events);
        let mut marks = cloud.marks(image)?;
        let standing = Standing {
            quarantined: marks.remove(QUARANTINED),
            damaged: marks.remove(DAMAGED),
            smoke: smoke_result(context, &cloud, config, image)?,
            before: before(context, &cloud, config, name, &images, request.overridden)?,
            instead_of: pointed_at(&all, &now).cloned(),
        };
        stage::gate(&images, &required, &standing)?;
        let why = request.overridden.as_ref().map(|why| format!("override: {why}"));
        let stands = points_at_images(&cloud, &all, &now);
        let (instead_of, kind) = (stands.name(), PromotionKind::Promote);
        let step =
            Move { target: &target, images: &images, instead_of, kind, why: why.as_deref(), asked: request.confirmed };
        let (outcome, summary) =
            transaction(context, &cloud, state, run, &|question| context.confirm(question)).point(&step)?;
        context.about(|about| about.show(name, &images));
        let data = serde_json::json!({ "channel": name, "images": images });
        Ok::<_, Error>((data, outcome, summary))
    })
}

/// The transaction that points a channel at other images, recorded under `run`.
pub fn transaction<'a, C: Cloud>(
    context: &'a Context,
    cloud: &'a C,
    state: &'a State,
    run: &'a Run,
    confirm: &'a dyn Fn(&str) -> Result<()>,
) -> Transaction<'a, C> {
    let (events, who, dry_run) = (context.events.as_ref(), context.who(), context.common.dry_run);
    Transaction { cloud, state, run, events, who, dry_run, confirm }
}

/// The channel in which ami.toml requires an image to have been first, for how long, and since when it has been there.
fn before<C: Cloud>(
    context: &Context,
    cloud: &C,
    config: &Config,
    name: &str,
    images: &[Image],
    overridden: Option<&str>,
) -> Result<Option<Before>> {
    let configured = targets::configured(config, name)?;
    let (Some(after), Some(home)) = (&configured.after, images.first()) else { return Ok(None) };
    let there = points_at(cloud, &context.targets(config).one(&home.image, after)?)?;
    let exactly = images.iter().all(|i| there.get(&i.region) == Some(&i.id));
    let since = if exactly {
        // Without a mark it is unknown since when, so the soak time starts now.
        let mark = cloud.marks(home)?.remove(&promoted(after));
        let mark = mark.and_then(|mark| mark.parse::<Promoted>().ok());
        Some(mark.map_or_else(Timestamp::now, |mark| mark.at))
    } else {
        None
    };
    Ok(Some(Before {
        channel: after.clone(),
        soak: SignedDuration::from_hours(i64::try_from(configured.soak_hours).unwrap_or(i64::MAX / 3600)),
        since,
        now: Timestamp::now(),
        overridden: overridden.map(str::to_owned),
    }))
}

/// The image's smoke reports, and what a promotion requires of them.
fn smoke_result<C: Cloud>(context: &Context, cloud: &C, config: &Config, image: &Image) -> Result<SmokeResult> {
    let read = |name| -> Result<Option<Record>> {
        Ok(cloud.document(image, name)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    };
    Ok(SmokeResult {
        record: read(DOCUMENT)?,
        partial: read(PARTIAL)?,
        spec: Digest::of(&fs_err::read(spec_path(context, config, image)?)?),
        passes: smoke::passes(&cloud.instance_types(), true),
    })
}

/// The first image of `all` that a channel points at in the image's region.
fn pointed_at<'a>(all: &'a [Image], now: &BTreeMap<Region, ImageId>) -> Option<&'a Image> {
    all.iter().find(|image| now.get(&image.region) == Some(&image.id))
}

/// The image of `--from CHANNEL`.
fn from<C: Cloud>(context: &Context, cloud: &C, config: &Config, from: &str, of: Option<&str>) -> Result<Image> {
    let (of, _) = config.image(of)?;
    let target = context.targets(config).one(of, from)?;
    let all = cloud::all_images(cloud)?.0;
    let now = points_at(cloud, &target)?;
    // After an interrupted promotion, regions may point at different images, and it is ambiguous which one is meant.
    if let PointsAt::Split(names) = points_at_images(cloud, &all, &now) {
        let names = names.into_keys().collect::<Vec<_>>().join(", ");
        let hint = "name the image instead of --from, or resume the interrupted run with `cargo xtask ami resume`";
        return Err(Exit::Precondition.error(format_args!("{from} points at different images: {names}"), hint));
    }
    pointed_at(&all, &now).cloned().ok_or_else(|| {
        let hint = format!("run `cargo xtask ami promote IMAGE --channel {from}`");
        Exit::ImageFailed.error(format_args!("{from} points at no image that exists"), hint)
    })
}

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Promote) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let image = match &args.from {
        Some(channel) => from(context, &cloud, &config, channel, args.of.as_deref())?,
        None => chosen(&cloud, args.image.as_deref())?,
    };
    // An input of a GitHub workflow that was not set is an empty string.
    let overridden = args.overridden.clone().filter(|why| !why.trim().is_empty());
    let args = &cli::Promote { overridden, ..args.clone() };
    let run = context.begin_run(&state)?;
    // For the report, which omits the comparison if the contents of the last release are unknown.
    let since = super::bump::since(&cloud, &state, &image).ok().flatten();
    context.about(|about| about.since = since);
    let session = Session { context, provider, config: &config, state: &state, run: &run };
    let best_effort = super::copy::best_effort(&cloud, &args.best_effort)?;
    let overridden = args.overridden.as_deref();
    let request = Request { channel: &args.channel, best_effort, overridden, confirmed: false };
    let data = promote(session, &image, &request)?;
    Ok(Finish::new(format!("{}: {}", args.channel, image.name), data))
}
