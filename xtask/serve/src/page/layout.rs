//! What the pages share: the document around them, and how they show times, states and tables.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use super::clean;
use super::view::{Smoke, Status};
use crate::percent::encoded;
use xtask::report::clock;

/// A document. `attributes` of `main` are the addresses that `live.js` reads. `user` is `None` on pages without a session.
pub(super) struct Document<'a> {
    pub(super) title: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) live: Option<Live>,
}

/// What `live.js` updates.
pub(super) enum Live {
    /// The tables of `/`.
    Home,
    /// The log and the state of a build: the address of its events, and the number of the last one that the page shows.
    Build { events: String, after: i64 },
}

impl Document<'_> {
    pub(super) fn render(&self, content: &Markup) -> Markup {
        let (events, after) = match &self.live {
            Some(Live::Build { events, after }) => (Some(events), Some(after)),
            _ => (None, None),
        };
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (clean::line(self.title)) " – agent-ami" }
                    link rel="icon" type="image/svg+xml" href="/assets/icon.svg";
                    link rel="stylesheet" href="/assets/style.css";
                    @if self.live.is_some() { script src="/assets/live.js" defer {} }
                }
                body {
                    a.skip href="#main" { "Skip to content" }
                    (self.header())
                    main #main tabindex="-1" data-live=[self.kind()] data-events=[events] data-after=[after] { (content) }
                }
            }
        }
    }

    fn kind(&self) -> Option<&'static str> {
        self.live.as_ref().map(|live| match live {
            Live::Home => "home",
            Live::Build { .. } => "build",
        })
    }

    fn header(&self) -> Markup {
        html! {
            header.top {
                nav aria-label="Site" { a.brand href="/" { "agent-ami" } }
                @if let Some(user) = self.user {
                    form.session method="post" action="/logout" {
                        span { "Token: " strong { (clean::line(user)) } }
                        button type="submit" { "Log out" }
                    }
                }
            }
        }
    }
}

/// The line with which `live.js` reports changes of state, its switch, and the link for a browser without scripts.
pub(super) fn updates(address: &str) -> Markup {
    html! {
        div.updates {
            p #announce role="status" aria-live="polite" {}
            a href=(address) { "Refresh" }
            button #pause type="button" hidden aria-pressed="false" { "Pause updates" }
        }
    }
}

pub(super) fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// A text that a guest, tool or client may control, on one line.
pub(super) fn text(text: &str) -> Markup {
    html! { (clean::line(text)) }
}

/// A text, or a dash if there is none.
pub(super) fn optional(value: Option<&str>) -> Markup {
    html! { @match value { Some(value) => (clean::line(value)), None => "–" } }
}

pub(super) fn time(at: Option<Timestamp>) -> Markup {
    let Some(at) = at else { return html! { "–" } };
    html! { time datetime=(at.strftime("%FT%TZ")) { span { (at.strftime("%F")) } " " span { (at.strftime("%T")) } } }
}

/// The time between two moments; without an end, until now.
pub(super) fn duration(from: Timestamp, to: Option<Timestamp>, now: Timestamp) -> String {
    let span = to.unwrap_or(now).duration_since(from);
    let shown = clock(span.as_secs_f64().max(0.0).floor());
    if to.is_some() { shown } else { format!("{shown} so far") }
}

pub(super) fn status(status: Status) -> Markup {
    html! { span class={ "outcome " (status.name()) } { (status.name()) } }
}

pub(super) fn smoke(smoke: Smoke) -> Markup {
    match smoke {
        Smoke::NotTested => html! { span.hint { "not tested" } },
        Smoke::Passed => html! { span.well { "passed" } },
        Smoke::Failed => html! { strong.bad { "failed" } },
    }
}

/// A table that a narrow window shows as one block for each row. The roles keep it a table for screen readers then.
pub(super) fn table(caption: &Markup, columns: &[&str], body_id: Option<&str>, rows: &Markup) -> Markup {
    html! {
        table.cards role="table" {
            caption { (caption) }
            thead role="rowgroup" { tr role="row" { @for column in columns { th scope="col" role="columnheader" { (column) } } } }
            tbody role="rowgroup" id=[body_id] { (rows) }
        }
    }
}

/// The cell that names its row.
pub(super) fn head_cell(column: &str, content: &Markup) -> Markup {
    html! { th scope="row" role="rowheader" data-label=(column) { (content) } }
}

pub(super) fn cell(column: &str, content: &Markup) -> Markup {
    html! { td role="cell" data-label=(column) { (content) } }
}

pub(super) fn build_link(id: uuid::Uuid) -> Markup {
    let full = id.to_string();
    let short = full.split('-').next().unwrap_or_default();
    html! { a href={ "/builds/" (full) } title=(full) { code { (short) } } }
}

pub(super) fn image_link(id: &str) -> Markup {
    html! { a href={ "/images/" (encoded(id)) } { code { (clean::line(id)) } } }
}

/// A word for a shell: quoted if it has other characters than those of ids.
pub(super) fn word(text: &str) -> String {
    let text = clean::line(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
