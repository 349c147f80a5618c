//! What a connection is told without having asked.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::{SendError, SocketError, TransportType};

use super::{SocketRef, adapter::Direct, transport, upgrade::Polls};
use crate::{
    bucket::Base,
    feed::{Cursor, FeedId},
    hub::{Refused, Subscriber},
    log::Entry,
    wire::{JoinAnswer, Showcase},
};

/// One connection, as the hub sees it.
pub(super) struct Outgoing {
    pub(super) socket: SocketRef,
    pub(super) showcase: Arc<Showcase>,
    pub(super) base: Base,
    direct: Direct,
    /// Where the session began by polling.
    polls: Option<Arc<Polls>>,
}

impl Outgoing {
    pub(super) fn new(socket: SocketRef, showcase: Arc<Showcase>, base: Base, direct: Direct) -> Self {
        let polls = transport::polls(&socket);
        Self { socket, showcase, base, direct, polls }
    }

    /// Whether a packet of so many bytes may be sent: none while the session goes from polling to a WebSocket.
    pub(super) fn may_send(&self, bytes: usize) -> Result<(), Refused> {
        let Some(polls) = &self.polls else { return Ok(()) };
        let may = self.socket.transport_type() != TransportType::Polling
            || !transport::is_moving(&self.socket) && polls.may_carry(bytes);
        if may { Ok(()) } else { Err(Refused::Full) }
    }

    /// Sends, if there is room.
    pub(super) fn emit(&self, event: &str, data: &RawValue) -> Result<(), Refused> {
        self.may_send(event.len() + data.get().len())?;
        self.socket.emit(event, data).map_err(|error| refused(&error))
    }
}

/// What is sent of `data`.
pub(super) fn encoded<T: Serialize>(data: &T) -> Result<Box<RawValue>, Refused> {
    serde_json::value::to_raw_value(data).map_err(|_| Refused::Gone)
}

/// Whether trying again may help.
pub(super) fn refused(error: &SendError) -> Refused {
    match error {
        SendError::Socket(error) => error.into(),
        SendError::Serialize(_) => Refused::Gone,
    }
}

impl From<&SocketError> for Refused {
    fn from(error: &SocketError) -> Self {
        match error {
            SocketError::InternalChannelFull => Self::Full,
            SocketError::Closed => Self::Gone,
        }
    }
}

impl Subscriber for Outgoing {
    fn deliver(
        &self,
        entries: &mut dyn Iterator<Item = &Entry>,
        position: &mut Cursor,
    ) -> Result<(), Refused> {
        let mut showing = self.showcase.open(&self.base, Timestamp::now());
        for entry in entries {
            let packet = showing.show(entry).packet.clone();
            self.may_send(packet.len())?;
            self.direct.send(self.socket.id, packet)?;
            *position = entry.cursor;
        }
        Ok(())
    }

    fn lost(&self, feed: &FeedId, end: Cursor) -> Result<(), Refused> {
        self.emit("joined", &encoded(&JoinAnswer::anew(feed.clone(), end))?)
    }

    fn cut(&self) {
        transport::cut(&self.socket);
    }
}
