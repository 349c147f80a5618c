//! Error responses: `application/problem+json` (RFC 9457).

use std::any::Any;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, Response, StatusCode, Uri, header, request::Parts},
    response::IntoResponse,
};

use super::extract::{PhotoName, RENEW_SUFFIX};
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

pub(super) async fn not_found(uri: Uri) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("no resource at {}", uri.path()))
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    method_problem(&method, &uri)
}

fn method_problem(method: &Method, uri: &Uri) -> Problem {
    let detail =
        format!("{method} is not supported for {}; the Allow header lists the supported methods", uri.path());
    Problem::new(ProblemKind::MethodNotAllowed, detail)
}

/// An upload and its renewal share one route but support different methods.
pub(super) async fn upload_method_not_allowed(
    name: Result<PhotoName, Problem>,
    request: Request,
) -> Response<Body> {
    upload_method_response(&request.into_parts().0, name.as_ref().map_or("", |PhotoName(name)| name))
}

/// The method is not supported: a renewal supports only POST, an upload only GET and HEAD.
pub(super) fn upload_method_response(parts: &Parts, name: &str) -> Response<Body> {
    let allowed = if name.ends_with(RENEW_SUFFIX) { "POST" } else { "GET, HEAD" };
    ([(header::ALLOW, allowed)], method_problem(&parts.method, &parts.uri)).into_response()
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
