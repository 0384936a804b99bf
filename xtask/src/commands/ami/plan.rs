//! `ami plan`: what a build would do and why.

use crate::cli;
use crate::cloud::{Cloud, Listed};
use crate::commands::{Context, Finish};
use crate::config::Image as ImageConfig;
use crate::error::Result;
use crate::plan::{self, BuildPlan, Facts};
use crate::recipe::Recipe;
use crate::template;

/// Evaluates the template for the local provider.
pub fn recipe(context: &Context, image: &ImageConfig, args: &cli::Build) -> Result<Recipe> {
    let mut vars: Vec<(String, String)> =
        args.provider.clone().map(|p| ("provider".to_owned(), p)).into_iter().collect();
    vars.extend(args.vars.clone());
    template::evaluate(&template::Request {
        path: context.root.join(&image.template),
        source: image.source_local.clone(),
        settings: settings(image),
        vars,
        var_files: args.var_file.clone(),
        env: context.env.clone(),
        now: jiff::Timestamp::now(),
        root: context.root.clone(),
    })
}

/// The template variables an image sets in `ami.toml`.
pub fn settings(image: &ImageConfig) -> Vec<template::Setting> {
    let setting = |name: &str, value: &str, origin: &str, optional| template::Setting {
        name: name.to_owned(),
        value: value.to_owned(),
        origin: origin.to_owned(),
        optional,
    };
    let mut settings = vec![setting("ami_version", &image.version, "version in ami.toml", true)];
    settings.extend(image.vars.iter().map(|(name, value)| setting(name, value, "vars in ami.toml", false)));
    settings
}

/// Plans a build of `name` from what `cloud` has.
pub fn make<C: Cloud>(cloud: &C, name: &str, image: &ImageConfig, recipe: &Recipe, force: bool) -> Result<BuildPlan> {
    let home = cloud.regions().first().cloned().unwrap_or_default();
    let mut images: Vec<_> = cloud
        .images(&home)?
        .into_iter()
        .filter_map(|listed| if let Listed::Image(image) = listed { Some(*image) } else { None })
        .collect();
    images.sort_by(|a, b| a.created.cmp(&b.created));
    let facts = Facts { base: cloud.base_at_hand()?, layers: cloud.layers()?, images, force };
    Ok(plan::build(name, &image.version, recipe, &facts))
}

/// Runs the command.
pub fn run(context: &Context, args: &cli::Build) -> Result<Finish> {
    let config = context.config()?;
    let (name, image) = context.image(&config, args.image.as_deref())?;
    let recipe = recipe(context, image, args)?;
    let state = context.state(&config)?;
    let plan = make(&context.local(&config, &state, None), name, image, &recipe, args.force)?;
    let mut text = plan::render(&plan);
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
