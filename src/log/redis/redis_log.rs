//! [`FeedLog`] and [`Presence`] in Redis.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures_util::{FutureExt, future};
use jiff::Timestamp;
use redis::{RedisError, Value, streams::StreamRangeReply};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::{
    client::{RedisClient, run_all},
    codec::{self, DecodeError},
    connection::RedisConnection,
    feed_scripts::{AppendResponse, EndResponse, FeedScripts, ReadResponse, parse_cursor, parse_outcome},
    presence::PresenceReporter,
    replication::{ReplicaWait, probe_write},
    settings::RedisSettings,
    tail_readers,
};
use crate::{
    feed::{Cursor, Epoch, EventKind, FeedEvent, FeedId, ObjectKey, Tag},
    log::{
        AppendOutcome, Entry, FeedLog, LogError, Presence, Proof, ReadResult, Retention, Shards, TailItem,
        shard_of,
    },
};

/// Entries that [`FeedLog::find_latest`] reads at a time.
const SEARCH_PAGE_SIZE: usize = 100;

/// A [`FeedLog`] in Redis, shared by all processes that use the same key prefix.
pub struct RedisLog {
    client: RedisClient,
    scripts: FeedScripts,
    replica_wait: ReplicaWait,
    presence: PresenceReporter,
    /// The last feed for which [`RedisLog::warn_undecodable`] logged a warning.
    last_undecodable: Mutex<Option<FeedId>>,
}

impl RedisLog {
    /// Creates a log with `settings`. It connects on the first call.
    ///
    /// # Errors
    /// Currently none.
    pub fn new(settings: RedisSettings, retention: Retention) -> Result<Self, LogError> {
        Ok(Self {
            client: RedisClient::new(&settings.address, settings.key_prefix.clone()),
            scripts: FeedScripts::new(settings.key_prefix, retention),
            replica_wait: ReplicaWait { replicas: settings.wait_replicas, timeout: settings.wait_timeout },
            presence: PresenceReporter::new(codec::format_epoch(Epoch::random())),
            last_undecodable: Mutex::default(),
        })
    }

    /// Logs a warning once, and not for each reader that holds an older cursor.
    fn warn_undecodable(&self, feed: &FeedId, error: &DecodeError) {
        let mut last = self.last_undecodable.lock().expect("no panic while the lock is held");
        if last.as_ref() != Some(feed) {
            warn!(error = error as &dyn std::error::Error, %feed, "failed to decode an entry of the feed log");
            *last = Some(feed.clone());
        }
    }

    async fn read_epoch(&self, feed: &FeedId) -> Result<Option<Epoch>, LogError> {
        let [meta, ..] = self.client.key_prefix.feed_keys(feed);
        let epoch: Option<String> = self.client.query(redis::cmd("HGET").arg(meta).arg("epoch")).await?;
        Ok(epoch.as_deref().and_then(codec::parse_epoch))
    }

    /// Reads a page of entries of `feed`, newest first, beginning with the stream id `from`.
    async fn read_page_backwards(&self, feed: &FeedId, from: &str) -> Result<StreamRangeReply, RedisError> {
        let [_, entries, ..] = self.client.key_prefix.feed_keys(feed);
        let mut read = redis::cmd("XREVRANGE");
        read.arg(entries).arg(from).arg("-").arg("COUNT").arg(SEARCH_PAGE_SIZE);
        self.client.query(&read).await
    }

    async fn renew_feed_ttl(&self, feed: FeedId) -> Result<(), RedisError> {
        self.client.call_script(&self.scripts.renew_ttl(&feed)).await
    }

    /// Checks that `shard` can be read, and written to with enough replicas.
    async fn check_shard(&self, shard: u16) -> Result<(), LogError> {
        let key_prefix = &self.client.key_prefix;
        // Over both connections: either may be broken, which only a call detects.
        let mut get = redis::cmd("GET");
        get.arg(key_prefix.probe_key(shard));
        let read = self.client.query::<Value>(&get);
        let write = self.client.appends.run(async |mut connection: RedisConnection| {
            probe_write(key_prefix, shard).query_async::<()>(&mut connection).await?;
            self.replica_wait.wait_for_replicas(key_prefix, shard, &mut connection).await
        });
        let (_, replicas) = future::try_join(read, write).await?;
        self.replica_wait.check_confirmed(replicas)
    }
}

#[async_trait]
impl FeedLog for RedisLog {
    async fn append(
        &self,
        event: FeedEvent,
        proof: Proof,
        now: Timestamp,
    ) -> Result<AppendOutcome, LogError> {
        let tag = Tag::random();
        let key_prefix = &self.client.key_prefix;
        let (response, replicas) = self
            .client
            .appends
            .run(async |mut connection: RedisConnection| {
                let call = self.scripts.append(&event, tag, proof, now);
                let response: AppendResponse = call.invoke(&mut connection).await?;
                let shard = shard_of(event.feed());
                Ok((response, self.replica_wait.wait_for_replicas(key_prefix, shard, &mut connection).await?))
            })
            .await?;
        self.replica_wait.check_confirmed(replicas)?;
        parse_outcome(response, tag)
    }

    async fn read_after(&self, feed: &FeedId, after: Cursor, limit: usize) -> Result<ReadResult, LogError> {
        let call = self.scripts.read_after(feed, after, limit);
        let (proved, epoch, offset, tag, entries): ReadResponse = self.client.call_script(&call).await?;
        let end = parse_cursor(&epoch, offset, &tag)?;
        if !proved {
            return Ok(ReadResult::Lost(end));
        }
        let entries: Result<Vec<_>, _> =
            entries.ids.iter().map(|id| codec::decode_feed_entry(id, end.epoch).map(Arc::new)).collect();
        match entries {
            Ok(entries) if are_contiguous(after, &entries) => Ok(ReadResult::Entries(entries)),
            Ok(_) => Ok(ReadResult::Lost(end)),
            Err(error) => {
                self.warn_undecodable(feed, &error);
                Ok(ReadResult::Lost(end))
            }
        }
    }

    async fn read_end(&self, feed: &FeedId) -> Result<Cursor, LogError> {
        let (epoch, offset, tag, _since): EndResponse =
            self.client.call_script(&self.scripts.read_end(feed)).await?;
        parse_cursor(&epoch, offset, &tag)
    }

    async fn renew_ttl(&self, feeds: Vec<FeedId>) -> Result<(), LogError> {
        Ok(run_all(feeds.into_iter().map(|feed| self.renew_feed_ttl(feed))).await?)
    }

    async fn find_latest(
        &self,
        key: &ObjectKey,
        kind: Option<EventKind>,
    ) -> Result<Option<Arc<Entry>>, LogError> {
        let Some(epoch) = self.read_epoch(key.feed()).await? else { return Ok(None) };
        let mut from = "+".to_owned();
        loop {
            let page = self.read_page_backwards(key.feed(), &from).await?;
            let Some(oldest) = page.ids.last() else { return Ok(None) };
            from = format!("({}", oldest.id);
            let mut entries = page.ids.iter().filter_map(|id| codec::decode_feed_entry(id, epoch).ok());
            if let Some(entry) = entries.find(|entry| entry.is_about(key, kind)) {
                return Ok(Some(Arc::new(entry)));
            }
        }
    }

    async fn tail(
        &self,
        watched: watch::Receiver<Shards>,
        tx: mpsc::Sender<TailItem>,
    ) -> Result<(), LogError> {
        tail_readers::follow_tails(&self.client, watched, tx).await;
        Ok(())
    }

    async fn ping(&self) -> Result<(), LogError> {
        // Opens the connection if there is none, which discovers the masters.
        self.client.calls.run(async |_: RedisConnection| Ok(())).await?;
        // Ready while any master accepts writes: only the feeds of the other masters fail.
        let shards = self.client.topology.one_shard_per_master();
        let checks = shards.into_iter().map(|shard| self.check_shard(shard).boxed());
        future::select_ok(checks).await.map(|_| ())
    }
}

#[async_trait]
impl Presence for RedisLog {
    async fn set_presence(&self, counts: Vec<(FeedId, usize)>) -> Result<(), LogError> {
        Ok(self.presence.report_counts(&self.client, counts).await?)
    }

    async fn count_remote(&self, feed: &FeedId) -> Result<usize, LogError> {
        Ok(self.presence.count_remote(&self.client, feed).await?)
    }
}

/// Whether the first entry follows `after`, and each other the one before it.
fn are_contiguous(after: Cursor, entries: &[Arc<Entry>]) -> bool {
    let positions = std::iter::once(after).chain(entries.iter().map(|entry| entry.cursor));
    positions.zip(entries).all(|(previous, entry)| entry.follows(previous))
}

impl From<RedisError> for LogError {
    fn from(error: RedisError) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Debug for RedisLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLog").field("key_prefix", &self.client.key_prefix).finish_non_exhaustive()
    }
}
