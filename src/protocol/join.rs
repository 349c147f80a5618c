//! The response to a join.

use serde::Serialize;

use super::event::NamedEvent;
use crate::feed::{Cursor, FeedId};

/// Maximum number of events in a join response. The rest follow as ordinary events.
pub const MAX_JOIN_EVENTS: usize = 100;

/// The response to a join.
#[derive(Debug, Clone, Serialize)]
pub struct JoinResponse {
    /// The feed that was joined.
    pub feed: FeedId,
    /// Whether the client receives everything after the cursor that it sent.
    pub recovered: bool,
    /// Position after the last of `events`.
    pub cursor: Cursor,
    /// The first events after the client's cursor.
    pub events: Vec<NamedEvent>,
}

impl JoinResponse {
    /// The response to a client without a cursor, or with one that the log can't prove: it starts at `end`.
    #[must_use]
    pub fn without_recovery(feed: FeedId, end: Cursor) -> Self {
        Self { feed, recovered: false, cursor: end, events: Vec::new() }
    }
}
