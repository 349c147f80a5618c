//! Ends connections from outside.
//!
//! socketioxide can end a connection only with a Socket.IO disconnect (after which official clients
//! stay away), and not at all while its writer waits for a peer that does not read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use socketioxide::{ProtocolVersion, TransportType, adapter::LocalAdapter, socket::Socket};
use tokio_util::sync::CancellationToken;

use super::engine::Closer;
use crate::listener::Peer;

/// The connection below a socket.
#[derive(Debug, Clone)]
pub struct Transport {
    sid: String,
    protocol: ProtocolVersion,
    kind: TransportType,
    first: Option<Arc<CancellationToken>>,
    sessions: Option<Sessions>,
}

/// The transports that sessions moved to after they began, by session id: the socket knows only the
/// request that it began with.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    upgraded: Arc<Mutex<HashMap<String, Weak<CancellationToken>>>>,
    pub(super) closer: Closer,
}

impl Sessions {
    /// Notes that the session `sid` goes on over `peer`'s connection.
    pub(super) fn upgrading(&self, sid: &str, peer: &Peer) {
        let mut upgraded = self.upgraded.lock().expect("no panic while held");
        if upgraded.len() == upgraded.capacity() {
            upgraded.retain(|_, cut| cut.strong_count() > 0);
        }
        upgraded.insert(sid.to_owned(), Arc::downgrade(&peer.cut));
    }

    fn find(&self, sid: &str) -> Option<Arc<CancellationToken>> {
        self.upgraded.lock().expect("no panic while held").get(sid)?.upgrade()
    }
}

impl Transport {
    /// The connection below `socket`.
    pub(super) fn of(socket: &Socket<LocalAdapter>) -> Self {
        let extensions = &socket.req_parts().extensions;
        Self {
            sid: socket.id.to_string(),
            protocol: socket.protocol(),
            kind: socket.transport_type(),
            first: extensions.get::<Peer>().map(|peer| peer.cut.clone()),
            sessions: extensions.get::<Sessions>().cloned(),
        }
    }

    /// Ends the connection, whatever state it is in. The client sees its transport close.
    pub(super) fn cut(&self) {
        if self.kind == TransportType::Polling {
            if let Some(sessions) = &self.sessions {
                sessions.closer.close(&self.sid, self.protocol);
            }
        } else {
            let upgraded = self.sessions.as_ref().and_then(|sessions| sessions.find(&self.sid));
            if let Some(cut) = upgraded.or_else(|| self.first.clone()) {
                cut.cancel();
            }
        }
    }

    /// Ends the connection after a while: time enough to read why.
    pub(super) fn cut_after(self, delay: Duration) {
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            self.cut();
        });
    }
}
