//! `ami plan`: prints what a build would do and why.

use super::request::{Inputs, Request};
use super::unread::{self, Instead};
use crate::cli;
use crate::cloud::{Cloud, EngineKind, Image, Listed};
use crate::commands::locate::{Located, locate};
use crate::commands::{Context, Finish, Provider};
use crate::config::{Config, Image as ImageConfig};
use crate::error::Result;
use crate::event::Event;
use crate::plan::{self, BuildPlan, Facts};
use crate::recipe::Recipe;
use crate::state::Run;
use crate::template;
use crate::validate::inputs;

/// The request to evaluate an image's template for one of its sources, with the variables that ami.toml sets.
pub(crate) fn request(
    context: &Context,
    name: &str,
    image: &ImageConfig,
    located: Located,
    source: String,
) -> template::Request {
    template::Request {
        path: located.path,
        source,
        settings: settings(name, image),
        vars: Vec::new(),
        var_files: Vec::new(),
        env: context.env.clone(),
        now: jiff::Timestamp::now(),
        root: located.root,
        foreign: located.foreign,
    }
}

/// The template of a build.
pub(crate) enum Reading {
    /// The native engine reads it whole. Also the request that was evaluated.
    Whole(Box<(Recipe, template::Request)>),
    /// Only Packer reads it.
    Unread(Box<Instead>),
}

/// Reads the template of an image for the provider's source, for a plan.
pub(crate) fn reading<P: Provider>(
    context: &Context,
    provider: &P,
    config: &Config,
    request: &Request,
) -> Result<Reading> {
    let located = locate(context, config, &request.template, None)?;
    read(context, provider, config, request, located, None)
}

/// The same for a template that was located.
pub(crate) fn read<P: Provider>(
    context: &Context,
    provider: &P,
    config: &Config,
    request: &Request,
    located: Located,
    run: Option<&Run>,
) -> Result<Reading> {
    let name = request.image.as_str();
    let image = &config.images[name];
    let mut settings = settings(name, image);
    settings.extend(provider.settings(config, run).into_iter().map(|(name, value)| template::Setting {
        name: name.to_owned(),
        value,
        origin: "ami.toml".to_owned(),
        // An option must not be ignored.
        optional: !(name == "instance_type" && request.has_instance_type),
    }));
    let source = source(context, provider.source(name, image)?, request, &located)?;
    let Inputs { vars, mut var_files } = request.inputs.clone();
    if located.foreign.is_some() {
        // They are the user's files, not the template's.
        var_files.iter_mut().for_each(|file| *file = context.root.join(&*file));
    }
    let evaluated =
        template::Request { settings, vars, var_files, ..self::request(context, name, image, located, source) };
    let recipe = match template::evaluate(&evaluated) {
        Ok(recipe) => recipe,
        Err(refused) => {
            let instead = unread::instead(context, provider, config, request, evaluated, refused)?;
            return Ok(Reading::Unread(Box::new(instead)));
        }
    };
    inputs::refuse_credentials(&recipe)?;
    if let Some(instead) = unread::on_its_own_disk(provider, request, &recipe, &evaluated)? {
        return Ok(Reading::Unread(Box::new(instead)));
    }
    if recipe.origin.is_some() && request.requested_engine == cli::Engine::Auto {
        let message = format!("engine: {}: it reads the whole template", request.engine.name());
        context.events.event(Event::Note { message });
    }
    Ok(Reading::Whole(Box::new((recipe, evaluated))))
}

/// The source block to build: the one of ami.toml. If `--template` replaces the image's template by one that does not declare it, the only one
/// of the same type.
fn source(context: &Context, configured: &str, request: &Request, located: &Located) -> Result<String> {
    if !request.replaces_template {
        return Ok(configured.to_owned());
    }
    let outline = template::outline::outline(&located.path, &located.root)?;
    let declared = outline.source_names();
    let kind = configured.split('.').next().unwrap_or_default();
    let same: Vec<&String> = declared.iter().filter(|d| d.split('.').next() == Some(kind)).collect();
    // A build block can give a source another name.
    let is_known = declared.iter().any(|d| d == configured) || outline.overrides.iter().any(|o| o.name() == configured);
    match same.as_slice() {
        [only] if !is_known => {
            let message = format!("source: {only}, the template's only one of type {kind}");
            context.events.event(Event::Note { message });
            Ok((*only).clone())
        }
        // The error of the evaluation names the sources that there are.
        _ => Ok(configured.to_owned()),
    }
}

/// The template variables that `ami.toml` sets for an image. They include its name, which becomes part of the AMI's name, so that images
/// that are built in the same minute have different names.
pub fn settings(name: &str, image: &ImageConfig) -> Vec<template::Setting> {
    let setting = |name: &str, value: &str, origin: &str, optional| template::Setting {
        name: name.to_owned(),
        value: value.to_owned(),
        origin: origin.to_owned(),
        optional,
    };
    let mut settings = vec![
        setting("ami_version", &image.version, "version in ami.toml", true),
        setting("ami_name_prefix", name, "the image's name in ami.toml", true),
    ];
    settings.extend(image.vars.iter().map(|(name, value)| setting(name, value, "vars in ami.toml", false)));
    settings
}

/// The images in the home region, oldest first.
pub(super) fn images<C: Cloud>(cloud: &C) -> Result<Vec<Image>> {
    let listed = cloud.images(&cloud.home())?.into_iter();
    let mut images: Vec<_> =
        listed.filter_map(|listed| if let Listed::Image(image) = listed { Some(*image) } else { None }).collect();
    images.sort_by_key(|image| image.created);
    Ok(images)
}

/// Plans a build with the base, images and layers of `cloud`.
pub fn make<C: Cloud>(cloud: &C, image: &ImageConfig, recipe: &Recipe, request: &Request) -> Result<BuildPlan> {
    let engine = request.engine;
    let images = images(cloud)?;
    // Packer does not use layers.
    let (layers, earlier) = if engine == EngineKind::Native {
        (cloud.layers()?, cloud.earlier_layers()?)
    } else {
        (Vec::new(), Vec::new())
    };
    let facts = Facts {
        engine,
        builder: Some(cloud.builder(Some(recipe), engine)?),
        requested_builder: cloud.requested_builder(),
        base: cloud.existing_base(&recipe.source)?,
        layers,
        earlier,
        images,
        force: request.force,
    };
    Ok(plan::build(&request.image, &image.version, recipe, &facts))
}

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Plan) -> Result<Finish> {
    let config = context.config_for(&args.build)?;
    if args.all {
        return all(context, provider, &config, &args.build);
    }
    one(context, provider, &config, &args.build)
}

/// Prints the plan of one image, and all settings with their origins.
pub fn one<P: Provider>(context: &Context, provider: &P, config: &Config, args: &cli::Build) -> Result<Finish> {
    let request = Request::resolve(context, provider, config, args)?;
    let reading = reading(context, provider, config, &request)?;
    let state = context.state(config)?;
    let cloud = provider.open(context, config, &state, None)?;
    let (plan, mut text) = match &reading {
        Reading::Whole(whole) => {
            let recipe = &whole.0;
            let plan = make(&cloud, &config.images[&request.image], recipe, &request)?;
            (serde_json::json!(plan), plan::render(&plan))
        }
        Reading::Unread(instead) => {
            unread::announce(context, &instead.unread);
            let plan = unread::planned(&cloud, config, &request, &instead.unread)?;
            (serde_json::json!(plan), plan::unread::render(&plan))
        }
    };
    text.push_str("settings\n");
    let settings = config.settings();
    let width = settings.iter().map(|s| s.key.len()).max().unwrap_or(0);
    for setting in settings {
        text.push_str(&format!("  {:width$} = {}  ({})\n", setting.key, setting.value, setting.origin));
    }
    let data = serde_json::json!({ "plan": plan, "settings": settings });
    context.document("plan", data.clone(), text);
    Ok(Finish::new("", data))
}

/// Prints one line for each image, and sets the step output `images` for the matrix of a workflow.
fn all<P: Provider>(context: &Context, provider: &P, config: &Config, args: &cli::Build) -> Result<Finish> {
    let state = context.state(config)?;
    let cloud = provider.open(context, config, &state, None)?;
    let (mut images, mut text) = (Vec::new(), String::new());
    for (name, image) in &config.images {
        let args = cli::Build { image: Some(name.clone()), ..args.clone() };
        let request = Request::resolve(context, provider, config, &args)?;
        let recipe = match reading(context, provider, config, &request)? {
            Reading::Whole(whole) => whole.0,
            Reading::Unread(instead) => {
                let plan = unread::planned(&cloud, config, &request, &instead.unread)?;
                text.push_str(&match &plan.up_to_date {
                    Some(id) => format!("{name} {}: up to date, {id}\n", plan.version),
                    None => format!(
                        "{name} {}: the steps are unknown, engine packer: {}\n",
                        plan.version, plan.engine_reason
                    ),
                });
                images.push(serde_json::json!({
                    "image": name, "version": plan.version, "engine": plan.engine, "up_to_date": plan.up_to_date,
                    "recipe_hash": plan.recipe_hash, "steps": null, "steps_to_run": null,
                }));
                continue;
            }
        };
        let plan = make(&cloud, image, &recipe, &request)?;
        let (steps, runs) = (plan.steps.len(), plan.steps.iter().filter(|s| s.run).count());
        text.push_str(&match &plan.up_to_date {
            Some(id) => format!("{name} {}: up to date, {id}\n", plan.version),
            None => format!("{name} {}: {runs} of {steps} steps will run\n", plan.version),
        });
        images.push(serde_json::json!({
            "image": name, "version": plan.version, "engine": plan.engine, "up_to_date": plan.up_to_date,
            "recipe_hash": plan.recipe_hash, "steps": steps, "steps_to_run": runs,
        }));
    }
    context.about(|about| about.outputs.push(("images".to_owned(), serde_json::json!(images).to_string())));
    let data = serde_json::json!({ "images": images });
    context.document("plans", data.clone(), text);
    Ok(Finish::new("", data))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn images_built_in_the_same_minute_have_different_names() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let config = Config::load(&root, &Default::default(), &Default::default()).unwrap();
        let image = &config.images["locus-agent"];
        let named = |name: &str| {
            let recipe = template::evaluate(&template::Request {
                path: root.join(image.template.in_project().unwrap()),
                source: image.source_aws.clone().unwrap(),
                settings: settings(name, image),
                vars: Vec::new(),
                var_files: Vec::new(),
                env: Default::default(),
                now: "2026-11-21T10:00:00Z".parse().unwrap(),
                root: root.clone(),
                foreign: None,
            });
            recipe.unwrap().source.settings["ami_name"].as_str().unwrap().to_owned()
        };
        assert_eq!(named("locus-agent"), "locus-agent-v1.0.0-20261121-1000");
        assert_eq!(named("My_agent.arm64"), "My_agent.arm64-v1.0.0-20261121-1000");
    }
}
