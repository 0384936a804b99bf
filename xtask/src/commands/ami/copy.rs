//! `ami copy`: copies an image to other regions.

use super::smoke::chosen;
use crate::cli;
use crate::cloud::Cloud;
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::ids::Region;
use crate::stage;

/// The regions that may fail: those of ami.toml and those of the command line.
pub fn best_effort<C: Cloud>(cloud: &C, args: &cli::BestEffort) -> Result<Vec<Region>> {
    Ok([cloud.best_effort(), &known(cloud, &args.best_effort)?].concat())
}

/// The regions with these names; an error if a name is not in ami.toml.
fn known<C: Cloud>(cloud: &C, names: &[String]) -> Result<Vec<Region>> {
    let find = |name: &String| {
        cloud.regions().iter().find(|region| region.as_str() == name).cloned().ok_or_else(|| {
            let hint = format!("use a region of ami.toml: {}", cloud.regions().join(", "));
            Exit::Usage.error(format_args!("no region `{name}`"), hint)
        })
    };
    names.iter().map(find).collect()
}

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Copy) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let image = chosen(&cloud, args.image.as_deref())?;
    let requested = known(&cloud, &args.regions)?;
    let regions = if requested.is_empty() { cloud.regions().to_vec() } else { requested };
    if context.common.dry_run {
        let targets: Vec<&Region> = regions.iter().filter(|r| **r != image.region).collect();
        let text = targets.iter().map(|r| format!("copy {} to {r}\n", image.id)).collect();
        context.document("plan", serde_json::json!({ "copy": image.id, "to": targets }), text);
        return Ok(Finish::default());
    }
    let run = context.begin_run(&state)?;
    let cloud = provider.open(context, &config, &state, Some(run))?;
    let _lock = state.lock("copy", &context.line)?;
    let best_effort = best_effort(&cloud, &args.best_effort)?;
    let images = stage::copy::run(&cloud, &image, &regions, &best_effort, context.events.as_ref())?;
    context.about(|about| about.images.clone_from(&images));
    let names: Vec<String> = images.iter().map(|i| format!("{} in {}", i.id, i.region)).collect();
    Ok(Finish::new(names.join(", "), serde_json::json!({ "images": images })))
}
