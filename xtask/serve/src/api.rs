//! The HTTP API: what every endpoint shares, and the router.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::response::IntoResponse as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Notify, Semaphore, watch};
use tower_http::timeout::RequestBodyTimeoutLayer;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::guard::Limits;
use crate::images::Images;
use crate::log::Log;
use crate::problem::{self, Problem};
use crate::process::Xtask;
use crate::queue::Queue;
use crate::runner::Drain;
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::store::Store;
use crate::tokens::Tokens;

mod access;
mod admit;
mod build;
#[expect(unused_qualifications, reason = "utoipa qualifies the types of parameters")]
mod builds;
mod channels;
#[expect(unused_qualifications, reason = "utoipa qualifies the types of parameters")]
mod events;
#[expect(unused_qualifications, reason = "utoipa qualifies the types of parameters")]
mod images;
mod meta;
mod pages;
mod query;
mod refusals;

/// The longest body of a request in bytes.
const LONGEST_BODY: usize = 64 * 1024;
/// Time without a part of the body after which its request ends.
const BODY_PAUSE: Duration = Duration::from_secs(10);
/// Event streams at the same time.
const STREAMS: usize = 512;

/// What endpoints use.
#[derive(Debug)]
pub struct App {
    pub settings: Arc<Settings>,
    pub store: Store,
    pub queue: Queue,
    pub xtask: Arc<Xtask>,
    pub images: Arc<Images>,
    pub tokens: Tokens,
    pub sessions: Sessions,
    pub limits: Limits,
    pub log: Log,
    pub metrics: PrometheusHandle,
    /// Notified when a build or its events have changed.
    pub changed: Arc<Notify>,
    pub drain: watch::Receiver<Drain>,
    pub streams: Arc<Semaphore>,
}

/// Shared by all requests.
type Shared = axum::extract::State<Arc<App>>;

/// A semaphore for [`App::streams`].
pub fn streams() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(STREAMS))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "agent-ami images API",
        description = "Builds machine images with coding agents pre-installed, and follows, promotes and deletes them.",
        license(name = "MIT")
    ),
    components(schemas(problem::Body)),
    security(("token" = [])),
    tags((name = "images"), (name = "builds"), (name = "channels"), (name = "server"))
)]
struct Document;

/// The router of the API and the page, and the OpenAPI document of the API.
fn documented() -> (Router<Arc<App>>, utoipa::openapi::OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(build::start))
        .routes(routes!(images::list))
        .routes(routes!(builds::list))
        .routes(routes!(builds::show))
        .routes(routes!(builds::cancel))
        .routes(routes!(events::stream))
        .routes(routes!(events::log))
        .routes(routes!(images::show, images::delete))
        .routes(routes!(images::smoke))
        .routes(routes!(channels::list))
        .routes(routes!(channels::promote))
        .routes(routes!(channels::rollback))
        .routes(routes!(meta::health))
        .routes(routes!(meta::ready))
        .routes(routes!(meta::metrics))
        .split_for_parts();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token of `cargo xtask serve token create`."))
        .build();
    document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    (router, document)
}

/// The OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    documented().1
}

/// The router of the server.
pub fn router(app: Arc<App>) -> Router {
    let (router, document) = documented();
    let document = document.to_json().unwrap_or_default();
    let openapi =
        move || async move { ([(axum::http::header::CONTENT_TYPE, "application/json")], document).into_response() };
    router
        .route("/api/v1/openapi.json", axum::routing::get(openapi))
        .merge(pages::router())
        .fallback(async || Problem::not_found("there is no such path; see /api/v1/openapi.json"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "the path does not have this method; see the header Allow",
            )
        })
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), admit::admit))
        .with_state(app)
}
