//! What a connection is told without having asked.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use socketioxide::{SendError, SocketError};

use super::{SocketRef, adapter::Direct, transport};
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
    pub(super) direct: Direct,
}

impl Outgoing {
    /// Sends, if there is room.
    pub(super) fn emit<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<(), Refused> {
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
