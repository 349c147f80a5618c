//! Middleware of all routes, and the origin check of Socket.IO.

mod cors;
mod host;
mod origin;

pub use host::AllowedHosts;
pub(super) use origin::reject_disallowed_origin;

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    set_header::SetResponseHeaderLayer,
    trace::TraceLayer,
};

use super::{allowed_origins::AllowedOrigins, error};

/// Wraps `router` in the middleware of all routes: a check of the host, if `hosts` are given, a request id, a tracing span, CORS
/// and panic handling. The span omits the query, which may contain a token.
pub fn with_middleware(router: Router, origins: &AllowedOrigins, hosts: Option<&AllowedHosts>) -> Router {
    let router = host::with_host_check(router, hosts);
    let nosniff = SetResponseHeaderLayer::if_not_present(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    cors::with_cors(router, origins)
        .layer(nosniff)
        .layer(CatchPanicLayer::custom(error::panic_response))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            let (method, path) = (request.method(), request.uri().path());
            let id = request.extensions().get::<RequestId>().map(RequestId::header_value);
            tracing::debug_span!("http", %method, path, request_id = id.and_then(|id| id.to_str().ok()))
        }))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
}
