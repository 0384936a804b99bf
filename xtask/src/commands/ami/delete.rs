//! `ami delete`: the image, what it consists of and its documents. Refused while something points at it.

use fs_err as fs;

use crate::cli;
use crate::cloud::{self, Cloud as _, ImageId};
use crate::commands::{Context, Finish, Provider};
use crate::config::Config;
use crate::error::{Exit, Result};

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Delete) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let (_, damaged) = cloud::all_images(&cloud)?;
    if let Some(damaged) = damaged.iter().find(|c| c.id.0 == args.image) {
        let what = format!("the damaged image {} ({})", damaged.id, damaged.place);
        return remove(context, &config, &damaged.id, &what, args, Vec::new(), || cloud.discard(damaged));
    }
    let image = cloud::find(&cloud, &args.image)?;
    let what = format!("{} {} in {}", image.id, image.name, image.region);
    remove(context, &config, &image.id, &what, args, cloud.users(&image)?, || cloud.delete(&image))
}

fn remove(
    context: &Context,
    config: &Config,
    id: &ImageId,
    what: &str,
    args: &cli::Delete,
    mut users: Vec<String>,
    act: impl FnOnce() -> Result<()>,
) -> Result<Finish> {
    users.extend(channels_pointing_at(context, config, id)?);
    if !users.is_empty() && !args.force {
        return Err(Exit::Precondition.error(
            format_args!("{id} is in use: {} points at it", users.join(", ")),
            "promote another image or end what uses it first, or pass --force",
        ));
    }
    if context.common.dry_run {
        context.document("plan", serde_json::json!({ "delete": id }), format!("delete {what}\n"));
        return Ok(Finish::default());
    }
    context.confirm(&format!("Delete {what}?"))?;
    act()?;
    Ok(Finish::new(format!("deleted {what}"), serde_json::json!({ "deleted": id })))
}

/// The channels whose env file holds the id as a value.
fn channels_pointing_at(context: &Context, config: &Config, id: &ImageId) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, channel) in &config.channels {
        let file = context.root.join(&channel.env_file);
        if !file.exists() {
            continue;
        }
        let text = fs::read_to_string(file)?;
        if text.lines().any(|l| l.split_once('=').is_some_and(|(_, value)| value.trim() == id.0)) {
            names.push(format!("channel {name}"));
        }
    }
    Ok(names)
}
