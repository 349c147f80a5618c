//! What a connection is told without having asked.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
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

    /// Whether something may be sent: nothing while the session goes from polling to a WebSocket.
    pub(super) fn may_send(&self) -> Result<(), Refused> {
        let Some(polls) = &self.polls else { return Ok(()) };
        let may = self.socket.transport_type() != TransportType::Polling
            || !transport::is_moving(&self.socket) && polls.may_carry();
        if may { Ok(()) } else { Err(Refused::Full) }
    }

    /// Sends, if there is room.
    pub(super) fn emit<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<(), Refused> {
        self.may_send()?;
        self.socket.emit(event, data).map_err(|error| refused(&error))
    }
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
        self.may_send()?;
        let mut showing = self.showcase.open(&self.base, Timestamp::now());
        for entry in entries {
            self.direct.send(self.socket.id, showing.show(entry).packet.clone())?;
            *position = entry.cursor;
        }
        Ok(())
    }

    fn lost(&self, feed: &FeedId, end: Cursor) -> Result<(), Refused> {
        self.emit("joined", &JoinAnswer::anew(feed.clone(), end))
    }

    fn cut(&self) {
        transport::cut(&self.socket);
    }
}
