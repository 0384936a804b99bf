//! Lists channels, promotes images and rolls back.

use axum::Json;
use axum::extract::{Path, State};
use xtask::ids::ChannelName;

use super::access::{Promoter, Reader};
use super::query::{Body, NoParameters, Parameters};
use super::{App, Shared, images, refusals};
use crate::model::{Channel, Channels, Done, Promotion, Rollback};
use crate::problem::Problem;

/// List the channels with the images that they point at
#[utoipa::path(
    get,
    path = "/api/v1/channels",
    tag = "channels",
    responses(
        (status = 200, description = "The channels", body = Channels),
        refusals::Common,
    )
)]
pub(super) async fn list(
    _: Reader,
    State(app): Shared,
    _: Parameters<NoParameters>,
) -> Result<Json<Channels>, Problem> {
    let all = images::all(&app).await?;
    let of = |name: &ChannelName| Channel {
        name: name.clone(),
        images: all.iter().filter(|details| details.channels.contains(name)).cloned().collect(),
    };
    Ok(Json(Channels { channels: app.settings.channels.iter().map(of).collect() }))
}

fn known(app: &App, name: &str) -> Result<ChannelName, Problem> {
    let found = app.settings.channels.iter().find(|channel| channel.as_str() == name).cloned();
    found.ok_or_else(|| Problem::not_found(format!("no channel `{name}`")))
}

/// Point a channel at an image that passed its smoke test
#[utoipa::path(
    post,
    path = "/api/v1/channels/{channel}/promote",
    tag = "channels",
    params(("channel" = String, Path, description = "The channel's name")),
    request_body = Promotion,
    responses(
        (status = 200, description = "The channel points at the image", body = Done),
        refusals::Common, refusals::InvalidBody, refusals::NotFound, refusals::Conflict,
    )
)]
pub(super) async fn promote(
    Promoter(token): Promoter,
    State(app): Shared,
    Path(channel): Path<String>,
    _: Parameters<NoParameters>,
    Body(promotion): Body<Promotion>,
) -> Result<Json<Done>, Problem> {
    let channel = known(&app, &channel)?;
    let summary = app.images.promote(&promotion.image_id, &channel).await?;
    app.log.line(&format!("{} promoted to {channel} for {}", promotion.image_id, token.name));
    Ok(Json(Done { summary }))
}

/// Point a channel back at its previous image, and quarantine the current one
#[utoipa::path(
    post,
    path = "/api/v1/channels/{channel}/rollback",
    tag = "channels",
    params(("channel" = String, Path, description = "The channel's name")),
    request_body = Rollback,
    responses(
        (status = 200, description = "The channel points at the previous image", body = Done),
        refusals::Common, refusals::InvalidBody, refusals::NotFound, refusals::Conflict,
    )
)]
pub(super) async fn rollback(
    Promoter(token): Promoter,
    State(app): Shared,
    Path(channel): Path<String>,
    _: Parameters<NoParameters>,
    Body(rollback): Body<Rollback>,
) -> Result<Json<Done>, Problem> {
    let channel = known(&app, &channel)?;
    if rollback.reason.trim().is_empty() || rollback.reason.chars().count() > 1000 {
        return Err(Problem::refused("`reason` must have 1 to 1000 characters"));
    }
    let summary = app.images.rollback(&channel, &rollback.reason, rollback.image.as_deref()).await?;
    app.log.line(&format!("{channel} rolled back for {}", token.name));
    Ok(Json(Done { summary }))
}
