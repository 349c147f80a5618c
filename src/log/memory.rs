//! The log of one process, in its memory.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{broadcast, mpsc, watch};

use super::{Entry, FeedLog, LogError, Outcome, Proof, Read, Retention, Seen, Shards, Tail, Verdict, judge};
use crate::feed::{Cursor, Epoch, FeedEvent, FeedId, Kind, ObjectKey, Tag};

/// Appends that a tail may lag behind before it is told to read anew.
const TAIL_BUFFER: usize = 4096;

/// A [`FeedLog`] that dies with the process: after a restart every feed begins a new epoch.
pub struct MemoryLog {
    feeds: Mutex<HashMap<FeedId, Feed>>,
    tail: broadcast::Sender<Arc<Entry>>,
    retention: Retention,
}

struct Feed {
    end: Cursor,
    entries: VecDeque<Arc<Entry>>,
    seen: HashMap<ObjectKey, (Timestamp, Seen)>,
    seen_by_time: BTreeSet<(Timestamp, ObjectKey)>,
    /// What happened before this may have been forgotten.
    remembers_since: Timestamp,
    touched: Timestamp,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self { feeds: Mutex::default(), tail: broadcast::channel(TAIL_BUFFER).0, retention }
    }

    /// Forgets the feeds that nobody used for as long as the retention says.
    pub fn forget_idle(&self, now: Timestamp) {
        let oldest = before(now, self.retention.idle);
        let oldest_unused = before(now, self.retention.idle_unused());
        self.feeds().retain(|_, feed| feed.touched >= if feed.is_unused() { oldest_unused } else { oldest });
    }

    /// Asks the log of `feed`, which counts as using it.
    fn ask<T>(&self, feed: &FeedId, question: impl FnOnce(&Feed) -> T) -> T {
        let now = Timestamp::now();
        let mut feeds = self.feeds();
        let feed = feeds.entry(feed.clone()).or_insert_with(|| Feed::new(now));
        feed.touched = now;
        question(feed)
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<FeedId, Feed>> {
        self.feeds.lock().expect("no panic while the log is held")
    }
}

impl Feed {
    fn new(now: Timestamp) -> Self {
        Self {
            end: Cursor::start(Epoch::random()),
            entries: VecDeque::new(),
            seen: HashMap::new(),
            seen_by_time: BTreeSet::new(),
            remembers_since: now,
            touched: now,
        }
    }

    fn is_unused(&self) -> bool {
        self.end.offset == 0
    }

    fn judge(&self, event: &FeedEvent, proof: Proof) -> Option<Outcome> {
        match self.seen.get(&event.key).map(|(_, seen)| judge(seen, event)) {
            Some(Verdict::Duplicate) => Some(Outcome::Duplicate),
            Some(Verdict::Stale) => Some(Outcome::Stale),
            Some(Verdict::News) => None,
            None => {
                let remembered = event.event_time.is_some_and(|time| time >= self.remembers_since);
                (proof == Proof::Event && !remembered).then_some(Outcome::Unproven)
            }
        }
    }

    fn append(&mut self, event: FeedEvent, now: Timestamp, retention: &Retention) -> Arc<Entry> {
        self.remember(&event, now, retention);
        let cursor = Cursor { offset: self.end.offset + 1, tag: Tag::random(), ..self.end };
        let entry = Arc::new(Entry { cursor, previous: self.end.tag, event });
        self.end = cursor;
        self.touched = now;
        self.entries.push_back(entry.clone());
        if self.entries.len() > retention.entries {
            self.entries.pop_front();
        }
        entry
    }

    fn remember(&mut self, event: &FeedEvent, now: Timestamp, retention: &Retention) {
        if let Some((then, _)) = self.seen.insert(event.key.clone(), (now, Seen::of(event))) {
            self.seen_by_time.remove(&(then, event.key.clone()));
        }
        self.seen_by_time.insert((now, event.key.clone()));
        let oldest = before(now, retention.seen_for);
        while let Some((then, key)) = self.seen_by_time.first().cloned() {
            if then >= oldest && self.seen_by_time.len() <= retention.seen {
                break;
            }
            self.seen_by_time.pop_first();
            self.seen.remove(&key);
            self.remembers_since = self.remembers_since.max(then);
        }
    }

    fn read_after(&self, after: Cursor, limit: usize) -> Read {
        let Some(missed) = self.end.offset.checked_sub(after.offset) else {
            return Read::Lost(self.end);
        };
        let missed = usize::try_from(missed).unwrap_or(usize::MAX);
        let Some(from) = self.entries.len().checked_sub(missed) else {
            return Read::Lost(self.end);
        };
        let tag = self.entries.get(from).map_or(self.end.tag, |next| next.previous);
        if after.epoch != self.end.epoch || after.tag != tag {
            return Read::Lost(self.end);
        }
        Read::Entries(self.entries.range(from..).take(limit).cloned().collect())
    }
}

#[async_trait]
impl FeedLog for MemoryLog {
    async fn append(&self, event: FeedEvent, proof: Proof, now: Timestamp) -> Result<Outcome, LogError> {
        let mut feeds = self.feeds();
        let feed = feeds.entry(event.feed().clone()).or_insert_with(|| Feed::new(now));
        if let Some(outcome) = feed.judge(&event, proof) {
            return Ok(outcome);
        }
        let entry = feed.append(event, now, &self.retention);
        let cursor = entry.cursor;
        // Told under the lock, so that every tail hears the entries of a feed in their order. That
        // nobody listens is no failure.
        let _ = self.tail.send(entry);
        Ok(Outcome::Appended(cursor))
    }

    async fn read_after(&self, feed: &FeedId, after: Cursor, limit: usize) -> Result<Read, LogError> {
        Ok(self.ask(feed, |feed| feed.read_after(after, limit)))
    }

    async fn end(&self, feed: &FeedId) -> Result<Cursor, LogError> {
        Ok(self.ask(feed, |feed| feed.end))
    }

    async fn renew(&self, watched: Vec<FeedId>) -> Result<(), LogError> {
        let now = Timestamp::now();
        let mut feeds = self.feeds();
        for feed in &watched {
            if let Some(feed) = feeds.get_mut(feed) {
                feed.touched = now;
            }
        }
        Ok(())
    }

    async fn last_of(&self, key: &ObjectKey, kind: Option<Kind>) -> Result<Option<Arc<Entry>>, LogError> {
        let feeds = self.feeds();
        let entries = feeds.get(key.feed()).map(|feed| &feed.entries);
        Ok(entries.and_then(|entries| entries.iter().rev().find(|entry| entry.tells_of(key, kind))).cloned())
    }

    async fn tail(
        &self,
        _watched: watch::Receiver<Shards>,
        told: mpsc::Sender<Tail>,
    ) -> Result<(), LogError> {
        let mut appended = self.tail.subscribe();
        // What was appended before nobody listened has gone by.
        let mut next = Tail::Resync(Shards(u64::MAX));
        while told.send(next).await.is_ok() {
            next = match appended.recv().await {
                Ok(entry) => Tail::Appended(entry),
                Err(broadcast::error::RecvError::Lagged(_)) => Tail::Resync(Shards(u64::MAX)),
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

fn before(now: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| now.checked_sub(span).ok()).unwrap_or(Timestamp::MIN)
}
