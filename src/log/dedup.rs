//! Detects duplicate and late events by a record of the latest event of each object key.

use std::cmp::Ordering;

use jiff::Timestamp;

use crate::feed::{FeedEvent, Sequencer};

/// The record of the latest event of an object key. A removal is recorded, too, as a tombstone: it makes an
/// older upload that arrives late stale.
#[derive(Debug, Clone)]
pub(super) struct SeenEvent {
    sequencer: Option<Sequencer>,
    time: Option<Timestamp>,
}

/// How an event compares with the recorded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Newer,
    Duplicate,
    Stale,
}

impl SeenEvent {
    pub(super) fn of(event: &FeedEvent) -> Self {
        Self { sequencer: event.sequencer.clone(), time: event.event_time }
    }

    /// Compares `event` with this one, of the same object key: by sequencer if both have one, else by time.
    /// If neither can be compared, the event counts as newer: delivering an event twice is better than losing
    /// it. `append.lua` implements the same rules.
    pub(super) fn compare(&self, event: &FeedEvent) -> Freshness {
        let order = match (&self.sequencer, &event.sequencer) {
            (Some(seen), Some(offered)) => offered.cmp(seen),
            _ => match (self.time, event.event_time) {
                (Some(seen), Some(offered)) => offered.cmp(&seen),
                _ => Ordering::Greater,
            },
        };
        match order {
            Ordering::Greater => Freshness::Newer,
            Ordering::Equal => Freshness::Duplicate,
            Ordering::Less => Freshness::Stale,
        }
    }
}
