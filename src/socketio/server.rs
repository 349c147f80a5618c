//! The Socket.IO server: admits connections, and closes them when the process stops.

use std::{convert::Infallible, sync::Arc, time::Duration};

use engineioxide::service::NotFoundService;
use secrecy::ExposeSecret;
use socketioxide::{
    ParserConfig, TransportType, extract::TryData, handler::ConnectHandler, operators::BroadcastOperators,
    service::SocketIoService, socket::DisconnectReason,
};
use tokio_util::task::TaskTracker;

use super::{
    adapter::{Adapter, NAMESPACE, PacketSender, SocketIo, SocketRef},
    connection::AdmittedClient,
    context::{
        BODY_MEMORY_BYTES, CLOSE_DELAY, CONNECT_TIMEOUT, ConnectionContext, ConnectionLimits,
        NEXT_POLL_TIMEOUT, PACKET_QUEUE_CAPACITY, POLL_PAYLOAD_BYTES,
    },
    handshake::Handshake,
    mailbox::Mailbox,
    request::Request,
    service::EngineIoService,
    sessions::Sessions,
    transport,
};
use crate::{limit::BodyReader, listener::Peer, protocol::Problem};

/// Handle to the Socket.IO server, for a clean stop.
pub struct SocketIoServer {
    io: SocketIo,
    /// Tasks that handle requests.
    tasks: TaskTracker,
}

impl SocketIoServer {
    /// Creates the service for `/socket.io/` and its handle.
    #[must_use]
    pub fn new(
        context: Arc<ConnectionContext>,
    ) -> (EngineIoService<SocketIoService<NotFoundService, Adapter>>, Self) {
        let ConnectionLimits { max_message_bytes, request_timeout, .. } = context.limits;
        let max_payload = POLL_PAYLOAD_BYTES.max(max_message_bytes);
        let packet_sender = PacketSender::default();
        let (service, io) = socketioxide::SocketIo::builder()
            .with_adapter::<Adapter>(packet_sender.clone())
            .max_buffer_size(PACKET_QUEUE_CAPACITY)
            .max_payload(max_payload as u64)
            .ws_max_message_size(max_message_bytes)
            .ws_max_frame_size(max_message_bytes)
            .ws_read_buffer_size(256)
            .connect_timeout(CONNECT_TIMEOUT)
            .with_parser(
                ParserConfig::common()
                    .max_incoming_binaries(8)
                    .max_incoming_binary_buf_size(max_message_bytes),
            )
            .build_svc();
        let tasks = TaskTracker::new();
        register_handlers(&io, context, packet_sender, tasks.clone());
        let sessions = Sessions::default();
        sessions.closer.set_service(service.clone());
        let body_reader = BodyReader::new(max_payload, request_timeout, BODY_MEMORY_BYTES);
        (EngineIoService::new(service, sessions, body_reader), Self { io, tasks })
    }

    /// Emits `reconnect` to every client, with a random delay of up to `spread`. Waits until polling clients
    /// have received it.
    pub async fn emit_reconnect(&self, spread: Duration) {
        let Some(namespace) = self.io.of(NAMESPACE) else { return };
        let sockets = namespace.sockets();
        for socket in &sockets {
            let share = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
            let after_ms = u64::try_from(spread.mul_f64(share).as_millis()).unwrap_or(0);
            // A client whose queue is full does not receive it, and reconnects after its own delay.
            let _ = socket.emit("reconnect", &serde_json::json!({ "afterMs": after_ms }));
        }
        if sockets.iter().any(|socket| socket.transport_type() == TransportType::Polling) {
            tokio::time::sleep(NEXT_POLL_TIMEOUT).await;
        }
    }

    /// Closes every transport and all request handling. Connections that are still open after `limit` are
    /// aborted.
    ///
    /// Closes the transports only: after a Socket.IO disconnect official clients do not reconnect.
    pub async fn close(&self, limit: Duration) {
        let sockets = self.io.of(NAMESPACE).map(BroadcastOperators::sockets).unwrap_or_default();
        let closing = async {
            self.io.close().await;
            close_mailboxes(&sockets);
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(limit, closing).await.is_err() {
            close_mailboxes(&sockets);
            for socket in &sockets {
                transport::abort(socket);
            }
        }
    }
}

/// Closes the mailboxes: socketioxide runs no disconnect handlers when it closes as a whole.
fn close_mailboxes(sockets: &[SocketRef]) {
    for mailbox in sockets.iter().filter_map(Mailbox::of_socket) {
        mailbox.close();
    }
}

fn register_handlers(
    io: &SocketIo,
    context: Arc<ConnectionContext>,
    packet_sender: PacketSender,
    tasks: TaskTracker,
) {
    let admit = {
        let context = context.clone();
        async move |socket: SocketRef, auth: TryData<serde_json::Value>| {
            admit_client(&context, &packet_sender, &tasks, &socket, auth.0.ok()).await
        }
    };
    let on_connect = async move |io: SocketIo, socket: SocketRef| {
        let started = Mailbox::of_socket(&socket).is_some_and(|mailbox| mailbox.start(socket));
        if started && context.announce_connections {
            broadcast_event(&io, "aUserHasConnected");
        }
    };
    io.ns(NAMESPACE, on_connect.with(admit));
    // Closing removes the namespace first. This one then matches the clients that still connect.
    io.dyn_ns(NAMESPACE, (async |_: SocketRef| {}).with(abort_during_close))
        .expect("no other dynamic namespace");
}

/// Aborts a client that connects while the server closes. It receives no error: after one, official clients
/// do not reconnect.
async fn abort_during_close(socket: SocketRef) -> Result<(), Infallible> {
    transport::abort(&socket);
    drop(socket);
    std::future::pending().await
}

/// Admits a client, before it receives the connect packet: its mailbox exists when its first message arrives,
/// and the disconnect handler runs however early it disconnects.
async fn admit_client(
    context: &Arc<ConnectionContext>,
    packet_sender: &PacketSender,
    tasks: &TaskTracker,
    socket: &SocketRef,
    auth: Option<serde_json::Value>,
) -> Result<(), &'static str> {
    let parts = socket.req_parts();
    let admission = async {
        let address = context.client_addresses.resolve(parts.extensions.get::<Peer>(), &parts.headers);
        let permit = context.connection_quota.acquire(address)?;
        let handshake = Handshake::parse(parts, auth.as_ref());
        let token = handshake.token.as_ref().map(ExposeSecret::expose_secret);
        let access = context.authenticator.authenticate(token).await?;
        Ok::<_, Problem>((handshake, access, permit))
    };
    match admission.await {
        Ok((handshake, access, permit)) => {
            register_disconnect_handler(socket, context.announce_connections);
            let base = context.url_base.for_host(handshake.host.as_deref());
            let (context, packet_sender) = (context.clone(), packet_sender.clone());
            let client = AdmittedClient { context, packet_sender, base, access, permit };
            Mailbox::open(socket, tasks.clone(), client, Request::Handshake(handshake.feeds));
            Ok(())
        }
        Err(problem) => {
            problem.log_cause();
            transport::abort_after(socket.clone(), CLOSE_DELAY);
            Err(problem.kind.name())
        }
    }
}

fn register_disconnect_handler(socket: &SocketRef, announce: bool) {
    socket.on_disconnect(async move |io: SocketIo, socket: SocketRef, reason: DisconnectReason| {
        let had_started = Mailbox::of_socket(&socket).is_some_and(|mailbox| mailbox.close());
        if announce && had_started {
            broadcast_event(&io, "aUserHasDisconnected");
        }
        // The session of a client that left the namespace is open, but no longer counts as a connection.
        if reason == DisconnectReason::ClientNSDisconnect {
            transport::abort_after(socket, CLOSE_DELAY);
        }
    });
}

/// Emits an event without arguments to every client, as old servers did. Best effort: a full queue drops it.
fn broadcast_event(io: &SocketIo, event: &'static str) {
    let Some(namespace) = io.of(NAMESPACE) else { return };
    for socket in namespace.sockets() {
        let _ = socket.emit(event, &[(); 0]);
    }
}
