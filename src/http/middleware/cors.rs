//! Cross-origin resource sharing: <https://fetch.spec.whatwg.org/#http-cors-protocol>

use std::time::Duration;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tower::ServiceExt;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::http::allowed_origins::AllowedOrigins;

/// Adds CORS to `router`, for the API and for Socket.IO's polling. The CORS layer responds to every OPTIONS
/// request itself, so OPTIONS requests that are not preflights bypass it.
pub(super) fn with_cors(router: Router, origins: &AllowedOrigins) -> Router {
    let without_cors = router.clone();
    router.layer(cors_layer(origins)).layer(from_fn_with_state(without_cors, bypass_unless_preflight))
}

async fn bypass_unless_preflight(
    State(without_cors): State<Router>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() == Method::OPTIONS && !is_preflight(request.headers()) {
        return without_cors.oneshot(request).await.into_response();
    }
    next.run(request).await
}

/// <https://fetch.spec.whatwg.org/#cors-preflight-request>
fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn cors_layer(origins: &AllowedOrigins) -> CorsLayer {
    let origins = origins.clone();
    let is_allowed =
        move |origin: &HeaderValue, _: &Parts| origin.to_str().is_ok_and(|origin| origins.allows(origin));
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers([header::ETAG, header::RETRY_AFTER, HeaderName::from_static("x-request-id")])
        .max_age(Duration::from_hours(1))
}
