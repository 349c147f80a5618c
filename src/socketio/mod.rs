//! Socket.IO: the handshake, the requests of a connection, and what it is told.
//!
//! socketioxide carries the protocol. What it does not promise is kept here: requests are answered in
//! their order (one mailbox a connection), nothing is dropped because a queue is full (the hub tells
//! again what was not taken), and a stalled connection ends (its transport is cut from outside).

mod adapter;
mod connection;
mod engine;
mod handshake;
mod mailbox;
mod outgoing;
mod request;
mod transport;
mod upgrade;

use std::{convert::Infallible, sync::Arc, time::Duration};

use engineioxide::service::NotFoundService;
use secrecy::ExposeSecret;
use socketioxide::{
    ParserConfig, TransportType, extract::TryData, handler::ConnectHandler, operators::BroadcastOperators,
    service::SocketIoService, socket::DisconnectReason,
};
use tokio_util::task::TaskTracker;

use crate::{
    auth::{Gate, MAX_TOKEN_BYTES},
    hub::Hub,
    limit::Limiter,
    listener::Peer,
    wire::{Problem, Showcase, UrlBase},
};
use adapter::{Direct, NAMESPACE, SocketIo, SocketRef};
use connection::Admitted;
use handshake::Handshake;
use mailbox::Mailbox;
use request::Request;
use transport::Sessions;

pub use adapter::Adapter;
pub use engine::EngineService;

/// Packets that socketioxide queues for a connection. What does not fit waits in the log.
const QUEUE: usize = 128;
/// What a polling request may have at least, in bytes: it may hold several messages.
const POLL_BODY: usize = 100_000;
/// What a handshake says of a feed, in bytes: a name of 64 that may all be escaped, a cursor of 128.
const FEED_SAID: usize = 320;
/// A connection that never asks to be let in is closed after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One that was refused, or that has left, may read why for so long; then its transport is closed.
const FAREWELL: Duration = Duration::from_millis(2500);
/// A client that polls comes again within this.
const NEXT_POLL: Duration = Duration::from_secs(1);

/// What every connection needs.
pub struct Context {
    /// Lets people in.
    pub gate: Arc<Gate>,
    /// Says when it is too often, and when there are too many.
    pub limiter: Arc<Limiter>,
    /// Tells them what happens.
    pub hub: Arc<Hub>,
    /// Shows it to them.
    pub showcase: Arc<Showcase>,
    /// The limits.
    pub limits: Limits,
    /// Where signed URLs point.
    pub url_base: UrlBase,
    /// Old servers told everybody who comes and goes.
    pub announce_connections: bool,
}

/// Limits of connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Feeds that one connection may be in.
    pub feeds_per_connection: usize,
    /// How long a connection may take nothing before it is cut.
    pub patience: Duration,
    /// The longest message that a client may send, in bytes.
    pub message: usize,
}

impl Limits {
    /// The longest message that has sense, in bytes: a handshake with the longest token and as many
    /// feeds as one connection may be in.
    #[must_use]
    pub fn longest_handshake(feeds: usize) -> usize {
        1024 + MAX_TOKEN_BYTES + feeds * FEED_SAID
    }
}

/// The Socket.IO side of the server.
pub struct SocketIoServer {
    io: SocketIo,
    /// Those that deal with requests.
    tasks: TaskTracker,
}

impl SocketIoServer {
    /// The service of `/socket.io/`, and the handle that ends it.
    #[must_use]
    pub fn new(context: Arc<Context>) -> (EngineService<SocketIoService<NotFoundService, Adapter>>, Self) {
        let longest = context.limits.message;
        let direct = Direct::default();
        let (service, io) = socketioxide::SocketIo::builder()
            .with_adapter::<Adapter>(direct.clone())
            .max_buffer_size(QUEUE)
            .max_payload(POLL_BODY.max(longest) as u64)
            .ws_max_message_size(longest)
            .ws_max_frame_size(longest)
            .ws_read_buffer_size(256)
            .connect_timeout(CONNECT_TIMEOUT)
            .with_parser(
                ParserConfig::common().max_incoming_binaries(8).max_incoming_binary_buf_size(longest),
            )
            .build_svc();
        let tasks = TaskTracker::new();
        serve(&io, context, direct, tasks.clone());
        let sessions = Sessions::default();
        sessions.closer.set(service.clone());
        (EngineService::new(service, sessions), Self { io, tasks })
    }

    /// Tells everybody when to come back, spread over `spread`. Those who poll are given time to come for
    /// it.
    pub async fn say_reconnect(&self, spread: Duration) {
        let Some(everybody) = self.io.of(NAMESPACE) else { return };
        let sockets = everybody.sockets();
        for socket in &sockets {
            let share = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
            let after_ms = u64::try_from(spread.mul_f64(share).as_millis()).unwrap_or(0);
            // One whose queue is full comes back by its own delay.
            let _ = socket.emit("reconnect", &serde_json::json!({ "afterMs": after_ms }));
        }
        if sockets.iter().any(|socket| socket.transport_type() == TransportType::Polling) {
            tokio::time::sleep(NEXT_POLL).await;
        }
    }

    /// Closes every transport (no Socket.IO disconnect: official clients would not come back) and ends what
    /// is being done for them. Those who don't take it are cut when `limit` is over.
    pub async fn close(&self, limit: Duration) {
        let sockets = self.io.of(NAMESPACE).map(BroadcastOperators::sockets).unwrap_or_default();
        let closing = async {
            self.io.close().await;
            end_all(&sockets);
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(limit, closing).await.is_err() {
            end_all(&sockets);
            for socket in &sockets {
                transport::cut(socket);
            }
        }
    }
}

/// Ends what is done for them: socketioxide runs no disconnect handlers when it closes as a whole.
fn end_all(sockets: &[SocketRef]) {
    for mailbox in sockets.iter().filter_map(Mailbox::of) {
        mailbox.end();
    }
}

fn serve(io: &SocketIo, context: Arc<Context>, direct: Direct, tasks: TaskTracker) {
    let admit = {
        let context = context.clone();
        async move |socket: SocketRef, auth: TryData<serde_json::Value>| {
            admit(&context, &direct, &tasks, &socket, auth.0.ok()).await
        }
    };
    let connected = async move |io: SocketIo, socket: SocketRef| {
        let began = Mailbox::of(&socket).is_some_and(|mailbox| mailbox.begin(socket));
        if began && context.announce_connections {
            tell_everybody(&io, "aUserHasConnected");
        }
    };
    io.ns(NAMESPACE, connected.with(admit));
    // Closing takes that namespace away; this one is looked for after it.
    io.dyn_ns(NAMESPACE, (async |_: SocketRef| {}).with(turn_away)).expect("the first of its kind");
}

/// Closes the transport of one that comes while the server closes, and says nothing: after an error
/// official clients would stay away.
async fn turn_away(socket: SocketRef) -> Result<(), Infallible> {
    transport::cut(&socket);
    drop(socket);
    std::future::pending().await
}

/// Runs before the client is told that it is connected, so that what it sends at once finds its mailbox,
/// and its end is noticed even if it comes before that.
async fn admit(
    context: &Arc<Context>,
    direct: &Direct,
    tasks: &TaskTracker,
    socket: &SocketRef,
    auth: Option<serde_json::Value>,
) -> Result<(), &'static str> {
    let parts = socket.req_parts();
    let admitted = async {
        let address = context.limiter.address(parts.extensions.get::<Peer>(), &parts.headers);
        let place = context.limiter.place(address)?;
        let handshake = Handshake::read(parts, auth.as_ref());
        let token = handshake.token.as_ref().map(ExposeSecret::expose_secret);
        let access = context.gate.admit(token).await?;
        Ok::<_, Problem>((handshake, access, place))
    };
    match admitted.await {
        Ok((handshake, access, place)) => {
            see_off(socket, context.announce_connections);
            let base = context.url_base.for_host(handshake.host.as_deref());
            let admitted = Admitted { context: context.clone(), direct: direct.clone(), base, access, place };
            Mailbox::open(socket, tasks.clone(), admitted, Request::Handshake(handshake.feeds));
            Ok(())
        }
        Err(problem) => {
            transport::cut_after(socket.clone(), FAREWELL);
            Err(problem.kind.name())
        }
    }
}

/// Does what is to be done when the client is gone, or has gone from the namespace: its session then is
/// still open, but has no place among the connections any more.
fn see_off(socket: &SocketRef, announce: bool) {
    socket.on_disconnect(async move |io: SocketIo, socket: SocketRef, reason: DisconnectReason| {
        let began = Mailbox::of(&socket).is_some_and(|mailbox| mailbox.end());
        if announce && began {
            tell_everybody(&io, "aUserHasDisconnected");
        }
        if reason == DisconnectReason::ClientNSDisconnect {
            transport::cut_after(socket, FAREWELL);
        }
    });
}

/// As the old server did: to everybody, without arguments. Best effort: it tells of no photo.
fn tell_everybody(io: &SocketIo, event: &'static str) {
    let Some(everybody) = io.of(NAMESPACE) else { return };
    for socket in everybody.sockets() {
        let _ = socket.emit(event, &[(); 0]);
    }
}
