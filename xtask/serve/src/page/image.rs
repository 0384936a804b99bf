//! The page `/images/ID`: one image with the result of its smoke test.

use maud::{Markup, html};

use super::home::distinct;
use super::layout::{Document, build_link, cell, fact, head_cell, optional, smoke, table, text, time, word};
use super::view::{Check, Image, ImagePage, SmokeReport};
use crate::percent::encoded;
use xtask::report::clock;

const COLUMNS: [&str; 4] = ["Check", "Outcome", "Time", "Message"];

/// Renders the page `/images/ID`.
pub fn image(page: &ImagePage) -> Markup {
    let image = &page.image;
    let content = html! {
        p.back { a href="/" { "All builds and images" } }
        h1 { (text(&image.name)) }
        (facts(image))
        (report(image))
        @if let Some(report) = &page.smoke { (smoke_report(image, report)) } @else { (not_tested(image)) }
        @if !page.contents.is_empty() {
            section aria-labelledby="contents" {
                h2 #contents { "Contents" }
                dl.facts { @for (name, value) in &page.contents { div { dt { (text(name)) } dd { (text(value)) } } } }
            }
        }
    };
    Document { title: &format!("Image {}", image.name), user: Some(&page.user), live: None }.render(&content)
}

fn facts(image: &Image) -> Markup {
    let channels = Some(image.channels.join(", ")).filter(|names| !names.is_empty());
    html! {
        dl.facts {
            (fact("Image", &html! { code { (text(&image.image_id)) } }))
            (fact("Region", &text(&image.region)))
            (fact("Version", &text(&image.version)))
            (fact("Agent", &optional(image.provider.as_deref())))
            (fact("Channels", &optional(channels.as_deref())))
            (fact("Smoke test", &smoke(image.smoke)))
            (fact("Created (UTC)", &time(image.created_at)))
            (fact("Build", &html! {
                @match image.build_id { Some(id) => (build_link(id)), None => "by cargo xtask" }
            }))
        }
    }
}

/// The commands that export the report.
fn report(image: &Image) -> Markup {
    let id = word(&image.image_id);
    html! {
        section aria-labelledby="report" {
            h2 #report { "Report" }
            p { "Path of the report of the run that built the image, and its documents (manifest, SBOM, smoke report):" }
            pre tabindex="0" aria-labelledby="report" {
                "cargo xtask ami report " (id) "\ncargo xtask ami report --documents DIR " (id)
            }
        }
    }
}

fn not_tested(image: &Image) -> Markup {
    html! {
        section aria-labelledby="smoke" {
            h2 #smoke { "Smoke test" }
            p { "No smoke report. To test the image:" }
            pre tabindex="0" aria-labelledby="smoke" { "cargo xtask ami smoke " (word(&image.image_id)) }
        }
    }
}

fn smoke_report(image: &Image, report: &SmokeReport) -> Markup {
    let passed = report.checks.iter().filter(|check| check.outcome == "pass").count();
    html! {
        section aria-labelledby="smoke" {
            h2 #smoke { "Smoke test" }
            p {
                (smoke(image.smoke)) ": " (passed) " of " (report.checks.len()) " checks passed"
                @if report.at.is_some() { ", " (time(report.at)) " UTC" }
                ". " a href={ "/api/v1/images/" (encoded(&image.image_id)) "/smoke" } { "Report as JSON" }
            }
            @for pass in distinct(report.checks.iter().map(|check| check.pass.as_str())) {
                @let checks: Vec<&Check> = report.checks.iter().filter(|check| check.pass == pass).collect();
                (pass_table(pass, checks))
            }
        }
    }
}

fn pass_table(pass: &str, mut checks: Vec<&Check>) -> Markup {
    checks.sort_by_key(|check| rank(&check.outcome));
    let failed = checks.iter().filter(|check| rank(&check.outcome) == 0).count();
    let caption = html! { strong { (text(pass)) } ": " (checks.len()) " checks, " (failed) " failed" };
    table(&caption, &COLUMNS, None, &html! { @for check in checks { (check_row(check)) } })
}

/// The order of outcomes: what failed comes first.
fn rank(outcome: &str) -> u8 {
    match outcome {
        "pass" => 3,
        "skipped" => 2,
        "quarantined" => 1,
        _ => 0,
    }
}

fn check_row(check: &Check) -> Markup {
    let [name, outcome, seconds, message] = COLUMNS;
    let class = match rank(&check.outcome) {
        0 => "bad",
        3 => "well",
        _ => "hint",
    };
    html! {
        tr role="row" {
            (head_cell(name, &text(&check.name)))
            (cell(outcome, &html! { span class=(class) { (text(&check.outcome)) } }))
            (cell(seconds, &html! { span.seconds { (clock(check.seconds)) } }))
            (cell(message, &text(&check.message)))
        }
    }
}
