//! What a build is requested to do, resolved from the command line and ami.toml.

use std::path::PathBuf;

use crate::cli;
use crate::cloud::EngineKind;
use crate::commands::{Context, Provider};
use crate::config::{self, Config};
use crate::error::{Exit, Result};
use crate::template_source::TemplateSource;

/// A requested build.
#[derive(Clone, Debug)]
pub struct Request {
    /// The image's name in ami.toml.
    pub image: String,
    pub template: TemplateSource,
    /// True if `--template` replaces the template of ami.toml.
    pub replaces_template: bool,
    /// True if `--instance-type` is given.
    pub has_instance_type: bool,
    pub inputs: Inputs,
    /// `--engine`.
    pub requested_engine: cli::Engine,
    /// The engine that runs a template that the native engine reads.
    pub engine: EngineKind,
    /// Build even if nothing changed.
    pub force: bool,
    /// Keep the machine of a failed step.
    pub keep_on_failure: bool,
}

/// The template variables of the command line.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `--provider` and `--var`, in order; a later value replaces an earlier one.
    pub vars: Vec<(String, String)>,
    /// `--var-file`, in order.
    pub var_files: Vec<PathBuf>,
}

impl Request {
    /// Resolves the arguments of a build. Installs nothing.
    pub fn resolve<P: Provider>(context: &Context, provider: &P, config: &Config, args: &cli::Build) -> Result<Self> {
        let template: Option<TemplateSource> = args.template.as_deref().map(str::parse).transpose()?;
        let (name, image) = image(config, args, template.as_ref())?;
        agrees(provider.on(), config, args)?;
        let template = template.unwrap_or_else(|| image.template.clone());
        let is_foreign = template.in_project().is_none();
        Ok(Self {
            image: name.to_owned(),
            template,
            replaces_template: args.template.is_some(),
            has_instance_type: args.instance_type.is_some(),
            inputs: Inputs::of(args),
            requested_engine: args.engine,
            engine: super::engine::kind(context, provider, config, args, is_foreign)?,
            force: args.force,
            keep_on_failure: args.keep_on_failure,
        })
    }
}

/// The image to build. Without a name, `--template` selects the image whose template it is. An image has a smoke spec and a version, so another
/// template requires the name if there are several images.
fn image<'a>(
    config: &'a Config,
    args: &cli::Build,
    template: Option<&TemplateSource>,
) -> Result<(&'a str, &'a config::Image)> {
    let Some(template) = template.filter(|_| args.image.is_none() && config.images.len() > 1) else {
        return config.image(args.image.as_deref());
    };
    let mut same = config.images.iter().filter(|(_, image)| image.template.is_same(template));
    match (same.next(), same.next()) {
        (Some((name, image)), None) => Ok((name, image)),
        _ => Err(Exit::Usage.error(
            "--template without an image name, and ami.toml has several images",
            format_args!(
                "name the image that the template builds: {}",
                config.images.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
        )),
    }
}

/// An error if `--var` sets a variable to another value than the option that sets it, or, for the region, than ami.toml.
fn agrees(on: cli::On, config: &Config, args: &cli::Build) -> Result<()> {
    let home = config.regions.aws.first().unwrap_or(&config.packer.default_region);
    let is_aws = on == cli::On::Aws;
    for (name, value) in &args.vars {
        let (option, other) = match name.as_str() {
            "aws_region" | "region" if is_aws => ("--region", Some(home.as_str())),
            "aws_region" | "region" => ("--region", args.region.as_deref()),
            "instance_type" if is_aws => ("--instance-type", args.instance_type.as_deref()),
            "provider" => ("--provider", args.provider.as_deref()),
            _ => continue,
        };
        if let Some(other) = other.filter(|other| other != value) {
            return Err(Exit::Usage.error(
                format_args!("--var {name}={value} differs from `{other}`, the value of {option}"),
                format_args!("pass only {option} {value}"),
            ));
        }
    }
    Ok(())
}

impl Inputs {
    fn of(args: &cli::Build) -> Self {
        let provider = args.provider.iter().map(|agent| ("provider".to_owned(), agent.clone()));
        Self { vars: provider.chain(args.vars.iter().cloned()).collect(), var_files: args.var_file.clone() }
    }
}
