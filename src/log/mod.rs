//! The feed log: per feed, what happened, in one order, once.
//!
//! Offsets are contiguous and each entry holds its predecessor's tag, so that every reader can prove
//! that nothing is missing, or knows that something is.

mod memory;
mod order;
mod presence;
mod redis;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::feed::{Cursor, FeedEvent, FeedId, Kind, ObjectKey, Tag};

pub use memory::MemoryLog;
pub use order::{Seen, Verdict, judge};
pub use presence::{FRESH, Presence};
pub use redis::{
    RedisAddress, RedisAddressError, RedisHealth, RedisLog, RedisPrefix, RedisPrefixError, RedisProbeError,
    RedisSettings,
};

/// What the log holds: an event and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The position once this entry has been seen.
    pub cursor: Cursor,
    /// The tag of the entry before; [`Tag::default`] for the first.
    pub previous: Tag,
    /// What happened.
    pub event: FeedEvent,
}

impl Entry {
    /// Whether it is about `key`, and of that `kind` where one is given.
    fn tells_of(&self, key: &ObjectKey, kind: Option<Kind>) -> bool {
        self.event.key == *key && kind.is_none_or(|kind| self.event.kind == kind)
    }

    /// The feed that it is an entry of.
    #[must_use]
    pub fn feed(&self) -> &FeedId {
        self.event.feed()
    }

    /// Whether it comes right after `cursor`, by the same history.
    #[must_use]
    pub fn follows(&self, cursor: Cursor) -> bool {
        self.cursor.epoch == cursor.epoch
            && self.cursor.offset == cursor.offset + 1
            && self.previous == cursor.tag
    }
}

/// What became of an event that was offered to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has a place now.
    Appended(Cursor),
    /// The log had it already.
    Duplicate,
    /// The log knows something newer of this key.
    Stale,
    /// It is older than the log's memory of this key: only the bucket can tell whether it still holds.
    Unproven,
}

/// Who vouches for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nobody but the event itself.
    Event,
    /// The bucket was asked and agrees.
    Bucket,
}

/// The answer to a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// What follows the reader's position, in order, without a gap; no more than was asked for.
    Entries(Vec<Arc<Entry>>),
    /// The log can't prove that it reaches back to there. It ends here now.
    Lost(Cursor),
}

/// What a tail tells.
#[derive(Debug, Clone)]
pub enum Tail {
    /// This was appended.
    Appended(Arc<Entry>),
    /// From now on these shards are told of; what was appended before may have gone by.
    Resync(Shards),
}

/// A part of the feeds, as bits: every feed lies in one of 64 shards, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shards(pub u64);

/// How many shards there are. Never changed: feeds would move.
pub const SHARDS: u16 = 64;

/// How much a log keeps.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Entries of a feed.
    pub entries: usize,
    /// Keys of a feed whose latest event is remembered.
    pub seen: usize,
    /// For how long it is.
    pub seen_for: Duration,
    /// A feed that nobody appended to, read or watched for so long is forgotten.
    pub idle: Duration,
}

/// A feed to which nothing was ever appended is forgotten after this already: anybody can invent names.
const IDLE_UNUSED: Duration = Duration::from_mins(10);

impl Retention {
    /// What `idle` is for a feed to which nothing was ever appended.
    #[must_use]
    pub fn idle_unused(&self) -> Duration {
        self.idle.min(IDLE_UNUSED)
    }
}

/// The log can't do its work now; ask again later.
#[derive(Debug, thiserror::Error)]
#[error("the feed log is not available")]
pub struct LogError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// The order in which the bucket's truth is told.
#[async_trait]
pub trait FeedLog: fmt::Debug + Send + Sync + 'static {
    /// Gives `event` the next place, if it is new. Atomic.
    ///
    /// # Errors
    /// When the log is away: nothing, or (if the answer was lost) everything was done. Offering the
    /// event again is right in both cases.
    async fn append(&self, event: FeedEvent, proof: Proof, now: Timestamp) -> Result<Outcome, LogError>;

    /// What follows `after`, at most `limit` entries.
    ///
    /// # Errors
    /// When the log is away.
    async fn read_after(&self, feed: &FeedId, after: Cursor, limit: usize) -> Result<Read, LogError>;

    /// The present end. Makes the log where there is none, so that it can be read from later.
    ///
    /// # Errors
    /// When the log is away.
    async fn end(&self, feed: &FeedId) -> Result<Cursor, LogError>;

    /// Keeps `watched` feeds from being forgotten as idle. To be called several times within
    /// [`Retention::idle_unused`].
    ///
    /// # Errors
    /// When the log is away.
    async fn renew(&self, watched: Vec<FeedId>) -> Result<(), LogError>;

    /// The latest entry about `key` that the log still holds, of that `kind` where one is given.
    ///
    /// # Errors
    /// When the log is away.
    async fn last_of(&self, key: &ObjectKey, kind: Option<Kind>) -> Result<Option<Arc<Entry>>, LogError>;

    /// Tells `told` of everything appended to the `watched` shards, until nobody listens.
    ///
    /// # Errors
    /// Never because the log is away: a tail waits and resumes with [`Tail::Resync`].
    async fn tail(&self, watched: watch::Receiver<Shards>, told: mpsc::Sender<Tail>) -> Result<(), LogError>;

    /// Whether the log could take an append, be it for a part of the feeds only.
    ///
    /// # Errors
    /// When it is away, or answers but takes none.
    async fn ping(&self) -> Result<(), LogError>;
}

impl Shards {
    /// The shard of one feed.
    #[must_use]
    pub fn of(feed: &FeedId) -> Self {
        Self(1 << shard(feed))
    }

    /// Whether `feed` lies in one of these.
    #[must_use]
    pub fn contain(self, feed: &FeedId) -> bool {
        self.0 & Self::of(feed).0 != 0
    }
}

/// The number of the feed's shard: CRC-16 modulo 64.
#[must_use]
pub fn shard(feed: &FeedId) -> u16 {
    crc16(feed.as_str()) % SHARDS
}

/// CRC-16/XMODEM, the one that Redis Cluster uses.
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

    #[test]
    fn shards_never_move() {
        for (feed, expected) in [("summer", 9), ("123456789", 0x31C3 % 64)] {
            assert_eq!(shard(&FeedId::parse(feed).unwrap()), expected, "{feed}");
        }
    }
}
