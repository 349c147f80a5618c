//! Puts the parts together, watches over them, and stops them in order.

mod supervise;
mod upkeep;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use axum::Router;
use futures_util::{FutureExt, future::OptionFuture};
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    auth::Gate,
    bucket::Bucket,
    config::{Aws, Common, Dev, Poll, SHUTDOWN, Serve, Web},
    feed::{KeyPrefix, NameSecret},
    http::{self, PageSettings, Readiness},
    hub::Hub,
    ingest::{Ingest, Inspector},
    limit::Limiter,
    listener::{Listener, Peer},
    local,
    log::FeedLog,
    queue::{Consumer, ConsumerConfig, Health, LocalQueue, Queue, SqsQueue},
    socketio::{self, SocketIoServer},
    wire::{Showcase, UrlBase},
};
use supervise::{Supervisor, stop_signal};
use upkeep::Log;

/// How long a received message stays invisible; a heartbeat renews it. Short, since it is also how long
/// a photo is kept from everybody when the process that received its event is killed.
const VISIBILITY: Duration = Duration::from_secs(20);
/// How long messages in hand may take once the process is told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long clients wait for their farewell because of the poller: somewhat more than what is in hand may
/// take.
const POLLER: Duration = Duration::from_secs(7);
/// Clients come back within this after a shutdown, each at another moment.
const RECONNECT_SPREAD: Duration = Duration::from_secs(5);
/// How long connections may take to close.
const CLOSE: Duration = Duration::from_secs(4);
/// A poller that heard nothing for so long is not working: longer than two long polls.
const QUEUE_SILENCE: Duration = Duration::from_secs(90);
/// Who provides credentials has this long to say what names are sealed with.
const CREDENTIALS_WITHIN: Duration = Duration::from_secs(10);

/// The parts that differ from one way of running to another.
struct Parts {
    bucket: Bucket,
    queue: Option<Arc<dyn Queue>>,
    url_base: UrlBase,
    page: Option<PageSettings>,
    name_secret: NameSecret,
    /// Routes of this way of running alone.
    extra: Router,
}

/// `photoshare dev`: everything in this process.
///
/// # Errors
/// When a part can't begin, or ended by itself.
pub async fn dev(dev: Dev, metrics: PrometheusHandle) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let (listener, address) = bind(dev.web.address).await?;
    let keys = local::Keys::of(&dev.data_dir)?;
    let queue = Arc::new(LocalQueue::default());
    let store = local::open(&dev.data_dir, &keys, queue.clone())?;
    let sdk = local_sdk(&keys, address);
    let bucket = Bucket::connect(&sdk, local::BUCKET, KeyPrefix::default(), dev.common.lives).await?;
    let own = bucket.base().clone();
    let parts = Parts {
        url_base: match &dev.public_url {
            Some(url) => UrlBase::Fixed(own.at(url)),
            None => UrlBase::OwnHost(own),
        },
        bucket,
        queue: Some(queue),
        page: Some(PageSettings::default()),
        name_secret: name_secret(&dev.web, &sdk).await,
        extra: http::embedded_bucket(local::BUCKET, store),
    };
    say_hello(&dev, address);
    run(listener, &dev.common, dev.web, parts, metrics, stop).await
}

/// `photoshare serve`: the web side and the poller, against AWS.
///
/// # Errors
/// When a part can't begin, or ended by itself.
pub async fn serve(serve: Serve, metrics: PrometheusHandle) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let sdk = aws_sdk(&serve.aws).await;
    let Serve { common, web, aws, demo_page, poller } = serve;
    let bucket = Bucket::connect(&sdk, &aws.bucket, aws.prefix, common.lives).await?;
    let base = bucket.base().clone();
    let name_secret = name_secret(&web, &sdk).await;
    let queue = poller.then(|| Arc::new(SqsQueue::new(&sdk, aws.queue_url, VISIBILITY)) as Arc<dyn Queue>);
    let parts = Parts {
        bucket,
        queue,
        page: demo_page.then(|| PageSettings { bucket_origin: Some(base.origin.to_string()) }),
        url_base: UrlBase::Fixed(base),
        name_secret,
        extra: Router::new(),
    };
    let (listener, _) = bind(web.address).await?;
    run(listener, &common, web, parts, metrics, stop).await
}

/// `photoshare poll`: the poller alone, against AWS. Listens to nobody.
///
/// # Errors
/// When a part can't begin, or ended by itself.
pub async fn poll(poll: Poll, metrics: PrometheusHandle) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let sdk = aws_sdk(&poll.aws).await;
    let Poll { common, aws } = poll;
    let bucket = Bucket::connect(&sdk, &aws.bucket, aws.prefix, common.lives).await?;
    let log = Log::open(&common)?;
    let queue = Arc::new(SqsQueue::new(&sdk, aws.queue_url, VISIBILITY));
    let consumer = consumer(queue, &bucket, &log, &common);

    let mut tasks = Supervisor::default();
    let (receiving, upkeep) = (CancellationToken::new(), CancellationToken::new());
    tasks.spawn("upkeep", upkeep::keep_up(bucket, log, metrics, upkeep.clone()));
    tasks.spawn("poller", consumer.run(receiving.clone()));
    info!("polling");
    until_told(&stop, &mut tasks).await?;
    in_time(async {
        receiving.cancel();
        tasks.ended("poller").await;
        upkeep.cancel();
        tasks.all_ended().await;
    })
    .await;
    Ok(())
}

/// Runs the parts until `stop`, or until one of them ends by itself.
async fn run(
    listener: TcpListener,
    common: &Common,
    web: Web,
    parts: Parts,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let log = Log::open(common)?;
    let hub = Hub::new(log.feeds.clone(), web.limits.patience);
    let showcase = Arc::new(Showcase::new(parts.bucket.clone()));
    let gate = Arc::new(Gate::new(web.auth)?);
    let limiter = Arc::new(Limiter::new(&web.rates));
    let consumer = parts.queue.map(|queue| consumer(queue, &parts.bucket, &log, common));
    let readiness = Arc::new(readiness(&log.feeds, consumer.as_ref()));
    let streams = CancellationToken::new();
    let (engine, socketio) = SocketIoServer::new(Arc::new(socketio::Context {
        gate: gate.clone(),
        limiter: limiter.clone(),
        hub: hub.clone(),
        showcase: showcase.clone(),
        limits: web.limits,
        url_base: parts.url_base.clone(),
        announce_connections: web.announce_connections,
    }));
    let router = http::router(http::Context {
        gate: gate.clone(),
        limiter: limiter.clone(),
        hub: hub.clone(),
        presence: log.presence.clone(),
        showcase,
        url_base: parts.url_base,
        uploads: web.uploads,
        name_secret: parts.name_secret,
        readiness: readiness.clone(),
        metrics: metrics.clone(),
        metrics_token: web.metrics_token,
        page: parts.page,
        stopping: streams.clone(),
    });
    let router = router.merge(parts.extra).merge(http::socket_io(engine, &web.origins));
    let router = http::around(router, &web.origins);

    let mut tasks = Supervisor::default();
    let (receiving, delivering, accepting) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let counting = upkeep::count_watchers(hub.clone(), log.presence.clone(), delivering.clone());
    tasks.spawn("watchers", counting);
    let keeping = upkeep::keep_watched(hub.clone(), log.feeds.clone(), common.retention, delivering.clone());
    tasks.spawn("watched", keeping);
    tasks.spawn("hub", hub.run(delivering.clone()));
    tasks.spawn("upkeep", upkeep::keep_up(parts.bucket, log, metrics, delivering.clone()));
    tasks.spawn("keys", upkeep::keep_keys(gate, delivering.clone()));
    tasks.spawn("limits", upkeep::keep_limits(limiter, delivering.clone()));
    let cut_all = CancellationToken::new();
    let listener = Listener { socket: listener, cut_all: cut_all.clone() };
    let server = axum::serve(listener, router.into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(accepting.clone().cancelled_owned());
    tasks.spawn("http", async move {
        if let Err(error) = server.await {
            warn!(%error, "http");
        }
    });
    if let Some(consumer) = consumer {
        tasks.spawn("poller", consumer.run(receiving.clone()));
    }
    info!(%address, "listening");

    until_told(&stop, &mut tasks).await?;
    in_time(async {
        readiness.stop();
        receiving.cancel();
        // A queue that does not answer must not cost the clients their farewell; it is waited for below.
        let _ = tokio::time::timeout(POLLER, tasks.ended("poller")).await;
        socketio.say_reconnect(RECONNECT_SPREAD).await;
        streams.cancel();
        accepting.cancel();
        socketio.close(CLOSE).await;
        if tokio::time::timeout(CLOSE, tasks.ended("http")).await.is_err() {
            cut_all.cancel();
            tasks.ended("http").await;
        }
        delivering.cancel();
        tasks.all_ended().await;
    })
    .await;
    Ok(())
}

fn consumer(queue: Arc<dyn Queue>, bucket: &Bucket, log: &Log, common: &Common) -> Consumer {
    let inspector = common.inspector.clone().map(Inspector::new);
    let ingest = Arc::new(Ingest::new(bucket.clone(), log.feeds.clone(), inspector));
    let config = ConsumerConfig { max_loops: common.poller_max_loops, drain: DRAIN };
    Consumer::new(queue, ingest, config)
}

/// Waits for the word to stop; a task that ends before is an error.
async fn until_told(stop: &CancellationToken, tasks: &mut Supervisor) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => {}
        dead = tasks.one_ended() => anyhow::bail!("{dead} ended by itself"),
    }
    info!("stopping");
    Ok(())
}

/// Stops in order, as long as there is time.
async fn in_time(in_order: impl Future<Output = ()>) {
    if tokio::time::timeout(SHUTDOWN, in_order).await.is_ok() {
        info!("stopped");
    } else {
        warn!("stopped before everybody had gone");
    }
}

fn readiness(log: &Arc<dyn FeedLog>, consumer: Option<&Consumer>) -> Readiness {
    let mut readiness = Readiness::default();
    let log = log.clone();
    readiness.add(
        "log",
        Box::new(move || {
            let log = log.clone();
            let answer = async move { log.ping().await };
            answer.map(|answer| answer.map(|()| "ok".into()).map_err(|error| error.to_string())).boxed()
        }),
    );
    if let Some(health) = consumer.map(Consumer::health) {
        readiness.add("queue", Box::new(move || std::future::ready(heard_from(&health)).boxed()));
    }
    readiness
}

fn heard_from(health: &Health) -> Result<String, String> {
    let silence = health.silence();
    if health.is_paused() {
        Err("not received from: the log or the bucket is away".into())
    } else if health.is_refused() {
        Err("it refuses: compare SQS_QUEUE_URL, AWS_REGION and what the key may do".into())
    } else if silence >= QUEUE_SILENCE {
        Err(format!("no answer for {} s", silence.as_secs()))
    } else {
        Ok(format!("ok, heard from {} s ago", silence.as_secs()))
    }
}

/// What the names of uploads are sealed with: the same in every process and after a restart, or a grant
/// that one gave is unknown to the next.
async fn name_secret(web: &Web, sdk: &SdkConfig) -> NameSecret {
    let tokens = web.auth.keys.as_ref().and_then(|keys| keys.secret.as_ref());
    if let Some(secret) = web.name_secret.as_ref().or(tokens) {
        return NameSecret::new(secret.expose_secret().as_bytes());
    }
    let provided = sdk.credentials_provider().map(async |provider| {
        let provided = tokio::time::timeout(CREDENTIALS_WITHIN, provider.provide_credentials()).await;
        provided.ok()?.ok()
    });
    let credentials = OptionFuture::from(provided).await.flatten();
    let lasting = credentials.filter(|credentials| credentials.session_token().is_none());
    lasting.map_or_else(for_now, |lasting| NameSecret::new(lasting.secret_access_key().as_bytes()))
}

fn for_now() -> NameSecret {
    warn!("uploads granted here can't be renewed elsewhere or after a restart: set UPLOAD_NAME_SECRET");
    NameSecret::random()
}

async fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The SDK as the environment and `aws` say.
pub async fn aws_sdk(aws: &Aws) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    match &aws.region {
        Some(region) => loader.region(Region::new(region.clone())),
        None => loader,
    }
    .load()
    .await
}

/// An SDK that speaks to this very process.
fn local_sdk(keys: &local::Keys, address: SocketAddr) -> SdkConfig {
    let host = if address.ip().is_unspecified() {
        SocketAddr::new([127, 0, 0, 1].into(), address.port())
    } else {
        address
    };
    let credentials = Credentials::new(&keys.access_key_id, &keys.secret_access_key, None, None, "local");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{host}"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// Tells a newcomer what to do next.
fn say_hello(dev: &Dev, address: SocketAddr) {
    let url = dev.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
    println!(
        "PhotoShare runs at {url}\n\
         Open it in two windows and drop a photo, or ask for an upload URL by hand:\n\n  \
         curl -s {url}/v1/feeds/summer/uploads -d '{{\"contentType\":\"image/jpeg\",\"size\":12345}}'\n\n\
         Photos are kept in {}.",
        dev.data_dir.display()
    );
}

#[cfg(test)]
mod tests;
