//! Support for unit tests and integration tests: builders of events and entries, subscribers, and servers.

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "each test crate uses some of it")]

pub mod buffered_subscriber;
pub mod certificate;
pub mod cluster_feeds;
pub mod entry;
pub mod event;
pub mod image;
pub mod log_buffer;
pub mod redis_cluster;
pub mod redis_server;
pub mod scripted_aws;
pub mod tail_subscriber;
pub mod wait;

use std::time::Duration;

use jiff::Timestamp;
use photoshare_server::{
    feed::{Cursor, FeedId, KeyPrefix, ObjectKey},
    log::{AppendOutcome, Entry, FeedLog, ReadResult, Retention},
};

use event::EventBuilder;

/// Enough for every test that does not test retention itself.
pub const RETENTION: Retention = Retention {
    max_entries: 1000,
    max_seen_keys: 10_000,
    seen_ttl: Duration::from_hours(24),
    idle_ttl: Duration::from_hours(24),
};

pub fn feed(name: &str) -> FeedId {
    FeedId::parse(name).unwrap()
}

/// The key of an object in a bucket without a key prefix.
pub fn object_key(key: &str) -> ObjectKey {
    ObjectKey::parse(&KeyPrefix::default(), key).unwrap()
}

/// Returns the time `second` seconds after the Unix epoch.
pub fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Appends an event and returns the outcome.
pub async fn append(log: &dyn FeedLog, event: EventBuilder) -> AppendOutcome {
    event.append_to(log).await.unwrap()
}

/// Appends an event that must be new, and returns the position of its entry.
pub async fn append_new(log: &dyn FeedLog, event: EventBuilder) -> Cursor {
    expect_appended(append(log, event).await)
}

pub fn expect_appended(outcome: AppendOutcome) -> Cursor {
    match outcome {
        AppendOutcome::Appended(cursor) => cursor,
        other => panic!("not appended: {other:?}"),
    }
}

/// Reads all entries after a position, which must be provable.
pub async fn read_entries(log: &dyn FeedLog, feed: &FeedId, after: Cursor) -> Vec<Entry> {
    match log.read_after(feed, after, usize::MAX >> 1).await.unwrap() {
        ReadResult::Entries(entries) => entries.iter().map(|entry| (**entry).clone()).collect(),
        ReadResult::Lost(end) => panic!("the position {after:?} is lost, the end is {end:?}"),
    }
}
