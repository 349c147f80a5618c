//! State of Engine.IO sessions that socketioxide does not expose.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use socketioxide::socket::Sid;
use tokio_util::sync::CancellationToken;

use super::{
    poll_tracker::PollTracker,
    query::{EngineVersion, Transport},
    session_closer::SessionCloser,
};
use crate::listener::Peer;

/// What became of sessions after their first request, by session id. A socket knows only that first request.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// WebSocket connections that sessions upgraded to.
    websockets: Arc<Mutex<HashMap<Sid, Vec<WeakConnection>>>>,
    /// How sessions that began by polling were opened.
    origins: Arc<Mutex<HashMap<Sid, Weak<SessionOrigin>>>>,
    poll_trackers: Arc<Mutex<HashMap<Sid, Weak<PollTracker>>>>,
    pub(super) closer: SessionCloser,
}

/// How a session was opened. An extension of its first request, which socketioxide keeps as long as the
/// session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SessionOrigin {
    pub(super) version: EngineVersion,
    pub(super) transport: Transport,
}

/// The abort token of a connection, for as long as the connection is open.
type WeakConnection = Weak<CancellationToken>;

impl Sessions {
    /// Records that the WebSocket of `peer` continues the session `sid`.
    ///
    /// socketioxide finds out later whether that session exists. So that invented ids take no memory, an
    /// entry lasts no longer than its connection, which can have one session at most.
    pub(super) fn record_websocket(&self, sid: Sid, peer: &Peer) {
        let mut websockets = self.websockets.lock().expect("no panic while held");
        if websockets.len() == websockets.capacity() {
            websockets.retain(|_, connections| connections.iter().any(is_open));
        }
        let connections = websockets.entry(sid).or_default();
        connections.retain(is_open);
        connections.push(Arc::downgrade(&peer.abort));
    }

    /// Abort tokens of the open WebSocket connections of the session `sid`.
    pub(super) fn websockets(&self, sid: Sid) -> Vec<Arc<CancellationToken>> {
        let websockets = self.websockets.lock().expect("no panic while held");
        websockets.get(&sid).into_iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// Records that the session `sid` was opened by the request with the extension `origin`.
    pub(super) fn record_origin(&self, sid: Sid, origin: &Arc<SessionOrigin>) {
        let mut origins = self.origins.lock().expect("no panic while held");
        if origins.len() == origins.capacity() {
            origins.retain(|_, origin| origin.strong_count() > 0);
        }
        origins.insert(sid, Arc::downgrade(origin));
    }

    /// How the session `sid` was opened. `None` if it is unknown, or began as a WebSocket.
    pub(super) fn origin(&self, sid: Sid) -> Option<Arc<SessionOrigin>> {
        self.origins.lock().expect("no panic while held").get(&sid)?.upgrade()
    }

    /// Starts to track the polls of the session `sid`, until the returned tracker is dropped.
    pub(super) fn start_poll_tracker(&self, sid: Sid) -> Arc<PollTracker> {
        let mut trackers = self.poll_trackers.lock().expect("no panic while held");
        if trackers.len() == trackers.capacity() {
            trackers.retain(|_, tracker| tracker.strong_count() > 0);
        }
        let tracker = Arc::default();
        trackers.insert(sid, Arc::downgrade(&tracker));
        tracker
    }

    pub(super) fn poll_tracker(&self, sid: Sid) -> Option<Arc<PollTracker>> {
        self.poll_trackers.lock().expect("no panic while held").get(&sid)?.upgrade()
    }
}

fn is_open(connection: &WeakConnection) -> bool {
    connection.strong_count() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer { address: ([127, 0, 0, 1], 1).into(), abort: Arc::default() }
    }

    #[test]
    fn a_websocket_is_recorded_only_while_its_connection_is_open() {
        let sessions = Sessions::default();
        let (sid, other) = (Sid::new(), Sid::new());
        let [first, second] = [peer(), peer()];
        sessions.record_websocket(sid, &first);
        sessions.record_websocket(sid, &second);
        for _ in 0..1000 {
            sessions.record_websocket(Sid::new(), &peer());
            sessions.record_websocket(other, &peer());
        }
        assert_eq!(sessions.websockets(sid).len(), 2);
        assert!(sessions.websockets(other).is_empty());
        let websockets = sessions.websockets.lock().unwrap();
        assert!(websockets.len() < 20, "{} sessions are recorded", websockets.len());
        assert!(websockets.values().map(Vec::len).sum::<usize>() < 20);
    }
}
