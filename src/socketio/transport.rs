//! Aborts the transport below a socket.
//!
//! socketioxide can end a connection only by a Socket.IO disconnect, after which official clients do not
//! reconnect, and not at all while its writer waits for a peer that does not read.

use std::{sync::Arc, time::Duration};

use socketioxide::{TransportType, socket::Socket};

use super::{
    adapter::{Adapter, SocketRef},
    poll_tracker::PollTracker,
    query::Transport,
    sessions::{SessionOrigin, Sessions},
};
use crate::listener::Peer;

/// Aborts the connection below `socket`, whatever state it is in. The client sees its transport close.
pub(super) fn abort(socket: &Socket<Adapter>) {
    let extensions = &socket.req_parts().extensions;
    let sessions = extensions.get::<Sessions>();
    let websockets = sessions.map(|sessions| sessions.websockets(socket.id)).unwrap_or_default();
    if socket.transport_type() == TransportType::Polling {
        if let Some(sessions) = sessions {
            sessions.closer.close_session(socket.id, socket.protocol());
        }
    } else if began_as_websocket(socket)
        && let Some(first) = extensions.get::<Peer>()
    {
        first.abort.cancel();
    }
    for websocket in websockets {
        websocket.cancel();
    }
}

/// Aborts the connection after `delay`, so that the client can receive the reason. The session may upgrade to
/// another connection in the meantime, which is then the one that is aborted.
pub(super) fn abort_after(socket: SocketRef, delay: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        abort(&socket);
    });
}

/// Starts to track the polls of `socket`, if its session began by polling.
pub(super) fn start_poll_tracker(socket: &Socket<Adapter>) -> Option<Arc<PollTracker>> {
    let sessions = socket.req_parts().extensions.get::<Sessions>()?;
    (socket.transport_type() == TransportType::Polling).then(|| sessions.start_poll_tracker(socket.id))
}

/// Whether a WebSocket was accepted for the session of `socket`.
pub(super) fn has_websocket(socket: &Socket<Adapter>) -> bool {
    let sessions = socket.req_parts().extensions.get::<Sessions>();
    sessions.is_some_and(|sessions| !sessions.websockets(socket.id).is_empty())
}

/// Whether the connection of a session's first request belongs to the session alone. A connection that
/// carried a poll carries other requests too; behind a proxy, those of other clients.
fn began_as_websocket(socket: &Socket<Adapter>) -> bool {
    let origin = socket.req_parts().extensions.get::<Arc<SessionOrigin>>();
    origin.is_some_and(|origin| origin.transport == Transport::WebSocket)
}
