//! What carries a plan out: `native` runs the steps over SSH itself, `packer` has the real Packer do it.
//!
//! An engine knows machines and steps, not where images live: everything that differs between clouds is behind [`Cloud`].

use std::time::Instant;

use crate::cloud::{BaseRecord, BuilderKind, Capture, Cloud, Identity, Image, Machine, Start, layer_of};
use crate::error::{Error, Exit, Result};
use crate::event::{Event, Observer, Outcome, Phase, phase, second_try};
use crate::plan::BuildPlan;
use crate::recipe::{Digest, Recipe};
use crate::signals;

pub mod native;
pub mod packer;
mod post;

/// Who carries a recipe out.
#[derive(Clone, Debug)]
pub enum Engine {
    /// We do, over SSH.
    Native,
    /// The real Packer.
    Packer(Box<packer::Request>),
}

impl Engine {
    /// Its name in records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Packer(_) => "packer",
        }
    }
}

/// What a build is asked beyond its plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// Leave the machine up when a step fails.
    pub keep_on_failure: bool,
    /// The home region.
    pub region: String,
    /// The folder that relative outputs of post-processors start from.
    pub root: std::path::PathBuf,
    /// What to type to go on after a failure.
    pub again: String,
}

/// One build: what is built, where, and who is told.
pub struct Job<'a, C> {
    /// The provider of machines.
    pub cloud: &'a C,
    /// The steps to run, and those whose layers are used.
    pub plan: &'a BuildPlan,
    /// The evaluated template.
    pub recipe: &'a Recipe,
    /// The base image.
    pub base: &'a BaseRecord,
    /// What the command line adds.
    pub options: &'a Options,
    /// Receives phases, steps and output.
    pub events: &'a dyn Observer,
    /// Records in the ledger that the run's machine is kept.
    pub keep: &'a dyn Fn() -> Result<()>,
}

impl<C: Cloud> Job<'_, C> {
    /// Builds the image.
    pub fn build(&self, engine: &Engine) -> Result<Image> {
        match engine {
            Engine::Native => self.natively(),
            Engine::Packer(request) => self.by_packer(request),
        }
    }

    /// Packer boots, runs the steps and captures; we take over what it made.
    fn by_packer(&self, request: &packer::Request) -> Result<Image> {
        let Self { cloud, plan, recipe, base, options, events, .. } = *self;
        let recipe_hash = recipe.hash(base.digest);
        let builder = kind(plan);
        let mut facts = cloud.for_packer(Start { builder, source: &recipe.source, base, from: None, next: None })?;
        // Nobody of ours is on the machine to write it into the manifest.
        facts.push(("build_facts".to_owned(), seal(plan, base, recipe_hash, "packer").to_string()));
        let made = phase(events, Phase::Build, &plan.image, || {
            let made = request.build(recipe, &facts, options, events)?;
            let summary = format!("Packer {} ran {} steps", request.packer.version, recipe.steps.len());
            Ok::<_, Error>((made, Outcome::Done, summary))
        })?;
        // Packer does not tell who its builder was; the image's own cleanup step and smoke look for what it left.
        let wanted = self.record("packer", Identity::default());
        captured(plan, events, |told| cloud.adopt(&made, base, &wanted, told))
    }

    /// What the image's record is made from.
    fn record(&self, engine: &str, builder: Identity) -> Capture {
        Capture {
            image: self.plan.image.clone(),
            version: self.plan.version.clone(),
            recipe_hash: self.recipe.hash(self.base.digest),
            engine: engine.to_owned(),
            built_in: kind(self.plan),
            region: self.options.region.clone(),
            builder,
            source: self.recipe.source.clone(),
        }
    }

    /// Boots, runs the steps that the plan says, seals, captures.
    fn natively(&self) -> Result<Image> {
        let Self { cloud, plan, recipe, base, options, events, .. } = *self;
        let root = kind(plan).root(base.digest);
        let keys = recipe.layer_keys(root);
        let recipe_hash = recipe.hash(base.digest);
        let first = plan.cached();
        let total = recipe.steps.len();
        // The state of the last step becomes the image, not a layer.
        let key_after = |i: usize| (i + 1 < total).then(|| keys[i]);
        let told = |message: &str| {
            events.event(Event::Progress { phase: Phase::Boot, message: message.to_owned(), fraction: None });
        };
        let mut machine = phase(events, Phase::Boot, "builder", || {
            let from = plan.start();
            let start = Start { builder: kind(plan), source: &recipe.source, base, from, next: key_after(first) };
            let mut machine = cloud.start_builder(start, &told)?;
            second_try(events, machine.second_try().as_deref());
            native::hold_apt(machine.remote())?;
            let on =
                from.map_or_else(|| base.name.clone(), |_| format!("the layer after {}", plan.steps[first - 1].name));
            let what = if kind(plan) == BuilderKind::Container { "container" } else { "builder" };
            Ok::<_, Error>((machine, Outcome::Done, format!("{what} is up on {on}")))
        })?;
        // Now: the last step takes the machine's identity away.
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
                });
            }
            for i in first..total {
                if i + 1 == total {
                    native::seal(machine.remote(), &seal(plan, base, recipe_hash, "native"))?;
                }
                let parent = if i == 0 { root } else { keys[i - 1] };
                self.run_step(&mut machine, i, (parent, keys[i], key_after(i + 1)))?;
            }
            Ok::<_, Error>(((), Outcome::Done, format!("{} of {total} steps run", total - first)))
        });
        if let Err(error) = work {
            return Err(self.after_failure(machine, error));
        }
        let wanted = self.record("native", builder);
        captured(plan, events, |told| {
            let image = cloud.capture(machine, base, &wanted, told)?;
            post::run(cloud, &image, recipe, options, events)?;
            Ok(image)
        })
    }

    /// Runs step `i` and keeps its layer.
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
        events.event(Event::StepFinished { index: i + 1, total, name, outcome, seconds: took.as_secs_f64() });
        result?;
        if i + 1 < total {
            cloud.checkpoint(machine, &layer_of(step, key, parent, took), next)?;
        }
        Ok(())
    }

    /// Runs the error-cleanup step, and leaves the machine up if that was asked for.
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
                message: format!("the machine is kept: {login}\nit goes when you power it off (`sudo poweroff`) and run the next command"),
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

/// Runs `work`, which makes the image, as a phase.
fn captured(
    plan: &BuildPlan,
    events: &dyn Observer,
    work: impl FnOnce(&dyn Fn(&str)) -> Result<Image>,
) -> Result<Image> {
    let told = |message: &str| {
        events.event(Event::Progress { phase: Phase::Capture, message: message.to_owned(), fraction: None });
    };
    phase(events, Phase::Capture, &plan.image, || {
        let image = work(&told)?;
        let summary = format!("{} is {} ({} MB)", image.name, image.id, image.disk_bytes / 1_000_000);
        Ok((image, Outcome::Done, summary))
    })
}

/// What the template asks for once the image is there, again: it may have been cut off in the middle of that.
pub fn post<C: Cloud>(
    cloud: &C,
    image: &Image,
    recipe: &Recipe,
    options: &Options,
    events: &dyn Observer,
) -> Result<()> {
    post::run(cloud, image, recipe, options, events)
}

/// What the plan's builder is.
fn kind(plan: &BuildPlan) -> BuilderKind {
    plan.builder.as_ref().map_or(BuilderKind::Vm, |builder| builder.kind)
}

/// What the engine writes into the image's manifest below `build`.
fn seal(plan: &BuildPlan, base: &BaseRecord, recipe_hash: Digest, engine: &str) -> serde_json::Value {
    serde_json::json!({
        "image": plan.image,
        "version": plan.version,
        "engine": engine,
        "builder": kind(plan).name(),
        "recipe_hash": recipe_hash,
        "base": base,
        "built_at": jiff::Timestamp::now().to_string(),
    })
}
