//! What clients see, the same over Socket.IO and HTTP: events, join answers, problems.

mod problem;
mod show;
mod url_base;

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::feed::{Cursor, FeedId};

pub use problem::{Problem, ProblemKind};
pub use show::{Showcase, Showing, Shown};
pub use url_base::UrlBase;

/// Events in a join answer; the rest follow as ordinary events.
pub const JOIN_EVENTS: usize = 100;

/// The answer to a join.
#[derive(Debug, Clone, Serialize)]
pub struct JoinAnswer {
    /// The feed that was joined.
    pub feed: FeedId,
    /// Whether everything after the given cursor reaches the client.
    pub recovered: bool,
    /// The position after the last of `events`.
    pub cursor: Cursor,
    /// The first of what was missed.
    pub events: Vec<Named>,
}

/// An event with its name beside it.
#[derive(Debug, Clone, Serialize)]
pub struct Named {
    /// The event's name.
    pub event: &'static str,
    /// The event.
    #[serde(serialize_with = "as_it_is")]
    pub data: Arc<RawValue>,
}

fn as_it_is<S: Serializer>(data: &Arc<RawValue>, serializer: S) -> Result<S::Ok, S::Error> {
    data.as_ref().serialize(serializer)
}

impl JoinAnswer {
    /// The answer to those who have no position, or none that can be proved: they begin at `end`.
    #[must_use]
    pub fn anew(feed: FeedId, end: Cursor) -> Self {
        Self { feed, recovered: false, cursor: end, events: Vec::new() }
    }
}
