//! The refusals that the OpenAPI document lists, in groups that endpoints share.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::response::Response;
use utoipa::openapi::{ContentBuilder, Ref, RefOr};

type Responses = BTreeMap<String, RefOr<Response>>;

fn problems(all: &[(u16, &str)]) -> Responses {
    let each = |&(status, description): &(u16, &str)| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let mut response = Response::new(description);
        response.content.insert("application/problem+json".to_owned(), content.into());
        (status.to_string(), response.into())
    };
    all.iter().map(each).collect()
}

/// Refusals of every endpoint that requires a token.
pub(super) struct Common;

impl IntoResponses for Common {
    fn responses() -> Responses {
        problems(&[
            (400, "A parameter, a header or the body cannot be read"),
            (401, "The request has no valid token"),
            (403, "The token lacks the scope, or the host or origin is not allowed"),
            (429, "Too many requests; `Retry-After` has the seconds to wait"),
            (500, "The server or a program that it runs failed"),
            (503, "The server cannot do it now; `Retry-After` has the seconds to wait"),
        ])
    }
}

/// Refusals of an endpoint with a body.
pub(super) struct InvalidBody;

impl IntoResponses for InvalidBody {
    fn responses() -> Responses {
        problems(&[
            (413, "The body is longer than 64 KiB"),
            (415, "The body is not declared as JSON"),
            (422, "A field is not valid or not allowed"),
        ])
    }
}

/// Of an endpoint for one thing.
pub(super) struct NotFound;

impl IntoResponses for NotFound {
    fn responses() -> Responses {
        problems(&[(404, "There is no such build, image or channel")])
    }
}

/// Of an endpoint that changes one thing.
pub(super) struct Conflict;

impl IntoResponses for Conflict {
    fn responses() -> Responses {
        problems(&[(409, "Its state does not permit this; `detail` has the reason")])
    }
}

/// Of an endpoint that requires no token.
pub(super) struct Open;

impl IntoResponses for Open {
    fn responses() -> Responses {
        problems(&[
            (400, "A parameter or a header cannot be read"),
            (403, "The host or origin is not allowed"),
            (429, "Too many requests; `Retry-After` has the seconds to wait"),
            (503, "The server stops, or its database does not answer"),
        ])
    }
}
