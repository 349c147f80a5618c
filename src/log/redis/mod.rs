//! The log that many processes share, in Redis or Valkey 7 or later.
//!
//! ```text
//! {prefix}{sNN}:meta:<feed>      epoch, last offset, last tag, since when all keys are remembered
//! {prefix}{sNN}:feed:<feed>      a stream: the entries, whose ids are the offsets (42-0)
//! {prefix}{sNN}:seen:<feed>      a hash: what was last seen of each key
//! {prefix}{sNN}:times:<feed>     a sorted set: when it was seen
//! {prefix}{sNN}:probe            written to see that it can be
//! {prefix}{sNN}:tail             a stream: what was appended to any feed of the shard
//! {prefix}{sNN}:watchers:<feed>  a hash: how many watch, by process
//! {prefix}{s00}:trial:<random>   a stream: what a doctor tries, for a moment
//! ```
//!
//! Appending is one script on one slot. Nothing here relies on what a connection has heard: pub/sub is
//! not used, for it forgets.

mod codec;
mod connection;
mod keys;
mod lanes;
mod link;
mod nodes;
mod probe;
mod script;
mod settings;
mod tail;
mod watchers;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt, future, stream};
use jiff::Timestamp;
use redis::{Cmd, RedisError, Value, streams::StreamRangeReply};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::{Entry, FeedLog, LogError, Outcome, Proof, Read, Retention, Shards, Tail, shard};
use crate::feed::{Cursor, Epoch, FeedEvent, FeedId, Kind, ObjectKey, Sequencer, Tag};
use codec::DecodeError;
use connection::Connection;
use link::Link;
use nodes::Nodes;
use script::{Call, Script};
use watchers::Noted;

pub use keys::{RedisPrefix, RedisPrefixError};
pub use probe::{RedisHealth, RedisProbeError};
pub use settings::{RedisAddress, RedisAddressError, RedisSettings};

/// Entries that a shard's tail keeps. A reader that falls further behind reads its feeds instead.
const TAIL_LENGTH: usize = 1000;
/// How long what shows that Redis can be written to is kept.
const PROBE: Duration = Duration::from_mins(1);
/// Entries that a search through a feed reads at once.
const PAGE: usize = 100;
/// Calls under way at once where there is one for each of many feeds.
const AT_ONCE: usize = 64;

/// A [`FeedLog`] in Redis.
pub struct RedisLog {
    nodes: Arc<Nodes>,
    /// For what is answered at once.
    calls: Link,
    /// For appends, which may have to wait for replicas.
    appends: Link,
    scripts: Scripts,
    prefix: RedisPrefix,
    retention: Retention,
    wait_replicas: usize,
    wait: Duration,
    /// Names this process among those that count watchers.
    process: String,
    noted: Noted,
    /// The feed that was last complained of.
    unreadable: Mutex<Option<FeedId>>,
}

struct Scripts {
    append: Script,
    read: Script,
    end: Script,
    renew: Script,
    note: Script,
    elsewhere: Script,
}

/// What Redis answered makes no sense, or is not enough.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("the answer {0:?} is not one of the script's")]
    Answer(String),
    #[error("{got} replicas of the wanted {wanted} have the append")]
    Replicas { wanted: usize, got: usize },
}

impl RedisLog {
    /// A log in the Redis that the settings name. Nothing is connected yet.
    ///
    /// # Errors
    /// When the settings can't be used at all.
    pub fn new(settings: RedisSettings, retention: Retention) -> Result<Self, LogError> {
        let nodes = Arc::new(Nodes::new(settings.address.info()));
        Ok(Self {
            calls: Link::new(nodes.clone()),
            appends: Link::new(nodes.clone()),
            nodes,
            scripts: Scripts::new(),
            prefix: settings.prefix,
            retention,
            wait_replicas: settings.wait_replicas,
            wait: settings.wait,
            process: codec::epoch_text(Epoch::random()),
            noted: Noted::default(),
            unreadable: Mutex::default(),
        })
    }

    /// A call of `script` about `feed`, with what every script begins with.
    fn call<'a>(&self, script: &'a Script, feed: &FeedId, now: Timestamp) -> Call<'a> {
        let mut call = script.call(&self.prefix.of_feed(feed));
        call.arg(now.as_microsecond())
            .arg(self.retention.idle.as_secs())
            .arg(self.retention.idle_unused().as_secs())
            .arg(codec::epoch_text(Epoch::random()));
        call
    }

    fn append_call(&self, event: &FeedEvent, tag: Tag, proof: Proof, now: Timestamp) -> Call<'_> {
        let mut call = self.call(&self.scripts.append, event.feed(), now);
        call.arg(codec::tag_text(tag))
            .arg(event.key.as_str())
            .arg(event.sequencer.as_ref().map(Sequencer::sort_key).unwrap_or_default())
            .arg(event.event_time.map(|time| time.as_microsecond().to_string()).unwrap_or_default())
            .arg(u8::from(proof == Proof::Bucket))
            .arg(codec::encode(event))
            .arg(self.retention.entries)
            .arg(self.retention.seen)
            .arg(u64::try_from(self.retention.seen_for.as_micros()).unwrap_or(u64::MAX))
            .arg(TAIL_LENGTH);
        call
    }

    /// Logs once that an entry of `feed` can't be read: every reader who holds an older cursor meets it.
    fn complain(&self, feed: &FeedId, error: &DecodeError) {
        let mut unreadable = self.unreadable.lock().expect("no panic while held");
        if unreadable.as_ref() != Some(feed) {
            warn!(error = error as &dyn std::error::Error, %feed, "an entry of the log can't be read");
            *unreadable = Some(feed.clone());
        }
    }

    async fn epoch(&self, feed: &FeedId) -> Result<Option<Epoch>, LogError> {
        let [meta, ..] = self.prefix.of_feed(feed);
        let ask = redis::cmd("HGET").arg(meta).arg("epoch").to_owned();
        let epoch: Option<String> =
            self.calls.ask(async |mut to: Connection| ask.query_async(&mut to).await).await?;
        Ok(epoch.as_deref().and_then(codec::epoch_of))
    }

    /// A page of the entries of `feed`, from the id `from` on.
    async fn newest_first(&self, feed: &FeedId, from: &str) -> Result<StreamRangeReply, RedisError> {
        let [_, stream, ..] = self.prefix.of_feed(feed);
        let ask = redis::cmd("XREVRANGE").arg(stream).arg(from).arg("-").arg("COUNT").arg(PAGE).to_owned();
        self.calls.ask(async |mut to: Connection| ask.query_async(&mut to).await).await
    }

    async fn renew_one(&self, feed: FeedId) -> Result<(), RedisError> {
        let call = self.call(&self.scripts.renew, &feed, Timestamp::now());
        self.calls.ask(async |mut to: Connection| call.invoke(&mut to).await).await
    }

    /// Waits until enough replicas have what was written to `shard`, where that is asked for. WAIT answers
    /// for what its own connection wrote: so it goes with one more write.
    async fn replicated(&self, shard: u16, to: &mut Connection) -> Result<usize, RedisError> {
        if self.wait_replicas == 0 {
            return Ok(0);
        }
        let wait = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        let mut written = redis::pipe();
        written.add_command(self.probe(shard)).ignore();
        written.cmd("WAIT").arg(self.wait_replicas).arg(wait);
        let (replicas,) = written.query_async(to).await?;
        Ok(replicas)
    }

    fn judge_replicas(&self, got: usize) -> Result<(), LogError> {
        let wanted = self.wait_replicas;
        if got < wanted { Err(AnswerError::Replicas { wanted, got }.into()) } else { Ok(()) }
    }

    /// Shows that an append to `shard` could be made and read.
    async fn try_out(&self, shard: u16) -> Result<(), LogError> {
        // Both connections: each may be dead by itself, and shows it only when it is used.
        let mut get = redis::cmd("GET");
        get.arg(self.prefix.probe(shard));
        let read = self.calls.ask(async |mut to: Connection| get.query_async::<Value>(&mut to).await);
        let written = self.appends.ask(async |mut to: Connection| {
            self.probe(shard).query_async::<()>(&mut to).await?;
            self.replicated(shard, &mut to).await
        });
        let (_, replicas) = future::try_join(read, written).await?;
        self.judge_replicas(replicas)
    }

    /// Shows that Redis takes writes: one that is out of memory, can't save or became a replica answers
    /// all the same.
    fn probe(&self, shard: u16) -> Cmd {
        redis::cmd("SET").arg(self.prefix.probe(shard)).arg("").arg("EX").arg(PROBE.as_secs()).to_owned()
    }
}

#[async_trait]
impl FeedLog for RedisLog {
    async fn append(&self, event: FeedEvent, proof: Proof, now: Timestamp) -> Result<Outcome, LogError> {
        let tag = Tag::random();
        let (answer, replicas) = self
            .appends
            .ask(async |mut to: Connection| {
                let call = self.append_call(&event, tag, proof, now);
                let answer: (String, String, u64) = call.invoke(&mut to).await?;
                Ok((answer, self.replicated(shard(event.feed()), &mut to).await?))
            })
            .await?;
        self.judge_replicas(replicas)?;
        outcome(answer, tag)
    }

    async fn read_after(&self, feed: &FeedId, after: Cursor, limit: usize) -> Result<Read, LogError> {
        let mut call = self.call(&self.scripts.read, feed, Timestamp::now());
        call.arg(codec::epoch_text(after.epoch)).arg(after.offset).arg(codec::tag_text(after.tag)).arg(limit);
        let (proved, epoch, offset, tag, entries): (bool, String, u64, String, StreamRangeReply) =
            self.calls.ask(async |mut to: Connection| call.invoke(&mut to).await).await?;
        let end = cursor(&epoch, offset, &tag)?;
        if !proved {
            return Ok(Read::Lost(end));
        }
        let entries: Result<Vec<_>, _> =
            entries.ids.iter().map(|id| codec::entry_of_feed(id, end.epoch).map(Arc::new)).collect();
        match entries {
            Ok(entries) if are_contiguous(after, &entries) => Ok(Read::Entries(entries)),
            Ok(_) => Ok(Read::Lost(end)),
            Err(error) => {
                self.complain(feed, &error);
                Ok(Read::Lost(end))
            }
        }
    }

    async fn end(&self, feed: &FeedId) -> Result<Cursor, LogError> {
        let call = self.call(&self.scripts.end, feed, Timestamp::now());
        let (epoch, offset, tag, _since): (String, u64, String, String) =
            self.calls.ask(async |mut to: Connection| call.invoke(&mut to).await).await?;
        cursor(&epoch, offset, &tag)
    }

    async fn renew(&self, watched: Vec<FeedId>) -> Result<(), LogError> {
        Ok(all_of(watched.into_iter().map(|feed| self.renew_one(feed))).await?)
    }

    async fn last_of(&self, key: &ObjectKey, kind: Option<Kind>) -> Result<Option<Arc<Entry>>, LogError> {
        let Some(epoch) = self.epoch(key.feed()).await? else { return Ok(None) };
        let mut from = "+".to_owned();
        loop {
            let page = self.newest_first(key.feed(), &from).await?;
            let Some(oldest) = page.ids.last() else { return Ok(None) };
            from = format!("({}", oldest.id);
            let mut entries = page.ids.iter().filter_map(|id| codec::entry_of_feed(id, epoch).ok());
            if let Some(entry) = entries.find(|entry| entry.tells_of(key, kind)) {
                return Ok(Some(Arc::new(entry)));
            }
        }
    }

    async fn tail(&self, watched: watch::Receiver<Shards>, told: mpsc::Sender<Tail>) -> Result<(), LogError> {
        lanes::run(self, watched, told).await;
        Ok(())
    }

    async fn ping(&self) -> Result<(), LogError> {
        // Connects, after which the masters are known.
        self.calls.ask(async |_: Connection| Ok(())).await?;
        // One master of many that is away is no reason to turn everybody away.
        let tried = self.nodes.shard_of_each().into_iter().map(|shard| self.try_out(shard).boxed());
        future::select_ok(tried).await.map(|_| ())
    }
}

impl Scripts {
    fn new() -> Self {
        Self {
            append: Script::new(concat!(include_str!("open.lua"), include_str!("append.lua"))),
            read: Script::new(concat!(include_str!("open.lua"), include_str!("read.lua"))),
            end: Script::new(concat!(include_str!("open.lua"), include_str!("end.lua"))),
            renew: Script::new(concat!(include_str!("open.lua"), include_str!("renew.lua"))),
            note: Script::new(concat!(include_str!("watchers.lua"), include_str!("note.lua"))),
            elsewhere: Script::new(concat!(include_str!("watchers.lua"), include_str!("elsewhere.lua"))),
        }
    }
}

/// Makes all `calls`, some at once. Those that fail end no other; gives back the first error.
async fn all_of(
    calls: impl Iterator<Item = impl Future<Output = Result<(), RedisError>>>,
) -> Result<(), RedisError> {
    let answers = stream::iter(calls).buffer_unordered(AT_ONCE);
    answers.fold(Ok(()), |so_far, answer| future::ready(so_far.and(answer))).await
}

fn outcome((word, epoch, offset): (String, String, u64), tag: Tag) -> Result<Outcome, LogError> {
    match word.as_str() {
        "appended" => {
            let epoch = codec::epoch_of(&epoch).ok_or(AnswerError::Answer(epoch))?;
            Ok(Outcome::Appended(Cursor { epoch, offset, tag }))
        }
        "duplicate" => Ok(Outcome::Duplicate),
        "stale" => Ok(Outcome::Stale),
        "unproven" => Ok(Outcome::Unproven),
        _ => Err(AnswerError::Answer(word).into()),
    }
}

fn cursor(epoch: &str, offset: u64, tag: &str) -> Result<Cursor, LogError> {
    let parsed = codec::epoch_of(epoch).zip(codec::tag_of(tag));
    let (epoch, tag) = parsed.ok_or_else(|| AnswerError::Answer(format!("{epoch} {tag}")))?;
    Ok(Cursor { epoch, offset, tag })
}

/// Whether each entry follows the one before, the first one `after`.
fn are_contiguous(after: Cursor, entries: &[Arc<Entry>]) -> bool {
    let places = std::iter::once(after).chain(entries.iter().map(|entry| entry.cursor));
    places.zip(entries).all(|(before, entry)| entry.follows(before))
}

impl From<RedisError> for LogError {
    fn from(error: RedisError) -> Self {
        Self(Box::new(error))
    }
}

impl From<AnswerError> for LogError {
    fn from(error: AnswerError) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Debug for RedisLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLog").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
