//! What a connection is told without having asked.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use socketioxide::{SendError, SocketError, extract::SocketRef};

use super::transport;
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
        SendError::Socket(SocketError::InternalChannelFull) => Refused::Full,
        _ => Refused::Gone,
    }
}

impl Subscriber for Outgoing {
    fn deliver(&self, entry: &Entry) -> Result<(), Refused> {
        let shown = self.showcase.show(entry, &self.base, Timestamp::now());
        self.emit(shown.event, &*shown.data)
    }

    fn lost(&self, feed: &FeedId, end: Cursor) -> Result<(), Refused> {
        self.emit("joined", &JoinAnswer::anew(feed.clone(), end))
    }

    fn cut(&self) {
        transport::cut(&self.socket);
    }
}
