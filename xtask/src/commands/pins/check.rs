//! `pins check`: what is newer, too young, due or unknown. Changes nothing.

use super::{due, looked, table, tools};
use crate::cli;
use crate::cloud::{Cloud as _, Listed};
use crate::commands::{Context, Finish, Provider, ami};
use crate::error::Result;

/// Runs the command.
pub(in crate::commands) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::PinsCheck) -> Result<Finish> {
    let pins = looked(context, &tools(context)?, args.min_age)?;
    let due = due(context)?;
    let bases = bases(context, provider)?;
    let mut text = table(&pins, &due);
    text.extend(bases.iter().map(|base| format!("{base}\n")));
    let newer = pins.iter().filter(|pin| pin.newest.is_some()).count();
    let messages: Vec<&str> = due.iter().map(|finding| finding.message.as_str()).collect();
    let data = serde_json::json!({ "pins": pins, "due": messages, "bases": bases });
    context.document("pins", data.clone(), text);
    let hint = if newer > 0 { "; `cargo xtask pins update` takes them" } else { "" };
    Ok(Finish::new(format!("{newer} newer, {} due{hint}", due.len() + bases.len()), data))
}

/// Images whose newest build stands on another base than a build of today would.
fn bases<P: Provider>(context: &Context, provider: &P) -> Result<Vec<String>> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let home = cloud.regions().first().cloned().unwrap_or_default();
    let mut images: Vec<_> = cloud
        .images(&home)?
        .into_iter()
        .filter_map(|listed| if let Listed::Image(image) = listed { Some(*image) } else { None })
        .collect();
    images.sort_by(|a, b| a.created.cmp(&b.created));
    let mut found = Vec::new();
    for name in config.images.keys() {
        let Some(last) = images.iter().rev().find(|image| image.image == *name) else { continue };
        let (recipe, _) = ami::plan::recipe(context, provider, &config, name, None, &cli::Build::default())?;
        if let Some(base) = cloud.base_at_hand(&recipe.source)?.filter(|base| base.digest != last.base.digest) {
            found.push(format!("{} stands on {}; {} is newer: release it again", last.name, last.base.id, base.id));
        }
    }
    Ok(found)
}
