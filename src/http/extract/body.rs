//! Request bodies.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::StatusCode,
};
use serde::de::DeserializeOwned;

use crate::{
    http::field_error::deserialize_value,
    protocol::{Problem, ProblemKind},
};

/// Maximum size of a request body under `/v1`, in bytes. Fits a batch of 100 files with the longest
/// captions, every byte escaped, and a list of 10,000 parts.
pub(in crate::http) const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The request body, deserialized from JSON.
pub(in crate::http) struct JsonBody<T>(pub(in crate::http) T);

/// The request body, deserialized from JSON; `None` if it is empty.
pub(in crate::http) struct OptionalJsonBody<T>(pub(in crate::http) Option<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        parse_json(&read_body(request, state).await?).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = read_body(request, state).await?;
        if body.is_empty() { Ok(Self(None)) } else { parse_json(&body).map(Some).map(Self) }
    }
}

async fn read_body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| body_problem(&rejection))
}

fn body_problem(rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(ProblemKind::TooLarge, format!("the body must be at most {MAX_BODY_BYTES} bytes"))
    } else {
        Problem::new(ProblemKind::InvalidBody, "failed to read the request body")
    }
}

/// In two steps, so that an error is either the position of invalid JSON or the name of an invalid field.
fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let value = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not JSON (line {}, column {})", error.line(), error.column()));
    value.and_then(deserialize_value).map_err(|detail| Problem::new(ProblemKind::InvalidBody, detail))
}
