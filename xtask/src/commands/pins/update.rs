//! `pins update`: updates pins, lock files and smoke specs to newer versions. Either all of the files are changed or none.

use std::path::PathBuf;

use semver::Version;

use super::{bases, due, look_up, propose, table, tools};
use crate::cli;
use crate::commands::{Context, Finish, Provider};
use crate::contents::Difference;
use crate::durable;
use crate::error::{Error, Result};
use crate::event::{Event, Outcome, Phase, phase};
use crate::pins::edit::{self, Edit};
use crate::pins::{MinAge, Pin};
use crate::stage::version;

pub(in crate::commands) fn run<P: Provider>(context: &Context, provider: &P, args: &cli::PinsUpdate) -> Result<Finish> {
    if args.propose {
        propose::ready(context)?;
    }
    let (config, tools) = (context.config()?, tools(context)?);
    let min_age = MinAge::new(args.check.min_age);
    let pins = look_up(context, &tools, min_age)?;
    let due = due(context)?;
    let today = jiff::Zoned::now().date();
    let specs: Vec<PathBuf> = config.images.values().map(|image| image.smoke.clone()).collect();
    let events = context.events.as_ref();
    let edits = phase(events, Phase::Freshness, "pins and lock files", || {
        let edits = edit::edits(&context.root, &tools, &specs, &pins, min_age.youngest, today)?;
        let summary = format!("{} files change", edits.len());
        Ok::<_, Error>((edits, Outcome::Done, summary))
    })?;
    let bump = bump(&pins, config.images.iter().map(|(name, image)| (name.as_str(), image.version.as_str())));
    let data = serde_json::json!({
        "pins": pins, "files": edits.iter().map(|edit| &edit.file).collect::<Vec<_>>(), "bump": bump,
    });
    context.document("pins", data.clone(), format!("{}{bump}", table(&pins, &due)));
    for edit in &edits {
        events.event(Event::Diff { file: edit.file.clone(), diff: diff(edit) });
    }
    if !edits.is_empty() && !context.common.dry_run {
        context.confirm(&format!("Change {} files?", edits.len()))?;
        write(context, &edits)?;
    }
    let changed = if context.common.dry_run {
        "nothing was written: --dry-run".to_owned()
    } else {
        format!("{} files changed", edits.len())
    };
    if !args.propose || context.common.dry_run {
        let next =
            if edits.is_empty() { "" } else { "; `cargo xtask ami build` and `cargo xtask ami smoke` test them" };
        return Ok(Finish::new(format!("{changed}{next}"), data));
    }
    let mut due: Vec<String> = due.iter().map(|finding| format!("{} {}", finding.message, finding.hint)).collect();
    due.extend(bases(context, provider)?);
    let body =
        propose::Proposal { pins: &pins, files: edits.iter().map(|edit| edit.file.clone()).collect(), bump, due };
    let summary = propose::run(context, &body)?;
    Ok(Finish::new(summary, data))
}

/// Writes all files, or none: if one cannot be written, the earlier ones are restored.
fn write(context: &Context, edits: &[Edit]) -> Result<()> {
    for (n, edit) in edits.iter().enumerate() {
        if let Err(error) = durable::replace(&context.root.join(&edit.file), edit.after.as_bytes()) {
            for done in &edits[..=n] {
                durable::replace(&context.root.join(&done.file), done.before.as_bytes())?;
            }
            return Err(error);
        }
    }
    Ok(())
}

/// The diff of a file; of a lock file only the number of changed lines, because npm and uv generate the rest.
fn diff(edit: &Edit) -> String {
    let diff = similar::TextDiff::from_lines(&edit.before, &edit.after);
    if edit::is_lock(&edit.file) {
        let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
        return format!(
            "{} lines removed, {} lines added\n",
            count(similar::ChangeTag::Delete),
            count(similar::ChangeTag::Insert)
        );
    }
    let file = edit.file.display().to_string();
    diff.unified_diff().context_radius(1).header(&file, &file).to_string()
}

/// The version bump that the changes require, for each image, as text.
fn bump<'a>(pins: &[Pin], images: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let difference = Difference { tools: edit::changes(pins), ..Difference::default() };
    let required = version::required(&difference);
    let Some(level) = required.level else { return String::new() };
    let mut text = String::new();
    for (name, version) in images {
        let next =
            Version::parse(version).map(|version| version::next(&version, level).to_string()).unwrap_or_default();
        text.push_str(&format!(
            "{} bump of {name}: {version} -> {next}; run `cargo xtask ami bump` after the build\n",
            level.name()
        ));
    }
    for (level, why) in &required.reasons {
        text.push_str(&format!("  {:5}  {why}\n", level.name()));
    }
    text
}
