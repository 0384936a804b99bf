//! The page `/`: builds, channels and images.

use maud::{Markup, html};

use super::clean;
use super::layout::{
    Document, Live, build_link, cell, duration, head_cell, image_link, optional, smoke, status, table, text, time,
    updates, word,
};
use super::view::{Build, Home, Image, Status};
use crate::percent::encoded;

const BUILD_COLUMNS: [&str; 9] =
    ["Build", "Status", "Agent", "Region", "Created", "Started", "Completed", "Image", "Requested by"];
const IMAGE_COLUMNS: [&str; 7] = ["Image", "Name", "Version", "Agent", "Channels", "Created", "Smoke test"];

/// Renders the page `/`.
pub fn home(home: &Home) -> Markup {
    let content = html! {
        div.title { h1 { "Builds and images" } (updates(&address(home.status, None))) }
        (builds(home))
        div #images {
            @match &home.images {
                Ok(images) => { (channels(images)) (regions(images)) }
                Err(error) => section.problems { h2 { "Images" } p { "The images cannot be listed." } pre { (clean::text(error)) } }
            }
        }
    };
    Document { title: "Builds and images", user: Some(&home.user), live: Some(Live::Home) }.render(&content)
}

/// The address of the page with a filter and a cursor.
fn address(status: Option<Status>, cursor: Option<&str>) -> String {
    let status = status.map(|status| format!("status={}", status.name()));
    let cursor = cursor.map(|cursor| format!("cursor={}", encoded(cursor)));
    let query: Vec<String> = status.into_iter().chain(cursor).collect();
    if query.is_empty() { "/".to_owned() } else { format!("/?{}", query.join("&")) }
}

fn builds(home: &Home) -> Markup {
    html! {
        section aria-labelledby="builds" {
            h2 #builds { "Builds" }
            (filter(home.status))
            @if home.builds.is_empty() {
                (no_builds(home))
            } @else {
                (table(&html! { "Newest first; times in UTC" }, &BUILD_COLUMNS, Some("build-rows"), &html! {
                    @for build in &home.builds { (build_row(build, home)) }
                }))
            }
            @if home.is_later || home.next_cursor.is_some() {
                nav.pages aria-label="Pages of builds" {
                    @if home.is_later { a href=(address(home.status, None)) { "Newest builds" } }
                    @if let Some(cursor) = &home.next_cursor {
                        a rel="next" href=(address(home.status, Some(cursor))) { "Older builds" }
                    }
                }
            }
        }
    }
}

fn filter(selected: Option<Status>) -> Markup {
    html! {
        form.filter method="get" action="/" role="search" aria-label="Filter of builds" {
            label for="status" { "Status" }
            select #status name="status" {
                option value="" selected[selected.is_none()] { "all" }
                @for status in Status::ALL {
                    option value=(status.name()) selected[selected == Some(status)] { (status.name()) }
                }
            }
            button type="submit" { "Filter" }
        }
    }
}

fn no_builds(home: &Home) -> Markup {
    if let Some(status) = home.status {
        return html! { p { "No builds with the status " (status.name()) ". " a href="/" { "Show all builds" } } };
    }
    if home.is_later {
        return html! { p { "No older builds." } };
    }
    let url = word(&format!("{}/api/v1/images/build", home.origin));
    html! {
        p { "No builds yet. To request one, with a token of the scope " code { "build" } ":" }
        pre tabindex="0" {
            "curl -X POST " (url) " \\\n  -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\\n  "
            "-d '{\"provider\": \"claude-code\"}'"
        }
        p { "To create a token: " code { "cargo xtask serve token create NAME --scope build" } }
    }
}

fn build_row(build: &Build, home: &Home) -> Markup {
    let [id, state, agent, region, created, started, completed, image, by] = BUILD_COLUMNS;
    html! {
        tr role="row" id={ "build-" (build.id) } data-status=(build.status.name()) {
            (head_cell(id, &build_link(build.id)))
            (cell(state, &status(build.status)))
            (cell(agent, &optional(build.provider.as_deref())))
            (cell(region, &text(&build.region)))
            (cell(created, &time(Some(build.created_at))))
            (cell(started, &time(build.started_at)))
            (cell(completed, &completion(build, home)))
            (cell(image, &html! { @match &build.image_id { Some(image) => (image_link(image)), None => "–" } }))
            (cell(by, &text(&build.requested_by)))
        }
    }
}

/// When the build ended and how long it took; before, how long it has taken.
fn completion(build: &Build, home: &Home) -> Markup {
    let took = build.started_at.map(|started| duration(started, build.completed_at, home.now));
    html! {
        @if build.completed_at.is_some() || took.is_none() { (time(build.completed_at)) " " }
        @if let Some(took) = took { span.seconds { (took) } }
    }
}

/// Which image each channel points at in each region.
fn channels(images: &[Image]) -> Markup {
    let regions = distinct(images.iter().map(|image| image.region.as_str()));
    let channels = distinct(images.iter().flat_map(|image| image.channels.iter().map(String::as_str)));
    if channels.is_empty() {
        return html! {};
    }
    let cleaned: Vec<String> = regions.iter().map(|region| clean::line(region)).collect();
    let columns: Vec<&str> = ["Channel"].into_iter().chain(cleaned.iter().map(String::as_str)).collect();
    html! {
        section aria-labelledby="channels" {
            h2 #channels { "Channels" }
            (table(&html! { "The image that each channel points at" }, &columns, None, &html! {
                @for channel in channels {
                    tr role="row" {
                        (head_cell("Channel", &text(channel)))
                        @for (region, column) in regions.iter().zip(&cleaned) {
                            (cell(column, &pointed_at(images, channel, region)))
                        }
                    }
                }
            }))
        }
    }
}

fn pointed_at(images: &[Image], channel: &str, region: &str) -> Markup {
    let of = |image: &&Image| image.region == region && image.channels.iter().any(|name| name == channel);
    let mut found = images.iter().filter(of).peekable();
    html! {
        @if found.peek().is_none() { "–" }
        @for image in found { div { (image_link(&image.image_id)) " " span.seconds { (text(&image.version)) } } }
    }
}

fn regions(images: &[Image]) -> Markup {
    html! {
        section aria-labelledby="regions" {
            h2 #regions { "Images" }
            @if images.is_empty() {
                p { "No images yet. A build that succeeds makes one, and so does:" }
                pre tabindex="0" { "cargo xtask ami build" }
            }
            @for region in distinct(images.iter().map(|image| image.region.as_str())) {
                @let caption = html! { "Images in " strong { (text(region)) } ", newest first; times in UTC" };
                (table(&caption, &IMAGE_COLUMNS, None, &html! {
                    @for image in images.iter().filter(|image| image.region == region) { (image_row(image)) }
                }))
            }
        }
    }
}

fn image_row(image: &Image) -> Markup {
    let [id, name, version, agent, channels, created, tested] = IMAGE_COLUMNS;
    html! {
        tr role="row" {
            (head_cell(id, &image_link(&image.image_id)))
            (cell(name, &text(&image.name)))
            (cell(version, &text(&image.version)))
            (cell(agent, &optional(image.provider.as_deref())))
            (cell(channels, &optional(Some(image.channels.join(", ").as_str()).filter(|names| !names.is_empty()))))
            (cell(created, &time(image.created_at)))
            (cell(tested, &smoke(image.smoke)))
        }
    }
}

/// The values in the order of their first appearance.
pub(super) fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}
