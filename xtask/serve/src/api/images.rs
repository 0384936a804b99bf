//! Lists, shows and deletes images.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::access::{Deleter, Reader};
use super::query::{NoParameters, Parameters, limit, next_page};
use super::{App, Shared, refusals};
use crate::images::Used;
use crate::model::{Image, ImageDetails, Images, SmokeReport};
use crate::problem::Problem;

/// Which images to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only images in this region
    region: Option<String>,
    /// Only images with this agent
    provider: Option<String>,
    /// Images of a page [default: 100]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// The page, from the header `Link` of the page before
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// The images with the builds that made them, newest first.
pub(super) async fn all(app: &App) -> Result<Vec<ImageDetails>, Problem> {
    let builds = app.store.builds_of_images().await?;
    let details = |used: &Used| ImageDetails {
        image: Image {
            image_id: used.image.id.0.clone(),
            provider: used.image.agent.clone(),
            region: used.image.region.clone(),
            status: "available",
            created_at: used.image.created,
            build_id: builds.get(&used.image.id.0).copied(),
        },
        name: used.image.name.clone(),
        version: used.image.version.clone(),
        channels: used.channels.clone(),
        smoke_passed: used.smoke_passed,
    };
    Ok(app.images.all().await?.iter().map(details).collect())
}

/// List the images, newest first
#[utoipa::path(
    get,
    path = "/api/v1/images",
    tag = "images",
    params(Filter),
    responses(
        (status = 200, description = "The images; `Link` has the next page", body = Images),
        refusals::Common,
    )
)]
pub(super) async fn list(
    _: Reader,
    State(app): Shared,
    Parameters(filter): Parameters<Filter>,
) -> Result<Response, Problem> {
    let Filter { region, provider, limit: requested, cursor } = filter;
    let limit = limit(requested)?;
    let mut images: Vec<Image> = all(&app).await?.into_iter().map(|details| details.image).collect();
    images.retain(|image| region.as_ref().is_none_or(|region| image.region.as_str() == region));
    images.retain(|image| provider.is_none() || image.provider == provider);
    if let Some(cursor) = &cursor {
        let at = images.iter().position(|image| image.image_id == *cursor);
        let unknown = || Problem::new(StatusCode::BAD_REQUEST, format!("`{cursor}` is not a cursor of this list"));
        images.drain(..=at.ok_or_else(unknown)?);
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = images.len() > limit;
    images.truncate(limit);
    let link = images.last().filter(|_| has_more).map(|last| {
        let cursor = Some(last.image_id.clone());
        let pairs =
            [("region", region), ("provider", provider), ("limit", Some(limit.to_string())), ("cursor", cursor)];
        [(header::LINK, next_page("/api/v1/images", &pairs))]
    });
    Ok((link, Json(Images { images })).into_response())
}

/// The image of an id.
pub(super) async fn one(app: &App, id: &str) -> Result<ImageDetails, Problem> {
    let found = all(app).await?.into_iter().find(|details| details.image.image_id == id);
    found.ok_or_else(|| Problem::not_found(format!("no image `{id}`")))
}

/// Show an image
#[utoipa::path(
    get,
    path = "/api/v1/images/{image_id}",
    tag = "images",
    params(("image_id" = String, Path, description = "The image's id")),
    responses(
        (status = 200, description = "The image", body = ImageDetails),
        refusals::Common, refusals::NotFound,
    )
)]
pub(super) async fn show(
    _: Reader,
    State(app): Shared,
    Path(id): Path<String>,
    _: Parameters<NoParameters>,
) -> Result<Json<ImageDetails>, Problem> {
    one(&app, &id).await.map(Json)
}

/// Show the result of an image's smoke test
#[utoipa::path(
    get,
    path = "/api/v1/images/{image_id}/smoke",
    tag = "images",
    params(("image_id" = String, Path, description = "The image's id")),
    responses(
        (status = 200, description = "The result of each check", body = SmokeReport),
        refusals::Common, refusals::NotFound,
    )
)]
pub(super) async fn smoke(
    _: Reader,
    State(app): Shared,
    Path(id): Path<String>,
    _: Parameters<NoParameters>,
) -> Result<Json<SmokeReport>, Problem> {
    let report = app.images.smoke(&id).await?;
    report.map(Json).ok_or_else(|| Problem::not_found(format!("{id} was not tested; run `cargo xtask ami smoke {id}`")))
}

/// How to delete.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Deletion {
    /// Delete it although instances or launch templates use it; a channel is never overridden
    #[serde(default)]
    force: bool,
}

/// Delete an image with its snapshots
///
/// Instances that were started from it are not affected.
#[utoipa::path(
    delete,
    path = "/api/v1/images/{image_id}",
    tag = "images",
    params(("image_id" = String, Path, description = "The image's id"), Deletion),
    responses(
        (status = 204, description = "The image is deleted"),
        refusals::Common, refusals::NotFound, refusals::Conflict,
    )
)]
pub(super) async fn delete(
    Deleter(token): Deleter,
    State(app): Shared,
    Path(id): Path<String>,
    Parameters(deletion): Parameters<Deletion>,
) -> Result<StatusCode, Problem> {
    app.images.delete(&id, deletion.force).await?;
    app.log.line(&format!("{id} deleted for {}", token.name));
    Ok(StatusCode::NO_CONTENT)
}
