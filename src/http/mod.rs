//! The HTTP API: router, handlers, middleware and error responses.

mod api_docs;
mod cors;
mod demo_page;
mod embedded_s3;
mod error;
mod extract;
mod health;
mod multipart;
mod origin_guard;
mod photos;
mod sse;
mod upload_request;
mod uploads;

use std::sync::Arc;

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request},
    http::{HeaderName, HeaderValue},
    routing::{any, delete, get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    set_header::SetResponseHeaderLayer,
    trace::TraceLayer,
};

use crate::{
    auth::Authenticator,
    feed::NameSecret,
    hub::Hub,
    limit::Limiter,
    listener::Peer,
    log::Presence,
    protocol::{EventEncoder, UrlBase},
};

pub use cors::{AllowedOrigins, OriginError};
pub use embedded_s3::embedded_s3_router;
pub use health::{Readiness, ReadinessCheck};
pub use origin_guard::socketio_router;

/// Maximum size of a request body under `/v1`, in bytes. Fits a batch of 100 files with the longest
/// captions, every byte escaped, and a list of 10,000 parts.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// State shared by all handlers.
pub struct AppState {
    /// Verifies access tokens.
    pub authenticator: Arc<Authenticator>,
    /// Rate limits and the connection limit.
    pub limiter: Arc<Limiter>,
    /// Delivers feed events to the subscribers of this process.
    pub hub: Arc<Hub>,
    /// Counts the subscribers of other processes.
    pub presence: Arc<dyn Presence>,
    /// Encodes feed events for clients.
    pub event_encoder: Arc<EventEncoder>,
    /// Selects the host of signed URLs.
    pub url_base: UrlBase,
    /// Limits on uploads.
    pub upload_rules: UploadRules,
    /// Key that seals issued upload names.
    pub upload_name_secret: NameSecret,
    /// Readiness of this process.
    pub readiness: Arc<Readiness>,
    /// Renders the Prometheus metrics.
    pub metrics: PrometheusHandle,
    /// Token that `/metrics` and the details of `/readyz` require; `None` makes both public.
    pub metrics_token: Option<SecretString>,
    /// Settings of the demo page; `None` disables the page.
    pub demo_page: Option<DemoPageSettings>,
    /// Cancelled on shutdown; ends all event streams.
    pub shutdown: CancellationToken,
}

/// Settings of the demo page.
#[derive(Debug, Clone, Default)]
pub struct DemoPageSettings {
    /// Origin of the bucket, if it differs from the page's origin.
    pub bucket_origin: Option<String>,
}

/// Limits on uploads.
#[derive(Debug, Clone)]
pub struct UploadRules {
    /// Maximum size of a photo in bytes.
    pub max_bytes: u64,
    /// Accepted media types, in lower case.
    pub content_types: Vec<String>,
    /// Whether to store the uploader's `sub` claim in the photo's metadata.
    pub record_uploader: bool,
}

/// Routes of the API, the documentation and the demo page. Does not include Socket.IO and the embedded S3.
pub fn router(state: AppState) -> Router {
    let state = Arc::new(state);
    let v1 = Router::new()
        .route("/feeds/{feed}", get(photos::get_feed))
        .route("/feeds/{feed}/uploads", post(uploads::create_upload))
        .route(
            "/feeds/{feed}/uploads/{*name}",
            get(uploads::get_upload).post(uploads::renew_upload).fallback(error::upload_method_not_allowed),
        )
        .route("/feeds/{feed}/s3/params", get(multipart::get_upload_parameters))
        .route("/feeds/{feed}/s3/multipart", post(multipart::create_multipart))
        .route(
            "/feeds/{feed}/s3/multipart/{uploadId}",
            get(multipart::list_parts).delete(multipart::abort_multipart),
        )
        .route("/feeds/{feed}/s3/multipart/{uploadId}/batch", get(multipart::sign_parts))
        .route("/feeds/{feed}/s3/multipart/{uploadId}/complete", post(multipart::complete_multipart))
        .route("/feeds/{feed}/s3/multipart/{uploadId}/{partNumber}", get(multipart::sign_part))
        .route("/feeds/{feed}/photos", get(photos::list_photos))
        .route("/feeds/{feed}/photos/{*name}", delete(photos::delete_photo))
        .route("/feeds/{feed}/events", get(sse::stream_events))
        .route("/feeds/", any(error::empty_feed_id))
        .route("/feeds//{*rest}", any(error::empty_feed_id))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let mut router = Router::new()
        .nest("/v1", v1)
        .route("/healthz", get(health::get_liveness))
        .route("/readyz", get(health::get_readiness))
        .route("/metrics", get(health::get_metrics))
        .merge(api_docs::routes());
    if let Some(settings) = &state.demo_page {
        router = router.merge(demo_page::routes(settings));
    }
    router.fallback(error::not_found).method_not_allowed_fallback(error::method_not_allowed).with_state(state)
}

/// Wraps `router` in the middleware of all routes: the peer's address, a request id, a tracing span, CORS
/// and panic handling. The span omits the query, which may contain a token.
pub fn with_middleware(router: Router, origins: &AllowedOrigins) -> Router {
    let nosniff = SetResponseHeaderLayer::if_not_present(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    cors::with_cors(router.layer(axum::middleware::map_request(insert_peer)), origins)
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

async fn insert_peer(mut request: Request) -> Request {
    if let Some(ConnectInfo(peer)) = request.extensions_mut().remove::<ConnectInfo<Peer>>() {
        request.extensions_mut().insert(peer);
    }
    request
}
