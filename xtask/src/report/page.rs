//! Renders a run report as one HTML file without scripts and external resources.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use smoke::boot::Boot;

use super::{boot, clock, title};
use crate::contents::Change;
use crate::event::Outcome;
use crate::run_report::{CheckResult, Episode, RunReport, Since, Step};
use crate::stage::smoke::Record;

const STYLE: &str = include_str!("page/style.css");

/// Renders a run report as an HTML page.
pub fn render(run_report: &RunReport) -> String {
    let outcome = match &run_report.end {
        Some(end) if end.exit == 0 => ("well", "done"),
        Some(_) => ("bad", "failed"),
        None => ("bad", "interrupted"),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Texts in the report come from guests and tools; the policy forbids scripts and external resources.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (run_report.title()) ": " (outcome.1) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(run_report, outcome))
                (problems(run_report))
                (regions(run_report))
                (timeline(run_report))
                (boots(run_report))
                (checks(run_report))
                @if let Some(since) = &run_report.about.since { (changes(since)) }
                (files(run_report))
            }
        }
    };
    page.into_string()
}

fn head(run_report: &RunReport, (class, outcome): (&str, &str)) -> Markup {
    let checks = run_report.checks.len();
    let failed = run_report.checks.iter().filter(|c| c.outcome == "fail").count();
    let steps = || run_report.phases.iter().flat_map(|p| &p.steps);
    let cached = steps().filter(|s| s.outcome == Outcome::UpToDate).count();
    let home = run_report.about.images.first();
    html! {
        header {
            h1 { (run_report.title()) " " span.outcome.(class) { (outcome) } }
            @if let Some(end) = run_report.end.as_ref().filter(|e| e.exit == 0) { p { (end.summary) } }
            dl.facts {
                (fact("took", &clock(run_report.seconds)))
                @if let Some(image) = home { (fact("version", &image.version)) }
                @if let Some(channel) = &run_report.about.channel { (fact("channel", channel)) }
                @if steps().next().is_some() { (fact("steps", &format!("{} of {} cached", cached, steps().count()))) }
                @if checks > 0 { (fact("checks", &format!("{} of {checks} passed", checks - failed))) }
                @if let Some(image) = home { (fact("base", image.base.as_ref().map_or("unknown", |base| &base.name))) }
                @if let Some(image) = home { (fact("disk", &format!("{} MB", image.disk_bytes / 1_000_000))) }
                @if let Some(image) = home { (fact("recipe", &image.recipe_hash.short())) }
                (fact("began", run_report.began.split('.').next().unwrap_or_default()))
                @if let Some(run) = &run_report.run { (fact("run", run)) }
            }
            pre.command { "$ " (run_report.command) }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// The error, failed checks, findings and warnings, at the top of the page.
fn problems(run_report: &RunReport) -> Markup {
    let end = run_report.end.as_ref().filter(|end| end.exit != 0);
    let failed: Vec<&CheckResult> = run_report.checks.iter().filter(|c| c.outcome != "pass").collect();
    if end.is_none() && failed.is_empty() && run_report.warnings.is_empty() && run_report.findings.is_empty() {
        return html! {};
    }
    html! {
        section.problems {
            @if let Some(end) = end { h2 { "Exit code " (end.exit) } pre { (end.summary) } }
            ul {
                @for check in failed {
                    li { strong { (check.name) } ", " (check.pass) ", " (check.outcome) ": " (check.message) }
                }
                @for finding in &run_report.findings { li { (finding) } }
                @for (message, hint) in &run_report.warnings { li { (message) " " span.hint { (hint) } } }
            }
        }
    }
}

fn regions(run_report: &RunReport) -> Markup {
    if run_report.about.images.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Regions" }
            table {
                tr { th { "region" } th { "image" } th { "copied from" } th { "created" } }
                @for image in &run_report.about.images {
                    tr {
                        td { (image.region) }
                        td { code { (image.id) } }
                        td { @if let Some(from) = &image.copied_from { code { (from) } } }
                        td { (image.created.map(|at| at.strftime("%FT%T").to_string()).unwrap_or_default()) }
                    }
                }
            }
        }
    }
}

fn timeline(run_report: &RunReport) -> Markup {
    if run_report.phases.is_empty() {
        return html! {};
    }
    let whole = run_report.phases.iter().map(|p| p.at + p.seconds).fold(run_report.seconds, f64::max).max(0.001);
    html! {
        section {
            h2 { "Timeline" }
            div.timeline {
                @for phase in &run_report.phases {
                    (row(&subject_line(phase), phase.at, phase.seconds, phase.outcome, whole, "phase", &phase.summary))
                    @for step in &phase.steps { (step_row(step, whole)) }
                }
            }
        }
    }
}

fn step_row(step: &Step, whole: f64) -> Markup {
    row(&step.name, step.at, step.seconds, Some(step.outcome), whole, "step", "")
}

fn row(name: &str, at: f64, seconds: f64, outcome: Option<Outcome>, whole: f64, kind: &str, summary: &str) -> Markup {
    let (class, time) = match outcome {
        Some(Outcome::Done) => ("ran", clock(seconds)),
        // The time to find a cached result is not shown.
        Some(Outcome::UpToDate) => ("cached", "cached".to_owned()),
        Some(Outcome::Failed) => ("failed", clock(seconds)),
        None => ("failed", "interrupted".to_owned()),
    };
    let share = |part: f64| (part / whole * 100.0).clamp(0.0, 100.0);
    let place = format!("left:{:.2}%;width:{:.2}%", share(at), share(seconds).max(0.15));
    html! {
        div class={ "row " (kind) " " (class) } title=(summary) {
            span.name { (name) }
            span.lane { span.bar style=(place) {} }
            span.time { (time) }
        }
    }
}

fn subject_line(phase: &Episode) -> String {
    format!("{} {}", title(phase.phase), phase.subject).trim_end().to_owned()
}

/// The boot times: one column for each boot, one row for each part of it.
fn boots(run_report: &RunReport) -> Markup {
    let boots: Vec<(&str, &Boot)> = run_report.about.smoke.iter().flat_map(Record::boots).collect();
    if boots.is_empty() {
        return html! {};
    }
    let table = boot::table(&boots);
    html! {
        section {
            h2 { "Boot" }
            table {
                tr { th {} @for (pass, _) in &boots { th { (pass) } } }
                @for (name, times) in &table { tr { td { (name) } @for time in times { td { (boot::time(*time)) } } } }
            }
            @let chains = boots.iter().filter(|(_, boot)| !boot.ssh_chain.is_empty());
            @for (pass, boot) in chains {
                details {
                    summary { "units that sshd waited for, " (pass) }
                    table {
                        tr { th { "unit" } th { "active after" } th { "took" } }
                        @for link in &boot.ssh_chain {
                            tr { td { (link.name) } td { (boot::time(Some(link.at))) } td { (boot::time(Some(link.seconds))) } }
                        }
                    }
                }
            }
        }
    }
}

fn checks(run_report: &RunReport) -> Markup {
    let rows = run_report.by_check();
    if rows.is_empty() {
        return html! {};
    }
    let mut passes: Vec<&str> = Vec::new();
    for check in &run_report.checks {
        if !passes.contains(&check.pass.as_str()) {
            passes.push(&check.pass);
        }
    }
    let failed = rows.iter().filter(|(_, outcomes)| outcomes.iter().any(|v| v.outcome != "pass")).count();
    html! {
        section {
            h2 { "Smoke test" }
            details open[failed > 0] {
                summary { (rows.len()) " checks in " (passes.len()) " passes, " (failed) " not passed" }
                table {
                    tr { th { "check" } @for pass in &passes { th { (pass) } } th { "message" } }
                    @for (name, outcomes) in &rows {
                        tr {
                            td { (name) }
                            @for pass in &passes { (outcome(outcomes.iter().find(|v| v.pass == **pass))) }
                            td { (outcomes.last().map_or("", |v| v.message.as_str())) }
                        }
                    }
                }
            }
        }
    }
}

fn outcome(check_result: Option<&&CheckResult>) -> Markup {
    let Some(check_result) = check_result else { return html! { td { "–" } } };
    let class = if check_result.outcome == "pass" { "well" } else { "bad" };
    html! { td.(class) { (check_result.outcome) " " span.seconds { (clock(check_result.seconds)) } } }
}

fn changes(since: &Since) -> Markup {
    let difference = &since.difference;
    let megabytes = |bytes: u64| bytes / 1_000_000;
    html! {
        section {
            h2 { "Since " (since.name) }
            @if difference.system.is_empty() && difference.tools.is_empty() && difference.packages.is_empty() {
                p { "No differences." }
            } @else {
                ul { @for (level, why) in &since.reasons { li { strong { (level.name()) } " " (why) } } }
                (table("system", &difference.system))
                (table("tools", &difference.tools))
                details { summary { (difference.packages.len()) " packages" } (table("packages", &difference.packages)) }
            }
            @for boot in &difference.boots { p { "Machine start to SSH, " (boot.pass) ": " (boot.text()) } }
            p { "Size: " (megabytes(difference.bytes.0)) " MB → " (megabytes(difference.bytes.1)) " MB" }
        }
    }
}

fn table(kind: &str, changes: &[Change]) -> Markup {
    if changes.is_empty() {
        return html! {};
    }
    html! {
        table {
            tr { th { (kind) } th { "was" } th { "is" } }
            @for change in changes {
                tr {
                    td { (change.name) }
                    td { (change.from.as_deref().unwrap_or("–")) }
                    td { (change.to.as_deref().unwrap_or("–")) }
                }
            }
        }
    }
}

fn files(run_report: &RunReport) -> Markup {
    html! {
        @for (file, diff) in &run_report.diffs {
            section { h2 { (file.display()) } pre { (diff) } }
        }
        @for (kind, text) in &run_report.documents {
            section { h2 { (kind) } pre { (text) } }
        }
    }
}
