//! The build plan: which steps run and why, derived from a recipe, a base and the layers and images that exist. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::cloud::{BaseRecord, Builder, BuilderKind, EngineKind, Image, ImageId, Layer};
use crate::recipe::{Digest, Place, Recipe, Step, Variable};

pub mod unread;

/// What a plan is derived from, beside the recipe.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The name of the engine.
    pub engine: EngineKind,
    /// The builder; `None` for a virtual machine, as in tests.
    pub builder: Option<Builder>,
    /// The builder, if it was selected by name. Then an image made in another one is not up to date.
    pub requested_builder: Option<BuilderKind>,
    /// The base; `None` if it has to be downloaded or made first.
    pub base: Option<BaseRecord>,
    /// The layers that a build can start from.
    pub layers: Vec<Layer>,
    /// The layers that no build can start from any more. They record the duration and the inputs of earlier steps.
    pub earlier: Vec<Layer>,
    /// The images in the home region, oldest first.
    pub images: Vec<Image>,
    /// Build even if nothing changed.
    pub force: bool,
}

/// What a build will do.
#[derive(Clone, Debug, Serialize)]
pub struct BuildPlan {
    /// The name of the image in `ami.toml`.
    pub image: String,
    pub version: String,
    /// The name of the engine.
    pub engine: EngineKind,
    /// The builder, and why it was selected.
    pub builder: Option<Builder>,
    /// The base; `None` if it has to be downloaded or made first.
    pub base: Option<BaseRecord>,
    /// hash(base, all steps); `None` without a base.
    pub recipe_hash: Option<Digest>,
    /// The existing image that this build would produce again.
    pub up_to_date: Option<ImageId>,
    /// The variables with their effective values and origins.
    pub variables: Vec<Variable>,
    /// The steps in order.
    pub steps: Vec<PlannedStep>,
}

/// One step of the plan.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedStep {
    pub name: String,
    /// Its location in the template.
    pub place: Place,
    /// The key of the layer after it; `None` without a base.
    pub key: Option<Digest>,
    /// True if it will run.
    pub run: bool,
    /// Why it runs or does not run.
    pub why: String,
    /// Its last duration in seconds.
    pub expected_seconds: Option<f64>,
}

impl BuildPlan {
    /// The number of steps at the beginning that do not run, because a layer contains them.
    pub fn cached(&self) -> usize {
        self.steps.iter().take_while(|s| !s.run).count()
    }

    /// The key of the layer to start from, the one after the last cached step; `None` to start from the base.
    pub fn start(&self) -> Option<Digest> {
        self.cached().checked_sub(1).and_then(|last| self.steps[last].key)
    }
}

/// Plans a build.
///
/// The last step always runs when an image must be made: it cleans the disk for capture, and a machine that boots from a
/// clean disk generates a machine-id and host keys again. For this reason the last step has no layer.
pub fn build(image: &str, version: &str, recipe: &Recipe, facts: &Facts) -> BuildPlan {
    let kind = facts.builder.as_ref().map_or(BuilderKind::Vm, |b| b.kind);
    let keys = facts.base.as_ref().map(|base| recipe.layer_keys(kind.root(base.digest)));
    let recipe_hash = facts.base.as_ref().map(|base| recipe.hash(base.digest));
    let fits = |i: &&Image| {
        let same = Some(i.recipe_hash) == recipe_hash && i.image == image && i.version == version;
        let built_in = i.built_in.unwrap_or(BuilderKind::Vm);
        same && facts.requested_builder.is_none_or(|builder| builder == built_in)
    };
    let found = facts.images.iter().rev().find(fits);
    let up_to_date = found.filter(|_| !facts.force).map(|i| i.id.clone());
    let by_key: BTreeMap<Digest, &Layer> = facts.layers.iter().map(|l| (l.key, l)).collect();
    let last = recipe.steps.len().saturating_sub(1);
    let hit = |i: usize| keys.as_ref().is_some_and(|keys| by_key.contains_key(&keys[i]));
    let cached = (0..last).rev().find(|&i| !facts.force && hit(i)).map_or(0, |i| i + 1);
    let planned = |(i, step): (usize, &Step)| {
        let latest = latest_run(facts, step);
        let (run, why) = if let Some(id) = &up_to_date {
            (false, format!("{id} is up to date"))
        } else if i < cached {
            (false, "unchanged: its layer is cached".to_owned())
        } else if facts.force {
            (true, "--force".to_owned())
        } else if i > cached {
            (true, format!("{} runs before it", recipe.steps[cached].name))
        } else if i == last {
            (true, "the last step always runs: it cleans the disk for capture".to_owned())
        } else {
            (true, changed(step, latest))
        };
        PlannedStep {
            name: step.name.clone(),
            place: step.place.clone(),
            key: keys.as_ref().map(|keys| keys[i]),
            run,
            why,
            expected_seconds: latest.map(|l| l.seconds),
        }
    };
    let steps = recipe.steps.iter().enumerate().map(planned).collect();
    BuildPlan {
        image: image.to_owned(),
        version: version.to_owned(),
        engine: facts.engine,
        builder: facts.builder.clone(),
        base: facts.base.clone(),
        recipe_hash,
        up_to_date,
        variables: recipe.variables.clone(),
        steps,
    }
}

/// The newest layer of a step with this name, whatever its parent is.
fn latest_run<'a>(facts: &'a Facts, step: &Step) -> Option<&'a Layer> {
    let layers = facts.layers.iter().chain(&facts.earlier);
    layers.filter(|l| l.step == step.name).max_by(|a, b| a.created.cmp(&b.created))
}

/// The inputs that changed since the step last ran, as text.
fn changed(step: &Step, latest: Option<&Layer>) -> String {
    let Some(latest) = latest else { return "not run yet".to_owned() };
    let now = step.inputs();
    let mut changes = Vec::new();
    for (label, digest) in &now {
        match latest.inputs.get(label) {
            None => changes.push(format!("{label} is new")),
            Some(old) if old != digest => changes.push(format!("{label} changed")),
            Some(_) => {}
        }
    }
    changes.extend(latest.inputs.keys().filter(|l| !now.contains_key(*l)).map(|l| format!("{l} was removed")));
    if changes.is_empty() { "the layer below it changed".to_owned() } else { changes.join(", ") }
}

/// The plan as text.
pub fn render(plan: &BuildPlan) -> String {
    let mut text = String::new();
    let base = plan.base.as_ref().map_or("not available yet: downloaded or made first".to_owned(), |b| {
        format!("{} ({})", b.name, b.digest.short())
    });
    // Writing to a String cannot fail.
    let _ = writeln!(text, "image    {} v{}", plan.image, plan.version);
    let _ = writeln!(text, "base     {base}");
    if let Some(Builder { kind, why }) = &plan.builder {
        let _ = writeln!(text, "builder  {}: {why}", kind.name());
    }
    if let Some(hash) = plan.recipe_hash {
        let _ = writeln!(text, "recipe   {}", hash.short());
    }
    match &plan.up_to_date {
        Some(id) => {
            let _ = writeln!(text, "up to date: {id}");
        }
        None => {
            let _ = writeln!(
                text,
                "{} of {} steps will run",
                plan.steps.iter().filter(|s| s.run).count(),
                plan.steps.len()
            );
        }
    }
    let width = plan.steps.iter().map(|s| s.name.len()).max().unwrap_or(0);
    for step in &plan.steps {
        let verb = if step.run { "run " } else { "keep" };
        let expected =
            step.expected_seconds.filter(|_| step.run).map_or(String::new(), |s| format!(" (took {s:.0} s)"));
        let _ = writeln!(text, "  {verb} {:width$}  {}{expected}", step.name, step.why);
    }
    let _ = writeln!(text, "variables");
    let width = plan.variables.iter().map(|v| v.name.len()).max().unwrap_or(0);
    for variable in &plan.variables {
        let value = if variable.sensitive { "(sensitive)".to_owned() } else { variable.value.to_string() };
        let _ = writeln!(text, "  {:width$} = {value}  ({})", variable.name, variable.origin);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::layer_of;
    use crate::recipe::{Action, Script, Shell, Source};
    use std::time::Duration;

    fn step(name: &str, script: &str, env: &[(&str, &str)]) -> Step {
        Step {
            name: name.to_owned(),
            place: Place { file: "build.pkr.hcl".into(), line: 1 },
            action: Action::Shell(Shell {
                scripts: vec![Script { name: format!("{name}.sh"), content: script.as_bytes().to_vec() }],
                env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                execute_command: "{{ .Path }}".to_owned(),
                expect_disconnect: false,
                valid_exit_codes: vec![0],
            }),
            pause_before: Duration::ZERO,
            timeout: None,
            max_retries: 0,
        }
    }

    fn recipe(steps: Vec<Step>) -> Recipe {
        Recipe {
            origin: None,
            build_name: None,
            variables: vec![],
            source: Source { kind: "qemu".to_owned(), name: "x".to_owned(), settings: BTreeMap::new() },
            steps,
            on_error: None,
            post: vec![],
        }
    }

    fn base() -> BaseRecord {
        BaseRecord::local("debian-13", Digest::of(b"base"))
    }

    /// The facts after `recipe` was built once: a layer for every step but the last.
    fn built(recipe: &Recipe) -> Facts {
        let keys = recipe.layer_keys(base().digest);
        let mut parent = base().digest;
        let mut layers = Vec::new();
        for (step, key) in recipe.steps.iter().zip(&keys).take(recipe.steps.len() - 1) {
            layers.push(layer_of(step, *key, parent, Duration::from_secs(3)));
            parent = *key;
        }
        Facts { base: Some(base()), layers, ..Facts::default() }
    }

    fn three() -> Vec<Step> {
        vec![
            step("10-base", "apt", &[]),
            step("30-node", "node", &[("NODE_VERSION", "24")]),
            step("90-cleanup", "rm", &[]),
        ]
    }

    fn whys(plan: &BuildPlan) -> Vec<(bool, &str)> {
        plan.steps.iter().map(|s| (s.run, s.why.as_str())).collect()
    }

    #[test]
    fn without_a_base_everything_runs() {
        let plan = build("img", "1.0.0", &recipe(three()), &Facts::default());
        assert_eq!(plan.cached(), 0);
        assert_eq!((plan.start(), plan.recipe_hash), (None, None));
        assert!(plan.steps.iter().all(|s| s.run));
        assert_eq!(plan.steps[0].why, "not run yet");
    }

    #[test]
    fn only_the_last_step_runs_when_its_script_changed() {
        let facts = built(&recipe(three()));
        let mut steps = three();
        steps[2] = step("90-cleanup", "rm -r", &[]);
        let plan = build("img", "1.0.0", &recipe(steps), &facts);
        assert_eq!(whys(&plan)[1], (false, "unchanged: its layer is cached"));
        assert_eq!(whys(&plan)[2], (true, "the last step always runs: it cleans the disk for capture"));
        assert_eq!(plan.start(), Some(facts.layers[1].key));
    }

    #[test]
    fn the_plan_names_the_input_that_changed() {
        let facts = built(&recipe(three()));
        let mut steps = three();
        steps[1] = step("30-node", "node", &[("NODE_VERSION", "26"), ("EXTRA", "1")]);
        let plan = build("img", "1.0.0", &recipe(steps), &facts);
        let expected = [
            (false, "unchanged: its layer is cached"),
            (true, "env EXTRA is new, env NODE_VERSION changed"),
            (true, "30-node runs before it"),
        ];
        assert_eq!(whys(&plan), expected);
        assert_eq!(plan.steps[1].expected_seconds, Some(3.0));
    }

    #[test]
    fn a_layer_that_no_build_can_start_from_still_gives_the_duration_of_its_step() {
        let mut facts = built(&recipe(three()));
        facts.earlier = facts.layers.split_off(1);
        let plan = build("img", "1.0.0", &recipe(three()), &facts);
        assert_eq!(whys(&plan)[1], (true, "the layer below it changed"));
        assert_eq!(plan.steps[1].expected_seconds, Some(3.0));
    }

    #[test]
    fn an_image_with_the_same_recipe_hash_is_up_to_date() {
        let recipe = recipe(three());
        let mut facts = built(&recipe);
        facts.images = vec![Image {
            id: ImageId("ami-local-1".to_owned()),
            name: "img-v1.0.0-20261121-0000".to_owned(),
            region: "local-1".into(),
            image: "img".to_owned(),
            recipe_hash: recipe.hash(base().digest),
            base: Some(base()),
            content: base().digest,
            ..Image::sample()
        }];
        let plan = build("img", "1.0.0", &recipe, &facts);
        assert_eq!(plan.up_to_date, Some(ImageId("ami-local-1".to_owned())));
        assert!(plan.steps.iter().all(|s| !s.run));
        assert_eq!(build("img", "1.0.1", &recipe, &facts).up_to_date, None, "another version is another image");
        let forced = build("img", "1.0.0", &recipe, &Facts { force: true, ..facts });
        assert!(forced.up_to_date.is_none() && forced.steps.iter().all(|s| s.run && s.why == "--force"));
    }

    #[test]
    fn the_plan_as_text() {
        let facts = built(&recipe(three()));
        let mut steps = three();
        steps[1] = step("30-node", "node", &[("NODE_VERSION", "26")]);
        let plan = build("img", "1.0.0", &recipe(steps), &facts);
        let text = render(&plan);
        let text = text.replace(&plan.recipe_hash.unwrap().short(), "RECIPE").replace(&base().digest.short(), "BASE");
        insta::assert_snapshot!(text, @r"
        image    img v1.0.0
        base     debian-13 (BASE)
        recipe   RECIPE
        2 of 3 steps will run
          keep 10-base     unchanged: its layer is cached
          run  30-node     env NODE_VERSION changed (took 3 s)
          run  90-cleanup  30-node runs before it
        variables
        ");
    }
}
