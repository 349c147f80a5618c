//! The way to a socket for what is encoded already.
//!
//! An emit to one socket encodes the event anew, a broadcast to a room does not say who had no room for it.
//! Beneath both is the adapter, which sends a packet of data that many share to one socket, and says whether
//! it went.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use socketioxide::{adapter::Emitter, socket::Sid};
use socketioxide_core::{
    Str, Value,
    adapter::{BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, SocketEmitter},
    packet::Packet,
};

use crate::hub::Refused;

/// The namespace in which everything happens.
pub(super) const NAMESPACE: &str = "/";

pub(super) type SocketIo = socketioxide::SocketIo<Adapter>;
pub(super) type SocketRef = socketioxide::extract::SocketRef<Adapter>;

/// What socketioxide's own adapter for one process does, and a way to it.
pub struct Adapter(Arc<CoreLocalAdapter<Emitter>>);

/// Sends what is encoded already.
#[derive(Clone, Default)]
pub struct Direct(Arc<OnceLock<Arc<CoreLocalAdapter<Emitter>>>>);

impl Direct {
    /// Sends an event to the socket `to`, if there is room. `event` is the array of its name and its data.
    pub(super) fn send(&self, to: Sid, event: Str) -> Result<(), Refused> {
        let Some(adapter) = self.0.get() else { return Err(Refused::Gone) };
        let packet = Packet::event(NAMESPACE, Value::Str(event, None));
        let sent = adapter.broadcast(packet, BroadcastOptions::new(to));
        sent.map_err(|errors| errors.first().map_or(Refused::Gone, Refused::from))
    }
}

impl CoreAdapter<Emitter> for Adapter {
    type Error = Infallible;
    type State = Direct;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(direct: &Direct, local: CoreLocalAdapter<Emitter>) -> Self {
        let local = Arc::new(local);
        // The first namespace is the one where everybody is.
        let _ = direct.0.set(local.clone());
        Self(local)
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        on_success();
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        options: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream, Infallible> {
        Ok(self.0.broadcast_with_ack(packet, options, timeout).0)
    }

    fn get_local(&self) -> &CoreLocalAdapter<Emitter> {
        &self.0
    }
}

impl DefinedAdapter for Adapter {}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Direct")
    }
}
