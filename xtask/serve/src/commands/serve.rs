//! `serve`: serves the images API until a signal.

use std::path::PathBuf;

use xtask::cli::{Cli, Serve};
use xtask::commands::Finish;
use xtask::config::Config;
use xtask::error::Result;
use xtask::event::Observer;

use super::{document, runtime};
use crate::server;
use crate::settings::Settings;

pub(super) mod token;

pub(super) fn run(config: &Config, cli: &Cli, args: &Serve, root: PathBuf, events: &dyn Observer) -> Result<Finish> {
    let settings = Settings::new(config, cli.common.on, args, root)?;
    settings.require_xtask()?;
    if cli.common.dry_run {
        let text = format!("serve on {} with the state directory {}\n", settings.listen, settings.state.display());
        let data = serde_json::json!({ "listen": settings.listen, "state": settings.state });
        document(events, "plan", data, text);
        return Ok(Finish::default());
    }
    let summary = runtime()?.block_on(server::run(settings))?;
    Ok(Finish { summary, data: serde_json::Value::Null })
}
