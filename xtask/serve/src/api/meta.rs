//! Health, readiness and metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use super::access::Reader;
use super::query::{NoParameters, Parameters};
use super::{Shared, refusals};
use crate::model::{Health, Status};
use crate::problem::Problem;
use crate::runner::Drain;

/// Report that the server runs
#[utoipa::path(
    get,
    path = "/health",
    tag = "server",
    security(()),
    responses(
        (status = 200, description = "It runs", body = Health),
        refusals::Open,
    )
)]
pub(super) async fn health(_: Parameters<NoParameters>) -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Report whether the server accepts builds
#[utoipa::path(
    get,
    path = "/ready",
    tag = "server",
    security(()),
    responses(
        (status = 200, description = "It accepts builds", body = Health),
        refusals::Open,
    )
)]
pub(super) async fn ready(State(app): Shared, _: Parameters<NoParameters>) -> Result<Json<Health>, Problem> {
    if *app.drain.borrow() > Drain::No {
        return Err(Problem::busy("the server stops", 60));
    }
    app.store.ping().await?;
    Ok(Json(Health { status: "ok" }))
}

/// Print the metrics in the format of Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "server",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
        refusals::Common,
    )
)]
pub(super) async fn metrics(_: Reader, State(app): Shared, _: Parameters<NoParameters>) -> Result<Response, Problem> {
    let counts = app.store.counts().await?;
    for status in Status::ALL.map(Status::name) {
        let count = counts.get(status).copied().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^53 builds")]
        metrics::gauge!("agent_ami_builds", "status" => status).set(count as f64);
    }
    let text = app.metrics.render();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
