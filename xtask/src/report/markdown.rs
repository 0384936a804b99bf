//! Renders a run report as GitHub Flavored Markdown, for the summary of a job (docs.github.com, "Adding a job summary").

use std::fmt::Write as _;

use smoke::boot::Boot;

use super::{boot, clock, title};
use crate::event::Outcome;
use crate::run_report::{Episode, RunReport, Since};
use crate::stage::smoke::Record;

/// Size limit in bytes. GitHub accepts 1 MiB per step, and refuses a longer summary completely.
const SIZE_LIMIT: usize = 900_000;
/// The most changed packages that are listed; the others are counted.
const PACKAGES: usize = 100;

/// Renders a run report. The text is empty if the command succeeded without phases, findings and output.
pub fn render(run_report: &RunReport) -> String {
    let empty = run_report.phases.is_empty() && run_report.documents.is_empty() && run_report.findings.is_empty();
    if empty && run_report.well() {
        return String::new();
    }
    let mut text = String::new();
    head(&mut text, run_report);
    images(&mut text, run_report);
    if let Some(since) = &run_report.about.since {
        changes(&mut text, since);
    }
    problems(&mut text, run_report);
    phases(&mut text, &run_report.phases);
    for (kind, document) in &run_report.documents {
        let _ = writeln!(text, "<details open><summary>{}</summary>\n\n{}</details>\n", cell(kind), fenced(document));
    }
    for (file, diff) in &run_report.diffs {
        let _ = writeln!(
            text,
            "<details><summary>{}</summary>\n\n{}</details>\n",
            cell(&file.display().to_string()),
            fenced(diff)
        );
    }
    if text.len() > SIZE_LIMIT {
        let end = (0..=SIZE_LIMIT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("\n\n… truncated; see the job's log\n");
    }
    text
}

fn head(text: &mut String, run_report: &RunReport) {
    let mark = if run_report.well() { "✅" } else { "❌" };
    let _ = writeln!(text, "## {mark} {}\n", cell(run_report.title()));
    let run = run_report.run.as_ref().map_or(String::new(), |run| format!(", {run}"));
    let _ = writeln!(text, "`{}` took {}{run}.\n", run_report.command.replace('`', "'"), clock(run_report.seconds));
    if let Some(end) = run_report.end.as_ref().filter(|end| !end.summary.is_empty()) {
        if end.exit == 0 {
            let _ = writeln!(text, "{}\n", cell(&end.summary));
        } else {
            let _ = writeln!(text, "Exit code {}:\n\n{}", end.exit, fenced(&end.summary));
        }
    }
}

fn images(text: &mut String, run_report: &RunReport) {
    let about = &run_report.about;
    if about.images.is_empty() {
        return;
    }
    let channel = about.channel.as_ref().map_or(String::new(), |channel| format!(" in `{channel}`"));
    let _ = writeln!(text, "| region | image{channel} |\n|---|---|");
    for image in &about.images {
        let _ = writeln!(text, "| {} | `{}` |", cell(&image.region), cell(&image.id.0));
    }
    text.push('\n');
    if let Some(home) = about.images.first() {
        let _ = writeln!(
            text,
            "Version {}, on {}, recipe `{}`.\n",
            home.version,
            home.base.as_ref().map_or("an unknown base".to_owned(), |base| format!("{} (`{}`)", base.name, base.id)),
            home.recipe_hash.short()
        );
    }
    for (report, pass) in about.smoke.iter().flat_map(|smoke| smoke.reports.iter().zip(&smoke.passes)) {
        let failed = report.failed();
        let outcome =
            if failed.is_empty() { "all passed".to_owned() } else { format!("failed: {}", failed.join(", ")) };
        let _ = writeln!(text, "- {pass}: {} checks, {outcome}, {}", report.checks.len(), clock(report.wall_seconds));
    }
    if about.smoke.is_some() {
        text.push('\n');
    }
    boots(text, run_report);
}

/// The boot times: one column for each boot, one row for each part of it.
fn boots(text: &mut String, run_report: &RunReport) {
    let boots: Vec<(&str, &Boot)> = run_report.about.smoke.iter().flat_map(Record::boots).collect();
    if boots.is_empty() {
        return;
    }
    let passes: String = boots.iter().map(|(pass, _)| format!(" {} |", cell(pass))).collect();
    let _ = writeln!(text, "| boot |{passes}\n|---|{}", "--:|".repeat(boots.len()));
    for (name, times) in boot::table(&boots) {
        let times: String = times.iter().map(|time| format!(" {} |", boot::time(*time))).collect();
        let _ = writeln!(text, "| {} |{times}", cell(&name));
    }
    text.push('\n');
}

fn changes(text: &mut String, since: &Since) {
    let _ = writeln!(text, "### Since {}\n", cell(&since.name));
    let difference = &since.difference;
    let few = [("system", &difference.system), ("tools", &difference.tools)];
    let rows: Vec<_> =
        few.iter().flat_map(|(kind, changes)| changes.iter().map(move |change| (kind, change))).collect();
    if rows.is_empty() && difference.packages.is_empty() {
        let _ = writeln!(text, "No differences.\n");
        return;
    }
    if !rows.is_empty() {
        let _ = writeln!(text, "| | | was | is |\n|---|---|---|---|");
    }
    for (kind, change) in rows {
        let _ = writeln!(text, "| {kind} | {} | {} | {} |", cell(&change.name), side(&change.from), side(&change.to));
    }
    let packages = &difference.packages;
    if !packages.is_empty() {
        let _ = writeln!(text, "\n<details><summary>{} packages</summary>\n", packages.len());
        for change in packages.iter().take(PACKAGES) {
            let _ = writeln!(text, "- {} {} → {}", cell(&change.name), side(&change.from), side(&change.to));
        }
        if packages.len() > PACKAGES {
            let _ = writeln!(text, "- and {} more", packages.len() - PACKAGES);
        }
        let _ = writeln!(text, "\n</details>");
    }
    text.push('\n');
}

fn problems(text: &mut String, run_report: &RunReport) {
    let failed = run_report.checks.iter().filter(|check| check.outcome != "pass");
    let failed = failed
        .map(|c| format!("**{}** ({}, {}): {}", cell(&c.name), cell(&c.pass), cell(&c.outcome), cell(&c.message)));
    let findings = run_report.findings.iter().map(|finding| cell(finding));
    let warnings = run_report.warnings.iter().map(|(message, hint)| format!("{} ({})", cell(message), cell(hint)));
    let all: Vec<String> = failed.chain(findings).chain(warnings).collect();
    for problem in &all {
        let _ = writeln!(text, "- {problem}");
    }
    if !all.is_empty() {
        text.push('\n');
    }
}

fn phases(text: &mut String, phases: &[Episode]) {
    if phases.is_empty() {
        return;
    }
    let _ = writeln!(text, "| phase | time | |\n|---|--:|---|");
    for phase in phases {
        let what = if phase.summary.is_empty() { &phase.subject } else { &phase.summary };
        let _ = writeln!(
            text,
            "| {} {} | {} | {} |",
            mark(phase.outcome),
            title(phase.phase),
            clock(phase.seconds),
            cell(what)
        );
    }
    text.push('\n');
    for phase in phases.iter().filter(|phase| !phase.steps.is_empty()) {
        let cached = phase.steps.iter().filter(|step| step.outcome == Outcome::UpToDate).count();
        let count = phase.steps.len();
        let _ = writeln!(
            text,
            "<details><summary>{count} steps, {cached} of them cached</summary>\n\n| step | time |\n|---|--:|"
        );
        for step in &phase.steps {
            let time = if step.outcome == Outcome::UpToDate { "cached".to_owned() } else { clock(step.seconds) };
            let _ = writeln!(text, "| {} {} | {time} |", mark(Some(step.outcome)), cell(&step.name));
        }
        let _ = writeln!(text, "\n</details>\n");
    }
}

fn mark(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Done) => "✓",
        Some(Outcome::UpToDate) => "=",
        Some(Outcome::Failed) => "✗",
        None => "…",
    }
}

/// One side of a change: the version, or a dash.
fn side(version: &Option<String>) -> String {
    version.as_deref().map_or("–".to_owned(), cell)
}

/// Escapes text for a table cell, so that it cannot end the cell and contains no markup.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '@' | '~' | '$' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    // GitHub turns text that looks like a URL into a link.
    safe.replace("://", "&#58;//").replace("www.", "www&#46;")
}

/// A code block with a fence that is longer than any in its text.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{}\n{fence}\n", text.trim_end())
}
