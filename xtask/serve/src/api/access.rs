//! Who sends a request, and what the token permits. Each endpoint names its scope by the type of its first argument.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use xtask::cli::Scope;

use super::App;
use crate::problem::Problem;
use crate::sessions::COOKIE;
use crate::tokens::Token;

/// The token of a request, if it has a valid one.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) Option<Token>);

/// A caller whose token has the scope.
macro_rules! scopes {
    ($($(#[$about:meta])* $name:ident = $scope:ident),+ $(,)?) => {$(
        $(#[$about])*
        #[derive(Debug)]
        pub(super) struct $name(pub(super) Token);

        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
                permitted(parts, Scope::$scope).map(Self)
            }
        }
    )+};
}

scopes! {
    /// May start and cancel builds.
    Builder = Build,
    /// May change channels.
    Promoter = Promote,
    /// May delete images.
    Deleter = Delete,
}

/// May read.
#[derive(Debug)]
pub(super) struct Reader;

impl<S: Send + Sync> FromRequestParts<S> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        permitted(parts, Scope::Read).map(|_| Self)
    }
}

fn permitted(parts: &Parts, scope: Scope) -> Result<Token, Problem> {
    let token = parts.extensions.get::<Caller>().and_then(|caller| caller.0.clone());
    let token = token.ok_or_else(|| {
        Problem::new(StatusCode::UNAUTHORIZED, "the request has no valid token; send `Authorization: Bearer TOKEN`")
    })?;
    if token.has(scope) {
        return Ok(token);
    }
    let detail = format!("the token `{}` does not have the scope `{}`", token.name, scope.name());
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

/// The caller by the header, or for a request that changes nothing by the cookie of the page. A wrong token is counted.
pub(super) fn caller(
    app: &Arc<App>,
    method: &Method,
    headers: &HeaderMap,
    from: SocketAddr,
) -> Result<Caller, Problem> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let secret = value.to_str().ok().and_then(bearer);
        let token = secret.map(|secret| app.tokens.find(secret)).transpose()?.flatten();
        if token.is_none() {
            app.limits.wrong_token(from)?;
        }
        return Ok(Caller(token));
    }
    let is_read = [Method::GET, Method::HEAD].contains(method);
    let name = cookie(headers).filter(|_| is_read).and_then(|cookie| app.sessions.token(cookie));
    Ok(Caller(name.map(|name| app.tokens.named(&name)).transpose()?.flatten()))
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
}

/// The cookie of the page's session.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value).next()
}
