//! The feed log: an ordered list of the events of each feed, without duplicates.
//!
//! | term     | type         | meaning                                                                   |
//! | -------- | ------------ | ------------------------------------------------------------------------- |
//! | entry    | [`Entry`]    | an event with its position; the nth entry of a feed has offset n          |
//! | position | [`Cursor`]   | epoch, offset and tag of the last entry that a reader has seen            |
//! | epoch    | [`Epoch`]    | random; identifies one incarnation of a feed, until it expires or is lost |
//! | tag      | [`Tag`]      | random; identifies an entry and is repeated in its successor              |
//! | end      | [`Cursor`]   | the position of the latest entry; offset 0 in an empty feed               |
//! | record   | `SeenEvent`  | sequencer and time of a key's latest event, to detect duplicates          |
//! | shard    | [`Shards`]   | one of 64 groups of feeds, by the hash of the feed's name                 |
//! | tail     | [`TailItem`] | the appends to all feeds of some shards, as they happen                   |
//! | presence | [`Presence`] | the number of subscribers of a feed, by process                           |
//!
//! Offsets are contiguous and each entry holds the tag of the one before. So a reader at a position gets
//! either every entry after it or [`ReadResult::Lost`], never a part: if the feed was created again, the epoch
//! differs; if Redis lost its last writes and used their offsets again, the tag differs; if the feed was
//! trimmed, the next entry is missing.
//!
//! [`Epoch`]: crate::feed::Epoch

mod dedup;
mod memory;
mod presence;
mod redis;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::feed::{Cursor, EventKind, FeedEvent, FeedId, ObjectKey, Tag};

pub use memory::MemoryLog;
pub use presence::{PRESENCE_TTL, Presence};
pub(crate) use redis::Script;
pub use redis::{
    RedisAddress, RedisAddressError, RedisKeyPrefix, RedisKeyPrefixError, RedisLog, RedisSettings,
};

/// An event with its position in the log of its feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The position of a reader that has seen this entry.
    pub cursor: Cursor,
    /// The tag of the entry before; [`Tag::default`] in the first entry.
    pub previous_tag: Tag,
    /// The event.
    pub event: FeedEvent,
}

impl Entry {
    /// Whether the event is about `key`, and of the given `kind`, if any.
    fn is_about(&self, key: &ObjectKey, kind: Option<EventKind>) -> bool {
        self.event.key == *key && kind.is_none_or(|kind| self.event.kind == kind)
    }

    /// The feed that contains the entry.
    #[must_use]
    pub fn feed(&self) -> &FeedId {
        self.event.feed()
    }

    /// Whether the entry is the immediate successor of `cursor`.
    #[must_use]
    pub fn follows(&self, cursor: Cursor) -> bool {
        self.cursor.epoch == cursor.epoch
            && self.cursor.offset == cursor.offset + 1
            && self.previous_tag == cursor.tag
    }
}

/// The result of [`FeedLog::append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The event is a new entry, at this position.
    Appended(Cursor),
    /// The log already has this event.
    Duplicate,
    /// The log has a newer event of the same object key.
    Stale,
    /// The event is older than the log's records, so it may be a duplicate or stale. Append it again with
    /// [`Proof::Bucket`] if the bucket confirms it.
    Unproven,
}

/// The evidence that an event still describes the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// None but the event itself.
    Event,
    /// The bucket was read and agrees with the event.
    Bucket,
}

/// The result of [`FeedLog::read_after`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadResult {
    /// The entries that follow the position, in order and without a gap, up to the requested number.
    Entries(Vec<Arc<Entry>>),
    /// The log cannot prove that it holds every entry after the position. Contains the end of the feed.
    Lost(Cursor),
}

/// An item of [`FeedLog::tail`].
#[derive(Debug, Clone)]
pub enum TailItem {
    /// An entry was appended.
    Appended(Arc<Entry>),
    /// The tail covers these shards from now on. Entries appended before may be missing: read the feeds.
    Resync(Shards),
}

/// A set of shards, as bits. The shard of a feed never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shards(pub u64);

/// The number of shards. Changing it would move feeds to other keys in Redis.
pub const SHARD_COUNT: u16 = 64;

/// How much a log keeps, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Maximum number of entries of a feed.
    pub max_entries: usize,
    /// Maximum number of object keys of a feed whose latest event is recorded.
    pub max_seen_keys: usize,
    /// How long such a record is kept.
    pub seen_ttl: Duration,
    /// A feed that is not appended to, read or watched for this time is deleted.
    pub idle_ttl: Duration,
}

/// Upper limit of the TTL of a feed without entries: any client can create feeds by reading invented names.
const UNUSED_FEED_TTL: Duration = Duration::from_mins(10);

impl Retention {
    /// The TTL of a feed that never had an entry.
    #[must_use]
    pub fn unused_ttl(&self) -> Duration {
        self.idle_ttl.min(UNUSED_FEED_TTL)
    }
}

/// A temporary failure of the log.
#[derive(Debug, thiserror::Error)]
#[error("the feed log is unavailable")]
pub struct LogError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// An ordered log of the events of each feed.
#[async_trait]
pub trait FeedLog: fmt::Debug + Send + Sync + 'static {
    /// Appends `event` to its feed, unless the feed has it or a newer one of the same object key. Atomic.
    ///
    /// # Errors
    /// When the log is unavailable. The event may have been appended all the same, if only the response was
    /// lost. Appending it again is safe: then it is a duplicate.
    async fn append(&self, event: FeedEvent, proof: Proof, now: Timestamp)
    -> Result<AppendOutcome, LogError>;

    /// Reads up to `limit` entries that follow `after`.
    ///
    /// # Errors
    /// When the log is unavailable.
    async fn read_after(&self, feed: &FeedId, after: Cursor, limit: usize) -> Result<ReadResult, LogError>;

    /// Reads the end of the feed. Creates the feed if it does not exist, so that the returned position can be
    /// read from later.
    ///
    /// # Errors
    /// When the log is unavailable.
    async fn read_end(&self, feed: &FeedId) -> Result<Cursor, LogError>;

    /// Keeps those of `feeds` that exist from expiring. To be called for all watched feeds, several times
    /// within [`Retention::unused_ttl`].
    ///
    /// # Errors
    /// When the log is unavailable, for one of the feeds or for all.
    async fn renew_ttl(&self, feeds: Vec<FeedId>) -> Result<(), LogError>;

    /// Finds the latest entry about `key`, of the given `kind`, if any.
    ///
    /// # Errors
    /// When the log is unavailable.
    async fn find_latest(
        &self,
        key: &ObjectKey,
        kind: Option<EventKind>,
    ) -> Result<Option<Arc<Entry>>, LogError>;

    /// Sends each entry that is appended to the `watched` shards to `tx`, until its receiver is dropped. The
    /// entries of one feed are sent in order.
    ///
    /// # Errors
    /// None while the log is unavailable: the tail reconnects and resumes with [`TailItem::Resync`].
    async fn tail(
        &self,
        watched: watch::Receiver<Shards>,
        tx: mpsc::Sender<TailItem>,
    ) -> Result<(), LogError>;

    /// Checks that the log accepts appends, at least for some feeds.
    ///
    /// # Errors
    /// When the log is unavailable, or accepts no writes.
    async fn ping(&self) -> Result<(), LogError>;
}

impl Shards {
    /// No shard.
    pub const NONE: Self = Self(0);
    /// Every shard.
    pub const ALL: Self = Self(u64::MAX);

    /// The shard of one feed.
    #[must_use]
    pub fn of(feed: &FeedId) -> Self {
        Self(1 << shard_of(feed))
    }

    /// Whether the set contains the shard of `feed`.
    #[must_use]
    pub fn contains(self, feed: &FeedId) -> bool {
        self.0 & Self::of(feed).0 != 0
    }

    /// Whether the set contains no shard.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }
}

/// The number of the feed's shard: CRC-16 modulo [`SHARD_COUNT`].
#[must_use]
pub fn shard_of(feed: &FeedId) -> u16 {
    crc16(feed.as_str()) % SHARD_COUNT
}

/// CRC-16/XMODEM, the checksum of Redis Cluster's hash slots.
fn crc16(text: &str) -> u16 {
    text.bytes().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::feed;

    #[test]
    fn the_shard_of_a_feed_never_changes() {
        for (name, expected) in [("summer", 9), ("123456789", 0x31C3 % 64)] {
            assert_eq!(shard_of(&feed(name)), expected, "{name}");
        }
    }
}
