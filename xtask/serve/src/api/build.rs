//! `POST /api/v1/images/build`

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use xtask::error::Exit;

use super::access::Builder;
use super::query::{Body, NoParameters, Parameters};
use super::{App, Shared, refusals};
use crate::accept::{self, Accepted, Template};
use crate::model::{BuildBody, BuildDetails, Queued, Status};
use crate::problem::Problem;
use crate::runner::Drain;
use crate::store::{Enqueued, NewBuild};
use crate::words;

/// The header by which a repeated request is recognized.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest key.
const LONGEST_KEY: usize = 255;
/// Seconds after which a client may try again when the queue is full, or the server stops.
const LATER: u64 = 60;
/// Time after which a request is queued without having been checked by `ami plan`.
const CHECKING: Duration = Duration::from_secs(20);

/// Queue a build
///
/// The body has the documented form, or that of the `ciab` client. Templates, regions, instance types and variables must be allowed by ami.toml.
#[utoipa::path(
    post,
    path = "/api/v1/images/build",
    tag = "builds",
    params(("Idempotency-Key" = Option<String>, Header, description = "A request that is repeated with the same key does not start a second build", min_length = 1, max_length = 255, pattern = "^[!-~]*$")),
    request_body = BuildBody,
    responses(
        (status = 202, description = "The build is queued; `Location` is its URL", body = Queued),
        refusals::Common, refusals::InvalidBody,
    )
)]
pub(super) async fn start(
    Builder(token): Builder,
    State(app): Shared,
    Parameters(NoParameters {}): Parameters<NoParameters>,
    headers: HeaderMap,
    Body(body): Body<serde_json::Value>,
) -> Result<Response, Problem> {
    let idempotency_key = idempotency_key(&headers)?;
    let request = accept::body(body, &app.settings.allowed)?;
    if *app.drain.borrow() > Drain::No {
        return Err(Problem::busy("the server stops, and accepts no build", LATER));
    }
    checked(&app, &request).await?;
    let new = NewBuild { requested_by: token.name, idempotency_key, request };
    let build = match app.store.enqueue(&new, app.settings.queue_limit).await? {
        Enqueued::Queued(build) => {
            app.log.build(build.build.build_id, &format!("queued for {}", new.requested_by));
            // If it cannot be delivered now, a worker without work finds it.
            if let Err(error) = app.queue.offer(build.build.build_id, &new.request.region).await {
                app.log.build(build.build.build_id, &format!("cannot be delivered yet: {error}"));
            }
            app.changed.notify_waiters();
            build
        }
        Enqueued::Before(build) => build,
        Enqueued::OtherRequest => {
            return Err(Problem::refused("the Idempotency-Key was used for another request"));
        }
        Enqueued::Full => {
            let detail = format!(
                "{} builds are queued; the limit is `queue_limit` in [serve] of ami.toml",
                app.settings.queue_limit
            );
            return Err(Problem::busy(detail, LATER));
        }
    };
    Ok(answer(&build))
}

/// The same answer for a repeated request, whatever became of the build.
fn answer(build: &BuildDetails) -> Response {
    let id = build.build.build_id;
    let queued = Queued {
        build_id: id,
        status: Status::Queued,
        provider: build.build.provider.clone(),
        region: build.build.region.clone(),
        created_at: build.created_at,
    };
    let mut response = (StatusCode::ACCEPTED, Json(queued)).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/images/builds/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY);
    let text = text.filter(|key| key.bytes().all(|b| b.is_ascii_graphic()));
    let wrong =
        || Problem::refused(format!("`Idempotency-Key` must have 1 to {LONGEST_KEY} printable ASCII characters"));
    text.map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

/// Refuses what `ami plan` refuses: agents and variables that the template does not have. A template of another project would have to be
/// downloaded, so its build itself fails.
async fn checked(app: &Arc<App>, request: &Accepted) -> Result<(), Problem> {
    let Template::Source(source) = &request.template else { return Ok(()) };
    let is_ours =
        source.parse::<xtask::template_source::TemplateSource>().is_ok_and(|source| source.in_project().is_some());
    if !is_ours {
        return Ok(());
    }
    match app.xtask.query(&words::plan(request, source), CHECKING).await {
        Ok(outcome) if !outcome.ok && outcome.exit == Exit::Usage as u8 => Err(Problem::refused(outcome.summary)),
        // Other failures are those of this moment: the build may succeed.
        Ok(_) | Err(_) => Ok(()),
    }
}
