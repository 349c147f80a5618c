//! What handlers take from a request, with refusals that name the field.

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

use super::{Context, MAX_BODY, refuse};
use crate::{
    auth::{Access, Right},
    bucket::Base,
    feed::FeedId,
    limit,
    listener::Peer,
    wire::{Problem, ProblemKind},
};

/// The end of the path that renews an upload. Names may hold slashes, so that it is of one route with
/// the upload itself.
pub(super) const RENEW: &str = "/renew";

/// The feed in the path, and what the caller may do.
pub(super) struct Caller {
    pub(super) feed: FeedId,
    pub(super) access: Access,
    /// Where the URLs that it gets shall point.
    pub(super) base: Base,
    /// Whose allowance it uses.
    pub(super) identity: limit::Caller,
}

/// A caller whose request counts as the uploads that it asks for, which its handler counts.
pub(super) struct Uploader(pub(super) Caller);

/// A caller whose request counts as one upload.
pub(super) struct UploaderOfOne(pub(super) Caller);

/// The rest of the path: the name of a photo.
pub(super) struct Name(pub(super) String);

/// The name of an upload, in a path to itself.
pub(super) struct UploadName(pub(super) String);

/// The name of an upload, in the path to its renewal.
pub(super) struct Renewal(pub(super) String);

/// S3's name for an upload in parts.
pub(super) struct UploadId(pub(super) String);

/// The part in the path, as it stands there.
pub(super) struct PartNumber(pub(super) String);

/// The query, read into `T`.
pub(super) struct Params<T>(pub(super) T);

/// The body, as JSON.
pub(super) struct Json(pub(super) serde_json::Value);

/// The body, as JSON, where there is one.
pub(super) struct MaybeJson(pub(super) Option<Json>);

impl Caller {
    /// Whether the caller has `right` on the feed.
    pub(super) fn check(&self, right: Right) -> Result<(), Problem> {
        Ok(self.access.check(&self.feed, right)?)
    }

    /// Who is recorded as the uploader.
    pub(super) fn uploader(&self, context: &Context) -> Option<&str> {
        self.access.subject.as_deref().filter(|_| context.uploads.record_uploader)
    }

    /// Who calls, not counted yet. One who is not let in is counted by address, so that guessing is slow.
    async fn read(parts: &mut Parts, context: &Context) -> Result<Self, Problem> {
        let feed = FeedId::parse(&segment(parts, "feed").await?)?;
        let address = context.limiter.address(parts.extensions.get::<Peer>(), &parts.headers);
        let access = match context.gate.admit(token(parts).as_deref()).await {
            Ok(access) => access,
            Err(error) => {
                context.limiter.request(&limit::Caller::Address(address))?;
                return Err(error.into());
            }
        };
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let identity = limit::Caller::of(&access, address);
        Ok(Self { feed, access, base: context.url_base.for_host(host), identity })
    }
}

impl FromRequestParts<Arc<Context>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, Problem> {
        let caller = Self::read(parts, context).await?;
        context.limiter.request(&caller.identity)?;
        Ok(caller)
    }
}

impl FromRequestParts<Arc<Context>> for Uploader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, Problem> {
        Caller::read(parts, context).await.map(Self)
    }
}

impl FromRequestParts<Arc<Context>> for UploaderOfOne {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, Problem> {
        let caller = Caller::read(parts, context).await?;
        context.limiter.grants(&caller.identity, 1)?;
        Ok(Self(caller))
    }
}

impl<S: Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        segment(parts, "name").await.map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for UploadName {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let Name(name) = Name::from_request_parts(parts, state).await.map_err(Problem::into_response)?;
        if name.ends_with(RENEW) { Err(refuse::not_for_upload(parts, &name)) } else { Ok(Self(name)) }
    }
}

impl<S: Sync> FromRequestParts<S> for Renewal {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let Name(name) = Name::from_request_parts(parts, state).await.map_err(Problem::into_response)?;
        match name.strip_suffix(RENEW) {
            Some(name) => Ok(Self(name.to_owned())),
            None => Err(refuse::not_for_upload(parts, &name)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for UploadId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        segment(parts, "uploadId").await.map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for PartNumber {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        segment(parts, "partNumber").await.map(Self)
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
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

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Bytes::from_request(request, state).await.map_err(|error| unread(&error))?;
        json(&body)
    }
}

impl<S: Send + Sync> FromRequest<S> for MaybeJson {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Bytes::from_request(request, state).await.map_err(|error| unread(&error))?;
        if body.is_empty() { Ok(Self(None)) } else { json(&body).map(|json| Self(Some(json))) }
    }
}

fn json(body: &[u8]) -> Result<Json, Problem> {
    serde_json::from_slice(body).map(Json).map_err(|error| {
        let detail = format!("the body is not JSON (line {}, column {})", error.line(), error.column());
        Problem::new(ProblemKind::InvalidBody, detail)
    })
}

fn unread(error: &BytesRejection) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(ProblemKind::TooLarge, format!("the body may have at most {MAX_BODY} bytes"))
    } else {
        Problem::new(ProblemKind::InvalidBody, "the body could not be read")
    }
}

/// A percent-decoded part of the path.
async fn segment(parts: &mut Parts, name: &'static str) -> Result<String, Problem> {
    let path = Path::<HashMap<String, String>>::from_request_parts(parts, &()).await;
    let Path(mut segments) = path.map_err(|rejection| undecoded(&rejection, name))?;
    segments.remove(name).ok_or_else(|| Problem::new(wrong(name), format!("{name} is missing")))
}

/// A path is decoded as a whole: the part that is no UTF-8 may be another than the one `wanted`.
fn undecoded(rejection: &PathRejection, wanted: &str) -> Problem {
    let name = match rejection {
        PathRejection::FailedToDeserializePathParams(error) => match error.kind() {
            ErrorKind::InvalidUtf8InPathParam { key } => key,
            _ => wanted,
        },
        _ => wanted,
    };
    Problem::new(wrong(name), format!("{name} must be percent-encoded UTF-8"))
}

/// What the part of the path with this name is, where it is wrong.
fn wrong(name: &str) -> ProblemKind {
    match name {
        "feed" => ProblemKind::InvalidFeed,
        "name" => ProblemKind::InvalidKey,
        _ => ProblemKind::InvalidParameter,
    }
}

/// The bearer token; in the query for those who can't set headers.
pub(super) fn token(parts: &Parts) -> Option<String> {
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
