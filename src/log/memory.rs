//! A feed log in the memory of one process.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{broadcast, mpsc, watch};

use super::{
    AppendOutcome, Entry, FeedLog, LogError, Proof, ReadResult, Retention, Shards, TailItem,
    dedup::{Freshness, SeenEvent},
};
use crate::feed::{Cursor, Epoch, EventKind, FeedEvent, FeedId, ObjectKey, Tag};

/// Number of entries by which a tail may lag behind before it must resync.
const TAIL_CAPACITY: usize = 4096;

/// A [`FeedLog`] that is lost with the process: after a restart every feed has a new epoch.
pub struct MemoryLog {
    feeds: Mutex<HashMap<FeedId, MemoryFeed>>,
    tail: broadcast::Sender<Arc<Entry>>,
    retention: Retention,
}

struct MemoryFeed {
    end: Cursor,
    entries: VecDeque<Arc<Entry>>,
    /// The latest event of each object key, and when it was recorded.
    seen: HashMap<ObjectKey, (Timestamp, SeenEvent)>,
    seen_by_time: BTreeSet<(Timestamp, ObjectKey)>,
    /// Events from before this time may be missing from `seen`.
    seen_since: Timestamp,
    last_used: Timestamp,
}

impl MemoryLog {
    /// Creates an empty log.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self { feeds: Mutex::default(), tail: broadcast::channel(TAIL_CAPACITY).0, retention }
    }

    /// Deletes the feeds whose TTL has expired. To be called regularly.
    pub fn remove_idle_feeds(&self, now: Timestamp) {
        let oldest = subtract(now, self.retention.idle_ttl);
        let oldest_unused = subtract(now, self.retention.unused_ttl());
        self.lock_feeds()
            .retain(|_, feed| feed.last_used >= if feed.is_unused() { oldest_unused } else { oldest });
    }

    /// Reads from `feed`, which is created if it does not exist, and renews its TTL.
    fn read_feed<T>(&self, feed: &FeedId, read: impl FnOnce(&MemoryFeed) -> T) -> T {
        let now = Timestamp::now();
        let mut feeds = self.lock_feeds();
        let feed = feeds.entry(feed.clone()).or_insert_with(|| MemoryFeed::new(now));
        feed.last_used = now;
        read(feed)
    }

    fn lock_feeds(&self) -> MutexGuard<'_, HashMap<FeedId, MemoryFeed>> {
        self.feeds.lock().expect("no panic while the lock is held")
    }
}

impl MemoryFeed {
    fn new(now: Timestamp) -> Self {
        Self {
            end: Cursor::start(Epoch::random()),
            entries: VecDeque::new(),
            seen: HashMap::new(),
            seen_by_time: BTreeSet::new(),
            seen_since: now,
            last_used: now,
        }
    }

    fn is_unused(&self) -> bool {
        self.end.offset == 0
    }

    /// Returns why `event` is not to be appended, or `None` if it is.
    fn reject(&self, event: &FeedEvent, proof: Proof) -> Option<AppendOutcome> {
        match self.seen.get(&event.key).map(|(_, seen)| seen.compare(event)) {
            Some(Freshness::Duplicate) => Some(AppendOutcome::Duplicate),
            Some(Freshness::Stale) => Some(AppendOutcome::Stale),
            Some(Freshness::Newer) => None,
            None => {
                let would_be_recorded = event.event_time.is_some_and(|time| time >= self.seen_since);
                (proof == Proof::Event && !would_be_recorded).then_some(AppendOutcome::Unproven)
            }
        }
    }

    fn append(&mut self, event: FeedEvent, now: Timestamp, retention: &Retention) -> Arc<Entry> {
        self.record_seen(&event, now, retention);
        let cursor = Cursor { offset: self.end.offset + 1, tag: Tag::random(), ..self.end };
        let entry = Arc::new(Entry { cursor, previous_tag: self.end.tag, event });
        self.end = cursor;
        self.last_used = now;
        self.entries.push_back(entry.clone());
        if self.entries.len() > retention.max_entries {
            self.entries.pop_front();
        }
        entry
    }

    /// Records `event` and removes records that are too old or too many.
    fn record_seen(&mut self, event: &FeedEvent, now: Timestamp, retention: &Retention) {
        if let Some((recorded_at, _)) = self.seen.insert(event.key.clone(), (now, SeenEvent::of(event))) {
            self.seen_by_time.remove(&(recorded_at, event.key.clone()));
        }
        self.seen_by_time.insert((now, event.key.clone()));
        let oldest = subtract(now, retention.seen_ttl);
        while let Some((recorded_at, key)) = self.seen_by_time.first().cloned() {
            if recorded_at >= oldest && self.seen_by_time.len() <= retention.max_seen_keys {
                break;
            }
            self.seen_by_time.pop_first();
            self.seen.remove(&key);
            self.seen_since = self.seen_since.max(recorded_at);
        }
    }

    fn read_after(&self, after: Cursor, limit: usize) -> ReadResult {
        let Some(missed) = self.end.offset.checked_sub(after.offset) else {
            return ReadResult::Lost(self.end);
        };
        let missed = usize::try_from(missed).unwrap_or(usize::MAX);
        let Some(from) = self.entries.len().checked_sub(missed) else {
            return ReadResult::Lost(self.end);
        };
        let tag = self.entries.get(from).map_or(self.end.tag, |next| next.previous_tag);
        if after.epoch != self.end.epoch || after.tag != tag {
            return ReadResult::Lost(self.end);
        }
        ReadResult::Entries(self.entries.range(from..).take(limit).cloned().collect())
    }
}

#[async_trait]
impl FeedLog for MemoryLog {
    async fn append(
        &self,
        event: FeedEvent,
        proof: Proof,
        now: Timestamp,
    ) -> Result<AppendOutcome, LogError> {
        let mut feeds = self.lock_feeds();
        let feed = feeds.entry(event.feed().clone()).or_insert_with(|| MemoryFeed::new(now));
        if let Some(outcome) = feed.reject(&event, proof) {
            return Ok(outcome);
        }
        let entry = feed.append(event, now, &self.retention);
        let cursor = entry.cursor;
        // Sent under the lock, so that every tail receives the entries of a feed in order. It fails only if
        // there is no tail.
        let _ = self.tail.send(entry);
        Ok(AppendOutcome::Appended(cursor))
    }

    async fn read_after(&self, feed: &FeedId, after: Cursor, limit: usize) -> Result<ReadResult, LogError> {
        Ok(self.read_feed(feed, |feed| feed.read_after(after, limit)))
    }

    async fn read_end(&self, feed: &FeedId) -> Result<Cursor, LogError> {
        Ok(self.read_feed(feed, |feed| feed.end))
    }

    async fn renew_ttl(&self, feeds: Vec<FeedId>) -> Result<(), LogError> {
        let now = Timestamp::now();
        let mut existing = self.lock_feeds();
        for feed in &feeds {
            if let Some(feed) = existing.get_mut(feed) {
                feed.last_used = now;
            }
        }
        Ok(())
    }

    async fn find_latest(
        &self,
        key: &ObjectKey,
        kind: Option<EventKind>,
    ) -> Result<Option<Arc<Entry>>, LogError> {
        let feeds = self.lock_feeds();
        let entries = feeds.get(key.feed()).map(|feed| &feed.entries);
        Ok(entries.and_then(|entries| entries.iter().rev().find(|entry| entry.is_about(key, kind))).cloned())
    }

    async fn tail(
        &self,
        _watched: watch::Receiver<Shards>,
        tx: mpsc::Sender<TailItem>,
    ) -> Result<(), LogError> {
        let mut appended = self.tail.subscribe();
        // Entries that were appended before the subscription were not sent.
        let mut next = TailItem::Resync(Shards::ALL);
        while tx.send(next).await.is_ok() {
            next = match appended.recv().await {
                Ok(entry) => TailItem::Appended(entry),
                Err(broadcast::error::RecvError::Lagged(_)) => TailItem::Resync(Shards::ALL),
                Err(broadcast::error::RecvError::Closed) => break,
            };
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), LogError> {
        Ok(())
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").field("retention", &self.retention).finish_non_exhaustive()
    }
}

/// Returns `now - span`, or the earliest time if that is out of range.
fn subtract(now: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| now.checked_sub(span).ok()).unwrap_or(Timestamp::MIN)
}
