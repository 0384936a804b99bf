//! What stays of a command: its report beside the state, and what it tells the workflow that ran it. None of this fails the command.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{Context, Finish, log};
use crate::channel::output;
use crate::durable;
use crate::error::Result;
use crate::event::{Event, clean};
use crate::report::{markdown, page};
use crate::run_report::{End, RunReport};

/// So many reports are kept.
const KEPT: usize = 200;
/// Where they lie in the state folder.
const FOLDER: &str = "reports";
/// The page, and the story that it is made from.
pub(super) const PAGE: &str = "report.html";
pub(super) const STORY: &str = "story.json";

/// Writes everything down, or warns.
pub(super) fn conclude(context: &Context, mut run_report: RunReport, result: &Result<Finish>) {
    run_report.about = context.about(|about| about.clone());
    run_report.end = Some(match result {
        Ok(finish) => End { exit: 0, summary: finish.summary.clone() },
        Err(error) => End { exit: error.exit() as u8, summary: crate::report::render(error) },
    });
    let run_report = cleaned(run_report);
    note_log(context, &run_report);
    let page =
        run_report.run.as_ref().and_then(|_| or_warned(context, "no report was written", report(context, &run_report)));
    // The next step needs the ids, whatever became of the page.
    or_warned(context, "the workflow was not told", workflow(context, &run_report, page.as_deref()));
}

/// The story as it may be kept and sent: what it was about did not come by events.
fn cleaned(run_report: RunReport) -> RunReport {
    let clean =
        serde_json::to_value(&run_report).ok().and_then(|value| serde_json::from_value(clean::json(value)).ok());
    clean.unwrap_or(run_report)
}

/// Where the output of a failed run's steps stands.
fn note_log(context: &Context, run_report: &RunReport) {
    let Some(run) = run_report.run.as_deref().filter(|_| !run_report.well()) else { return };
    let folder = context.config().map(|config| context.in_state(&config, log::FOLDER));
    if let Some(log) = folder.ok().and_then(|folder| log::of(&folder, run)) {
        let shown = log.strip_prefix(&context.root).unwrap_or(&log).display().to_string();
        context.events.event(Event::Note { message: format!("what its steps printed: {shown}") });
    }
}

fn or_warned<T>(context: &Context, what: &str, result: Result<T>) -> Option<T> {
    result
        .map_err(|error| {
            let hint = "the command itself is not touched by that".to_owned();
            context.events.event(Event::Warning { message: format!("{what}: {error}"), hint });
        })
        .ok()
}

/// The folder of the reports.
pub(super) fn folder(context: &Context) -> Result<PathBuf> {
    Ok(context.in_state(&context.config()?, FOLDER))
}

/// Writes the page and the story that it is made from, in a folder of the run's own.
fn report(context: &Context, run_report: &RunReport) -> Result<PathBuf> {
    let folder = folder(context)?;
    let own = folder.join(run_report.run.as_deref().unwrap_or_default());
    fs::create_dir_all(&own)?;
    durable::replace_private(&own.join(STORY), &serde_json::to_vec(run_report).unwrap_or_default())?;
    let page = own.join(PAGE);
    durable::replace_private(&page, page::render(run_report).as_bytes())?;
    // A run's id begins with its time, so the oldest come first.
    let mut all: Vec<PathBuf> = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    all.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("run-")));
    all.sort();
    for old in all.iter().take(all.len().saturating_sub(KEPT)) {
        fs::remove_dir_all(old)?;
    }
    let shown = page.strip_prefix(&context.root).unwrap_or(&page).display().to_string();
    context.events.event(Event::Note { message: format!("report: {shown}") });
    Ok(page)
}

/// Adds to the job's summary and the step's outputs, where a workflow asks for them (docs.github.com, "Default environment variables").
fn workflow(context: &Context, run_report: &RunReport, page: Option<&Path>) -> Result<()> {
    if let Some(file) = context.env.get("GITHUB_STEP_SUMMARY").filter(|file| !file.is_empty()) {
        append(Path::new(file), &markdown::render(run_report))?;
    }
    if let Some(file) = context.env.get("GITHUB_OUTPUT").filter(|file| !file.is_empty()) {
        append(Path::new(file), &outputs(run_report, page))?;
    }
    Ok(())
}

/// `run`, `report`, the ids of the images, and what the command adds; each a line that ends where its value does.
fn outputs(run_report: &RunReport, page: Option<&Path>) -> String {
    let about = &run_report.about;
    let mut pairs: Vec<(String, String)> = Vec::new();
    pairs.extend(run_report.run.iter().map(|run| ("run".to_owned(), run.clone())));
    pairs.extend(page.map(|page| ("report".to_owned(), page.display().to_string())));
    pairs.extend(about.outputs.iter().cloned());
    let mut text = String::new();
    for (name, value) in pairs {
        let _ = writeln!(text, "{name}={}", value.replace(['\n', '\r'], " "));
    }
    if !about.images.is_empty() {
        text.push_str(&match &about.channel {
            Some(channel) => output::lines(channel, &about.images),
            None => output::ids(&about.images),
        });
    }
    text
}

fn append(file: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file)?;
    Ok(file.write_all(text.as_bytes())?)
}
