//! The embedded bucket, on the same port as everything else.

use axum::{
    Router,
    body::Body,
    error_handling::HandleErrorLayer,
    http::{HeaderName, HeaderValue, Request, Response, StatusCode, header},
};
use tower::{Service, ServiceBuilder};
use tower_http::set_header::SetResponseHeaderLayer;

/// Routes to `store` under the bucket's name. What people uploaded shares our origin here, so browsers
/// are told to take it for nothing but a file.
pub fn embedded_bucket<S, B, E>(name: &str, store: S) -> Router
where
    S: Service<Request<Body>, Response = Response<B>, Error = E> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
    E: std::fmt::Debug + Send + 'static,
{
    let header = |name, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    let store = ServiceBuilder::new()
        .layer(header(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
        .layer(header(HeaderName::from_static("x-content-type-options"), "nosniff"))
        .layer(HandleErrorLayer::new(async |error: axum::BoxError| {
            tracing::warn!(error, "embedded bucket");
            StatusCode::INTERNAL_SERVER_ERROR
        }))
        .map_err(|error: E| axum::BoxError::from(format!("{error:?}")))
        .service(store);
    Router::new()
        .route_service(&format!("/{name}"), store.clone())
        .route_service(&format!("/{name}/"), store.clone())
        .route_service(&format!("/{name}/{{*key}}"), store)
}
