//! The real parts, from the feed log to the socket. A timer stands where S3 and its queue do: neither
//! gives a thousand events a second on a desk.

use std::{io::BufRead, sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use jiff::{SignedDuration, Timestamp};
use photoshare_server::{
    auth::{Gate, Rights, Settings},
    bucket::{Bucket, Lives},
    config::LogFormat,
    feed::{FeedEvent, FeedId, KeyPrefix, Kind, NameSecret, ObjectKey, Photo},
    http::{self, AllowedOrigins, UploadRules},
    hub::Hub,
    limit::{self, Limiter},
    listener::{Listener, Peer},
    log::{FeedLog, MemoryLog, Proof, Retention},
    socketio::{self, Limits, SocketIoServer},
    telemetry,
    wire::{Showcase, UrlBase},
};
use tokio::{net::TcpListener, sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::Order;

/// The defaults of the configuration.
const DAY: Duration = Duration::from_hours(24);
const RETENTION: Retention = Retention { entries: 1000, seen: 10_000, seen_for: DAY, idle: DAY };
const LIMITS: Limits =
    Limits { feeds_per_connection: 100, patience: Duration::from_secs(30), message: 16 * 1024 };
const RATES: limit::Settings = limit::Settings {
    grants: None,
    requests: None,
    joins: None,
    connections: 50_000,
    connections_per_address: None,
    trusted_proxy_hops: 0,
};
const LIVES: Lives = Lives { view: Duration::from_hours(1), upload_max: Duration::from_hours(1) };
/// Temporary credentials have a token of about this length, and every URL holds it.
const SESSION_TOKEN: usize = 350;

/// Says its port on standard output, then publishes as it is ordered on standard input, until that ends.
pub async fn serve() -> anyhow::Result<()> {
    let metrics = telemetry::init(LogFormat::Json)?;
    let log = Arc::new(MemoryLog::new(RETENTION));
    let hub = Hub::new(log.clone(), LIMITS.patience);
    let bucket = Bucket::connect(&sdk(), "photos", KeyPrefix::default(), LIVES).await?;
    let url_base = UrlBase::Fixed(bucket.base().clone());
    let showcase = Arc::new(Showcase::new(bucket));
    let everybody = Settings { keys: None, anonymous: Rights::ALL, audience: None, issuer: None };
    let gate = Arc::new(Gate::new(everybody)?);
    let limiter = Arc::new(Limiter::new(&RATES));
    let (engine, _socketio) = SocketIoServer::new(Arc::new(socketio::Context {
        gate: gate.clone(),
        limiter: limiter.clone(),
        hub: hub.clone(),
        showcase: showcase.clone(),
        limits: LIMITS,
        url_base: url_base.clone(),
        announce_connections: false,
    }));
    let router = http::router(http::Context {
        gate,
        limiter,
        hub: hub.clone(),
        presence: log.clone(),
        showcase,
        url_base,
        uploads: UploadRules { max_bytes: 1, content_types: Vec::new(), record_uploader: false },
        name_secret: NameSecret::random(),
        readiness: Arc::default(),
        metrics,
        metrics_token: None,
        page: None,
        stopping: CancellationToken::new(),
    });
    let router = http::around(router.route_service("/socket.io/", engine), &AllowedOrigins::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    tokio::spawn(hub.run(CancellationToken::new()));
    let listener = Listener { socket: listener, cut_all: CancellationToken::new() };
    let app = router.into_make_service_with_connect_info::<Peer>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut orders = orders();
    while let Some(order) = orders.recv().await {
        publish(&*log, &order).await?;
    }
    Ok(())
}

fn sdk() -> SdkConfig {
    let token = "t".repeat(SESSION_TOKEN);
    let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", Some(token), None, "bench");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

fn orders() -> mpsc::Receiver<Order> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        for order in lines.filter_map(|line| Order::parse(&line)) {
            let _ = sender.blocking_send(order);
        }
    });
    receiver
}

/// Appends every event when it is due.
async fn publish(log: &dyn FeedLog, order: &Order) -> anyhow::Result<()> {
    let (start, began) = (Instant::now(), Timestamp::now());
    for sent in 0..order.events {
        let due = Duration::from_secs_f64(f64::from(sent) / f64::from(order.rate));
        if start + due > Instant::now() {
            tokio::time::sleep_until(start + due).await;
        }
        let feed = FeedId::parse(&format!("f{}", sent % order.feeds))?;
        let event = photo(&feed, sent / order.feeds, began + SignedDuration::try_from(due)?, order.size)?;
        log.append(event, Proof::Bucket, Timestamp::now()).await?;
    }
    Ok(())
}

/// The number and the time when it was due stand in the key. A large one is an upload with its signed
/// URL, a small one a removal; the name fills up what is missing.
fn photo(feed: &FeedId, number: u32, due: Timestamp, size: usize) -> anyhow::Result<FeedEvent> {
    let kind = if size > 1000 { Kind::Uploaded } else { Kind::Removed };
    // A URL holds the key once more.
    let filler = if size > 1000 { (size - 962) / 2 } else { size - 192 };
    let name = format!("{number:010}-{:016}-{}.jpg", due.as_microsecond(), "n".repeat(filler));
    Ok(FeedEvent {
        kind,
        key: ObjectKey::build(&KeyPrefix::default(), feed, &name)?,
        event_name: "ObjectCreated:Put".into(),
        event_time: Some(due),
        sequencer: None,
        photo: Photo::default(),
    })
}
