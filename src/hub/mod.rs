//! One process's fan-out: from the feed log to the local subscribers of each feed.
//!
//! Every subscriber has a position in its feed's log and is told what follows it, in order, for as long
//! as it takes more. One that is full waits, and costs nobody else anything; what it has not taken is
//! read again from the window or the log. So nothing has to be queued for anybody here.

mod feed_watch;
mod pace;
mod place;
mod shards;

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
    log::{Entry, FeedLog, LogError, Read, Tail},
};
use feed_watch::{FeedWatch, Untold, Wants};
use pace::Pace;
use shards::WatchedShards;

/// Entries that are told before those who were told them may write: what one was told is then still in the
/// processor's cache, and memory that one has used serves the next.
const TURN: u64 = 64;
/// Entries that one subscriber is told at a time. They wait in its connection's write buffer, which keeps
/// the size that it once had: larger ones, of all connections together, would not fit in the cache.
const VISIT: usize = 32;
/// Entries that one read of the log brings.
const READ_LIMIT: usize = 256;
/// Entries that one read for a single subscriber brings: there may be many that are behind, and each holds
/// what was read for it until it takes it.
const READ_LIMIT_FOR_ONE: usize = 64;
/// Reads of the log under way at once.
const READS_AT_ONCE: usize = 64;
/// A read that the log refused is tried again after about this.
const READ_RETRY: Duration = Duration::from_millis(500);
/// Tail items that may wait while the hub is busy.
const TAIL_BUFFER: usize = 1024;

/// Takes what a feed tells. Calls must not block.
pub trait Subscriber: Send + Sync + 'static {
    /// Takes the next entries, one after the other, and moves its `position` past each that it took.
    ///
    /// # Errors
    /// When there is no room for one now, or nobody any more. Those from it on count as not taken.
    fn deliver(
        &self,
        entries: &mut dyn Iterator<Item = &Entry>,
        position: &mut Cursor,
    ) -> Result<(), Refused>;

    /// Takes word that the log was lost and now ends at `end`: what is between is not told.
    ///
    /// # Errors
    /// As for [`Subscriber::deliver`].
    fn lost(&self, feed: &FeedId, end: Cursor) -> Result<(), Refused>;

    /// Ends the connection of one that has taken nothing for too long.
    fn cut(&self);
}

/// Why a subscriber took nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its buffer is full.
    Full,
    /// It is gone.
    Gone,
}

/// The local subscribers of every feed that is watched here.
pub struct Hub {
    log: Arc<dyn FeedLog>,
    feeds: Mutex<HashMap<FeedId, FeedWatch>>,
    /// Feeds with something to do.
    dirty: Mutex<HashSet<FeedId>>,
    wake: Notify,
    shards: WatchedShards,
    next_id: AtomicU64,
    /// Places for reads under way.
    reads: Arc<Semaphore>,
    /// One that is full for longer is cut.
    patience: Duration,
}

/// Word that somebody is about to subscribe: from here on the hub misses nothing of the feed.
#[derive(Debug)]
pub struct Watching {
    hub: Arc<Hub>,
    feed: FeedId,
    id: u64,
}

/// A place in the fan-out; dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    place: Watching,
}

/// What a read of the log was for.
enum For {
    Feed,
    /// One subscriber, and the number of the read.
    Subscriber(u64, u64),
}

struct Answer {
    feed: FeedId,
    /// The watch that asked: the feed may have been left, and be watched anew, in the meantime.
    generation: u64,
    purpose: For,
    read: Result<Read, LogError>,
}

impl Hub {
    /// A hub over `log`.
    #[must_use]
    pub fn new(log: Arc<dyn FeedLog>, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            log,
            feeds: Mutex::default(),
            dirty: Mutex::default(),
            wake: Notify::new(),
            shards: WatchedShards::default(),
            next_id: AtomicU64::new(1),
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            patience,
        })
    }

    /// The log that is told from.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn FeedLog> {
        &self.log
    }

    /// Begins to follow `feed`. To be called **before** the subscriber reads the log, so that nothing
    /// falls between the reading and the subscribing.
    #[must_use]
    pub fn watch(self: &Arc<Self>, feed: &FeedId) -> Watching {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut feeds = self.feeds();
        let watch = feeds.entry(feed.clone()).or_insert_with(|| {
            self.shards.add(feed);
            FeedWatch::new(id)
        });
        watch.hold(id);
        drop(feeds);
        Watching { hub: self.clone(), feed: feed.clone(), id }
    }

    /// How many subscribers `feed` has here.
    #[must_use]
    pub fn watchers(&self, feed: &FeedId) -> usize {
        self.feeds().get(feed).map_or(0, FeedWatch::subscribers)
    }

    /// How many subscribers each feed has here, of those that have any.
    #[must_use]
    pub fn watched(&self) -> Vec<(FeedId, usize)> {
        let feeds = self.feeds();
        let counts = feeds.iter().map(|(feed, watch)| (feed.clone(), watch.subscribers()));
        counts.filter(|(_, subscribers)| *subscribers > 0).collect()
    }

    /// Delivers until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let (told, mut tail) = mpsc::channel(TAIL_BUFFER);
        let log = self.log.clone();
        let watched = self.shards.subscribe();
        let mut tailing = JoinSet::new();
        tailing.spawn(async move { log.tail(watched, told).await });
        let mut reads = JoinSet::new();
        let mut pace = Pace::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(item) = tail.recv() => {
                    self.hear(item);
                    while let Ok(item) = tail.try_recv() {
                        self.hear(item);
                    }
                    pace.wake();
                }
                Some(answer) = reads.join_next() => {
                    match answer {
                        Ok(answer) => self.answered(answer),
                        Err(error) => std::panic::resume_unwind(error.into_panic()),
                    }
                    pace.wake();
                }
                () = self.wake.notified() => pace.wake(),
                () = pace.due() => {
                    pace.begin();
                    match self.flush(&mut reads).await {
                        Untold::Nothing => {}
                        Untold::NoRoom => pace.try_again(),
                        Untold::More => pace.go_on(),
                    }
                }
                Some(ended) = tailing.join_next() => {
                    warn!(?ended, "the tail of the log ended");
                    return;
                }
            }
        }
    }

    /// Notes what the tail told.
    fn hear(&self, item: Tail) {
        match item {
            Tail::Appended(entry) => {
                if let Some(watch) = self.feeds().get_mut(entry.feed()) {
                    let feed = entry.feed().clone();
                    watch.hear(entry);
                    self.dirty().insert(feed);
                }
            }
            Tail::Resync(shards) => {
                for (feed, watch) in self.feeds().iter_mut().filter(|(feed, _)| shards.contain(feed)) {
                    watch.missed();
                    self.dirty().insert(feed.clone());
                }
            }
        }
    }

    /// Tells every subscriber what it can take at a time; starts the reads of the log that are needed.
    async fn flush(&self, reads: &mut JoinSet<Answer>) -> Untold {
        let dirty: Vec<_> = self.dirty().drain().collect();
        let (mut untold, mut turn) = (Untold::Nothing, TURN);
        for feed in dirty {
            let mut next = Some(0);
            while let Some(from) = next {
                let some;
                (some, next) = self.flush_some(&feed, from, &mut turn, reads);
                untold = untold.max(some);
                if turn == 0 {
                    yield_now().await;
                    turn = TURN;
                }
            }
        }
        untold
    }

    /// Goes on in `feed` with the subscriber `from`, until the `turn` is over. Says whose turn is next, too.
    fn flush_some(
        &self,
        feed: &FeedId,
        from: u64,
        turn: &mut u64,
        reads: &mut JoinSet<Answer>,
    ) -> (Untold, Option<u64>) {
        let mut feeds = self.feeds();
        let Some(watch) = feeds.get_mut(feed) else { return (Untold::Nothing, None) };
        let Wants { read_feed, read_for, untold, next } = watch.flush(feed, self.patience, from, turn);
        if untold != Untold::Nothing {
            self.dirty().insert(feed.clone());
        }
        let purposes = read_for.into_iter().map(|(id, number, after)| (For::Subscriber(id, number), after));
        for (purpose, after) in read_feed.map(|after| (For::Feed, after)).into_iter().chain(purposes) {
            self.read(reads, (feed.clone(), watch.generation), purpose, after);
        }
        (untold, next)
    }

    fn read(
        &self,
        reads: &mut JoinSet<Answer>,
        (feed, generation): (FeedId, u64),
        purpose: For,
        after: Cursor,
    ) {
        let (log, places) = (self.log.clone(), self.reads.clone());
        let limit = match purpose {
            For::Feed => READ_LIMIT,
            For::Subscriber(..) => READ_LIMIT_FOR_ONE,
        };
        reads.spawn(async move {
            let place = places.acquire().await;
            let read = log.read_after(&feed, after, limit).await;
            drop(place);
            if read.is_err() {
                // At different moments: all that were refused together would come back together.
                let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
                tokio::time::sleep(READ_RETRY.mul_f64(0.5 + share)).await;
            }
            Answer { feed, generation, purpose, read }
        });
    }

    fn answered(&self, Answer { feed, generation, purpose, read }: Answer) {
        if let Some(watch) = self.feeds().get_mut(&feed).filter(|watch| watch.generation == generation) {
            match purpose {
                For::Feed => watch.read_answered(read),
                For::Subscriber(id, number) => watch.read_answered_for(id, number, read),
            }
            self.dirty().insert(feed);
        }
    }

    /// Has what there is to do for `feed` done.
    fn look_at(&self, feed: &FeedId) {
        self.dirty().insert(feed.clone());
        self.wake.notify_one();
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<FeedId, FeedWatch>> {
        self.feeds.lock().expect("no panic while held")
    }

    fn dirty(&self) -> MutexGuard<'_, HashSet<FeedId>> {
        self.dirty.lock().expect("no panic while held")
    }
}

impl Watching {
    /// Subscribes: `subscriber` is told everything after `from`.
    #[must_use]
    pub fn subscribe(self, from: Cursor, subscriber: Arc<dyn Subscriber>) -> Subscription {
        if let Some(watch) = self.hub.feeds().get_mut(&self.feed) {
            watch.subscribe(self.id, from, subscriber);
        }
        self.hub.look_at(&self.feed);
        Subscription { place: self }
    }
}

impl Subscription {
    /// Which feed it is in.
    #[must_use]
    pub fn feed(&self) -> &FeedId {
        &self.place.feed
    }

    /// Tells nothing more for now; the position is kept.
    pub fn pause(&self) {
        self.set_paused(true);
    }

    /// Goes on where [`Subscription::pause`] stopped.
    pub fn resume(&self) {
        self.set_paused(false);
        self.place.hub.look_at(&self.place.feed);
    }

    fn set_paused(&self, paused: bool) {
        let Watching { hub, feed, id } = &self.place;
        if let Some(watch) = hub.feeds().get_mut(feed) {
            watch.pause(*id, paused);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut feeds = self.hub.feeds();
        if let Some(watch) = feeds.get_mut(&self.feed) {
            watch.leave(self.id);
            if watch.is_idle() {
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
