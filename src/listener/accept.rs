//! The loop that accepts connections.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    capacity::{Capacity, ConnectionSlot, ExtraConnections},
    connection::serve_connection,
    peer::Peer,
    request_timer::{Activity, RequestTimeouts, RequestTimer},
    stream::{AbortableStream, set_socket_options},
};

/// Delay after a failed accept. Without it, the loop would use a whole core while no descriptor is free.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Minimum time between two warnings about failed accepts.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Limits of the connections.
#[derive(Debug, Clone, Copy)]
pub struct ListenerSettings {
    /// Connections that are open at the same time.
    pub max_connections: usize,
    /// From the first byte of a request until its head is complete. Also from the start of a connection.
    pub head_timeout: Duration,
    /// From the end of a response until the first byte of the next request.
    pub idle_timeout: Duration,
    /// Time after which the kernel closes a connection whose peer acknowledges nothing.
    pub user_timeout: Duration,
}

/// Accepts connections and serves them.
pub struct Listener {
    /// The listening socket.
    pub socket: TcpListener,
    /// Limits of the connections.
    pub settings: ListenerSettings,
    /// Serves the connections within the limit.
    pub router: Router,
    /// Serves the connections above the limit, with one response each.
    pub overload_router: Router,
}

impl Listener {
    /// Serves connections until `stop` is cancelled and the open ones have ended. Cancelling `abort_all` aborts
    /// them.
    pub async fn serve(self, stop: CancellationToken, abort_all: CancellationToken) {
        let connections = TaskTracker::new();
        let capacity = Capacity::new(self.settings.max_connections);
        let mut extra = ExtraConnections::default();
        let mut failures = AcceptFailures::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    failures.handle(&error).await;
                    continue;
                }
            };
            let peer = Peer { address, abort: Arc::new(abort_all.child_token()) };
            let slot = capacity.acquire();
            if slot.is_none() {
                extra.push(&peer.abort);
            }
            let router = if slot.is_some() { &self.router } else { &self.overload_router };
            let (once, activity) = (slot.is_none(), Arc::default());
            let stream = self.wrap_stream(stream, peer, slot, &activity);
            connections.spawn(serve_connection(stream, activity, router.clone(), once, stop.clone()));
            extra.wait_for_aborted().await;
        }
        drop(self.socket);
        connections.close();
        connections.wait().await;
    }

    fn wrap_stream(
        &self,
        stream: TcpStream,
        peer: Peer,
        slot: Option<ConnectionSlot>,
        activity: &Arc<Activity>,
    ) -> AbortableStream {
        if let Err(error) = set_socket_options(&stream, self.settings.user_timeout) {
            // The peer may have disconnected already; then the first read fails.
            debug!(%error, "failed to set socket options");
        }
        let timeouts = RequestTimeouts { head: self.settings.head_timeout, idle: self.settings.idle_timeout };
        AbortableStream::new(stream, peer, RequestTimer::new(activity.clone(), timeouts), slot)
    }
}

/// Logs failed accepts, and delays the next one.
#[derive(Default)]
struct AcceptFailures {
    last_warning: Option<Instant>,
}

impl AcceptFailures {
    async fn handle(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        // The client gave up before it was accepted.
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            return;
        }
        if self.last_warning.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL) {
            self.last_warning = Some(Instant::now());
            warn!(%error, retry_ms = ACCEPT_RETRY_DELAY.as_millis(), "failed to accept a connection");
        }
        tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
    }
}
