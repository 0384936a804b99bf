//! `ami delete`: the image, its disk and its documents. Refused while a channel points at it.

use fs_err as fs;

use crate::cli;
use crate::cloud::{self, Cloud as _, Image, ImageId, Listed};
use crate::commands::{Context, Finish};
use crate::config::Config;
use crate::error::{Exit, Result};

/// Runs the command.
pub fn run(context: &Context, args: &cli::Delete) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let local = context.local(&config, &state, None);
    let (_, bad) = cloud::all_images(&local)?;
    let damaged = bad.iter().find_map(|listed| match listed {
        Listed::Corrupt { path, .. } if path.file_name().is_some_and(|n| n.to_string_lossy() == args.image) => {
            Some(path)
        }
        _ => None,
    });
    let (id, what) = match damaged {
        Some(path) => (ImageId(args.image.clone()), format!("the damaged image {}", path.display())),
        None => {
            let image = cloud::find(&local, &args.image)?;
            (image.id.clone(), format!("{} {} in {}", image.id, image.name, image.region))
        }
    };
    let pointing = channels_pointing_at(context, &config, &id)?;
    if !pointing.is_empty() && !args.force {
        return Err(Exit::Precondition.error(
            format_args!("{id} is in use: {} points at it", pointing.join(", ")),
            "promote another image first, or pass --force",
        ));
    }
    if context.common.dry_run {
        context.document("plan", serde_json::json!({ "delete": id }), format!("delete {what}\n"));
        return Ok(Finish::default());
    }
    context.confirm(&format!("Delete {what}?"))?;
    match damaged {
        Some(path) => fs::remove_dir_all(path)?,
        None => local.delete(&find(&local, &id)?)?,
    }
    Ok(Finish::new(format!("deleted {what}"), serde_json::json!({ "deleted": id })))
}

fn find(local: &cloud::local::Local, id: &ImageId) -> Result<Image> {
    cloud::find(local, &id.0)
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
            names.push(name.clone());
        }
    }
    Ok(names)
}
