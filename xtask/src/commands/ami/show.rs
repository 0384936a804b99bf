//! `ami show`.

use crate::cli;
use crate::cloud::{Cloud as _, find};
use crate::commands::{Context, Finish, Provider};
use crate::error::Result;
use crate::stage::smoke::{DOCUMENT, Record};

/// Runs the command.
pub fn run<P: Provider>(context: &Context, provider: &P, args: &cli::One) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    let cloud = provider.open(context, &config, &state, None)?;
    let image = find(&cloud, &args.image)?;
    let record = cloud.document(&image, DOCUMENT)?.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    let smoke = match &record {
        None => "not judged yet".to_owned(),
        Some(record) => {
            let verdict = if record.passed { "passed" } else { "failed" };
            let checks: usize = record.reports.iter().map(|r| r.checks.len()).sum();
            format!("{verdict} {checks} checks in {} boots at {}", record.reports.len(), record.at)
        }
    };
    let rows = [
        ("id", image.id.to_string()),
        ("name", image.name.clone()),
        ("region", image.region.clone()),
        ("created", image.created.clone()),
        ("base", format!("{} ({})", image.base.name, image.base.digest)),
        ("recipe hash", image.recipe_hash.to_string()),
        ("disk", format!("{} bytes, content {}", image.disk_bytes, image.content)),
        ("copied from", image.copied_from.as_ref().map_or("built here".to_owned(), ToString::to_string)),
        ("run", image.run.clone()),
        ("engine", image.engine.clone()),
        ("smoke", smoke),
    ];
    let text = rows.iter().map(|(name, value)| format!("{name:12} {value}\n")).collect();
    let data = serde_json::json!({ "image": image, "smoke": record });
    context.document("image", data.clone(), text);
    Ok(Finish::new("", data))
}
