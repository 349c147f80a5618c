//! Whether an event is news: the rules that every log keeps.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::feed::{FeedEvent, Sequencer};

/// What a log remembers of a key's latest event. A removal is remembered like any other: it is the
/// tombstone that keeps a late, older upload from bringing the photo back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    sequencer: Option<Sequencer>,
    time: Option<Timestamp>,
}

/// How an event stands to what is remembered of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Newer.
    News,
    /// The same one.
    Duplicate,
    /// Older.
    Stale,
}

impl Seen {
    /// What to remember of `event`.
    #[must_use]
    pub fn of(event: &FeedEvent) -> Self {
        Self { sequencer: event.sequencer.clone(), time: event.event_time }
    }
}

/// Judges `event` by what was last `seen` of the same key: by the sequencers, else by the times.
#[must_use]
pub fn judge(seen: &Seen, event: &FeedEvent) -> Verdict {
    let order = match (&seen.sequencer, &event.sequencer) {
        (Some(seen), Some(offered)) => offered.cmp(seen),
        _ => match (seen.time, event.event_time) {
            (Some(seen), Some(offered)) => offered.cmp(&seen),
            _ => Ordering::Greater,
        },
    };
    match order {
        Ordering::Greater => Verdict::News,
        Ordering::Equal => Verdict::Duplicate,
        Ordering::Less => Verdict::Stale,
    }
}
