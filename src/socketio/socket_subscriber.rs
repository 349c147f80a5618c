//! A Socket.IO connection as the hub sees it, and the way out for everything that is not a reply.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::{SendError, TransportType};

use super::{
    adapter::{PacketSender, SocketRef},
    poll_tracker::PollTracker,
    transport,
};
use crate::{
    bucket::BucketUrl,
    feed::{Cursor, FeedId},
    hub::{DeliveryError, Subscriber},
    log::Entry,
    protocol::{EventEncoder, JoinResponse},
};

/// Sends events to one socket.
pub(super) struct SocketSubscriber {
    pub(super) socket: SocketRef,
    pub(super) event_encoder: Arc<EventEncoder>,
    pub(super) base: BucketUrl,
    packet_sender: PacketSender,
    /// Set if the session began by polling.
    poll_tracker: Option<Arc<PollTracker>>,
}

impl SocketSubscriber {
    pub(super) fn new(
        socket: SocketRef,
        event_encoder: Arc<EventEncoder>,
        base: BucketUrl,
        packet_sender: PacketSender,
    ) -> Self {
        let poll_tracker = transport::start_poll_tracker(&socket);
        Self { socket, event_encoder, base, packet_sender, poll_tracker }
    }

    /// Reserves `bytes` for a packet. Fails as `Full` while the session upgrades from polling to WebSocket.
    pub(super) fn try_reserve(&self, bytes: usize) -> Result<(), DeliveryError> {
        let Some(tracker) = &self.poll_tracker else { return Ok(()) };
        let upgraded = self.socket.transport_type() != TransportType::Polling;
        let may_send = upgraded || !transport::has_websocket(&self.socket) && tracker.try_reserve(bytes);
        if may_send { Ok(()) } else { Err(DeliveryError::Full) }
    }

    /// Queues an event.
    pub(super) fn emit(&self, event: &str, data: &RawValue) -> Result<(), DeliveryError> {
        self.try_reserve(event.len() + data.get().len())?;
        self.socket.emit(event, data).map_err(|error| delivery_error(&error))
    }
}

/// Encodes `data` once, for as many attempts to send it as it takes.
pub(super) fn encode_json<T: Serialize>(data: &T) -> Result<Box<RawValue>, DeliveryError> {
    serde_json::value::to_raw_value(data).map_err(|_| DeliveryError::Disconnected)
}

/// Whether another attempt may succeed.
pub(super) fn delivery_error(error: &SendError) -> DeliveryError {
    match error {
        SendError::Socket(error) => error.into(),
        SendError::Serialize(_) => DeliveryError::Disconnected,
    }
}

impl Subscriber for SocketSubscriber {
    fn deliver(
        &self,
        entries: &mut dyn Iterator<Item = &Entry>,
        position: &mut Cursor,
    ) -> Result<(), DeliveryError> {
        let mut encoder = self.event_encoder.lock(&self.base, Timestamp::now());
        for entry in entries {
            let packet = encoder.encode(entry).packet.clone();
            self.try_reserve(packet.len())?;
            self.packet_sender.send(self.socket.id, packet)?;
            *position = entry.cursor;
        }
        Ok(())
    }

    fn notify_lost(&self, feed: &FeedId, end: Cursor) -> Result<(), DeliveryError> {
        self.emit("joined", &encode_json(&JoinResponse::without_recovery(feed.clone(), end))?)
    }

    fn abort(&self) {
        transport::abort(&self.socket);
    }
}
