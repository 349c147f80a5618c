//! Request bodies.

use axum::extract::{FromRef, FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::{
    http::field_error::deserialize_value,
    limit::BodyReader,
    protocol::{Problem, ProblemKind},
};

/// The request body, deserialized from JSON.
pub(in crate::http) struct JsonBody<T>(pub(in crate::http) T);

/// The request body, deserialized from JSON; `None` if it is empty.
pub(in crate::http) struct OptionalJsonBody<T>(pub(in crate::http) Option<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T>
where
    BodyReader: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        parse_json(&BodyReader::from_ref(state).read(request.into_body()).await?).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalJsonBody<T>
where
    BodyReader: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = BodyReader::from_ref(state).read(request.into_body()).await?;
        if body.is_empty() { Ok(Self(None)) } else { parse_json(&body).map(Some).map(Self) }
    }
}

/// In two steps, so that an error is either the position of invalid JSON or the name of an invalid field.
fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let value = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not JSON (line {}, column {})", error.line(), error.column()));
    value.and_then(deserialize_value).map_err(|detail| Problem::new(ProblemKind::InvalidBody, detail))
}
