//! The page `/builds/ID`: one build with its progress and log.

use maud::{Markup, html};

use super::clean;
use super::layout::{Document, Live, duration, fact, image_link, optional, status, text, time, updates, word};
use super::view::{Build, BuildPage, Phase, Progress, State, Status, Step};
use xtask::report::clock;

/// Renders the page `/builds/ID`.
pub fn build(page: &BuildPage) -> Markup {
    let build = &page.build;
    let address = format!("/builds/{}", build.id);
    let short = build.id.to_string().split('-').next().unwrap_or_default().to_owned();
    let content = html! {
        p.back { a href="/" { "All builds and images" } }
        div.title { h1 { "Build " code { (short) } } (updates(&address)) }
        div #state data-status=(build.status.name()) { (facts(page)) (problem(build)) (progress(&page.progress)) }
        (log(page))
    };
    let title = format!("Build {short}: {}", build.status.name());
    // A build that has ended has no new events.
    let live = (!build.status.is_ended())
        .then(|| Live::Build { events: format!("/api/v1/images/builds/{}/events", build.id), after: page.last_seq });
    Document { title: &title, user: Some(&page.user), live }.render(&content)
}

fn facts(page: &BuildPage) -> Markup {
    let build = &page.build;
    let code = |value: &str| html! { code { (text(value)) } };
    html! {
        dl.facts {
            (fact("Status", &status(build.status)))
            (fact("Agent", &optional(build.provider.as_deref())))
            (fact("Region", &text(&build.region)))
            (fact("Template", &code(&build.template)))
            @if let Some(image) = &build.image_id { (fact("Image", &image_link(image))) }
            (fact("Requested by", &text(&build.requested_by)))
            (fact("Created (UTC)", &time(Some(build.created_at))))
            @if build.started_at.is_some() { (fact("Started (UTC)", &time(build.started_at))) }
            @if build.completed_at.is_some() { (fact("Completed (UTC)", &time(build.completed_at))) }
            @if let Some(started) = build.started_at {
                (fact("Time", &html! {
                    span data-since=[build.completed_at.is_none().then(|| started.strftime("%FT%TZ"))] {
                        (duration(started, build.completed_at, page.now))
                    }
                }))
            }
            (fact("Build", &code(&build.id.to_string())))
            @if let Some(run) = &build.run { (fact("Run", &code(run))) }
        }
        @if build.status == Status::Queued { p { "The build waits for a worker." } }
        @if let Some(run) = build.run.as_deref().filter(|_| build.status == Status::Succeeded) { (report_hint(run)) }
    }
}

/// Where the report of the run is.
fn report_hint(run: &str) -> Markup {
    html! { p { "The report of the run, on the machine of the server: " code { "cargo xtask ami report " (word(run)) } } }
}

fn problem(build: &Build) -> Markup {
    let Some(error) = &build.error else { return html! {} };
    html! {
        section.problems aria-labelledby="error" {
            h2 #error { "Error" }
            pre tabindex="0" aria-labelledby="error" { (clean::text(error)) }
            @if let Some(run) = &build.run { (report_hint(run)) }
        }
    }
}

fn progress(progress: &Progress) -> Markup {
    if progress.phases.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="progress" {
            h2 #progress { "Progress" }
            ol.progress { @for item in &progress.phases { (phase(item)) } }
        }
    }
}

fn phase(phase: &Phase) -> Markup {
    html! {
        li {
            (row(&phase.name, phase.state, phase.seconds, &phase.summary))
            @if !phase.steps.is_empty() { ol { @for item in &phase.steps { (step(item)) } } }
        }
    }
}

fn step(step: &Step) -> Markup {
    let name = format!("{} of {}: {}", step.index, step.total, step.name);
    html! { li { (row(&name, step.state, step.seconds, "")) } }
}

fn row(name: &str, state: State, seconds: Option<f64>, summary: &str) -> Markup {
    // The time to find a cached result is not shown.
    let seconds = seconds.filter(|_| state != State::Cached);
    html! {
        div class={ "row " (state.name()) } {
            span.name { (text(name)) }
            span.state { (state.name()) }
            span.time { @if let Some(seconds) = seconds { (clock(seconds)) } }
            @if !summary.is_empty() { span.summary { (text(summary)) } }
        }
    }
}

fn log(page: &BuildPage) -> Markup {
    let id = page.build.id;
    html! {
        section aria-labelledby="log-title" {
            h2 #log-title { "Log" }
            p.hint {
                @if page.is_cut { "The page shows the newest lines. " }
                a href={ "/api/v1/images/builds/" (id) "/log" } { "Whole log as text" }
            }
            @if page.log.is_empty() { p #no-log { @if page.build.status.is_ended() { "No lines." } @else { "No lines yet." } } }
            // Not a live region: a screen reader would read each line.
            pre #log tabindex="0" role="region" aria-labelledby="log-title" {
                @for line in &page.log {
                    span id={ "e" (line.seq) } data-seq=(line.seq) { (text(&line.text)) "\n" }
                }
            }
        }
    }
}
