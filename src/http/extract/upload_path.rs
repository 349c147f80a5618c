//! The path of an upload and that of its renewal. Upload names may contain slashes, so the router can't tell
//! `{name}` from `{name}/renew`: both share one route, and the extractors decide.

use axum::{
    extract::{FromRequestParts, Request},
    http::{header, request::Parts},
    response::{IntoResponse, Response},
};

use super::path::PhotoName;
use crate::{http::error::method_problem, protocol::Problem};

const RENEW_SUFFIX: &str = "/renew";

/// The upload name in the path of an upload; rejects the path of a renewal.
pub(in crate::http) struct UploadName(pub(in crate::http) String);

/// The upload name in the path of a renewal; rejects the path of an upload.
pub(in crate::http) struct RenewedUploadName(pub(in crate::http) String);

impl<S: Sync> FromRequestParts<S> for UploadName {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let PhotoName(name) =
            PhotoName::from_request_parts(parts, state).await.map_err(Problem::into_response)?;
        if name.ends_with(RENEW_SUFFIX) { Err(method_response(parts, &name)) } else { Ok(Self(name)) }
    }
}

impl<S: Sync> FromRequestParts<S> for RenewedUploadName {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let PhotoName(name) =
            PhotoName::from_request_parts(parts, state).await.map_err(Problem::into_response)?;
        match name.strip_suffix(RENEW_SUFFIX) {
            Some(name) => Ok(Self(name.to_owned())),
            None => Err(method_response(parts, &name)),
        }
    }
}

/// Responds to a method that neither an upload nor its renewal supports.
pub(in crate::http) async fn reject_upload_method(
    name: Result<PhotoName, Problem>,
    request: Request,
) -> Response {
    method_response(&request.into_parts().0, name.as_ref().map_or("", |PhotoName(name)| name))
}

/// The method is not supported: a renewal supports only POST, an upload only GET and HEAD.
fn method_response(parts: &Parts, name: &str) -> Response {
    let allowed = if name.ends_with(RENEW_SUFFIX) { "POST" } else { "GET, HEAD" };
    ([(header::ALLOW, allowed)], method_problem(&parts.method, &parts.uri)).into_response()
}
