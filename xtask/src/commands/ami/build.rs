//! `ami build`: builds an image, unless it is up to date.

use std::time::Duration;

use super::plan::{self, Reading};
use super::request::{Inputs, Request};
use super::unread;
use crate::cli;
use crate::cloud::{Builder, BuilderKind, Capture, Cloud, EngineKind, Identity, Image, Listed};
use crate::commands::locate::locate;
use crate::commands::{Context, Finish, Provider, Session};
use crate::engine::{self, Deadline, Engine, Job};
use crate::error::{Error, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::ledger::Intent;
use crate::recipe::{Digest, Recipe, Source};
use crate::signals;
use crate::state::{Lock, Run};
use crate::template;

/// The template variable with the base AMI, and the name under which the ledger notes the base of a run.
const BASE: &str = "base_ami";

/// The name of the lock.
pub(super) const BUILD: &str = "build";

/// The names under which the ledger notes the agent, the region and the image of a build.
pub(super) const AGENT: &str = "agent";
pub(super) const IMAGE: &str = "image";
pub(super) const REGION: &str = "region";

/// Builds the image if necessary. Returns it, and true if it existed already.
pub fn build<P: Provider>(session: Session<'_, P>, request: &Request) -> Result<(Image, bool)> {
    let (image, existed) = built(session, request)?;
    session.state.ledger().note(session.run.id(), IMAGE, &image.id.0)?;
    Ok((image, existed))
}

fn built<P: Provider>(session: Session<'_, P>, request: &Request) -> Result<(Image, bool)> {
    let Session { context, config, state, run, .. } = session;
    let (name, image) = (request.image.as_str(), &config.images[&request.image]);
    let (recipe, evaluated) = match reading(session, request)? {
        Reading::Whole(whole) => *whole,
        Reading::Unread(instead) => return unread::build(session, request, *instead),
    };
    let cloud = session.cloud()?;
    let events = context.events.as_ref();
    if request.engine == EngineKind::Packer && recipe.origin.is_some() {
        super::engine::confirm(context, &request.template)?;
    }
    state.ledger().note(run.id(), REGION, &cloud.home())?;
    if let Some(agent) = engine::agent(&recipe) {
        state.ledger().note(run.id(), AGENT, &agent)?;
    }
    // Local builds share layers, so there is one at a time; on EC2 only builds of the same recipe exclude each other.
    let _lock = match session.provider.on() {
        cli::On::Local => exclusive(session, BUILD)?,
        cli::On::Aws => exclusive(session, &format!("{BUILD}-{}", recipe.hash(Digest::of(b"")).short()))?,
    };
    cloud.remove_unfinished()?;
    if cloud.existing_base(&recipe.source)?.is_none() {
        provide_base(context, &cloud, &recipe.source)?;
    }
    if let Some(base) = cloud.existing_base(&recipe.source)? {
        state.ledger().note(run.id(), BASE, &base.id)?;
    }
    let options = engine::Options {
        keep_on_failure: request.keep_on_failure,
        region: cloud.home(),
        root: evaluated.root.clone(),
        outputs: match &recipe.origin {
            Some(_) => context.in_state(config, "outputs").join(name),
            None => context.root.clone(),
        },
        run: run.id().clone(),
        deadline: Deadline::after(Duration::from_secs(config.packer.build_timeout_secs)),
        again: again(context, request),
    };
    let capture = Capture {
        image: name.to_owned(),
        version: image.version.clone(),
        recipe_hash: Digest::of(b""),
        engine: request.engine,
        built_in: cloud.builder(Some(&recipe), request.engine)?.kind,
        agent: engine::agent(&recipe),
        template: recipe.origin.clone(),
        region: options.region.clone(),
        builder: Identity::default(),
        source: Some(recipe.source.clone()),
    };
    let show = |image: &Image| context.about(|about| about.images = vec![image.clone()]);
    if let Some(image) = made_before(context, &cloud, &recipe, capture, run)? {
        show(&image);
        engine::post(&cloud, &image, &recipe, &options, events)?;
        return Ok((image, true));
    }
    let plan = plan::make(&cloud, image, &recipe, request)?;
    if let Some(id) = &plan.up_to_date {
        let existing = crate::cloud::find(&cloud, &id.0)?;
        cloud.usable(&existing)?;
        show(&existing);
        return Ok((existing, true));
    }
    if let Some(Builder { kind, why }) = plan.builder.as_ref().filter(|b| b.kind != BuilderKind::Instance) {
        events.event(Event::Note { message: format!("builder: {}: {why}", kind.name()) });
    }
    if let Some(message) = cloud.ready(Some(&recipe.source), plan.cached() == 0)? {
        events.event(Event::Note { message });
    }
    // The base is available already: it was provided above.
    let base = cloud.base(&recipe.source, &|_| {})?;
    let engine = super::engine::provide(request.engine, context, config, evaluated, run)?;
    let keep = || run.keep();
    let job = Job { cloud: &cloud, plan: &plan, recipe: &recipe, base: &base, options: &options, events, keep: &keep };
    if let Engine::Native = engine {
        let image = job.build(&engine)?;
        show(&image);
        return Ok((image, false));
    }
    // The ledger has no record of Packer's own AWS calls, only that Packer was run. Everything that Packer creates has the run's tag.
    let intent = Intent {
        action: "packer:Build".to_owned(),
        region: Some(options.region.clone()),
        subject: Some(name.to_owned()),
        ..Intent::default()
    };
    let image = run.journal(&intent, || job.build(&engine).map(|image| (image.clone(), vec![image.id.to_string()])))?;
    show(&image);
    Ok((image, false))
}

/// The command that builds again, for hints.
pub(super) fn again(context: &Context, request: &Request) -> String {
    if request.replaces_template { context.line.clone() } else { format!("cargo xtask ami build {}", request.image) }
}

/// Evaluates the template. A resumed run keeps the base that it began with, even if there is a newer one, because the recipe hash by which
/// its image is found includes the base.
fn reading<P: Provider>(session: Session<'_, P>, request: &Request) -> Result<Reading> {
    let Session { context, provider, config, state, run } = session;
    let located = locate(context, config, &request.template, Some(run))?;
    let Inputs { mut vars, var_files } = request.inputs.clone();
    if provider.on() == cli::On::Aws
        && run.resumed() > 0
        && !vars.iter().any(|(name, _)| name == BASE)
        && let Some(base) = state.ledger().noted(run.id(), BASE)?
        && template::declares(&located.path, &located.root, BASE)?
    {
        vars.push((BASE.to_owned(), base));
    }
    let inputs = Inputs { vars, var_files };
    plan::read(context, provider, config, &Request { inputs, ..request.clone() }, located, Some(run))
}

/// The image that this run made before it was interrupted. It is used even with `--force`, because it was built by this run.
fn made_before<C: Cloud>(
    context: &Context,
    cloud: &C,
    recipe: &Recipe,
    mut capture: Capture,
    run: &Run,
) -> Result<Option<Image>> {
    let Some(base) = cloud.existing_base(&recipe.source)?.filter(|_| run.resumed() > 0) else { return Ok(None) };
    capture.recipe_hash = recipe.hash(base.digest);
    let events = context.events.as_ref();
    phase(events, Phase::Capture, run.id().as_str(), || {
        let on_progress = |message: &str| {
            events.event(Event::Progress { phase: Phase::Capture, message: message.to_owned(), fraction: None });
        };
        cloud.finish_capture(&base, &capture, &on_progress)?;
        let is_ours = |i: &Image| {
            let same = (i.recipe_hash, &i.version) == (capture.recipe_hash, &capture.version);
            same && i.run == *run.id() && i.copied_from.is_none()
        };
        let made = cloud.images(&capture.region)?.into_iter().find_map(|listed| match listed {
            Listed::Image(image) if is_ours(&image) => Some(*image),
            Listed::Image(_) | Listed::Corrupt(_) => None,
        });
        let summary = match &made {
            Some(image) => format!("{} was made before the run was interrupted", image.id),
            None => "the run was interrupted before it made an image".to_owned(),
        };
        Ok::<_, Error>((made, Outcome::UpToDate, summary))
    })
}

/// Takes a lock of builds in this state directory. A supervised build waits for it.
pub(super) fn exclusive<P: Provider>(session: Session<'_, P>, name: &str) -> Result<Lock> {
    let Session { context, state, .. } = session;
    if context.common.supervised.is_none() {
        return state.lock(name, &context.line);
    }
    let mut reported = false;
    loop {
        match state.try_lock(name, &context.line)? {
            Ok(lock) => return Ok(lock),
            Err(holder) if !reported => {
                context.events.event(Event::Note { message: format!("waiting for another build: {holder}") });
                reported = true;
            }
            Err(_) => signals::pause(Duration::from_secs(1))?,
        }
    }
}

fn provide_base<C: Cloud>(context: &Context, cloud: &C, source: &Source) -> Result<()> {
    let events = context.events.as_ref();
    phase(events, Phase::Base, "", || {
        let on_progress = |message: &str| {
            events.event(Event::Progress { phase: Phase::Base, message: message.to_owned(), fraction: None });
        };
        let base = cloud.base(source, &on_progress)?;
        Ok::<_, Error>(((), Outcome::Done, format!("{} ({})", base.name, base.digest.short())))
    })
}

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Build) -> Result<Finish> {
    if context.common.dry_run {
        return plan::one(context, provider, &context.config_for(args)?, args);
    }
    let config = context.config_for(args)?;
    let state = context.state(&config)?;
    let run = context.begin_run(&state)?;
    let session = Session { context, provider, config: &config, state: &state, run: &run };
    let request = Request::resolve(context, provider, &config, args)?;
    let (image, up_to_date) = build(session, &request)?;
    let verb = if up_to_date { "up to date" } else { "built" };
    Ok(Finish::new(
        format!("{verb}: {} {} in {}", image.id, image.name, image.region),
        serde_json::json!({ "image": image, "up_to_date": up_to_date }),
    ))
}
