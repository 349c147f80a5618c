//! HTTP: the router, its handlers, and the refusals of everything that it does not know.

mod api;
mod asked;
mod bucket;
mod cors;
mod extract;
mod multipart;
mod ops;
mod origin;
mod page;
mod photos;
mod refuse;
mod sse;
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
    auth::Gate,
    feed::NameSecret,
    hub::Hub,
    limit::Limiter,
    listener::Peer,
    log::Presence,
    wire::{Showcase, UrlBase},
};

pub use bucket::embedded_bucket;
pub use cors::{AllowedOrigins, OriginError};
pub use ops::{Part, Readiness};
pub use origin::socket_io;

/// The longest request body under `/v1`, in bytes: a hundred files described at length with every byte
/// escaped, or ten thousand parts.
const MAX_BODY: usize = 1024 * 1024;

/// What the handlers work with.
pub struct Context {
    /// Lets people in.
    pub gate: Arc<Gate>,
    /// Says when it is too often.
    pub limiter: Arc<Limiter>,
    /// Tells them what happens.
    pub hub: Arc<Hub>,
    /// Knows who watches in other processes.
    pub presence: Arc<dyn Presence>,
    /// Shows it to them.
    pub showcase: Arc<Showcase>,
    /// Where signed URLs point.
    pub url_base: UrlBase,
    /// What may be uploaded.
    pub uploads: UploadRules,
    /// Marks the names that we issue.
    pub name_secret: NameSecret,
    /// Whether the parts behind the server are there.
    pub readiness: Arc<Readiness>,
    /// What is counted.
    pub metrics: PrometheusHandle,
    /// Who may read it; everybody, where there is none.
    pub metrics_token: Option<SecretString>,
    /// The origins that the demo page may reach besides its own; `None` serves no page.
    pub page: Option<PageSettings>,
    /// Ends the streams when the process stops.
    pub stopping: CancellationToken,
}

/// What the demo page is told about where it runs.
#[derive(Debug, Clone, Default)]
pub struct PageSettings {
    /// The bucket's origin, where it is not the page's own.
    pub bucket_origin: Option<String>,
}

/// What may be uploaded.
#[derive(Debug, Clone)]
pub struct UploadRules {
    /// Bytes of one photo.
    pub max_bytes: u64,
    /// Media types, in lower case.
    pub content_types: Vec<String>,
    /// Whether the uploader's `sub` travels with the photo.
    pub record_uploader: bool,
}

/// Everything but Socket.IO and the embedded bucket.
pub fn router(context: Context) -> Router {
    let context = Arc::new(context);
    let v1 = Router::new()
        .route("/feeds/{feed}", get(photos::feed))
        .route("/feeds/{feed}/uploads", post(uploads::grant))
        .route(
            "/feeds/{feed}/uploads/{*name}",
            get(uploads::state).post(uploads::renew).fallback(refuse::upload_method_not_allowed),
        )
        .route("/feeds/{feed}/s3/params", get(multipart::params))
        .route("/feeds/{feed}/s3/multipart", post(multipart::create))
        .route("/feeds/{feed}/s3/multipart/{uploadId}", get(multipart::parts).delete(multipart::abort))
        .route("/feeds/{feed}/s3/multipart/{uploadId}/batch", get(multipart::sign_batch))
        .route("/feeds/{feed}/s3/multipart/{uploadId}/complete", post(multipart::complete))
        .route("/feeds/{feed}/s3/multipart/{uploadId}/{partNumber}", get(multipart::sign))
        .route("/feeds/{feed}/photos", get(photos::list))
        .route("/feeds/{feed}/photos/{*name}", delete(photos::remove))
        .route("/feeds/{feed}/events", get(sse::stream))
        .route("/feeds/", any(refuse::no_feed))
        .route("/feeds//{*rest}", any(refuse::no_feed))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    let mut router = Router::new()
        .nest("/v1", v1)
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .merge(api::routes());
    if let Some(settings) = &context.page {
        router = router.merge(page::routes(settings));
    }
    router
        .fallback(refuse::not_found)
        .method_not_allowed_fallback(refuse::method_not_allowed)
        .with_state(context)
}

/// What stands around every route: who is at the other end, an id and a span without the query (it may
/// hold a token) for each request, CORS, and what a panic becomes.
pub fn around(router: Router, origins: &AllowedOrigins) -> Router {
    let nosniff = SetResponseHeaderLayer::if_not_present(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    cors::around(router.layer(axum::middleware::map_request(note_peer)), origins)
        .layer(nosniff)
        .layer(CatchPanicLayer::custom(refuse::panicked))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            let (method, path) = (request.method(), request.uri().path());
            let id = request.extensions().get::<RequestId>().map(RequestId::header_value);
            tracing::debug_span!("http", %method, path, request_id = id.and_then(|id| id.to_str().ok()))
        }))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
}

async fn note_peer(mut request: Request) -> Request {
    if let Some(ConnectInfo(peer)) = request.extensions_mut().remove::<ConnectInfo<Peer>>() {
        request.extensions_mut().insert(peer);
    }
    request
}
