//! `ami build`.

use std::sync::Arc;

use super::plan;
use crate::cli;
use crate::cloud::{Cloud, Image};
use crate::commands::{Context, Finish, Provider};
use crate::config::Config;
use crate::engine;
use crate::error::{Error, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::recipe::Source;
use crate::state::{Run, State};

/// Builds if need be and returns the image, and whether it was there already.
pub fn build<P: Provider>(
    context: &Context,
    provider: &P,
    config: &Config,
    state: &State,
    run: &Arc<Run>,
    args: &cli::Build,
) -> Result<(Image, bool)> {
    let (name, image) = context.image(config, args.image.as_deref())?;
    let (recipe, request) = plan::recipe(context, provider, config, name, Some(run.as_ref()), args)?;
    let cloud = provider.open(context, config, state, Some(Arc::clone(run)))?;
    let events = context.events.as_ref();
    let _lock = state.lock("build", &context.line)?;
    cloud.remove_unfinished()?;
    if cloud.base_at_hand(&recipe.source)?.is_none() {
        provide_base(context, &cloud, &recipe.source)?;
    }
    let plan =
        plan::make(&cloud, name, image, &recipe, super::engine::name(context, provider, config, args)?, args.force)?;
    if let Some(id) = &plan.up_to_date {
        let there = crate::cloud::find(&cloud, &id.0)?;
        return Ok((there, true));
    }
    if let Some(message) = cloud.ready(&recipe.source, plan.cached() == 0)? {
        events.event(Event::Note { message });
    }
    // The plan was made with the base at hand, so it names one.
    let base = cloud.base(&recipe.source, &|_| {})?;
    let engine = super::engine::provide(context, provider, config, request, args)?;
    let options = engine::Options {
        keep_on_failure: args.keep_on_failure,
        region: cloud.regions().first().cloned().unwrap_or_default(),
        root: context.root.clone(),
        again: format!("cargo xtask ami build {name}"),
    };
    let keep = || run.keep();
    let image = engine::build(&cloud, &engine, &plan, &recipe, &base, &options, events, &keep)?;
    Ok((image, false))
}

fn provide_base<C: Cloud>(context: &Context, cloud: &C, source: &Source) -> Result<()> {
    let events = context.events.as_ref();
    phase(events, Phase::Base, "base image", || {
        let told = |message: &str| {
            events.event(Event::Progress { phase: Phase::Base, message: message.to_owned(), fraction: None });
        };
        let base = cloud.base(source, &told)?;
        Ok::<_, Error>(((), Outcome::Done, format!("{} ({})", base.name, base.digest.short())))
    })
}

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Build) -> Result<Finish> {
    if context.common.dry_run {
        return plan::run(context, provider, args);
    }
    let config = context.config()?;
    let state = context.state(&config)?;
    let run = context.begin_run(&state)?;
    let (image, up_to_date) = build(context, provider, &config, &state, &run, args)?;
    let verb = if up_to_date { "up to date" } else { "built" };
    Ok(Finish::new(
        format!("{verb}: {} {} in {}", image.id, image.name, image.region),
        serde_json::json!({ "image": image, "up_to_date": up_to_date }),
    ))
}
