//! `ami copy`.

use super::smoke::chosen;
use crate::cli;
use crate::cloud::Cloud as _;
use crate::commands::{Context, Finish};
use crate::error::{Exit, Result};
use crate::stage;

/// Runs the command.
pub fn run(context: &Context, args: &cli::Copy) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let local = context.local(&config, &state, None);
    let image = chosen(&local, &config, args.image.as_deref())?;
    for region in &args.regions {
        if !local.regions().contains(region) {
            let hint = format!("the regions in ami.toml are {}", local.regions().join(", "));
            return Err(Exit::Usage.error(format_args!("no region `{region}`"), hint));
        }
    }
    let regions = if args.regions.is_empty() { local.regions().to_vec() } else { args.regions.clone() };
    if context.common.dry_run {
        let targets: Vec<&String> = regions.iter().filter(|r| **r != image.region).collect();
        let text = targets.iter().map(|r| format!("copy {} to {r}\n", image.id)).collect();
        context.document("plan", serde_json::json!({ "copy": image.id, "to": targets }), text);
        return Ok(Finish::default());
    }
    let _lock = state.lock("copy", &context.line)?;
    let images = stage::copy::run(&local, &image, &regions, context.events.as_ref())?;
    let names: Vec<String> = images.iter().map(|i| format!("{} in {}", i.id, i.region)).collect();
    Ok(Finish::new(names.join(", "), serde_json::json!({ "images": images })))
}
