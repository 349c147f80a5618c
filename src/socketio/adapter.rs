//! Sends packets that are encoded already to a single socket.
//!
//! socketioxide's `emit` encodes the event again for each socket, and a broadcast to a room does not report
//! whose queue was full. Both are built on the adapter, which can send a shared packet to one socket and
//! report whether it was queued.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use socketioxide::{SocketError, adapter::Emitter, socket::Sid};
use socketioxide_core::{
    Str, Value,
    adapter::{BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, SocketEmitter},
    packet::Packet,
};

use crate::hub::DeliveryError;

/// The only namespace of the protocol.
pub(super) const NAMESPACE: &str = "/";

pub(super) type SocketIo = socketioxide::SocketIo<Adapter>;
pub(super) type SocketRef = socketioxide::extract::SocketRef<Adapter>;

/// socketioxide's adapter for a single process, which it shares with a `PacketSender`.
pub struct Adapter(Arc<CoreLocalAdapter<Emitter>>);

/// Sends encoded packets. Works once socketioxide has created the adapter of the namespace.
#[derive(Clone, Default)]
pub struct PacketSender(Arc<OnceLock<Arc<CoreLocalAdapter<Emitter>>>>);

impl PacketSender {
    /// Queues an event for the socket `to`. `event` is the JSON array of its name and its data.
    pub(super) fn send(&self, to: Sid, event: Str) -> Result<(), DeliveryError> {
        let Some(adapter) = self.0.get() else { return Err(DeliveryError::Disconnected) };
        let packet = Packet::event(NAMESPACE, Value::Str(event, None));
        let sent = adapter.broadcast(packet, BroadcastOptions::new(to));
        sent.map_err(|errors| errors.first().map_or(DeliveryError::Disconnected, DeliveryError::from))
    }
}

impl CoreAdapter<Emitter> for Adapter {
    type Error = Infallible;
    type State = PacketSender;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(sender: &PacketSender, local: CoreLocalAdapter<Emitter>) -> Self {
        let local = Arc::new(local);
        // The first adapter is that of the namespace; the dynamic one, for the time of closing, comes later.
        let _ = sender.0.set(local.clone());
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

impl From<&SocketError> for DeliveryError {
    fn from(error: &SocketError) -> Self {
        match error {
            SocketError::InternalChannelFull => Self::Full,
            SocketError::Closed => Self::Disconnected,
        }
    }
}

impl fmt::Debug for PacketSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PacketSender")
    }
}
