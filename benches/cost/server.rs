//! The server under test: the real components from the feed log to the socket. A timer replaces S3 and SQS,
//! which deliver no thousand events per second to a developer's machine.

use std::{io::BufRead, sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use jiff::{SignedDuration, Timestamp};
use photoshare_server::{
    auth::{AuthSettings, Authenticator, Rights},
    bucket::{Bucket, UrlTtls},
    client_address::ClientAddressResolver,
    config::LogFormat,
    feed::{EventKind, FeedEvent, FeedId, KeyPrefix, NameSecret, ObjectKey, Photo},
    http::{self, AllowedOrigins, MetricsEndpoint, UploadIssuer, UploadRules},
    hub::Hub,
    limit::{BodyReader, ConnectionQuota, LimitSettings, RateLimits},
    listener::{Listener, ListenerSettings},
    log::{FeedLog, MemoryLog, Proof, Retention},
    protocol::{EventEncoder, UrlBase},
    socketio::{self, ConnectionLimits, SocketIoServer},
    telemetry,
};
use tokio::{net::TcpListener, sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::Workload;

const DAY: Duration = Duration::from_hours(24);
/// The defaults of the configuration, here and below.
const RETENTION: Retention =
    Retention { max_entries: 1000, max_seen_keys: 10_000, seen_ttl: DAY, idle_ttl: DAY };
const CONNECTION_LIMITS: ConnectionLimits = ConnectionLimits {
    feeds_per_connection: 100,
    stall_timeout: Duration::from_secs(30),
    request_timeout: REQUEST_TIMEOUT,
    max_message_bytes: 16 * 1024,
};
const RATE_LIMITS: LimitSettings = LimitSettings {
    grants: None,
    requests: None,
    joins: None,
    connections: 50_000,
    connections_per_address: None,
    trusted_proxy_hops: 0,
};
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BODY_BYTES: usize = 1024 * 1024;
const LISTENER_SETTINGS: ListenerSettings = ListenerSettings {
    max_connections: 2 * RATE_LIMITS.connections,
    head_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_mins(2),
    user_timeout: CONNECTION_LIMITS.stall_timeout,
};
const URL_TTLS: UrlTtls = UrlTtls { view: Duration::from_hours(1), upload_max: Duration::from_hours(1) };
/// Length of a session token of temporary credentials, which every signed URL contains.
const SESSION_TOKEN_LENGTH: usize = 350;

/// Prints its port to standard output, then publishes the workloads that it reads from standard input, until
/// that ends.
pub async fn serve() -> anyhow::Result<()> {
    let metrics = telemetry::init(LogFormat::Json)?;
    let log = Arc::new(MemoryLog::new(RETENTION));
    let hub = Hub::new(log.clone(), CONNECTION_LIMITS.stall_timeout);
    let bucket = Bucket::connect(&sdk_config(), "photos", KeyPrefix::default(), URL_TTLS).await?;
    let url_base = UrlBase::Fixed(bucket.url().clone());
    let event_encoder = Arc::new(EventEncoder::new(bucket.clone()));
    let auth_settings = AuthSettings { keys: None, anonymous: Rights::ALL, audience: None, issuer: None };
    let authenticator = Arc::new(Authenticator::new(auth_settings)?);
    let rate_limits = Arc::new(RateLimits::new(&RATE_LIMITS));
    let connection_quota = Arc::new(ConnectionQuota::new(RATE_LIMITS.connections, None));
    let client_addresses = ClientAddressResolver::default();
    let (socket_io, _socket_io_server) = SocketIoServer::new(Arc::new(socketio::ConnectionContext {
        authenticator: authenticator.clone(),
        rate_limits: rate_limits.clone(),
        connection_quota: connection_quota.clone(),
        client_addresses,
        hub: hub.clone(),
        event_encoder: event_encoder.clone(),
        limits: CONNECTION_LIMITS,
        url_base: url_base.clone(),
        announce_connections: false,
    }));
    let rules = UploadRules { max_bytes: 1, content_types: Vec::new(), record_uploader: false };
    let router = http::router(http::AppState {
        authenticator,
        rate_limits,
        connection_quota,
        body_reader: BodyReader::new(MAX_BODY_BYTES, REQUEST_TIMEOUT, MAX_BODY_BYTES),
        client_addresses,
        hub: hub.clone(),
        presence: log.clone(),
        event_encoder,
        bucket: bucket.clone(),
        url_base,
        upload_issuer: UploadIssuer::new(bucket, rules, NameSecret::random()),
        readiness: Arc::default(),
        metrics: MetricsEndpoint { prometheus: metrics, token: None },
        demo_page: None,
        shutdown: CancellationToken::new(),
    });
    let router = http::with_middleware(
        router.route_service("/socket.io/", socket_io),
        &AllowedOrigins::default(),
        None,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    tokio::spawn(hub.run(CancellationToken::new()));
    let overload_router = axum::Router::new();
    let listener = Listener { socket: listener, settings: LISTENER_SETTINGS, router, overload_router };
    tokio::spawn(listener.serve(CancellationToken::new(), CancellationToken::new()));
    let mut workloads = read_workloads();
    while let Some(workload) = workloads.recv().await {
        publish(&*log, &workload).await?;
    }
    Ok(())
}

fn sdk_config() -> SdkConfig {
    let token = "t".repeat(SESSION_TOKEN_LENGTH);
    let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", Some(token), None, "bench");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

fn read_workloads() -> mpsc::Receiver<Workload> {
    let (tx, rx) = mpsc::channel(1);
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        for workload in lines.filter_map(|line| Workload::parse(&line)) {
            let _ = tx.blocking_send(workload);
        }
    });
    rx
}

/// Appends every event at its due time.
async fn publish(log: &dyn FeedLog, workload: &Workload) -> anyhow::Result<()> {
    let (start, start_time) = (Instant::now(), Timestamp::now());
    for sent in 0..workload.events {
        let due = Duration::from_secs_f64(f64::from(sent) / f64::from(workload.rate));
        if start + due > Instant::now() {
            tokio::time::sleep_until(start + due).await;
        }
        let feed = FeedId::parse(&format!("f{}", sent % workload.feeds))?;
        let event =
            photo(&feed, sent / workload.feeds, start_time + SignedDuration::try_from(due)?, workload.size)?;
        log.append(event, Proof::Bucket, Timestamp::now()).await?;
    }
    Ok(())
}

/// An event whose key contains its number and due time. A large event is an upload with its signed URL, a
/// small one a removal; the name is padded to reach `size`.
fn photo(feed: &FeedId, number: u32, due: Timestamp, size: usize) -> anyhow::Result<FeedEvent> {
    let kind = if size > 1000 { EventKind::Uploaded } else { EventKind::Removed };
    // The URL repeats the key.
    let padding = if size > 1000 { (size - 962) / 2 } else { size - 192 };
    let name = format!("{number:010}-{:016}-{}.jpg", due.as_microsecond(), "n".repeat(padding));
    Ok(FeedEvent {
        kind,
        key: ObjectKey::build(&KeyPrefix::default(), feed, &name)?,
        event_name: "ObjectCreated:Put".into(),
        event_time: Some(due),
        sequencer: None,
        photo: Photo::default(),
    })
}
