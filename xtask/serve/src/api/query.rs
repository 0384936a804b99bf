//! Reads bodies and query strings. What is wrong with them is answered as a problem.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::percent::encoded;
use crate::problem::Problem;

/// The default and the largest number of entries of a page.
const PAGE: (i64, i64) = (100, 1000);

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence != "application/json" {
            let detail = "the body must be JSON; send `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection: BytesRejection| Problem::new(rejection.status(), rejection.body_text()))?;
        let value: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {e}")))?;
        serde_json::from_value(value).map(Self).map_err(|e| Problem::refused(format!("the body is not valid: {e}")))
    }
}

/// A query string. An unknown parameter is refused.
#[derive(Debug)]
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(query)| Self(query))
            .map_err(|rejection: QueryRejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))
    }
}

/// The parameters of a request that has none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParameters {}

/// The number of entries of a page.
pub(super) fn limit(requested: Option<i64>) -> Result<i64, Problem> {
    match requested {
        None => Ok(PAGE.0),
        Some(limit) if (1..=PAGE.1).contains(&limit) => Ok(limit),
        Some(limit) => {
            let detail = format!("`limit` is {limit}, and must be from 1 to {}", PAGE.1);
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

/// The id of a build.
pub(super) fn build_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(text).map_err(|_| unknown_build(text))
}

pub(super) fn unknown_build(id: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("no build `{id}`"))
}

/// The value of the header `Link` for the next page (RFC 8288).
pub(super) fn next_page(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let given = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_deref()?))));
    format!("<{path}?{}>; rel=\"next\"", given.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_filters_and_encodes_them() {
        let pairs = [("status", None), ("region", Some("a&b>".to_owned())), ("cursor", Some("1_x".to_owned()))];
        assert_eq!(next_page("/api", &pairs), "</api?region=a%26b%3E&cursor=1_x>; rel=\"next\"");
        assert!(limit(Some(0)).is_err() && limit(Some(1001)).is_err());
        assert_eq!((limit(None).unwrap(), limit(Some(7)).unwrap()), (100, 7));
    }
}
