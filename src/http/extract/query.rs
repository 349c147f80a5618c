//! The query string.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::de::DeserializeOwned;

use crate::{
    http::field_error::deserialize_named,
    protocol::{Problem, ProblemKind},
};

/// The query string, deserialized into `T`.
pub(in crate::http) struct QueryParams<T>(pub(in crate::http) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let params = deserialize_named(serde_urlencoded::Deserializer::new(query));
        params.map(Self).map_err(|detail| {
            Problem::new(ProblemKind::InvalidParameter, format!("the query is invalid: {detail}"))
        })
    }
}
