//! State that the handlers use. Each takes the part that it needs: `State<Bucket>`, `State<UploadIssuer>`, …

use std::sync::Arc;

use axum::extract::FromRef;
use tokio_util::sync::CancellationToken;

use super::{metrics_endpoint::MetricsEndpoint, readiness::Readiness, upload_issuer::UploadIssuer};
use crate::{
    auth::Authenticator,
    bucket::Bucket,
    client_address::ClientAddressResolver,
    hub::Hub,
    limit::{BodyReader, ConnectionQuota, RateLimits},
    log::Presence,
    protocol::{EventEncoder, UrlBase},
};

/// State shared by all handlers.
#[derive(Clone, FromRef)]
pub struct AppState {
    /// Verifies access tokens.
    pub authenticator: Arc<Authenticator>,
    /// Rate limits of callers.
    pub rate_limits: Arc<RateLimits>,
    /// Quota of concurrent connections, which includes event streams.
    pub connection_quota: Arc<ConnectionQuota>,
    /// Reads request bodies.
    pub body_reader: BodyReader,
    /// Resolves the addresses that limits count.
    pub client_addresses: ClientAddressResolver,
    /// The bucket that holds the photos.
    pub bucket: Bucket,
    /// Delivers feed events to the subscribers of this process.
    pub hub: Arc<Hub>,
    /// Counts the subscribers of other processes.
    pub presence: Arc<dyn Presence>,
    /// Encodes feed events for clients.
    pub event_encoder: Arc<EventEncoder>,
    /// Selects the host of signed URLs.
    pub url_base: UrlBase,
    /// Issues keys and signs grants.
    pub upload_issuer: UploadIssuer,
    /// Readiness of this process.
    pub readiness: Arc<Readiness>,
    /// The Prometheus metrics and the token that guards them.
    pub metrics: MetricsEndpoint,
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
