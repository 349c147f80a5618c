//! The names of everything in Redis.
//!
//! `{prefix}{sNN}:…`: the shard is the hash tag and stands first, so that all that one script touches
//! lies in one slot of a cluster, and no feed's name can move it.

use crate::{
    feed::FeedId,
    log::{SHARDS, Shards, crc16, shard},
};

/// The slots of a Redis Cluster.
const SLOTS: u16 = 16384;

/// What every key of this deployment begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisPrefix(String);

/// A prefix that would move the hash tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must not contain '{{' or '}}', and have at most 100 bytes")]
pub struct RedisPrefixError;

impl RedisPrefix {
    /// Judges `text` as a prefix.
    ///
    /// # Errors
    /// When it holds a brace or is long.
    pub fn parse(text: &str) -> Result<Self, RedisPrefixError> {
        let good = text.len() <= 100 && !text.contains(['{', '}']);
        if good { Ok(Self(text.to_owned())) } else { Err(RedisPrefixError) }
    }

    /// What a script about `feed` works on: meta, entries, what was seen, when it was, and the tail.
    pub(super) fn of_feed(&self, feed: &FeedId) -> [String; 5] {
        let shard = shard(feed);
        let key = |kind: &str| format!("{}{kind}:{feed}", self.of_shard(shard));
        [key("meta"), key("feed"), key("seen"), key("times"), self.tail(shard)]
    }

    /// Who watches `feed`, by process.
    pub(super) fn watchers(&self, feed: &FeedId) -> String {
        format!("{}watchers:{feed}", self.of_shard(shard(feed)))
    }

    /// Written to for nothing but to see that a shard can be written to.
    pub(super) fn probe(&self, shard: u16) -> String {
        format!("{}probe", self.of_shard(shard))
    }

    /// What was appended in a shard.
    pub(super) fn tail(&self, shard: u16) -> String {
        format!("{}tail", self.of_shard(shard))
    }

    /// What an examination tries things on, in shard 0.
    pub(super) fn trial(&self, random: &str) -> String {
        format!("{}trial:{random}", self.of_shard(0))
    }

    fn of_shard(&self, shard: u16) -> String {
        format!("{}{{{}}}:", self.0, hash_tag(shard))
    }
}

fn hash_tag(shard: u16) -> String {
    format!("s{shard:02}")
}

/// The slot of a Redis Cluster in which everything of `shard` lies.
/// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>
pub(super) fn slot(shard: u16) -> u16 {
    crc16(&hash_tag(shard)) % SLOTS
}

/// The numbers of `shards`.
pub(super) fn numbers(shards: Shards) -> impl Iterator<Item = u16> {
    (0..SHARDS).filter(move |shard| shards.0 & (1 << shard) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_feed_begins_with_its_shard() {
        let prefix = RedisPrefix::parse("photoshare:").unwrap();
        let feed = FeedId::parse("summer").unwrap();
        let keys = prefix.of_feed(&feed);
        assert_eq!(keys[0], "photoshare:{s09}:meta:summer");
        assert_eq!(keys[4], "photoshare:{s09}:tail");
        let braces = FeedId::parse("}{x}").unwrap();
        assert!(prefix.of_feed(&braces).iter().all(|key| key.starts_with("photoshare:{s")));
    }

    #[test]
    fn a_prefix_has_no_braces() {
        assert!(RedisPrefix::parse("").is_ok());
        for bad in ["a{b", "a}b", &"x".repeat(101)] {
            assert_eq!(RedisPrefix::parse(bad), Err(RedisPrefixError), "{bad}");
        }
    }
}
