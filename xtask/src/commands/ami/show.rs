//! `ami show`: prints the details of an image, or a run with the calls that it made.

use crate::cli;
use crate::cloud::{Cloud as _, find};
use crate::commands::{Context, Finish, Provider};
use crate::error::{Exit, Result};
use crate::stage::smoke::{DOCUMENT, Record};
use crate::state::State;

pub(crate) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::Show) -> Result<Finish> {
    let config = context.config()?;
    let state = context.state(&config)?;
    if args.what.starts_with("run-") {
        return show_run(context, &state, &args.what);
    }
    let cloud = provider.open(context, &config, &state, None)?;
    let image = find(&cloud, &args.what)?;
    let record = cloud.document(&image, DOCUMENT)?.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    let smoke = match &record {
        None => "not tested yet".to_owned(),
        Some(record) => {
            let outcome = if record.passed { "passed" } else { "failed" };
            let checks: usize = record.reports.iter().map(|r| r.checks.len()).sum();
            format!("{outcome} {checks} checks in {} boots at {}", record.reports.len(), record.at)
        }
    };
    let rows = [
        ("id", image.id.to_string()),
        ("name", image.name.clone()),
        ("region", image.region.to_string()),
        ("created", image.created.map(|at| at.to_string()).unwrap_or_default()),
        ("base", image.base.as_ref().map_or("unknown".to_owned(), |base| format!("{} ({})", base.name, base.digest))),
        ("recipe hash", image.recipe_hash.to_string()),
        ("disk", format!("{} bytes, content {}", image.disk_bytes, image.content)),
        ("copied from", image.copied_from.as_ref().map_or("not a copy".to_owned(), ToString::to_string)),
        ("run", image.run.to_string()),
        ("engine", image.engine.name().to_owned()),
        ("smoke", smoke),
    ];
    let text = rows.iter().map(|(name, value)| format!("{name:12} {value}\n")).collect();
    let data = serde_json::json!({ "image": image, "smoke": record });
    context.document("image", data.clone(), text);
    Ok(Finish::new("", data))
}

fn show_run(context: &Context, state: &State, id: &str) -> Result<Finish> {
    let run = state.ledger().run(id)?.ok_or_else(|| {
        Exit::Usage
            .error(format_args!("no run `{id}` in this state directory"), "list the runs with `cargo xtask ami runs`")
    })?;
    let calls = state.ledger().calls(&run.id)?;
    let standing = run.standing(state.is_alive(&run.id)?);
    let rows = [
        ("id", run.id.to_string()),
        ("command", run.command.clone()),
        ("on", run.on.clone()),
        ("began", run.began.to_string()),
        ("ended", run.ended.map(|at| at.to_string()).unwrap_or_default()),
        ("outcome", format!("{standing}, resumed {} times", run.resumed)),
        ("summary", run.summary.clone()),
    ];
    let mut text: String = rows.iter().map(|(name, value)| format!("{name:12} {value}\n")).collect();
    for call in &calls {
        let what = match (&call.error, &call.settled) {
            (Some(error), _) => format!("failed: {error}"),
            (None, Some(_)) => call.ids.join(" "),
            (None, None) => "no response recorded".to_owned(),
        };
        let at = call.at.split('.').next().unwrap_or_default();
        let (region, subject) = (call.region.as_deref().unwrap_or("-"), call.subject.as_deref().unwrap_or_default());
        text.push_str(&format!("{at}Z  {:32} {region:14} {subject:40} {what}\n", call.action));
    }
    let data = serde_json::json!({ "run": run, "standing": standing, "calls": calls });
    context.document("run", data.clone(), text);
    Ok(Finish::new("", data))
}
