//! Fan-out within one process: delivers the entries of the feed log to the local subscribers of each feed.
//!
//! The hub queues nothing for a subscriber. Each subscriber has a *position*, the cursor of the last entry
//! that it accepted, and every delivery round offers it the entries that follow. A subscriber whose buffer is
//! full keeps its position and receives the same entries later, from the window or from the log.
//!
//! ```text
//!      FeedLog::tail                              log reads, subscribe, resume
//!            │ entries                                         │
//!            ▼                                                 │
//!   window: newest 512 entries of a feed                       │
//!            │                                                 │
//!            └────────────► dirty feeds ◄──────────────────────┘
//!                                │
//!                                ▼
//!      round: immediately, or 10 ms after the start of the last one
//!                                │  yields to the connection tasks every 64 entries
//!                                ▼
//!      visit each subscriber of each dirty feed: up to 32 entries after its position
//!                                │
//!     ┌─────────────┬────────────┼──────────────┬────────────────────┐
//!  up to date   more left   buffer full     not in window       disconnected
//!     │             │            │              │                    │
//!   done       next round   retry in 10 ms,  read the log for     remove
//!              at once      abort after      this subscriber
//!                           `stall_timeout`
//! ```
//!
//! # Invariants
//!
//! - **A position only moves past accepted entries**, and each accepted entry names the one before it
//!   ([`Entry::follows`](crate::log::Entry::follows)). Where the log can't prove the way from a position to
//!   its end, the subscriber is notified of the loss and continues at the end; nothing is skipped silently.
//! - **The watch comes before the log read.** A subscriber calls [`Hub::watch`], reads the log, sends its
//!   join response and subscribes from the position of that response. The tail covers only shards with a
//!   watched feed: an entry appended between a read and a later watch could be in neither. The other way
//!   round it is in the read, in the tail or in both, and the position removes the duplicate.
//! - **A stale read changes nothing.** A feed has at most one read of its own in flight and one for each
//!   subscriber. Each result carries the generation of the feed state and the id of the read, and is dropped
//!   if either has changed.
//! - **No lock is held across an `.await`**, and `feeds` is locked before `dirty`.

mod feed;
mod shards;
mod subscriber;
mod tick;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::{JoinSet, yield_now},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    feed::{Cursor, FeedId},
    log::{FeedLog, LogError, ReadResult, TailItem},
};
use feed::{Backlog, FEED_READ_LIMIT, FeedState, FlushResult};
use shards::WatchedShards;
use tick::TickScheduler;

pub use subscriber::{DeliveryError, Subscriber};

/// Entries that a round delivers before it yields to the connection tasks.
// A round over 1,000 subscribers without yielding keeps a copy of the packet for each of them at once, makes
// the first connection wait for the last, and evicts what the connections need to write from the CPU cache.
// With a yield every 64 entries the memory of one batch serves the next.
const YIELD_BUDGET: u64 = 64;
/// Entries per log read for a single subscriber.
// Lower than for a feed: many subscribers may be behind, and each holds what was read for it until it has
// accepted it.
const SUBSCRIBER_READ_LIMIT: usize = 64;
/// Log reads in flight at the same time, over all feeds.
const MAX_CONCURRENT_READS: usize = 64;
/// Mean delay before a failed log read is retried.
const READ_RETRY_DELAY: Duration = Duration::from_millis(500);
/// Tail items that are buffered while the hub is busy.
const TAIL_CAPACITY: usize = 1024;

/// The local subscribers of every feed that is watched in this process.
pub struct Hub {
    log: Arc<dyn FeedLog>,
    feeds: Mutex<HashMap<FeedId, FeedState>>,
    /// Feeds that the next round visits.
    dirty: Mutex<HashSet<FeedId>>,
    wake: Notify,
    shards: WatchedShards,
    next_id: AtomicU64,
    read_permits: Arc<Semaphore>,
    stall_timeout: Duration,
}

/// Keeps a feed watched: from [`Hub::watch`] on the hub misses no entry of it. Dropping it ends the watch.
#[derive(Debug)]
pub struct WatchGuard {
    hub: Arc<Hub>,
    feed: FeedId,
    id: u64,
}

/// A subscription to a feed; dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    guard: WatchGuard,
}

/// What a read of the log is for.
enum ReadPurpose {
    Feed,
    Subscriber { id: u64, read_id: u64 },
}

struct CompletedRead {
    feed: FeedId,
    /// Generation of the feed state that requested the read. The feed may have been dropped and watched again
    /// in the meantime.
    generation: u64,
    purpose: ReadPurpose,
    result: Result<ReadResult, LogError>,
}

impl Hub {
    /// Creates a hub over `log`. It aborts subscribers that accept nothing for `stall_timeout`.
    #[must_use]
    pub fn new(log: Arc<dyn FeedLog>, stall_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            log,
            feeds: Mutex::default(),
            dirty: Mutex::default(),
            wake: Notify::new(),
            shards: WatchedShards::default(),
            next_id: AtomicU64::new(1),
            read_permits: Arc::new(Semaphore::new(MAX_CONCURRENT_READS)),
            stall_timeout,
        })
    }

    /// The log that the hub delivers from.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn FeedLog> {
        &self.log
    }

    /// Starts to follow `feed`. Must be called **before** the subscriber reads the log, so that no entry is
    /// lost between the read and [`WatchGuard::subscribe`].
    #[must_use]
    pub fn watch(self: &Arc<Self>, feed: &FeedId) -> WatchGuard {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut feeds = self.lock_feeds();
        let state = feeds.entry(feed.clone()).or_insert_with(|| {
            self.shards.add(feed);
            FeedState::new(id)
        });
        state.add_pending(id);
        drop(feeds);
        WatchGuard { hub: self.clone(), feed: feed.clone(), id }
    }

    /// Number of local subscribers of `feed`.
    #[must_use]
    pub fn subscriber_count(&self, feed: &FeedId) -> usize {
        self.lock_feeds().get(feed).map_or(0, FeedState::subscriber_count)
    }

    /// Number of local subscribers of each feed that has any.
    #[must_use]
    pub fn subscriber_counts(&self) -> Vec<(FeedId, usize)> {
        let feeds = self.lock_feeds();
        let counts = feeds.iter().map(|(feed, state)| (feed.clone(), state.subscriber_count()));
        counts.filter(|(_, subscribers)| *subscribers > 0).collect()
    }

    /// Delivers until `stop` is cancelled, or until the log's tail ends.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let (tail_tx, mut tail) = mpsc::channel(TAIL_CAPACITY);
        let log = self.log.clone();
        let watched = self.shards.subscribe();
        let mut tail_task = JoinSet::new();
        tail_task.spawn(async move { log.tail(watched, tail_tx).await });
        let mut reads = JoinSet::new();
        let mut ticks = TickScheduler::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(item) = tail.recv() => {
                    self.on_tail_item(item);
                    while let Ok(item) = tail.try_recv() {
                        self.on_tail_item(item);
                    }
                    ticks.schedule();
                }
                Some(read) = reads.join_next() => {
                    match read {
                        Ok(read) => self.on_read_completed(read),
                        Err(error) => std::panic::resume_unwind(error.into_panic()),
                    }
                    ticks.schedule();
                }
                () = self.wake.notified() => ticks.schedule(),
                () = ticks.wait_until_due() => {
                    ticks.start_round();
                    match self.flush_dirty_feeds(&mut reads).await {
                        Backlog::Empty => {}
                        Backlog::Blocked => ticks.schedule_retry(),
                        Backlog::Ready => ticks.schedule_now(),
                    }
                }
                Some(result) = tail_task.join_next() => {
                    warn!(?result, "the tail of the feed log ended");
                    return;
                }
            }
        }
    }

    fn on_tail_item(&self, item: TailItem) {
        match item {
            TailItem::Appended(entry) => {
                if let Some(state) = self.lock_feeds().get_mut(entry.feed()) {
                    let feed = entry.feed().clone();
                    state.on_entry(entry);
                    self.lock_dirty().insert(feed);
                }
            }
            TailItem::Resync(shards) => {
                for (feed, state) in self.lock_feeds().iter_mut().filter(|(feed, _)| shards.contains(feed)) {
                    state.request_read();
                    self.lock_dirty().insert(feed.clone());
                }
            }
        }
    }

    /// Runs one delivery round: visits every subscriber of the dirty feeds and starts the log reads that they
    /// need.
    async fn flush_dirty_feeds(&self, reads: &mut JoinSet<CompletedRead>) -> Backlog {
        let dirty: Vec<_> = self.lock_dirty().drain().collect();
        let (mut backlog, mut budget) = (Backlog::Empty, YIELD_BUDGET);
        for feed in dirty {
            let mut next_subscriber = Some(0);
            while let Some(from) = next_subscriber {
                let left;
                (left, next_subscriber) = self.flush_feed(&feed, from, &mut budget, reads);
                backlog = backlog.max(left);
                if budget == 0 {
                    yield_now().await;
                    budget = YIELD_BUDGET;
                }
            }
        }
        backlog
    }

    /// Visits the subscribers of `feed` from the id `from` on, until the budget is used up. Returns what is
    /// left and the subscriber to continue with.
    fn flush_feed(
        &self,
        feed: &FeedId,
        from: u64,
        budget: &mut u64,
        reads: &mut JoinSet<CompletedRead>,
    ) -> (Backlog, Option<u64>) {
        let mut feeds = self.lock_feeds();
        let Some(state) = feeds.get_mut(feed) else { return (Backlog::Empty, None) };
        let FlushResult { feed_read, subscriber_reads, backlog, next_subscriber } =
            state.flush_subscribers(feed, self.stall_timeout, from, budget);
        if backlog != Backlog::Empty {
            self.lock_dirty().insert(feed.clone());
        }
        let requester = || (feed.clone(), state.generation);
        if let Some(after) = feed_read {
            self.spawn_read(reads, requester(), ReadPurpose::Feed, after);
        }
        for read in subscriber_reads {
            let purpose = ReadPurpose::Subscriber { id: read.subscriber, read_id: read.read_id };
            self.spawn_read(reads, requester(), purpose, read.after);
        }
        (backlog, next_subscriber)
    }

    fn spawn_read(
        &self,
        reads: &mut JoinSet<CompletedRead>,
        (feed, generation): (FeedId, u64),
        purpose: ReadPurpose,
        after: Cursor,
    ) {
        let (log, permits) = (self.log.clone(), self.read_permits.clone());
        let limit = match purpose {
            ReadPurpose::Feed => FEED_READ_LIMIT,
            ReadPurpose::Subscriber { .. } => SUBSCRIBER_READ_LIMIT,
        };
        reads.spawn(async move {
            let permit = permits.acquire().await;
            let result = log.read_after(&feed, after, limit).await;
            drop(permit);
            if result.is_err() {
                // Jitter: reads that failed together must not be retried together.
                let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
                tokio::time::sleep(READ_RETRY_DELAY.mul_f64(0.5 + share)).await;
            }
            CompletedRead { feed, generation, purpose, result }
        });
    }

    fn on_read_completed(&self, CompletedRead { feed, generation, purpose, result }: CompletedRead) {
        if let Some(state) = self.lock_feeds().get_mut(&feed).filter(|state| state.generation == generation) {
            match purpose {
                ReadPurpose::Feed => state.on_feed_read(result),
                ReadPurpose::Subscriber { id, read_id } => state.on_subscriber_read(id, read_id, result),
            }
            self.lock_dirty().insert(feed);
        }
    }

    /// Has the next round visit `feed`.
    fn mark_dirty(&self, feed: &FeedId) {
        self.lock_dirty().insert(feed.clone());
        self.wake.notify_one();
    }

    fn lock_feeds(&self) -> MutexGuard<'_, HashMap<FeedId, FeedState>> {
        self.feeds.lock().expect("no panic while held")
    }

    fn lock_dirty(&self) -> MutexGuard<'_, HashSet<FeedId>> {
        self.dirty.lock().expect("no panic while held")
    }
}

impl WatchGuard {
    /// Subscribes: the hub delivers every entry after `from` to `subscriber`.
    #[must_use]
    pub fn subscribe(self, from: Cursor, subscriber: Arc<dyn Subscriber>) -> Subscription {
        if let Some(state) = self.hub.lock_feeds().get_mut(&self.feed) {
            state.subscribe(self.id, from, subscriber);
        }
        self.hub.mark_dirty(&self.feed);
        Subscription { guard: self }
    }
}

impl Subscription {
    /// The feed that is subscribed to.
    #[must_use]
    pub fn feed(&self) -> &FeedId {
        &self.guard.feed
    }

    /// Stops delivery and keeps the position.
    pub fn pause(&self) {
        self.set_paused(true);
    }

    /// Continues delivery from the position at which [`Subscription::pause`] stopped it.
    pub fn resume(&self) {
        self.set_paused(false);
        self.guard.hub.mark_dirty(&self.guard.feed);
    }

    fn set_paused(&self, paused: bool) {
        let WatchGuard { hub, feed, id } = &self.guard;
        if let Some(state) = hub.lock_feeds().get_mut(feed) {
            state.set_paused(*id, paused);
        }
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        let mut feeds = self.hub.lock_feeds();
        if let Some(state) = feeds.get_mut(&self.feed) {
            state.remove(self.id);
            if state.is_idle() {
                feeds.remove(&self.feed);
                self.hub.shards.remove(&self.feed);
            }
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("log", &self.log).finish_non_exhaustive()
    }
}
