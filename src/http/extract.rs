//! Extractors. Their rejections are problems that name the invalid field.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Path, Query, Request,
        path::ErrorKind,
        rejection::{BytesRejection, PathRejection},
    },
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;

use super::{AppState, MAX_BODY_BYTES, error};
use crate::{
    auth::{Access, Right},
    bucket::BucketUrl,
    feed::FeedId,
    limit,
    listener::Peer,
    protocol::{Problem, ProblemKind},
};

/// Path suffix of an upload's renewal. Upload names may contain slashes, so the router can't distinguish
/// the upload from its renewal: both share one route.
pub(super) const RENEW_SUFFIX: &str = "/renew";

/// The feed in the path and its authenticated caller. Extracting it counts one request against the rate
/// limit.
pub(super) struct FeedCaller {
    pub(super) feed: FeedId,
    pub(super) access: Access,
    /// Base of the signed URLs that the caller receives.
    pub(super) bucket_url: BucketUrl,
    /// Key of the caller's rate limits.
    pub(super) rate_limit_key: limit::RateLimitKey,
}

/// A [`FeedCaller`] that is not rate limited yet: the handler counts the uploads in the body.
pub(super) struct BatchUploader(pub(super) FeedCaller);

/// A [`FeedCaller`] whose request counts as one upload.
pub(super) struct Uploader(pub(super) FeedCaller);

/// The photo name at the end of the path.
pub(super) struct PhotoName(pub(super) String);

/// The upload name in the path of an upload; rejects the path of a renewal.
pub(super) struct UploadName(pub(super) String);

/// The upload name in the path of a renewal; rejects the path of an upload.
pub(super) struct RenewedUploadName(pub(super) String);

/// The id of an S3 multipart upload in the path.
pub(super) struct UploadId(pub(super) String);

/// The part number in the path, as unparsed text.
pub(super) struct PartNumberText(pub(super) String);

/// The query string, deserialized into `T`.
pub(super) struct QueryParams<T>(pub(super) T);

/// The request body as JSON.
pub(super) struct JsonBody(pub(super) serde_json::Value);

/// The request body as JSON; `None` if it is empty.
pub(super) struct OptionalJsonBody(pub(super) Option<JsonBody>);

impl FeedCaller {
    /// Requires that the caller has `right` on the feed.
    pub(super) fn require(&self, right: Right) -> Result<(), Problem> {
        Ok(self.access.check(&self.feed, right)?)
    }

    /// The subject to store as the photo's uploader, if the server is configured to.
    pub(super) fn recorded_uploader(&self, state: &AppState) -> Option<&str> {
        self.access.subject.as_deref().filter(|_| state.upload_rules.record_uploader)
    }

    /// Authenticates the caller without counting the request. A failed attempt counts against the client's
    /// address, which slows down guessing.
    async fn authenticate(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let feed = FeedId::parse(&path_param(parts, "feed").await?)?;
        let address = state.limiter.client_address(parts.extensions.get::<Peer>(), &parts.headers);
        let access = match state.authenticator.authenticate(bearer_token(parts).as_deref()).await {
            Ok(access) => access,
            Err(error) => {
                state.limiter.check_request(&limit::RateLimitKey::Address(address))?;
                return Err(error.into());
            }
        };
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let rate_limit_key = limit::RateLimitKey::for_caller(&access, address);
        Ok(Self { feed, access, bucket_url: state.url_base.for_host(host), rate_limit_key })
    }
}

impl FromRequestParts<Arc<AppState>> for FeedCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Problem> {
        let caller = Self::authenticate(parts, state).await?;
        state.limiter.check_request(&caller.rate_limit_key)?;
        Ok(caller)
    }
}

impl FromRequestParts<Arc<AppState>> for BatchUploader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Problem> {
        FeedCaller::authenticate(parts, state).await.map(Self)
    }
}

impl FromRequestParts<Arc<AppState>> for Uploader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Problem> {
        let caller = FeedCaller::authenticate(parts, state).await?;
        state.limiter.check_grants(&caller.rate_limit_key, 1)?;
        Ok(Self(caller))
    }
}

impl<S: Sync> FromRequestParts<S> for PhotoName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_param(parts, "name").await.map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for UploadName {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let PhotoName(name) =
            PhotoName::from_request_parts(parts, state).await.map_err(Problem::into_response)?;
        if name.ends_with(RENEW_SUFFIX) {
            Err(error::upload_method_response(parts, &name))
        } else {
            Ok(Self(name))
        }
    }
}

impl<S: Sync> FromRequestParts<S> for RenewedUploadName {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let PhotoName(name) =
            PhotoName::from_request_parts(parts, state).await.map_err(Problem::into_response)?;
        match name.strip_suffix(RENEW_SUFFIX) {
            Some(name) => Ok(Self(name.to_owned())),
            None => Err(error::upload_method_response(parts, &name)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for UploadId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_param(parts, "uploadId").await.map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for PartNumberText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_param(parts, "partNumber").await.map(Self)
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        let Query(params) = query.map_err(|_| {
            let detail = "the query must be name=value pairs, percent-encoded, each name once";
            Problem::new(ProblemKind::InvalidParameter, detail)
        })?;
        Ok(Self(params))
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Bytes::from_request(request, state).await.map_err(|rejection| body_problem(&rejection))?;
        parse_json(&body)
    }
}

impl<S: Send + Sync> FromRequest<S> for OptionalJsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Bytes::from_request(request, state).await.map_err(|rejection| body_problem(&rejection))?;
        if body.is_empty() { Ok(Self(None)) } else { parse_json(&body).map(|json| Self(Some(json))) }
    }
}

fn parse_json(body: &[u8]) -> Result<JsonBody, Problem> {
    serde_json::from_slice(body).map(JsonBody).map_err(|error| {
        let detail = format!("the body is not JSON (line {}, column {})", error.line(), error.column());
        Problem::new(ProblemKind::InvalidBody, detail)
    })
}

fn body_problem(rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(ProblemKind::TooLarge, format!("the body must be at most {MAX_BODY_BYTES} bytes"))
    } else {
        Problem::new(ProblemKind::InvalidBody, "failed to read the request body")
    }
}

/// The percent-decoded path parameter `name`.
async fn path_param(parts: &mut Parts, name: &'static str) -> Result<String, Problem> {
    let path = Path::<HashMap<String, String>>::from_request_parts(parts, &()).await;
    let Path(mut params) = path.map_err(|rejection| path_problem(&rejection, name))?;
    params.remove(name).ok_or_else(|| Problem::new(problem_kind_of(name), format!("{name} is missing")))
}

/// The path is decoded as a whole: the parameter that is not UTF-8 may be another than the `requested` one.
fn path_problem(rejection: &PathRejection, requested: &str) -> Problem {
    let name = match rejection {
        PathRejection::FailedToDeserializePathParams(error) => match error.kind() {
            ErrorKind::InvalidUtf8InPathParam { key } => key,
            _ => requested,
        },
        _ => requested,
    };
    Problem::new(problem_kind_of(name), format!("{name} must be percent-encoded UTF-8"))
}

/// The problem that an invalid path parameter `name` causes.
fn problem_kind_of(name: &str) -> ProblemKind {
    match name {
        "feed" => ProblemKind::InvalidFeed,
        "name" => ProblemKind::InvalidKey,
        _ => ProblemKind::InvalidParameter,
    }
}

/// The bearer token of the Authorization header, or the query parameter `token` for clients that can't set
/// headers.
pub(super) fn bearer_token(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    let bearer = header.and_then(|header| {
        let (scheme, token) = header.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    bearer.or_else(|| {
        let Query(query) = Query::<HashMap<String, String>>::try_from_uri(&parts.uri).ok()?;
        query.get("token").filter(|token| !token.is_empty()).cloned()
    })
}
