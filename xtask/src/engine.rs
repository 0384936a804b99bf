//! The engines, which carry out a plan: `native` runs the steps over SSH, `packer` runs Packer.
//!
//! An engine uses a provider only through [`Cloud`], so it is the same for all providers.

use std::time::{Duration, Instant};

use crate::cloud::{BaseRecord, BuilderKind, Capture, Cloud, EngineKind, Identity, Image, Machine, Start, layer_of};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Observer, Outcome, Phase, phase, second_try};
use crate::ids::{Region, RunId};
use crate::plan::BuildPlan;
use crate::recipe::{Digest, Recipe};
use crate::signals;

pub mod native;
pub mod packer;
mod post;
pub mod unread;

/// The engine that carries out a plan.
#[derive(Clone, Debug)]
pub enum Engine {
    /// This program, over SSH.
    Native,
    /// Packer, as a process.
    Packer(Box<packer::Request>),
}

/// The options of a build beside its plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// Keep the machine running when a step fails.
    pub keep_on_failure: bool,
    /// The home region.
    pub region: Region,
    /// The working directory of Packer and of `shell-local`.
    pub root: std::path::PathBuf,
    /// The directory to which the outputs of post-processors are relative: the same one, unless the template is not part of the project.
    pub outputs: std::path::PathBuf,
    /// The id of the run.
    pub run: RunId,
    /// When the build times out.
    pub deadline: Deadline,
    /// The command that continues after a failure, for hints.
    pub again: String,
}

/// The time by which a build must have run its steps: `build_timeout_secs`.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// The deadline of a build that starts now.
    pub fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, timeout }
    }

    /// The time that a step with this timeout may take.
    fn limit(&self, step: Option<Duration>) -> Duration {
        let left = self.at.saturating_duration_since(Instant::now());
        step.map_or(left, |timeout| timeout.min(left))
    }

    /// What timed out, for a message: the step, or the build.
    fn timed_out(&self, step: Option<Duration>) -> String {
        match step {
            Some(timeout) if Instant::now() < self.at => format!("timed out after {} s", timeout.as_secs()),
            _ => format!("the build timed out after {} seconds (build_timeout_secs)", self.timeout.as_secs()),
        }
    }
}

/// One build: its inputs, its options and its observer.
pub struct Job<'a, C> {
    /// The provider of machines.
    pub cloud: &'a C,
    /// The steps to run, and those whose layers are used.
    pub plan: &'a BuildPlan,
    /// The evaluated template.
    pub recipe: &'a Recipe,
    /// The base image.
    pub base: &'a BaseRecord,
    /// The options of the command line.
    pub options: &'a Options,
    /// Receives phases, steps and output.
    pub events: &'a dyn Observer,
    /// Records in the ledger that the run's machine is kept.
    pub keep: &'a dyn Fn() -> Result<()>,
}

impl<C: Cloud> Job<'_, C> {
    /// Builds the image with an engine and returns its record.
    pub fn build(&self, engine: &Engine) -> Result<Image> {
        match engine {
            Engine::Native => self.natively(),
            Engine::Packer(request) => self.by_packer(request),
        }
    }

    /// Packer starts the machine, runs the steps and makes the image, which the provider then adopts.
    fn by_packer(&self, request: &packer::Request) -> Result<Image> {
        let Self { cloud, plan, recipe, base, options, events, .. } = *self;
        let mut facts = cloud.for_packer(Some(base))?;
        // This program cannot write to the manifest on Packer's machine, so the template does it, from this variable.
        facts.push(("build_facts".to_owned(), seal(plan, recipe, base, EngineKind::Packer).to_string()));
        let made = phase(events, Phase::Build, &plan.image, || {
            let made = request.build(recipe, &facts, options, events)?;
            let summary = format!("Packer {} ran {} steps", request.packer.version, recipe.steps.len());
            Ok::<_, Error>((made, Outcome::Done, summary))
        })?;
        // Packer does not report the builder's host keys and machine-id. The cleanup step and the smoke test check that no keys are left.
        let record = self.record(EngineKind::Packer, Identity::default());
        captured(&plan.image, events, |on_progress| cloud.adopt(&made, Some(base), &record, on_progress))
    }

    /// The input for the image's record.
    fn record(&self, engine: EngineKind, builder: Identity) -> Capture {
        Capture {
            image: self.plan.image.clone(),
            version: self.plan.version.clone(),
            recipe_hash: self.recipe.hash(self.base.digest),
            engine,
            built_in: kind(self.plan),
            agent: agent(self.recipe),
            template: self.recipe.origin.clone(),
            region: self.options.region.clone(),
            builder,
            source: Some(self.recipe.source.clone()),
        }
    }

    /// Boots the builder, runs the steps of the plan, completes the manifest and captures the image.
    fn natively(&self) -> Result<Image> {
        let Self { cloud, plan, recipe, base, options, events, .. } = *self;
        let root = kind(plan).root(base.digest);
        let keys = recipe.layer_keys(root);
        let first = plan.cached();
        let total = recipe.steps.len();
        // The disk after the last step becomes the image, not a layer.
        let key_after = |i: usize| (i + 1 < total).then(|| keys[i]);
        let on_progress = |message: &str| {
            events.event(Event::Progress { phase: Phase::Boot, message: message.to_owned(), fraction: None });
        };
        let mut machine = phase(events, Phase::Boot, "builder", || {
            let from = plan.start();
            let start = Start { builder: kind(plan), source: &recipe.source, base, from, next: key_after(first) };
            let mut machine = cloud.start_builder(start, &on_progress)?;
            second_try(events, machine.second_try().as_deref());
            native::hold_apt(machine.remote())?;
            let on =
                from.map_or_else(|| base.name.clone(), |_| format!("the layer after {}", plan.steps[first - 1].name));
            let what = if kind(plan) == BuilderKind::Container { "container" } else { "builder" };
            Ok::<_, Error>((machine, Outcome::Done, format!("{what} is up on {on}")))
        })?;
        // Read now, because the last step deletes the host keys and the machine-id.
        let builder = native::identity(machine.remote())?;
        let work = phase(events, Phase::Build, &plan.image, || {
            for (i, step) in plan.steps[..first].iter().enumerate() {
                let name = step.name.clone();
                events.event(Event::StepFinished {
                    index: i + 1,
                    total,
                    name,
                    outcome: Outcome::UpToDate,
                    seconds: 0.0,
                    exit_code: None,
                });
            }
            for i in first..total {
                if i + 1 == total {
                    native::seal(machine.remote(), &seal(plan, recipe, base, EngineKind::Native))?;
                }
                let parent = if i == 0 { root } else { keys[i - 1] };
                self.run_step(&mut machine, i, (parent, keys[i], key_after(i + 1)))?;
            }
            if recipe.origin.is_some() {
                native::remove_traces(machine.remote(), &options.run)?;
            }
            Ok::<_, Error>(((), Outcome::Done, format!("{} of {total} steps run", total - first)))
        });
        if let Err(error) = work {
            return Err(self.after_failure(machine, error));
        }
        let record = self.record(EngineKind::Native, builder);
        captured(&plan.image, events, |on_progress| {
            let image = cloud.capture(machine, base, &record, on_progress)?;
            post::run(cloud, &image, recipe, options, events)?;
            Ok(image)
        })
    }

    /// Runs step `i` and stores the layer after it.
    fn run_step(
        &self,
        machine: &mut C::Machine,
        i: usize,
        (parent, key, next): (Digest, Digest, Option<Digest>),
    ) -> Result<()> {
        let Self { cloud, plan, recipe, options, events, .. } = *self;
        signals::check()?;
        let (step, total) = (&recipe.steps[i], recipe.steps.len());
        let name = step.name.clone();
        let expected_seconds = plan.steps[i].expected_seconds;
        events.event(Event::StepStarted { index: i + 1, total, name: name.clone(), expected_seconds });
        let started = Instant::now();
        let result = native::run(machine, step, recipe, options, events);
        let took = started.elapsed();
        let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
        let exit_code = result.as_ref().err().and_then(Error::command_exit);
        let seconds = took.as_secs_f64();
        events.event(Event::StepFinished { index: i + 1, total, name, outcome, seconds, exit_code });
        result?;
        if i + 1 < total {
            cloud.checkpoint(machine, &layer_of(step, key, parent, took), next)?;
        }
        Ok(())
    }

    /// Runs the error-cleanup provisioner, and keeps the machine with `--keep-on-failure`. Returns the error.
    fn after_failure(&self, mut machine: C::Machine, error: Error) -> Error {
        let Self { recipe, options, events, .. } = *self;
        if error.exit() == Exit::Interrupted {
            return error;
        }
        if let Some(step) = &recipe.on_error
            && let Err(second) = native::run(&mut machine, step, recipe, options, events)
        {
            let hint = "fix the first error first: later ones may follow from it".to_owned();
            events.event(Event::Warning { message: format!("error-cleanup-provisioner failed too: {second}"), hint });
        }
        if options.keep_on_failure {
            match (self.keep)().and_then(|()| machine.keep()) {
            Ok(login) => events.event(Event::Note {
                message: format!("the machine is kept: {login}\nto remove it, power it off (`sudo poweroff`) and run another command"),
            }),
            Err(second) => {
                let hint = "run the build again with --keep-on-failure".to_owned();
                events.event(Event::Warning { message: format!("the machine could not be kept: {second}"), hint });
            }
        }
        }
        error
    }
}

/// Runs `work`, which makes the image, as the capture phase.
fn captured(image: &str, events: &dyn Observer, work: impl FnOnce(&dyn Fn(&str)) -> Result<Image>) -> Result<Image> {
    let on_progress = |message: &str| {
        events.event(Event::Progress { phase: Phase::Capture, message: message.to_owned(), fraction: None });
    };
    phase(events, Phase::Capture, image, || {
        let image = work(&on_progress)?;
        let summary = format!("{} is {} ({} MB)", image.name, image.id, image.disk_bytes / 1_000_000);
        Ok((image, Outcome::Done, summary))
    })
}

/// Runs the post-processors again for an image that exists, because the run that made it may have been interrupted before they ended.
pub fn post<C: Cloud>(
    cloud: &C,
    image: &Image,
    recipe: &Recipe,
    options: &Options,
    events: &dyn Observer,
) -> Result<()> {
    post::run(cloud, image, recipe, options, events)
}

/// The kind of the plan's builder.
fn kind(plan: &BuildPlan) -> BuilderKind {
    plan.builder.as_ref().map_or(BuilderKind::Vm, |builder| builder.kind)
}

/// The agent that a template installs: the value of its variable `provider`.
pub fn agent(recipe: &Recipe) -> Option<String> {
    let variable = recipe.variables.iter().find(|variable| variable.name == "provider")?;
    variable.value.as_str().filter(|agent| !agent.is_empty()).map(str::to_owned)
}

/// The value of `build` in the image's manifest.
fn seal(plan: &BuildPlan, recipe: &Recipe, base: &BaseRecord, engine: EngineKind) -> serde_json::Value {
    serde_json::json!({
        "image": plan.image,
        "version": plan.version,
        "engine": engine,
        "builder": kind(plan).name(),
        "recipe_hash": recipe.hash(base.digest),
        "template": recipe.origin,
        "base": base,
        "built_at": jiff::Timestamp::now().to_string(),
    })
}
