//! What the tests of the feed log share.

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "each test file uses a part")]

pub mod certificate;
pub mod feeds;
pub mod redis_cluster;
pub mod redis_server;

use std::time::Duration;

use jiff::Timestamp;
use photoshare_server::{
    feed::{Cursor, FeedEvent, FeedId, KeyPrefix, Kind, ObjectKey, Photo, Sequencer},
    log::{Entry, FeedLog, Outcome, Read, Retention},
};

pub const RETENTION: Retention = Retention {
    entries: 1000,
    seen: 10_000,
    seen_for: Duration::from_hours(24),
    idle: Duration::from_hours(24),
};

pub fn feed(name: &str) -> FeedId {
    FeedId::parse(name).unwrap()
}

pub fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// An event of `{feed}/{name}`.
pub fn event(feed: &FeedId, name: &str, kind: Kind, sequencer: &str, time: Timestamp) -> FeedEvent {
    let (event_name, size) = match kind {
        Kind::Uploaded => ("ObjectCreated:Put", Some(7)),
        Kind::Removed => ("ObjectRemoved:Delete", None),
    };
    FeedEvent {
        kind,
        key: ObjectKey::build(&KeyPrefix::default(), feed, name).unwrap(),
        event_name: event_name.into(),
        event_time: Some(time),
        sequencer: Sequencer::parse(sequencer).ok(),
        photo: Photo { size, ..Photo::default() },
    }
}

/// What follows `after`, which must be provable.
pub async fn entries_after(log: &dyn FeedLog, feed: &FeedId, after: Cursor) -> Vec<Entry> {
    match log.read_after(feed, after, usize::MAX >> 1).await.unwrap() {
        Read::Entries(entries) => entries.iter().map(|entry| (**entry).clone()).collect(),
        Read::Lost(end) => panic!("{after:?} was lost, the end is {end:?}"),
    }
}

pub fn appended(outcome: Outcome) -> Cursor {
    match outcome {
        Outcome::Appended(cursor) => cursor,
        other => panic!("{other:?}"),
    }
}
