//! The web server of `dev` and `serve`: builds its parts, runs them as tasks, shuts them down in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    maintenance::{self, LogHandles},
    poller::build_consumer,
    readiness::build_readiness,
    supervisor::Supervisor,
};
use crate::{
    auth::Authenticator,
    bucket::Bucket,
    client_address::ClientAddressResolver,
    config::{CommonConfig, WebConfig},
    feed::NameSecret,
    http::{self, AllowedHosts, DemoPageSettings, MetricsEndpoint, Readiness, UploadIssuer},
    hub::Hub,
    limit::{BodyReader, ConnectionQuota, RateLimits},
    listener::{self, Listener, ListenerSettings},
    log::Retention,
    protocol::{EventEncoder, UrlBase},
    queue::{Consumer, Queue},
    socketio::{self, SocketIoServer},
};

/// How long the shutdown waits for the poller before it notifies the clients: a little more than
/// [`super::poller::DRAIN_TIMEOUT`].
const POLLER_TIMEOUT: Duration = Duration::from_secs(7);
/// Clients reconnect at random times within this period, so that they don't arrive all at once.
const RECONNECT_SPREAD: Duration = Duration::from_secs(5);
/// How long connections may take to close before they are aborted.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

/// Maximum size of a request body under `/v1`, in bytes. Fits a batch of 100 files with the longest captions,
/// every byte escaped, and a list of 10,000 parts.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Memory for the incomplete request bodies under `/v1`, in bytes.
const BODY_MEMORY_BYTES: usize = 32 * 1024 * 1024;
/// Time within which the head of a request must arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Minimum of `TCP_USER_TIMEOUT`: longer than a phone's gap in a tunnel.
const MIN_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// TCP connections beyond two for each of `MAX_CONNECTIONS`, for requests of other clients.
const REQUEST_CONNECTIONS: usize = 1024;

/// What differs between the web servers of `dev` and `serve`.
pub(super) struct Backend {
    pub(super) bucket: Bucket,
    /// `None` where another process receives from the queue.
    pub(super) queue: Option<Arc<dyn Queue>>,
    pub(super) url_base: UrlBase,
    pub(super) demo_page: Option<DemoPageSettings>,
    pub(super) upload_name_secret: NameSecret,
    pub(super) extra_routes: Router,
    /// `None` accepts every host.
    pub(super) allowed_hosts: Option<AllowedHosts>,
}

/// The parts of the web server, ready to run.
pub(super) struct Server {
    address: SocketAddr,
    listener: Listener,
    socketio: SocketIoServer,
    authenticator: Arc<Authenticator>,
    rate_limits: Arc<RateLimits>,
    hub: Arc<Hub>,
    bucket: Bucket,
    log: LogHandles,
    retention: Retention,
    /// `None` where another process receives from the queue.
    consumer: Option<Consumer>,
    readiness: Arc<Readiness>,
    metrics: PrometheusHandle,
    stop_streams: CancellationToken,
}

/// The running web server. Its tokens stop one group of tasks each.
pub(super) struct RunningServer {
    pub(super) tasks: Supervisor,
    socketio: SocketIoServer,
    readiness: Arc<Readiness>,
    stop_poller: CancellationToken,
    /// Ends the event streams (SSE).
    stop_streams: CancellationToken,
    /// Stops accepting connections.
    stop_listener: CancellationToken,
    /// Aborts the connections that are still open.
    abort_connections: CancellationToken,
    /// Stops the hub and the maintenance tasks.
    stop_delivery: CancellationToken,
}

impl Server {
    pub(super) fn build(
        listener: TcpListener,
        common: &CommonConfig,
        web: WebConfig,
        backend: Backend,
        metrics: PrometheusHandle,
    ) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let settings = listener_settings(&web);
        let log = LogHandles::open(common)?;
        let hub = Hub::new(log.feeds.clone(), web.socketio.stall_timeout);
        let event_encoder = Arc::new(EventEncoder::new(backend.bucket.clone()));
        let authenticator = Arc::new(Authenticator::new(web.auth)?);
        let rate_limits = Arc::new(RateLimits::new(&web.limits));
        let connection_quota =
            Arc::new(ConnectionQuota::new(web.limits.connections, web.limits.connections_per_address));
        let client_addresses = ClientAddressResolver { trusted_proxy_hops: web.limits.trusted_proxy_hops };
        let consumer = backend.queue.map(|queue| build_consumer(queue, &backend.bucket, &log, common));
        let readiness = Arc::new(build_readiness(&log.feeds, consumer.as_ref()));
        let stop_streams = CancellationToken::new();
        let (engine, socketio) = SocketIoServer::new(Arc::new(socketio::ConnectionContext {
            authenticator: authenticator.clone(),
            rate_limits: rate_limits.clone(),
            connection_quota: connection_quota.clone(),
            client_addresses,
            hub: hub.clone(),
            event_encoder: event_encoder.clone(),
            limits: web.socketio,
            url_base: backend.url_base.clone(),
            announce_connections: web.announce_connections,
        }));
        let state = http::AppState {
            authenticator: authenticator.clone(),
            rate_limits: rate_limits.clone(),
            connection_quota: connection_quota.clone(),
            body_reader: BodyReader::new(MAX_BODY_BYTES, web.socketio.request_timeout, BODY_MEMORY_BYTES),
            client_addresses,
            hub: hub.clone(),
            presence: log.presence.clone(),
            event_encoder,
            bucket: backend.bucket.clone(),
            url_base: backend.url_base,
            upload_issuer: UploadIssuer::new(backend.bucket.clone(), web.uploads, backend.upload_name_secret),
            readiness: readiness.clone(),
            metrics: MetricsEndpoint { prometheus: metrics.clone(), token: web.metrics_token },
            demo_page: backend.demo_page,
            shutdown: stop_streams.clone(),
        };
        let hosts = backend.allowed_hosts.as_ref();
        let overload_router = http::overload_router(state.clone());
        let router = http::router(state)
            .merge(backend.extra_routes)
            .merge(http::socketio_router(engine, &web.origins));
        let listener = Listener {
            socket: listener,
            settings,
            router: http::with_middleware(router, &web.origins, hosts),
            overload_router: http::with_middleware(overload_router, &web.origins, hosts),
        };
        Ok(Self {
            address,
            listener,
            socketio,
            authenticator,
            rate_limits,
            hub,
            bucket: backend.bucket,
            log,
            retention: common.retention,
            consumer,
            readiness,
            metrics,
            stop_streams,
        })
    }

    /// Spawns one task for each part.
    pub(super) fn spawn(self) -> RunningServer {
        let [stop_poller, stop_listener, abort_connections, stop_delivery] =
            std::array::from_fn(|_| CancellationToken::new());
        let mut tasks = Supervisor::default();
        self.spawn_maintenance(&mut tasks, &stop_delivery);
        tasks.spawn("hub", self.hub.run(stop_delivery.clone()));
        tasks.spawn(
            "maintenance",
            maintenance::run(self.bucket, self.log, self.metrics, stop_delivery.clone()),
        );
        tasks.spawn("http", self.listener.serve(stop_listener.clone(), abort_connections.clone()));
        if let Some(consumer) = self.consumer {
            tasks.spawn("poller", consumer.run(stop_poller.clone()));
        }
        info!(address = %self.address, "listening");
        RunningServer {
            tasks,
            socketio: self.socketio,
            readiness: self.readiness,
            stop_poller,
            stop_streams: self.stop_streams,
            stop_listener,
            abort_connections,
            stop_delivery,
        }
    }

    fn spawn_maintenance(&self, tasks: &mut Supervisor, stop: &CancellationToken) {
        let (hub, log) = (&self.hub, &self.log);
        tasks.spawn(
            "presence",
            maintenance::publish_presence(hub.clone(), log.presence.clone(), stop.clone()),
        );
        tasks.spawn(
            "feed-renewal",
            maintenance::renew_watched_feeds(hub.clone(), log.feeds.clone(), self.retention, stop.clone()),
        );
        tasks.spawn(
            "signing-keys",
            maintenance::refresh_signing_keys(self.authenticator.clone(), stop.clone()),
        );
        tasks.spawn(
            "rate-limits",
            maintenance::expire_idle_rate_limits(self.rate_limits.clone(), stop.clone()),
        );
    }
}

impl RunningServer {
    /// Stops the parts in the order in which data flows, so that each part passes on what it has accepted:
    ///
    /// ```text
    ///  readiness  fails       the load balancer sends no new clients
    ///  poller     drains      handled messages are deleted, the others return to the queue
    ///  socketio   notifies    clients receive `reconnect` with a delay of their own
    ///  streams    end         SSE clients reconnect
    ///  listener   closes      no new connections, open requests finish
    ///  socketio   closes      sessions end with a close packet
    ///  http       joins       connections that don't close in time are aborted
    ///  hub        stops       last, since it delivers to connections until they are closed
    /// ```
    pub(super) async fn shut_down(mut self) {
        self.readiness.begin_shutdown();
        self.stop_poller.cancel();
        // Bounded, since an SQS that does not respond must not keep clients from being notified. The last
        // step waits for the poller again.
        let _ = timeout(POLLER_TIMEOUT, self.tasks.join("poller")).await;
        self.socketio.emit_reconnect(RECONNECT_SPREAD).await;
        self.stop_streams.cancel();
        self.stop_listener.cancel();
        self.socketio.close(CLOSE_TIMEOUT).await;
        if timeout(CLOSE_TIMEOUT, self.tasks.join("http")).await.is_err() {
            self.abort_connections.cancel();
            self.tasks.join("http").await;
        }
        self.stop_delivery.cancel();
        self.tasks.join_all().await;
    }
}

fn listener_settings(web: &WebConfig) -> ListenerSettings {
    // A client that polls has two connections at a time.
    let wanted = web.limits.connections * 2 + REQUEST_CONNECTIONS;
    ListenerSettings {
        max_connections: listener::max_connections(listener::raise_descriptor_limit(), wanted),
        head_timeout: HEAD_TIMEOUT.min(web.socketio.request_timeout),
        idle_timeout: web.keep_alive,
        user_timeout: MIN_USER_TIMEOUT.max(web.socketio.stall_timeout),
    }
}
