//! The bearer token.

use std::collections::HashMap;

use axum::{
    extract::Query,
    http::{header, request::Parts},
};

/// The bearer token of the Authorization header, or the query parameter `token` for clients that can't set
/// headers.
pub(in crate::http) fn bearer_token(parts: &Parts) -> Option<String> {
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
