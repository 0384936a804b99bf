//! Templates from elsewhere that the native engine refuses: whether Packer builds them instead, and the build.

use super::build::{AGENT, BUILD, REGION, again, exclusive};
use super::engine;
use super::request::Request;
use crate::cli::{self, On};
use crate::cloud::{Builder, Capture, Cloud, EngineKind, Identity, Image};
use crate::commands::{Context, Provider, Session};
use crate::config::Config;
use crate::engine::unread::UnreadJob;
use crate::engine::{Deadline, Engine, Options, packer};
use crate::error::{Error, Exit, Result};
use crate::event::Event;
use crate::ledger::Intent;
use crate::plan::{Facts, unread as plan};
use crate::recipe::Recipe;
use crate::template::refusal::{Cause, Refusal, with_help};
use crate::template::unread::{Unread, unread};
use crate::template::{self};

/// A template that Packer builds instead of the native engine.
pub(crate) struct Instead {
    pub(crate) unread: Unread,
    pub(crate) evaluated: template::Request,
    /// The error of the native engine, for a user who refuses Packer; `None` if the native engine could build it.
    refused: Option<Error>,
}

/// Whether Packer can be run.
enum Packer {
    /// It is installed, or will be downloaded.
    Available,
    /// Why it cannot be run.
    Missing(String),
}

/// What the decision depends on.
struct Case {
    /// `--engine`.
    engine: cli::Engine,
    on: On,
    keep_on_failure: bool,
    cause: Cause,
    packer: Packer,
}

/// Decides whether Packer builds a template of elsewhere that was refused. An error is the hint that the native engine's error gets.
fn decide(case: &Case) -> Result<(), Option<String>> {
    let hint = |text: &str| Err(Some(text.to_owned()));
    match case {
        Case { engine: cli::Engine::Native, .. } | Case { cause: Cause::Invalid, .. } => Err(None),
        Case { on: On::Aws, .. } => {
            hint("on EC2 a template must be one that the native engine reads; Packer can build it with --on local")
        }
        Case { cause: Cause::Forbidden, engine: cli::Engine::Auto, .. } => {
            hint("Packer would do it: review the template, then pass --engine packer")
        }
        Case { keep_on_failure: true, .. } => {
            hint("Packer can build it, but cannot keep the machine: omit --keep-on-failure")
        }
        Case { packer: Packer::Missing(why), .. } => Err(Some(format!("Packer can build it, but {why}"))),
        Case { packer: Packer::Available, .. } => Ok(()),
    }
}

/// The template as Packer builds it instead of the native engine, whose error is returned, with a hint, if Packer does not.
pub(crate) fn instead<P: Provider>(
    context: &Context,
    provider: &P,
    config: &Config,
    request: &Request,
    evaluated: template::Request,
    refused: Error,
) -> Result<Instead> {
    let Some(refusal) = Refusal::of(&refused).filter(|_| evaluated.foreign.is_some()) else { return Err(refused) };
    let installer = engine::installer(context, config);
    let packer = match packer::find(&installer) {
        Ok(Some(_)) => Packer::Available,
        Ok(None) if installer.auto => Packer::Available,
        Ok(None) => Packer::Missing(
            "it is not installed: install it, or set auto_install = true below [packer] of ami.toml".to_owned(),
        ),
        Err(error) => Packer::Missing(format!("it cannot be used: {error}")),
    };
    let (engine, keep_on_failure) = (request.requested_engine, request.keep_on_failure);
    let case = Case { engine, on: provider.on(), keep_on_failure, cause: refusal.cause, packer };
    if let Err(hint) = decide(&case) {
        return Err(match hint {
            Some(hint) => with_help(refused, &hint),
            None => refused,
        });
    }
    let Some(unread) = unread(&evaluated, &refusal.text)? else { return Err(refused) };
    possible(&unread)?;
    Ok(Instead { unread, evaluated, refused: Some(refused) })
}

/// The template, if Packer was requested and builds on a disk that the template selects: then the base is unknown although the native engine
/// reads the template. `None` for a template that takes the base in the variable `qemu_base`.
pub(crate) fn on_its_own_disk<P: Provider>(
    provider: &P,
    request: &Request,
    recipe: &Recipe,
    evaluated: &template::Request,
) -> Result<Option<Instead>> {
    let takes_base = recipe.variables.iter().any(|variable| variable.name == "qemu_base");
    if request.engine != EngineKind::Packer || provider.on() != On::Local || takes_base {
        return Ok(None);
    }
    let reason = "requested; the template selects its own disk, because it declares no variable `qemu_base`";
    let Some(unread) = unread(evaluated, reason)? else { return Ok(None) };
    possible(&unread)?;
    Ok(Some(Instead { unread, evaluated: evaluated.clone(), refused: None }))
}

/// An error if the source cannot become an image of this host.
fn possible(unread: &Unread) -> Result<()> {
    let hint = "build another source of the template, set `source_local` in ami.toml";
    if !unread.source.starts_with("qemu.") {
        return Err(
            Exit::Usage.error(format_args!("{} is not a qemu source, whose disk can be an image", unread.source), hint)
        );
    }
    match packer::obstacle(unread) {
        Some(why) => Err(Exit::Usage.error(why, hint)),
        None => Ok(()),
    }
}

/// The plan of a build by Packer.
pub(crate) fn planned<C: Cloud>(
    cloud: &C,
    config: &Config,
    request: &Request,
    unread: &Unread,
) -> Result<plan::UnreadPlan> {
    let facts = Facts {
        engine: EngineKind::Packer,
        builder: Some(cloud.builder(None, EngineKind::Packer)?),
        images: super::plan::images(cloud)?,
        force: request.force,
        ..Facts::default()
    };
    Ok(plan::plan(&request.image, &config.images[&request.image].version, unread, &facts))
}

/// Reports that Packer builds the template, and why.
pub(crate) fn announce(context: &Context, unread: &Unread) {
    context.events.event(Event::Note { message: format!("engine: packer: {}", unread.reason) });
}

/// Builds the image with Packer if necessary. Returns it, and true if it existed already.
pub(crate) fn build<P: Provider>(
    session: Session<'_, P>,
    request: &Request,
    instead: Instead,
) -> Result<(Image, bool)> {
    let Session { context, config, state, run, .. } = session;
    let Instead { unread, evaluated, refused } = instead;
    let events = context.events.as_ref();
    announce(context, &unread);
    let confirmed = engine::confirm(context, &request.template);
    confirmed.map_err(|no| match refused {
        Some(refused) => with_help(refused, &format!("Packer can build it: {no}; answer `y`, or pass --yes")),
        None => no,
    })?;
    let cloud = session.cloud()?;
    let region = cloud.home();
    let agent = unread.text("provider").filter(|agent| !agent.is_empty()).map(str::to_owned);
    state.ledger().note(run.id(), REGION, &region)?;
    if let Some(agent) = &agent {
        state.ledger().note(run.id(), AGENT, agent)?;
    }
    let _lock = exclusive(session, BUILD)?;
    cloud.remove_unfinished()?;
    let plan = planned(&cloud, config, request, &unread)?;
    // With --force an image of the run itself is used, which it made before it was interrupted.
    let own = super::plan::images(&cloud)?
        .into_iter()
        .find(|image| image.run == *run.id() && image.recipe_hash == unread.hash);
    let existing = match (own, &plan.up_to_date) {
        (Some(own), _) => Some(own),
        (None, Some(id)) => Some(crate::cloud::find(&cloud, &id.0)?),
        (None, None) => None,
    };
    if let Some(existing) = existing {
        cloud.usable(&existing)?;
        context.about(|about| about.images = vec![existing.clone()]);
        return Ok((existing, true));
    }
    let Builder { kind, why } = cloud.builder(None, EngineKind::Packer)?;
    events.event(Event::Note { message: format!("builder: {}: {why}", kind.name()) });
    if let Some(message) = cloud.ready(None, true)? {
        events.event(Event::Note { message });
    }
    let options = Options {
        keep_on_failure: false,
        region: region.clone(),
        root: evaluated.root.clone(),
        outputs: context.in_state(config, "outputs").join(&request.image),
        run: run.id().clone(),
        deadline: Deadline::after(std::time::Duration::from_secs(config.packer.build_timeout_secs)),
        again: again(context, request),
    };
    let capture = Capture {
        image: request.image.clone(),
        version: config.images[&request.image].version.clone(),
        recipe_hash: unread.hash,
        engine: EngineKind::Packer,
        built_in: kind,
        agent,
        template: Some(unread.origin.clone()),
        region: region.clone(),
        builder: Identity::default(),
        source: None,
    };
    let Engine::Packer(packer) = engine::provide(EngineKind::Packer, context, config, evaluated, run)? else {
        return Err(Exit::Failed.error("the engine is not Packer", "this is a defect; please report it"));
    };
    let intent = Intent {
        action: "packer:Build".to_owned(),
        region: Some(region),
        subject: Some(request.image.clone()),
        ..Intent::default()
    };
    let job = UnreadJob { cloud: &cloud, unread: &unread, capture: &capture, options: &options, events };
    let image = run.journal(&intent, || job.build(&packer).map(|image| (image.clone(), vec![image.id.to_string()])))?;
    context.about(|about| about.images = vec![image.clone()]);
    Ok((image, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packer_builds_what_the_native_engine_does_not_support() {
        let show = |engine, on, keep_on_failure, cause, missing: bool| {
            let packer = if missing { Packer::Missing("it is not installed".to_owned()) } else { Packer::Available };
            match decide(&Case { engine, on, keep_on_failure, cause, packer }) {
                Ok(()) => "packer".to_owned(),
                Err(hint) => format!("refused: {}", hint.as_deref().unwrap_or("no hint")),
            }
        };
        let (auto, native, packer) = (cli::Engine::Auto, cli::Engine::Native, cli::Engine::Packer);
        let (unsupported, forbidden, invalid) = (Cause::Unsupported, Cause::Forbidden, Cause::Invalid);
        let rows = [
            show(auto, On::Local, false, unsupported, false),
            show(packer, On::Local, false, unsupported, false),
            show(packer, On::Local, false, forbidden, false),
            show(native, On::Local, false, unsupported, false),
            show(auto, On::Local, false, invalid, false),
            show(packer, On::Local, false, invalid, false),
            show(auto, On::Local, false, forbidden, false),
            show(auto, On::Local, true, unsupported, false),
            show(auto, On::Local, false, unsupported, true),
            show(packer, On::Aws, false, unsupported, false),
        ];
        insta::assert_snapshot!(rows.join("\n"), @"
        packer
        packer
        packer
        refused: no hint
        refused: no hint
        refused: no hint
        refused: Packer would do it: review the template, then pass --engine packer
        refused: Packer can build it, but cannot keep the machine: omit --keep-on-failure
        refused: Packer can build it, but it is not installed
        refused: on EC2 a template must be one that the native engine reads; Packer can build it with --on local
        ");
    }
}
