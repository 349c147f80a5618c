//! Refusals over HTTP: `application/problem+json`.

use std::any::Any;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, Response, StatusCode, Uri, header, request::Parts},
    response::IntoResponse,
};

use super::extract::{Name, RENEW};
use crate::{
    feed::FeedIdError,
    wire::{Problem, ProblemKind},
};

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
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

pub(super) async fn not_found(uri: Uri) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("nothing is at {}", uri.path()))
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    not_allowed(&method, &uri)
}

fn not_allowed(method: &Method, uri: &Uri) -> Problem {
    let detail = format!("{method} is not for {}; the Allow header names the methods that are", uri.path());
    Problem::new(ProblemKind::MethodNotAllowed, detail)
}

/// An upload and its renewal are one route, whose methods are not those of either.
pub(super) async fn upload_method_not_allowed(
    name: Result<Name, Problem>,
    request: Request,
) -> Response<Body> {
    not_for_upload(&request.into_parts().0, name.as_ref().map_or("", |Name(name)| name))
}

/// The one thing that a POST does to an upload is to renew it.
pub(super) fn not_for_upload(parts: &Parts, name: &str) -> Response<Body> {
    let allowed = if name.ends_with(RENEW) { "POST" } else { "GET, HEAD" };
    ([(header::ALLOW, allowed)], not_allowed(&parts.method, &parts.uri)).into_response()
}

/// A feed's id has at least one byte: the router takes an empty one for none.
pub(super) async fn no_feed() -> Problem {
    FeedIdError::Empty.into()
}

/// A bug of ours: said in the log, not to the client.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands it over")]
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response<Body> {
    let message =
        panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(message, "a handler panicked");
    Problem::unavailable("the server").into_response()
}
