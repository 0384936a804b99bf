//! The pages: reads what they show, and renders it. They change nothing but the session.

use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Form, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use maud::Markup;
use serde::Deserialize;
use serde_json::Value;
use xtask::cli::Scope;

use super::access::{Caller, cookie};
use super::query::{Parameters, build_id, unknown_build};
use super::{App, Shared, images};
use crate::model::{BuildDetails, ImageDetails, Status};
use crate::page::{self, view};
use crate::problem::Problem;
use crate::sessions::{COOKIE, LIFETIME};
use crate::store::{Cursor, StoredEvent};
use crate::tokens::Token;

/// Builds of a page.
const BUILDS: i64 = 50;
/// Lines of the log on the page of a build.
const LINES: i64 = 2000;

/// The routes of the pages.
pub(super) fn router() -> Router<Arc<App>> {
    let asset = |kind: &'static str, content: &'static str| {
        // The names do not change with the content, so browsers ask each time.
        get(async move || ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], content))
    };
    Router::new()
        .route("/", get(home))
        .route("/builds/{build_id}", get(build))
        .route("/images/{image_id}", get(image))
        .route("/login", get(async || Html(page::login(None))).post(log_in))
        .route("/logout", post(log_out))
        .route("/assets/style.css", asset("text/css; charset=utf-8", page::STYLE))
        .route("/assets/live.js", asset("text/javascript; charset=utf-8", page::SCRIPT))
        .route("/assets/icon.svg", asset("image/svg+xml", page::ICON))
}

/// A page with its content security policy.
struct Html(Markup);

impl IntoResponse for Html {
    fn into_response(self) -> Response {
        let headers =
            [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, page::CSP)];
        (headers, self.0.into_string()).into_response()
    }
}

/// An error as a page.
struct Failed(Problem, Option<String>);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Self(problem, user) = self;
        let html = Html(page::error(problem.status.as_u16(), &problem.body().detail, user.as_deref()));
        (problem.status, html).into_response()
    }
}

/// Who looks at a page. Without a session, the login page follows.
struct Viewer(Token);

impl<S: Send + Sync> FromRequestParts<S> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let token = parts.extensions.get::<Caller>().and_then(|caller| caller.0.clone());
        match token {
            None => Err(Redirect::to("/login").into_response()),
            Some(token) if token.has(Scope::Read) => Ok(Self(token)),
            Some(token) => {
                let detail = format!("the token `{}` does not have the scope `read`", token.name);
                Err(Failed(Problem::new(StatusCode::FORBIDDEN, detail), Some(token.name)).into_response())
            }
        }
    }
}

#[derive(Debug, Deserialize)]
struct Filter {
    #[serde(default)]
    status: String,
    cursor: Option<String>,
}

async fn home(
    Viewer(token): Viewer,
    State(app): Shared,
    headers: HeaderMap,
    Parameters(filter): Parameters<Filter>,
) -> Result<Html, Failed> {
    let failed = |problem: Problem| Failed(problem, Some(token.name.clone()));
    let wrong = |detail: String| failed(Problem::new(StatusCode::BAD_REQUEST, detail));
    // The form sends an empty status for all builds.
    let status = Some(filter.status.as_str()).filter(|status| !status.is_empty());
    let status = status.map(str::parse::<Status>).transpose().map_err(wrong)?;
    let after = filter.cursor.as_deref().map(str::parse::<Cursor>).transpose().map_err(wrong)?;
    let (builds, next) = app.store.page(status, after, BUILDS).await.map_err(|e| failed(e.into()))?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let scheme = if app.settings.tls.is_some() { "https" } else { "http" };
    let images = images::all(&app).await;
    Ok(Html(page::home(&view::Home {
        user: token.name.clone(),
        now: Timestamp::now(),
        origin: format!("{scheme}://{host}"),
        status,
        is_later: after.is_some(),
        next_cursor: next.map(|next| next.to_string()),
        builds: builds.iter().map(shown_build).collect(),
        images: images.map(|all| all.iter().map(shown_image).collect()).map_err(|problem| problem.detail),
    })))
}

async fn build(Viewer(token): Viewer, State(app): Shared, Path(id): Path<String>) -> Result<Html, Failed> {
    let page = read_build(&app, &token, &id).await.map_err(|problem| Failed(problem, Some(token.name.clone())))?;
    Ok(Html(page::build(&page)))
}

async fn read_build(app: &App, token: &Token, id: &str) -> Result<view::BuildPage, Problem> {
    let id = build_id(id)?;
    let build = app.store.build(id).await?.ok_or_else(|| unknown_build(id))?;
    let mut progress = page::progress::Progress::default();
    for event in app.store.progress(id).await? {
        progress.add(&parsed(&event));
    }
    if build.build.status.is_ended() {
        progress.interrupt();
    }
    let newest = app.store.newest(id, LINES).await?;
    let line = |event: &StoredEvent| page::log::line(&parsed(event)).map(|text| view::LogLine { seq: event.seq, text });
    Ok(view::BuildPage {
        user: token.name.clone(),
        now: Timestamp::now(),
        build: shown_build(&build),
        progress,
        log: newest.iter().filter_map(line).collect(),
        is_cut: newest.first().is_some_and(|first| first.seq > 1),
        last_seq: newest.last().map_or(0, |last| last.seq),
    })
}

fn parsed(event: &StoredEvent) -> Value {
    serde_json::from_str(&event.data).unwrap_or_default()
}

async fn image(Viewer(token): Viewer, State(app): Shared, Path(id): Path<String>) -> Result<Html, Failed> {
    let page = read_image(&app, &token, &id).await.map_err(|problem| Failed(problem, Some(token.name.clone())))?;
    Ok(Html(page::image(&page)))
}

async fn read_image(app: &App, token: &Token, id: &str) -> Result<view::ImagePage, Problem> {
    let details = images::one(app, id).await?;
    let record = app.images.one(id).await?.image;
    let smoke = match details.smoke_passed {
        Some(_) => app.images.smoke(id).await?,
        None => None,
    };
    let contents = [
        ("Base", record.base.map_or_else(|| "unknown".to_owned(), |base| base.name)),
        ("Size", format!("{} MB", record.disk_bytes / 1_000_000)),
        ("Engine", record.engine.name().to_owned()),
        ("Recipe", record.recipe_hash.short().to_string()),
        ("Run", record.run.to_string()),
    ];
    Ok(view::ImagePage {
        user: token.name.clone(),
        image: shown_image(&details),
        smoke: smoke.map(|report| view::SmokeReport { at: report.at.parse().ok(), checks: report.checks }),
        contents: contents.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    })
}

fn shown_build(details: &BuildDetails) -> view::Build {
    let build = &details.build;
    view::Build {
        id: build.build_id,
        status: build.status,
        provider: Some(build.provider.clone()),
        region: build.region.to_string(),
        template: details.template_source.clone(),
        requested_by: details.requested_by.clone(),
        image_id: build.image_id.clone(),
        run: details.run_id.as_ref().map(ToString::to_string),
        created_at: details.created_at,
        started_at: build.started_at,
        completed_at: build.completed_at,
        error: build.error.clone(),
    }
}

fn shown_image(details: &ImageDetails) -> view::Image {
    let image = &details.image;
    view::Image {
        image_id: image.image_id.clone(),
        name: details.name.clone(),
        version: details.version.clone(),
        provider: image.provider.clone(),
        region: image.region.to_string(),
        created_at: image.created_at,
        build_id: image.build_id,
        channels: details.channels.iter().map(ToString::to_string).collect(),
        smoke: match details.smoke_passed {
            None => view::Smoke::NotTested,
            Some(true) => view::Smoke::Passed,
            Some(false) => view::Smoke::Failed,
        },
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

async fn log_in(
    State(app): Shared,
    ConnectInfo(from): ConnectInfo<std::net::SocketAddr>,
    form: Result<Form<Login>, axum::extract::rejection::FormRejection>,
) -> Result<Response, Failed> {
    let failed = |problem: Problem| Failed(problem, None);
    let Form(login) = form.map_err(|rejection| failed(Problem::new(rejection.status(), rejection.body_text())))?;
    match app.tokens.find(login.token.trim()).map_err(|e| failed(e.into()))? {
        Some(token) => {
            let cookie = session_cookie(&app, &app.sessions.begin(&token.name), LIFETIME.as_secs());
            Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
        }
        None => {
            app.limits.wrong_token(from).map_err(failed)?;
            let html = Html(page::login(Some("the token is not valid, or has expired")));
            Ok((StatusCode::UNAUTHORIZED, html).into_response())
        }
    }
}

async fn log_out(State(app): Shared, headers: HeaderMap) -> Response {
    if let Some(cookie) = cookie(&headers) {
        app.sessions.end(cookie);
    }
    ([(header::SET_COOKIE, session_cookie(&app, "", 0))], Redirect::to("/login")).into_response()
}

/// A cookie that scripts cannot read, and that no other site's page sends.
fn session_cookie(app: &App, value: &str, seconds: u64) -> HeaderValue {
    let secure = if app.settings.tls.is_some() { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
