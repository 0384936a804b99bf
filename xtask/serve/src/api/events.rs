//! The events of a build: as server-sent events while it runs, and as text.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;
use uuid::Uuid;

use super::access::Reader;
use super::query::{NoParameters, Parameters, build_id, unknown_build};
use super::{App, Shared, refusals};
use crate::model::BuildEvent;
use crate::page;
use crate::problem::Problem;

/// Events that are read from the database at once.
const BATCH: i64 = 500;
/// Time after which the database is read again, even if this server did not change the build: another one may have.
const LOOK: Duration = Duration::from_secs(1);
/// Time without an event after which a comment is sent, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Where a stream begins.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Start {
    /// Only events after this one; the header `Last-Event-ID` overrides it
    #[param(minimum = 0)]
    after: Option<i64>,
}

/// A stream and where it is.
struct Following {
    app: Arc<App>,
    build: Uuid,
    after: i64,
    waiting: VecDeque<Event>,
    has_ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// Follow a build
///
/// Server-sent events. Type `event`: one event of `cargo xtask --format json` as JSON, with its number as `id`. Type `end`: the build, after
/// its last event; the server then closes the connection. A client that reconnects with `Last-Event-ID` gets the events after that one.
#[utoipa::path(
    get,
    path = "/api/v1/images/builds/{build_id}/events",
    tag = "builds",
    params(
        ("build_id" = String, Path, description = "The build's id", format = Uuid),
        ("Last-Event-ID" = Option<i64>, Header, description = "Only events after this one", minimum = 0),
        Start,
    ),
    responses(
        (status = 200, description = "The events", body = BuildEvent, content_type = "text/event-stream"),
        refusals::Common, refusals::NotFound,
    )
)]
pub(super) async fn stream(
    _: Reader,
    State(app): Shared,
    Path(id): Path<String>,
    Parameters(start): Parameters<Start>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let build = build_id(&id)?;
    if app.store.build(build).await?.is_none() {
        return Err(unknown_build(id));
    }
    let wrong = |what: &str| Problem::new(StatusCode::BAD_REQUEST, format!("`{what}` is not the number of an event"));
    if start.after.is_some_and(|after| after < 0) {
        return Err(wrong("after"));
    }
    let after = match headers.get("last-event-id") {
        Some(value) => {
            let number = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|number: &i64| *number >= 0);
            number.ok_or_else(|| wrong("Last-Event-ID"))?
        }
        None => start.after.unwrap_or(0),
    };
    let permit = Arc::clone(&app.streams).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::busy("too many clients follow builds", 10))?;
    let following = Following { app, build, after, waiting: VecDeque::new(), has_ended: false, _permit: permit };
    let sse = Sse::new(events(following)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(sse.into_response())
}

fn events(following: Following) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(following, async |mut following| {
        loop {
            if let Some(event) = following.waiting.pop_front() {
                return Some((Ok(event), following));
            }
            if following.has_ended {
                return None;
            }
            let changed = Arc::clone(&following.app.changed);
            let changed = changed.notified();
            if following.read().await == 0 && !following.has_ended {
                // A change between the read and this wait has woken it already.
                let _ = tokio::time::timeout(LOOK, changed).await;
            }
        }
    })
}

impl Following {
    /// Reads new events. Returns how many. An error of the database is no end: the next read may succeed.
    async fn read(&mut self) -> usize {
        // Before the events: what the build wrote until it ended is in them.
        let Ok(build) = self.app.store.build(self.build).await else { return 0 };
        let Ok(events) = self.app.store.events(self.build, self.after, BATCH).await else { return 0 };
        for event in &events {
            self.after = event.seq;
            self.waiting.push_back(Event::default().event("event").id(event.seq.to_string()).data(&event.data));
        }
        let build = build.map(|details| details.build);
        if events.is_empty() && build.as_ref().is_none_or(|build| build.status.is_ended()) {
            self.has_ended = true;
            let data = serde_json::to_string(&build).unwrap_or_default();
            self.waiting.push_back(Event::default().event("end").data(data));
        }
        events.len()
    }
}

/// Print the log of a build
///
/// The output of its steps and the phases of the build, one line each.
#[utoipa::path(
    get,
    path = "/api/v1/images/builds/{build_id}/log",
    tag = "builds",
    params(("build_id" = String, Path, description = "The build's id", format = Uuid)),
    responses(
        (status = 200, description = "The log so far", body = String, content_type = "text/plain"),
        refusals::Common, refusals::NotFound,
    )
)]
pub(super) async fn log(
    _: Reader,
    State(app): Shared,
    Path(id): Path<String>,
    _: Parameters<NoParameters>,
) -> Result<Response, Problem> {
    let build = build_id(&id)?;
    if app.store.build(build).await?.is_none() {
        return Err(unknown_build(id));
    }
    let (mut text, mut after) = (String::new(), 0);
    loop {
        let events = app.store.events(build, after, BATCH).await?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        for line in events.iter().filter_map(|event| page::log::line(&serde_json::from_str(&event.data).ok()?)) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}
