//! The names of all keys in Redis: `{prefix}{sNN}:…`.
//!
//! The shard is the hash tag and precedes the feed, so that all keys of one script lie in one slot of a
//! cluster, and no name of a feed can move them to another.

use crate::{
    feed::FeedId,
    log::{SHARD_COUNT, Shards, crc16, shard_of},
};

/// The number of slots of a Redis Cluster.
const CLUSTER_SLOTS: u16 = 16384;

/// What every key of this deployment begins with: a parsed `REDIS_KEY_PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisKeyPrefix(String);

/// A prefix that is too long, or that would change the hash tag of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must not contain '{{' or '}}', and must have at most 100 bytes")]
pub struct RedisKeyPrefixError;

impl RedisKeyPrefix {
    /// Validates `text` as a prefix.
    ///
    /// # Errors
    /// When it contains a brace or has more than 100 bytes.
    pub fn parse(text: &str) -> Result<Self, RedisKeyPrefixError> {
        let valid = text.len() <= 100 && !text.contains(['{', '}']);
        if valid { Ok(Self(text.to_owned())) } else { Err(RedisKeyPrefixError) }
    }

    /// `KEYS` of the scripts about `feed`: meta, entries, seen, times, and the tail of its shard.
    pub(super) fn feed_keys(&self, feed: &FeedId) -> [String; 5] {
        let shard = shard_of(feed);
        let key = |kind: &str| format!("{}{kind}:{feed}", self.shard_prefix(shard));
        [key("meta"), key("feed"), key("seen"), key("times"), self.tail_key(shard)]
    }

    /// The hash of the watchers of `feed`, by process.
    pub(super) fn watchers_key(&self, feed: &FeedId) -> String {
        format!("{}watchers:{feed}", self.shard_prefix(shard_of(feed)))
    }

    /// The string that shows whether a shard accepts writes.
    pub(super) fn probe_key(&self, shard: u16) -> String {
        format!("{}probe", self.shard_prefix(shard))
    }

    /// The stream of all appends to the feeds of a shard.
    pub(super) fn tail_key(&self, shard: u16) -> String {
        format!("{}tail", self.shard_prefix(shard))
    }

    /// A stream that `photoshare doctor` writes and deletes.
    pub(crate) fn trial_key(&self, shard: u16, id: &str) -> String {
        format!("{}trial:{id}", self.shard_prefix(shard))
    }

    fn shard_prefix(&self, shard: u16) -> String {
        format!("{}{{{}}}:", self.0, hash_tag(shard))
    }
}

fn hash_tag(shard: u16) -> String {
    format!("s{shard:02}")
}

/// The cluster slot of all keys of `shard`.
/// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>
pub(super) fn cluster_slot(shard: u16) -> u16 {
    crc16(&hash_tag(shard)) % CLUSTER_SLOTS
}

/// The numbers of `shards`, ascending.
pub(super) fn shard_numbers(shards: Shards) -> impl Iterator<Item = u16> {
    (0..SHARD_COUNT).filter(move |shard| shards.0 & (1 << shard) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::feed;

    #[test]
    fn every_key_of_a_feed_begins_with_the_prefix_and_the_shard() {
        let prefix = RedisKeyPrefix::parse("photoshare:").unwrap();
        let summer = feed("summer");
        let keys = prefix.feed_keys(&summer);
        assert_eq!(keys[0], "photoshare:{s09}:meta:summer");
        assert_eq!(keys[4], "photoshare:{s09}:tail");
        let braces = feed("}{x}");
        assert!(prefix.feed_keys(&braces).iter().all(|key| key.starts_with("photoshare:{s")));
    }

    #[test]
    fn a_prefix_with_braces_or_too_many_bytes_is_rejected() {
        assert!(RedisKeyPrefix::parse("").is_ok());
        for invalid in ["a{b", "a}b", &"x".repeat(101)] {
            assert_eq!(RedisKeyPrefix::parse(invalid), Err(RedisKeyPrefixError), "{invalid}");
        }
    }
}
