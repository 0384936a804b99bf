//! Runs before and after every request: guard, token, limits; then security headers, metrics and the audit log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::{App, access};
use crate::guard;
use crate::log::Asked;
use crate::problem::Problem;

/// Headers of every answer. The page sets its own policy for scripts and styles.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Not `no-referrer`: a browser then sends `Origin: null` with the forms of the page (Fetch, "serializing a request origin").
    (header::REFERRER_POLICY, "same-origin"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::CACHE_CONTROL, "no-store"),
];

pub(super) async fn admit(
    State(app): State<Arc<App>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().map_or("other".to_owned(), |path| path.as_str().to_owned());
    let caller = admitted(&app, &request, from);
    let who = caller.as_ref().ok().and_then(|caller| caller.0.as_ref()).map(|token| token.name.clone());
    let mut response = match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    let status = response.status();
    let labels = [("method", method.to_string()), ("route", route), ("status", status.as_str().to_owned())];
    metrics::counter!("agent_ami_http_requests_total", &labels).increment(1);
    metrics::histogram!("agent_ami_http_request_seconds").record(began.elapsed().as_secs_f64());
    // What only reads and succeeds is not worth a line.
    let is_read = [Method::GET, Method::HEAD].contains(&method) && !["401", "403", "429"].contains(&status.as_str());
    if !is_read {
        let what = format!("{method} {path}");
        let at = jiff::Timestamp::now();
        app.log.audit(&Asked { at, who: who.as_deref(), from: from.to_string(), what: &what, status: status.as_u16() });
    }
    response
}

fn admitted(app: &Arc<App>, request: &Request, from: SocketAddr) -> Result<access::Caller, Problem> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    guard::check(method, uri, headers, &app.settings.hosts)?;
    let caller = access::caller(app, method, headers, from)?;
    let client = caller.0.as_ref().map_or_else(|| from.ip().to_string(), |token| format!("token {}", token.name));
    app.limits.request(&client)?;
    Ok(caller)
}
