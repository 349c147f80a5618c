//! Ends connections from outside.
//!
//! socketioxide can end a connection only with a Socket.IO disconnect (after which official clients
//! stay away), and not at all while its writer waits for a peer that does not read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use socketioxide::{
    TransportType,
    socket::{Sid, Socket},
};
use tokio_util::sync::CancellationToken;

use super::{SocketRef, adapter::Adapter, engine::Closer, upgrade::Polls};
use crate::listener::Peer;

/// What sessions did after they began, by session id: the socket knows only the request that it began with.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// The WebSockets that they moved to.
    moved: Arc<Mutex<HashMap<Sid, Vec<Connection>>>>,
    polls: Arc<Mutex<HashMap<Sid, Weak<Polls>>>>,
    pub(super) closer: Closer,
}

/// A connection, as long as there is one.
type Connection = Weak<CancellationToken>;

impl Sessions {
    /// Notes that `peer` was let go on with the session `sid`. Whether there is such a session is judged
    /// only later; so a connection is remembered no longer than it lasts, and one has one session at most.
    pub(super) fn moves(&self, sid: Sid, peer: &Peer) {
        let mut moved = self.moved.lock().expect("no panic while held");
        if moved.len() == moved.capacity() {
            moved.retain(|_, connections| connections.iter().any(lasts));
        }
        let connections = moved.entry(sid).or_default();
        connections.retain(lasts);
        connections.push(Arc::downgrade(&peer.cut));
    }

    pub(super) fn connections(&self, sid: Sid) -> Vec<Arc<CancellationToken>> {
        let moved = self.moved.lock().expect("no panic while held");
        moved.get(&sid).into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// From here on it is known what polls of the session `sid` carry, for as long as somebody holds the answer.
    pub(super) fn begin_polls(&self, sid: Sid) -> Arc<Polls> {
        let mut known = self.polls.lock().expect("no panic while held");
        if known.len() == known.capacity() {
            known.retain(|_, polls| polls.strong_count() > 0);
        }
        let polls = Arc::default();
        known.insert(sid, Arc::downgrade(&polls));
        polls
    }

    pub(super) fn polls(&self, sid: Sid) -> Option<Arc<Polls>> {
        self.polls.lock().expect("no panic while held").get(&sid)?.upgrade()
    }
}

fn lasts(connection: &Connection) -> bool {
    connection.strong_count() > 0
}

/// Ends the connection below `socket`, whatever state it is in. The client sees its transport close.
pub(super) fn cut(socket: &Socket<Adapter>) {
    let extensions = &socket.req_parts().extensions;
    let sessions = extensions.get::<Sessions>();
    let moved = sessions.map(|sessions| sessions.connections(socket.id)).unwrap_or_default();
    if socket.transport_type() == TransportType::Polling {
        if let Some(sessions) = sessions {
            sessions.closer.close(socket.id, socket.protocol());
        }
    } else if began_as_websocket(socket.req_parts().uri.query())
        && let Some(first) = extensions.get::<Peer>()
    {
        first.cut.cancel();
    }
    for connection in moved {
        connection.cancel();
    }
}

/// What its polls carry, if the session began by polling.
pub(super) fn polls(socket: &Socket<Adapter>) -> Option<Arc<Polls>> {
    let sessions = socket.req_parts().extensions.get::<Sessions>()?;
    (socket.transport_type() == TransportType::Polling).then(|| sessions.begin_polls(socket.id))
}

/// Whether a WebSocket was let go on with the session.
pub(super) fn is_moving(socket: &Socket<Adapter>) -> bool {
    let sessions = socket.req_parts().extensions.get::<Sessions>();
    sessions.is_some_and(|sessions| !sessions.connections(socket.id).is_empty())
}

/// Whether the session is its first request's connection. One that carried a poll carries other requests,
/// and behind a proxy other people's.
fn began_as_websocket(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "transport=websocket"))
}

/// Ends the connection after a while: time enough to read why. By then it may have moved.
pub(super) fn cut_after(socket: SocketRef, delay: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        cut(&socket);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer { address: ([127, 0, 0, 1], 1).into(), cut: Arc::default() }
    }

    #[test]
    fn only_a_websocket_is_cut_with_the_session_that_it_began() {
        for (query, began) in [
            (Some("EIO=4&transport=websocket"), true),
            (Some("EIO=4&transport=polling"), false),
            (Some("transport=websocketx"), false),
            (None, false),
        ] {
            assert_eq!(began_as_websocket(query), began, "{query:?}");
        }
    }

    #[test]
    fn a_connection_is_remembered_no_longer_than_it_lasts() {
        let sessions = Sessions::default();
        let (sid, other) = (Sid::new(), Sid::new());
        let [first, second] = [peer(), peer()];
        sessions.moves(sid, &first);
        sessions.moves(sid, &second);
        for _ in 0..1000 {
            sessions.moves(Sid::new(), &peer());
            sessions.moves(other, &peer());
        }
        assert_eq!(sessions.connections(sid).len(), 2);
        assert!(sessions.connections(other).is_empty());
        let moved = sessions.moved.lock().unwrap();
        assert!(moved.len() < 20, "{} are remembered", moved.len());
        assert!(moved.values().map(Vec::len).sum::<usize>() < 20);
    }
}
