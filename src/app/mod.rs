//! The composition root: builds the parts of each command, supervises their tasks and shuts them down.

mod aws;
mod maintenance;
mod poller;
mod readiness;
mod server;
mod supervisor;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    bucket::Bucket,
    config::{CommonConfig, DevConfig, PollConfig, SHUTDOWN_TIMEOUT, ServeConfig, WebConfig},
    feed::KeyPrefix,
    http::{self, AllowedHosts, DemoPageSettings},
    local,
    protocol::UrlBase,
    queue::{LocalQueue, Queue, SqsQueue},
};
pub use aws::load_aws_sdk;
use aws::{build_local_sdk, upload_name_secret};
use maintenance::LogHandles;
use poller::build_consumer;
use server::{Backend, Server};
use supervisor::{Supervisor, stop_on_signal};

/// Visibility timeout of received messages; a heartbeat extends it. Short, since it is also the delay of a
/// photo whose message was received by a process that was killed.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs `photoshare dev`: the web server, the poller, and an embedded S3 and queue.
///
/// # Errors
/// When a part fails to start, or a task ends unexpectedly.
pub async fn dev(dev: DevConfig, metrics: PrometheusHandle) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let (listener, address) = bind(dev.web.address).await?;
    let keys = local::LocalCredentials::load_or_create(&dev.data_dir)?;
    let queue = Arc::new(LocalQueue::default());
    let store = local::open_store(&dev.data_dir, &keys, queue.clone())?;
    let sdk = build_local_sdk(&keys, address);
    let bucket = Bucket::connect(&sdk, local::BUCKET_NAME, KeyPrefix::default(), dev.common.url_ttls).await?;
    let bucket_url = bucket.url().clone();
    let backend = Backend {
        url_base: match &dev.public_url {
            Some(url) => UrlBase::Fixed(bucket_url.with_origin(url)),
            None => UrlBase::RequestHost(bucket_url),
        },
        bucket,
        queue: Some(queue),
        demo_page: Some(DemoPageSettings::default()),
        upload_name_secret: upload_name_secret(&dev.web, &sdk).await,
        extra_routes: http::embedded_s3_router(local::BUCKET_NAME, store),
        allowed_hosts: Some(AllowedHosts::local(dev.public_url.as_deref())),
    };
    print_welcome(&dev, address);
    run(listener, &dev.common, dev.web, backend, metrics, stop).await
}

/// Runs `photoshare serve`: the web server and the poller, with S3 and SQS.
///
/// # Errors
/// When a part fails to start, or a task ends unexpectedly.
pub async fn serve(serve: ServeConfig, metrics: PrometheusHandle) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let sdk = load_aws_sdk(&serve.aws).await;
    let ServeConfig { common, web, aws, demo_page, poller } = serve;
    let bucket = Bucket::connect(&sdk, &aws.bucket, aws.prefix, common.url_ttls).await?;
    let bucket_url = bucket.url().clone();
    let upload_name_secret = upload_name_secret(&web, &sdk).await;
    let queue =
        poller.then(|| Arc::new(SqsQueue::new(&sdk, aws.queue_url, VISIBILITY_TIMEOUT)) as Arc<dyn Queue>);
    let backend = Backend {
        bucket,
        queue,
        demo_page: demo_page.then(|| DemoPageSettings { bucket_origin: Some(bucket_url.origin.to_string()) }),
        url_base: UrlBase::Fixed(bucket_url),
        upload_name_secret,
        extra_routes: Router::new(),
        allowed_hosts: None,
    };
    let (listener, _) = bind(web.address).await?;
    run(listener, &common, web, backend, metrics, stop).await
}

/// Runs `photoshare poll`: the poller with S3 and SQS, without a listener.
///
/// # Errors
/// When a part fails to start, or a task ends unexpectedly.
pub async fn poll(poll: PollConfig, metrics: PrometheusHandle) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let sdk = load_aws_sdk(&poll.aws).await;
    let PollConfig { common, aws } = poll;
    let bucket = Bucket::connect(&sdk, &aws.bucket, aws.prefix, common.url_ttls).await?;
    let log = LogHandles::open(&common)?;
    let queue = Arc::new(SqsQueue::new(&sdk, aws.queue_url, VISIBILITY_TIMEOUT));
    let consumer = build_consumer(queue, &bucket, &log, &common);

    let mut tasks = Supervisor::default();
    let (stop_poller, stop_maintenance) = (CancellationToken::new(), CancellationToken::new());
    tasks.spawn("maintenance", maintenance::run(bucket, log, metrics, stop_maintenance.clone()));
    tasks.spawn("poller", consumer.run(stop_poller.clone()));
    info!("polling");
    tasks.run_until(&stop).await?;
    shut_down_in_time(async {
        stop_poller.cancel();
        tasks.join("poller").await;
        stop_maintenance.cancel();
        tasks.join_all().await;
    })
    .await;
    Ok(())
}

/// Runs the web server until `stop` is cancelled.
async fn run(
    listener: TcpListener,
    common: &CommonConfig,
    web: WebConfig,
    backend: Backend,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut server = Server::build(listener, common, web, backend, metrics)?.spawn();
    server.tasks.run_until(&stop).await?;
    shut_down_in_time(server.shut_down()).await;
    Ok(())
}

/// Runs `shutdown` within [`SHUTDOWN_TIMEOUT`]. What is left then ends with the process.
async fn shut_down_in_time(shutdown: impl Future<Output = ()>) {
    info!("shutting down");
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, shutdown).await.is_ok() {
        info!("shutdown complete");
    } else {
        warn!(timeout_s = SHUTDOWN_TIMEOUT.as_secs(), "shutdown timed out, some connections were not closed");
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Prints how to try a development server.
fn print_welcome(dev: &DevConfig, address: SocketAddr) {
    let url = dev.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
    println!(
        "PhotoShare runs at {url}\n\
         Open it in two browser windows and drop a photo into one, or request an upload URL:\n\n  \
         curl -s {url}/v1/feeds/summer/uploads -d '{{\"contentType\":\"image/jpeg\",\"size\":12345}}'\n\n\
         Photos are stored in {}.",
        dev.data_dir.display()
    );
}

#[cfg(test)]
mod tests;
