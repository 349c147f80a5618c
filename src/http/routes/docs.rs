//! The API documents and the page that renders them.

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::get,
};
use utoipa::openapi::OpenApi;

use crate::http::state::AppState;

const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// Routes of the documents and of the page that renders them.
pub(in crate::http) fn routes(openapi: &OpenApi) -> Router<AppState> {
    let json = "application/json";
    let openapi: Bytes = openapi.to_json().expect("the document serializes to JSON").into();
    Router::new()
        .route("/openapi.json", get(async move || serve_file(json, openapi)))
        .route("/asyncapi.json", get(async move || serve_file(json, include_str!("../assets/asyncapi.json"))))
        .route(
            "/docs",
            get(async || serve_file("text/html; charset=utf-8", include_str!("../assets/docs.html"))),
        )
        .route(
            "/docs/docs.js",
            get(async || serve_file("text/javascript; charset=utf-8", include_str!("../assets/docs.js"))),
        )
        .route(
            "/docs/docs.css",
            get(async || serve_file("text/css; charset=utf-8", include_str!("../assets/docs.css"))),
        )
}

fn serve_file(content_type: &'static str, content: impl Into<Body>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer")),
    ];
    (headers, content.into())
}
