//! Lists, shows and cancels builds.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::access::{Builder, Reader};
use super::query::{NoParameters, Parameters, build_id, limit, next_page, unknown_build};
use super::{Shared, refusals};
use crate::model::{Build, Builds, Status};
use crate::problem::Problem;
use crate::store::Cursor;

/// Which builds to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only builds with this status
    status: Option<Status>,
    /// Builds of a page [default: 100]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// The page, from the header `Link` of the page before
    #[param(pattern = "^[0-9]+_[0-9a-f-]{36}$")]
    cursor: Option<String>,
}

/// List builds, newest first
#[utoipa::path(
    get,
    path = "/api/v1/images/builds",
    tag = "builds",
    params(Filter),
    responses(
        (status = 200, description = "The builds; `Link` has the next page", body = Builds),
        refusals::Common,
    )
)]
pub(super) async fn list(
    _: Reader,
    State(app): Shared,
    Parameters(filter): Parameters<Filter>,
) -> Result<Response, Problem> {
    let limit = limit(filter.limit)?;
    let after = filter.cursor.as_deref().map(str::parse::<Cursor>).transpose();
    let after = after.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e))?;
    let (builds, next) = app.store.page(filter.status, after, limit).await?;
    let link = next.map(|cursor| {
        let status = filter.status.map(|status| status.name().to_owned());
        let pairs = [("status", status), ("limit", Some(limit.to_string())), ("cursor", Some(cursor.to_string()))];
        [(header::LINK, next_page("/api/v1/images/builds", &pairs))]
    });
    Ok((link, Json(Builds { builds })).into_response())
}

/// Show a build
#[utoipa::path(
    get,
    path = "/api/v1/images/builds/{build_id}",
    tag = "builds",
    params(("build_id" = String, Path, description = "The build's id", format = Uuid)),
    responses(
        (status = 200, description = "The build", body = Build),
        refusals::Common, refusals::NotFound,
    )
)]
pub(super) async fn show(
    _: Reader,
    State(app): Shared,
    Path(id): Path<String>,
    _: Parameters<NoParameters>,
) -> Result<Json<Build>, Problem> {
    let build = app.store.build(build_id(&id)?).await?;
    build.map(|details| Json(details.build)).ok_or_else(|| unknown_build(id))
}

/// Cancel a build
///
/// A queued build ends at once. A running one deletes what it made and ends then: its status is `failed`, and its error names who cancelled it.
#[utoipa::path(
    post,
    path = "/api/v1/images/builds/{build_id}/cancel",
    tag = "builds",
    params(("build_id" = String, Path, description = "The build's id", format = Uuid)),
    responses(
        (status = 202, description = "The build is cancelled", body = Build),
        refusals::Common, refusals::NotFound, refusals::Conflict,
    )
)]
pub(super) async fn cancel(
    Builder(token): Builder,
    State(app): Shared,
    Path(id): Path<String>,
    _: Parameters<NoParameters>,
) -> Result<(StatusCode, Json<Build>), Problem> {
    let id = build_id(&id)?;
    let cancelled = app.store.cancel(id, &token.name).await?;
    let build = app.store.build(id).await?.ok_or_else(|| unknown_build(id))?.build;
    if !cancelled {
        return Err(Problem::conflict(format!("the build has ended: {}", build.status.name())));
    }
    app.log.build(id, &format!("cancelled by {}", token.name));
    app.changed.notify_waiters();
    Ok((StatusCode::ACCEPTED, Json(build)))
}
