//! The end of a command: its report in the state directory and, in a GitHub workflow, the job summary and the step outputs. A failure to
//! write one of them is a warning and does not change the exit code.

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

/// Number of reports that are kept.
const KEPT: usize = 200;
/// Directory of the reports in the state directory.
const REPORTS: &str = "reports";
/// The report as a page.
pub(super) const PAGE: &str = "report.html";
/// The data that the page is rendered from.
pub(super) const RUN_REPORT: &str = "run-report.json";
/// Its name in earlier versions.
pub(super) const EARLIER_RUN_REPORT: &str = "story.json";

/// Writes the report, the job summary and the step outputs, and warns about what cannot be written.
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
    // The next step of the workflow needs the ids even if the page could not be written.
    or_warned(context, "no job summary or step outputs were written", workflow(context, &run_report, page.as_deref()));
}

/// The report without sensitive values and control characters. Events are cleaned before they are recorded, but `about` is not set by
/// events.
fn cleaned(run_report: RunReport) -> RunReport {
    let clean =
        serde_json::to_value(&run_report).ok().and_then(|value| serde_json::from_value(clean::json(value)).ok());
    clean.unwrap_or(run_report)
}

/// Prints where the output of the steps is, if the run failed.
fn note_log(context: &Context, run_report: &RunReport) {
    let Some(run) = run_report.run.as_deref().filter(|_| !run_report.well()) else { return };
    let dir = context.config().map(|config| context.in_state(&config, log::DIR));
    if let Some(log) = dir.ok().and_then(|dir| log::of(&dir, run)) {
        let shown = log.strip_prefix(&context.root).unwrap_or(&log).display().to_string();
        context.events.event(Event::Note { message: format!("output of the steps: {shown}") });
    }
}

fn or_warned<T>(context: &Context, what: &str, result: Result<T>) -> Option<T> {
    result
        .map_err(|error| {
            let hint = "this does not change the result of the command".to_owned();
            context.events.event(Event::Warning { message: format!("{what}: {error}"), hint });
        })
        .ok()
}

/// The directory of the reports.
pub(super) fn reports_dir(context: &Context) -> Result<PathBuf> {
    Ok(context.in_state(&context.config()?, REPORTS))
}

/// Writes the page and its data into the run's directory, and deletes the oldest reports.
fn report(context: &Context, run_report: &RunReport) -> Result<PathBuf> {
    let reports = reports_dir(context)?;
    let dir = reports.join(run_report.run.as_deref().unwrap_or_default());
    fs::create_dir_all(&dir)?;
    durable::replace_private(&dir.join(RUN_REPORT), &serde_json::to_vec(run_report).unwrap_or_default())?;
    let page = dir.join(PAGE);
    durable::replace_private(&page, page::render(run_report).as_bytes())?;
    // The id of a run begins with its start time, so sorting puts the oldest first.
    let mut all: Vec<PathBuf> = fs::read_dir(&reports)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    all.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("run-")));
    all.sort();
    for old in all.iter().take(all.len().saturating_sub(KEPT)) {
        fs::remove_dir_all(old)?;
    }
    let shown = page.strip_prefix(&context.root).unwrap_or(&page).display().to_string();
    context.events.event(Event::Note { message: format!("report: {shown}") });
    Ok(page)
}

/// Appends to the job summary and the step outputs, where GitHub's runner sets their files (docs.github.com, "Default environment
/// variables").
fn workflow(context: &Context, run_report: &RunReport, page: Option<&Path>) -> Result<()> {
    if let Some(file) = context.env.get("GITHUB_STEP_SUMMARY").filter(|file| !file.is_empty()) {
        append(Path::new(file), &markdown::render(run_report))?;
    }
    if let Some(file) = context.env.get("GITHUB_OUTPUT").filter(|file| !file.is_empty()) {
        append(Path::new(file), &outputs(run_report, page))?;
    }
    Ok(())
}

/// The step outputs `run`, `report`, the ids of the images and those of the command, one line each. Line breaks in values are replaced by
/// spaces.
fn outputs(run_report: &RunReport, page: Option<&Path>) -> String {
    let about = &run_report.about;
    let mut pairs: Vec<(String, String)> = Vec::new();
    pairs.extend(run_report.run.iter().map(|run| ("run".to_owned(), run.to_string())));
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
