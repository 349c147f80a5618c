//! Error responses: `application/problem+json` (RFC 9457).

use std::{any::Any, collections::BTreeMap};

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, StatusCode, Uri, header},
    response::IntoResponse,
};
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{Content, Ref, RefOr, ResponseBuilder},
};

use crate::{
    feed::FeedIdError,
    protocol::{Problem, ProblemKind},
};

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        self.log_cause();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
        }
        if self.kind.status() == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Each operation declares `Problem` as its response to everything that fails.
impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let content = Content::new(Some(Ref::from_schema_name(Self::name())));
        let response =
            ResponseBuilder::new().description("Error").content("application/problem+json", content);
        BTreeMap::from([("default".to_owned(), response.build().into())])
    }
}

pub(super) async fn not_found(uri: Uri) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("no resource at {}", uri.path()))
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    method_problem(&method, &uri)
}

/// The path does not support the method.
pub(super) fn method_problem(method: &Method, uri: &Uri) -> Problem {
    let detail =
        format!("{method} is not supported for {}; the Allow header lists the supported methods", uri.path());
    Problem::new(ProblemKind::MethodNotAllowed, detail)
}

/// The process has as many connections as it accepts.
pub(super) async fn overloaded() -> Problem {
    Problem::overloaded("this process has as many connections as it accepts; try again")
}

/// An empty feed id does not match the routes of a feed.
pub(super) async fn empty_feed_id() -> Problem {
    FeedIdError::Empty.into()
}

/// Logs the panic message; the response does not contain it.
#[expect(clippy::needless_pass_by_value, reason = "the layer requires this signature")]
pub(super) fn panic_response(panic: Box<dyn Any + Send>) -> Response<Body> {
    let message =
        panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(message, "request handler panicked");
    Problem::unavailable("the server").into_response()
}
