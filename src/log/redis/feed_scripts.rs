//! The scripts about one feed: their arguments, and their responses as values of the log.

use jiff::Timestamp;
use redis::streams::StreamRangeReply;

use super::{
    codec,
    keys::RedisKeyPrefix,
    script::{Script, ScriptCall},
};
use crate::{
    feed::{Cursor, Epoch, FeedEvent, FeedId, Sequencer, Tag},
    log::{AppendOutcome, LogError, Proof, Retention},
};

/// Entries that a shard's tail keeps. A reader that falls further behind reads the feeds instead.
const MAX_TAIL_ENTRIES: usize = 1000;

/// The response to `append.lua`: outcome, epoch, offset.
pub(super) type AppendResponse = (String, String, u64);
/// The response to `read_end.lua`: epoch, offset, tag, since.
pub(super) type EndResponse = (String, u64, String, String);
/// The response to `read_after.lua`: whether the position was proved, epoch, offset, tag, entries.
pub(super) type ReadResponse = (bool, String, u64, String, StreamRangeReply);

pub(super) struct FeedScripts {
    append: Script,
    read_end: Script,
    read_after: Script,
    renew_ttl: Script,
    key_prefix: RedisKeyPrefix,
    retention: Retention,
}

/// A response that no script of this version sends.
#[derive(Debug, thiserror::Error)]
#[error("unexpected response of a Redis script: {0:?}")]
struct UnexpectedResponse(String);

macro_rules! feed_script {
    ($file:literal) => {
        Script::new(concat!(include_str!("feed_prelude.lua"), include_str!($file)))
    };
}

impl FeedScripts {
    pub(super) fn new(key_prefix: RedisKeyPrefix, retention: Retention) -> Self {
        Self {
            append: feed_script!("append.lua"),
            read_end: feed_script!("read_end.lua"),
            read_after: feed_script!("read_after.lua"),
            renew_ttl: feed_script!("renew_ttl.lua"),
            key_prefix,
            retention,
        }
    }

    pub(super) fn append(&self, event: &FeedEvent, tag: Tag, proof: Proof, now: Timestamp) -> ScriptCall<'_> {
        let mut call = self.call(&self.append, event.feed(), now);
        call.arg(codec::format_tag(tag))
            .arg(event.key.as_str())
            .arg(event.sequencer.as_ref().map(Sequencer::sort_key).unwrap_or_default())
            .arg(event.event_time.map(|time| time.as_microsecond().to_string()).unwrap_or_default())
            .arg(u8::from(proof == Proof::Bucket))
            .arg(codec::encode_event(event))
            .arg(self.retention.max_entries)
            .arg(self.retention.max_seen_keys)
            .arg(u64::try_from(self.retention.seen_ttl.as_micros()).unwrap_or(u64::MAX))
            .arg(MAX_TAIL_ENTRIES);
        call
    }

    pub(super) fn read_end(&self, feed: &FeedId) -> ScriptCall<'_> {
        self.call(&self.read_end, feed, Timestamp::now())
    }

    pub(super) fn read_after(&self, feed: &FeedId, after: Cursor, limit: usize) -> ScriptCall<'_> {
        let mut call = self.call(&self.read_after, feed, Timestamp::now());
        call.arg(codec::format_epoch(after.epoch))
            .arg(after.offset)
            .arg(codec::format_tag(after.tag))
            .arg(limit);
        call
    }

    pub(super) fn renew_ttl(&self, feed: &FeedId) -> ScriptCall<'_> {
        self.call(&self.renew_ttl, feed, Timestamp::now())
    }

    /// A call with the arguments that `feed_prelude.lua` reads.
    fn call<'a>(&self, script: &'a Script, feed: &FeedId, now: Timestamp) -> ScriptCall<'a> {
        let mut call = script.with_keys(&self.key_prefix.feed_keys(feed));
        call.arg(now.as_microsecond())
            .arg(self.retention.idle_ttl.as_secs())
            .arg(self.retention.unused_ttl().as_secs())
            .arg(codec::format_epoch(Epoch::random()));
        call
    }
}

pub(super) fn parse_outcome(
    (outcome, epoch, offset): AppendResponse,
    tag: Tag,
) -> Result<AppendOutcome, LogError> {
    match outcome.as_str() {
        "appended" => {
            let epoch = codec::parse_epoch(&epoch).ok_or(UnexpectedResponse(epoch))?;
            Ok(AppendOutcome::Appended(Cursor { epoch, offset, tag }))
        }
        "duplicate" => Ok(AppendOutcome::Duplicate),
        "stale" => Ok(AppendOutcome::Stale),
        "unproven" => Ok(AppendOutcome::Unproven),
        _ => Err(UnexpectedResponse(outcome).into()),
    }
}

pub(super) fn parse_cursor(epoch: &str, offset: u64, tag: &str) -> Result<Cursor, LogError> {
    let parsed = codec::parse_epoch(epoch).zip(codec::parse_tag(tag));
    let (epoch, tag) = parsed.ok_or_else(|| UnexpectedResponse(format!("{epoch} {tag}")))?;
    Ok(Cursor { epoch, offset, tag })
}

impl From<UnexpectedResponse> for LogError {
    fn from(error: UnexpectedResponse) -> Self {
        Self(Box::new(error))
    }
}
