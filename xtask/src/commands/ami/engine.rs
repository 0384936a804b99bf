//! Selects the engine of a build by `--engine` and by what is installed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli;
use crate::cloud::EngineKind;
use crate::commands::{Context, Provider};
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::packer::{self, Installer};
use crate::error::Result;
use crate::event::{Event, Phase};
use crate::state::Run;
use crate::template;
use crate::template_source::TemplateSource;

/// URL of HashiCorp's public key.
const KEY: &str = "https://www.hashicorp.com/.well-known/pgp-key.txt";

/// The engine that is selected. Installs nothing.
pub fn kind<P: Provider>(
    context: &Context,
    provider: &P,
    config: &Config,
    args: &cli::Build,
    is_foreign: bool,
) -> Result<EngineKind> {
    Ok(match args.engine {
        cli::Engine::Native => EngineKind::Native,
        cli::Engine::Packer => EngineKind::Packer,
        // The native engine confines a template from elsewhere, Packer does not.
        cli::Engine::Auto if is_foreign => EngineKind::Native,
        // Only the native engine has local layers and keeps the machine of a failed step. A template has the same effect with both engines.
        cli::Engine::Auto if provider.on() == cli::On::Local || args.keep_on_failure => EngineKind::Native,
        cli::Engine::Auto => match packer::find(&installer(context, config))? {
            Some(_) => EngineKind::Packer,
            None => EngineKind::Native,
        },
    })
}

/// Warns of what Packer lets a template from elsewhere do, and asks for confirmation.
pub fn confirm(context: &Context, template: &TemplateSource) -> Result<()> {
    let message = "Packer lets a template use the files, the environment and the programs of this host, and downloads its plugins";
    let hint = "use --engine native, which does not, or review the template first".to_owned();
    context.events.event(Event::Warning { message: message.to_owned(), hint });
    context.confirm(&format!("run the template of {template} with Packer"))
}

/// The engine of this kind. Packer is downloaded if it is not installed and ami.toml allows it.
pub fn provide(
    kind: EngineKind,
    context: &Context,
    config: &Config,
    request: template::Request,
    run: &Run,
) -> Result<Engine> {
    if kind == EngineKind::Native {
        return Ok(Engine::Native);
    }
    let on_progress = |message: &str| {
        let message = message.to_owned();
        context.events.event(Event::Progress { phase: Phase::Build, message, fraction: None });
    };
    let installer = installer(context, config);
    Ok(Engine::Packer(Box::new(packer::Request {
        packer: installer.provide(&on_progress)?,
        // Relative to the directory in which Packer is run, because the template's `path.root` is derived from it.
        template: relative(&request.path, &request.root),
        settings: request.settings,
        vars: request.vars,
        var_files: request.var_files,
        work_dir: installer.work_dir,
        scratch: run.path("packer"),
        timeout: Duration::from_secs(config.packer.build_timeout_secs),
    })))
}

/// A path relative to a directory; `.` for the directory itself.
fn relative(path: &Path, root: &Path) -> PathBuf {
    match path.strip_prefix(root) {
        Ok(below) if below.as_os_str().is_empty() => PathBuf::from("."),
        Ok(below) => below.to_owned(),
        Err(_) => path.to_owned(),
    }
}

pub(super) fn installer(context: &Context, config: &Config) -> Installer {
    Installer {
        binary: config.packer.binary_path.clone(),
        auto: config.packer.auto_install,
        version: config.packer.version.clone(),
        releases: config.packer.releases.clone(),
        key: KEY.to_owned(),
        work_dir: context.root.join(&config.packer.work_dir),
    }
}
