//! `ami build`.

use std::sync::Arc;

use super::plan;
use crate::cli;
use crate::cloud::local::Local;
use crate::cloud::{Cloud, Image};
use crate::commands::{Context, Finish};
use crate::config::Config;
use crate::engine;
use crate::error::{Error, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::state::{Run, State};

/// Room for layers and two copies of the image, as measured for the project's own (2.2 GB an image, 3 GB of layers).
const COLD_BYTES: u64 = 9 << 30;
/// Room when most layers are there.
const WARM_BYTES: u64 = 5 << 30;

/// Builds if need be and returns the image, and whether it was there already.
pub fn build(
    context: &Context,
    config: &Config,
    state: &State,
    run: &Arc<Run>,
    args: &cli::Build,
) -> Result<(Image, bool)> {
    let (name, image) = context.image(config, args.image.as_deref())?;
    let recipe = plan::recipe(context, image, args)?;
    let local = context.local(config, state, Some(Arc::clone(run)));
    let events = context.events.as_ref();
    let _lock = state.lock("build", &context.line)?;
    local.remove_unfinished()?;
    if local.base_at_hand()?.is_none() {
        provide_base(context, &local)?;
    }
    let plan = plan::make(&local, name, image, &recipe, args.force)?;
    if let Some(id) = &plan.up_to_date {
        let there = crate::cloud::find(&local, &id.0)?;
        return Ok((there, true));
    }
    let cold = plan.cached() == 0;
    state.require_space(if cold { COLD_BYTES } else { WARM_BYTES }, "this build")?;
    // The plan was made with the base at hand, so it names one.
    let base = local.base(&|_| {})?;
    let verdict = local.acceleration()?;
    if verdict.acceleration == crate::cloud::local::qemu::Acceleration::Tcg {
        let message = format!("machines are emulated, about ten times slower than real ones: {}", verdict.why);
        events.event(Event::Note { message });
    }
    let options = engine::Options {
        keep_on_failure: args.keep_on_failure,
        region: local.regions().first().cloned().unwrap_or_default(),
        root: context.root.clone(),
        again: format!("cargo xtask ami build {name}"),
    };
    let keep = || run.keep();
    let image = engine::build(&local, &plan, &recipe, &base, &options, events, &keep)?;
    Ok((image, false))
}

fn provide_base(context: &Context, local: &Local) -> Result<()> {
    let events = context.events.as_ref();
    phase(events, Phase::Base, "base image", || {
        let told = |message: &str| {
            events.event(Event::Progress { phase: Phase::Base, message: message.to_owned(), fraction: None });
        };
        let base = local.base(&told)?;
        Ok::<_, Error>(((), Outcome::Done, format!("{} ({})", base.name, base.sha256.short())))
    })
}

/// Runs the command.
pub fn run(context: &Context, args: &cli::Build) -> Result<Finish> {
    if context.common.dry_run {
        return plan::run(context, args);
    }
    let config = context.config()?;
    let state = context.state(&config)?;
    let run = context.begin_run(&state)?;
    let (image, up_to_date) = build(context, &config, &state, &run, args)?;
    let verb = if up_to_date { "up to date" } else { "built" };
    Ok(Finish::new(
        format!("{verb}: {} {} in {}", image.id, image.name, image.region),
        serde_json::json!({ "image": image, "up_to_date": up_to_date }),
    ))
}
