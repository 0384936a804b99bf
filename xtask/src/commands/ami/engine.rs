//! Which engine builds: what was asked for, or what is there.

use std::time::Duration;

use crate::cli;
use crate::commands::{Context, Provider};
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::packer::{self, Installer};
use crate::error::Result;
use crate::event::{Event, Phase};
use crate::state::Run;
use crate::template;

/// HashiCorp's public keys.
const KEY: &str = "https://www.hashicorp.com/.well-known/pgp-key.txt";

/// The engine's name, without bringing anything.
pub fn name<P: Provider>(context: &Context, provider: &P, config: &Config, args: &cli::Build) -> Result<&'static str> {
    Ok(match args.engine {
        cli::Engine::Native => "native",
        cli::Engine::Packer => "packer",
        // The local provider's layers are worth more than Packer; the same template means the same either way.
        cli::Engine::Auto if provider.on() == cli::On::Local || args.keep_on_failure => "native",
        cli::Engine::Auto => match packer::find(&installer(context, config))? {
            Some(_) => "packer",
            None => "native",
        },
    })
}

/// The engine, Packer brought if it was asked for and is not there.
pub fn provide<P: Provider>(
    context: &Context,
    provider: &P,
    config: &Config,
    request: template::Request,
    run: &Run,
    args: &cli::Build,
) -> Result<Engine> {
    if name(context, provider, config, args)? == "native" {
        return Ok(Engine::Native);
    }
    let told = |message: &str| {
        let message = message.to_owned();
        context.events.event(Event::Progress { phase: Phase::Build, message, fraction: None });
    };
    let installer = installer(context, config);
    Ok(Engine::Packer(Box::new(packer::Request {
        packer: installer.provide(&told)?,
        // As a person in the project's folder names it: `path.root` is made of it.
        template: request.path.strip_prefix(&context.root).unwrap_or(&request.path).to_owned(),
        settings: request.settings,
        vars: request.vars,
        var_files: request.var_files,
        work_dir: installer.work_dir,
        scratch: run.path("packer"),
        timeout: Duration::from_secs(config.packer.build_timeout_secs),
    })))
}

fn installer(context: &Context, config: &Config) -> Installer {
    Installer {
        binary: config.packer.binary_path.clone(),
        auto: config.packer.auto_install,
        version: config.packer.version.clone(),
        releases: config.packer.releases.clone(),
        key: KEY.to_owned(),
        work_dir: context.root.join(&config.packer.work_dir),
    }
}
