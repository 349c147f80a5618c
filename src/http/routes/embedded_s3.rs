//! Routes of the embedded S3, on the port of the API.

use axum::{
    Router,
    body::Body,
    error_handling::HandleErrorLayer,
    http::{HeaderName, HeaderValue, Request, Response, StatusCode, header},
};
use tower::{Service, ServiceBuilder};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::limit::PacedBody;

/// Routes requests under the bucket's name to the S3 service `store`. Uploaded files share the API's origin
/// here, so response headers keep browsers from executing them.
pub fn embedded_s3_router<S, B, E>(name: &str, store: S) -> Router
where
    S: Service<Request<Body>, Response = Response<B>, Error = E> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
    E: std::fmt::Debug + Send + 'static,
{
    let set_header = |name, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    let store = ServiceBuilder::new()
        .layer(set_header(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
        .layer(set_header(HeaderName::from_static("x-content-type-options"), "nosniff"))
        .layer(HandleErrorLayer::new(async |error: axum::BoxError| {
            tracing::warn!(error, "embedded S3 request failed");
            StatusCode::INTERNAL_SERVER_ERROR
        }))
        .map_request(|request: Request<Body>| request.map(|body| Body::new(PacedBody::new(body))))
        .map_err(|error: E| axum::BoxError::from(format!("{error:?}")))
        .service(store);
    Router::new()
        .route_service(&format!("/{name}"), store.clone())
        .route_service(&format!("/{name}/"), store.clone())
        .route_service(&format!("/{name}/{{*key}}"), store)
}
