//! Route of Socket.IO.

use std::convert::Infallible;

use axum::{Router, body::Body, extract::Request, middleware::from_fn_with_state, response::IntoResponse};
use tower::Service;

use crate::http::{allowed_origins::AllowedOrigins, middleware::reject_disallowed_origin};

/// Routes Socket.IO requests from allowed origins to `engine`.
pub fn socketio_router<S, R>(engine: S, origins: &AllowedOrigins) -> Router
where
    S: Service<Request<Body>, Response = R, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    R: IntoResponse,
{
    Router::new()
        .route_service("/socket.io/", engine)
        .layer(from_fn_with_state(origins.clone(), reject_disallowed_origin))
}
