//! The fan-out, mostly with the log in memory, and with subscribers whose room the tests decide.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::HashSet,
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use photoshare_server::{
    feed::{Cursor, Epoch, FeedEvent, FeedId, KeyPrefix, Kind, ObjectKey, Photo, Tag},
    hub::{Hub, Refused, Subscriber, Subscription},
    log::{Entry, FeedLog, LogError, MemoryLog, Outcome, Proof, Read, Retention, Shards, Tail},
};
use support::{RETENTION, redis_server::RedisServer};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

fn summer() -> FeedId {
    FeedId::parse("summer").unwrap()
}

fn photo(number: usize) -> FeedEvent {
    FeedEvent {
        kind: Kind::Uploaded,
        key: ObjectKey::build(&KeyPrefix::default(), &summer(), &format!("{number}.jpg")).unwrap(),
        event_name: "ObjectCreated:Put".into(),
        event_time: None,
        sequencer: None,
        photo: Photo::default(),
    }
}

async fn append(log: &impl Deref<Target: FeedLog>, number: usize) -> Cursor {
    match log.append(photo(number), Proof::Bucket, Timestamp::now()).await.unwrap() {
        Outcome::Appended(cursor) => cursor,
        other => panic!("{other:?}"),
    }
}

/// Takes as much as it has room for.
#[derive(Default)]
struct Watcher {
    took: Mutex<Vec<u64>>,
    room: AtomicUsize,
    lost: Mutex<Vec<Cursor>>,
    cut: AtomicBool,
    told: Notify,
}

impl Watcher {
    fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self { room: AtomicUsize::new(room), ..Self::default() })
    }

    fn took(&self) -> Vec<u64> {
        self.took.lock().unwrap().clone()
    }

    async fn until(&self, done: impl Fn(&Self) -> bool) {
        loop {
            let told = self.told.notified();
            if done(self) {
                return;
            }
            // Time stands still while there is work, so this only ends what would wait for ever.
            tokio::time::timeout(Duration::from_mins(5), told).await.expect("to be told");
        }
    }
}

impl Subscriber for Watcher {
    fn deliver(
        &self,
        entries: &mut dyn Iterator<Item = &Entry>,
        position: &mut Cursor,
    ) -> Result<(), Refused> {
        for entry in entries {
            let less = |room: usize| room.checked_sub(1);
            self.room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).map_err(|_| Refused::Full)?;
            self.took.lock().unwrap().push(entry.cursor.offset);
            *position = entry.cursor;
            self.told.notify_one();
        }
        Ok(())
    }

    fn lost(&self, _: &FeedId, end: Cursor) -> Result<(), Refused> {
        self.lost.lock().unwrap().push(end);
        self.told.notify_one();
        Ok(())
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.told.notify_one();
    }
}

/// Joins as connections do: watch, read, subscribe from where the answer ends.
async fn join(hub: &Arc<Hub>, from: Option<Cursor>, watcher: &Arc<Watcher>) -> Subscription {
    let watching = hub.watch(&summer());
    let position = match from {
        Some(cursor) => cursor,
        None => hub.log().end(&summer()).await.unwrap(),
    };
    watching.subscribe(position, watcher.clone())
}

fn begin(retention: Retention) -> (Arc<MemoryLog>, Arc<Hub>, CancellationToken) {
    let log = Arc::new(MemoryLog::new(retention));
    let (hub, stop) = begin_over(log.clone());
    (log, hub, stop)
}

fn begin_over(log: Arc<dyn FeedLog>) -> (Arc<Hub>, CancellationToken) {
    let hub = Hub::new(log, PATIENCE);
    let stop = CancellationToken::new();
    tokio::spawn(hub.clone().run(stop.clone()));
    (hub, stop)
}

/// A log in memory that may refuse to be read, and takes its time when it is.
#[derive(Debug)]
struct Moody {
    log: MemoryLog,
    refuses: AtomicBool,
    refused: Mutex<Vec<Instant>>,
    reading: AtomicUsize,
    most_reading: AtomicUsize,
}

impl Moody {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            log: MemoryLog::new(RETENTION),
            refuses: AtomicBool::new(false),
            refused: Mutex::default(),
            reading: AtomicUsize::new(0),
            most_reading: AtomicUsize::new(0),
        })
    }

    async fn until_refused(&self, times: usize) {
        let refused = async {
            while self.refused.lock().unwrap().len() < times {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(5), refused).await.expect("to be asked");
    }
}

#[async_trait]
impl FeedLog for Moody {
    async fn append(&self, event: FeedEvent, proof: Proof, now: Timestamp) -> Result<Outcome, LogError> {
        self.log.append(event, proof, now).await
    }

    async fn read_after(&self, feed: &FeedId, after: Cursor, limit: usize) -> Result<Read, LogError> {
        let reading = self.reading.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_reading.fetch_max(reading, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.reading.fetch_sub(1, Ordering::SeqCst);
        if self.refuses.load(Ordering::SeqCst) {
            self.refused.lock().unwrap().push(Instant::now());
            return Err(LogError("not now".into()));
        }
        self.log.read_after(feed, after, limit).await
    }

    async fn end(&self, feed: &FeedId) -> Result<Cursor, LogError> {
        self.log.end(feed).await
    }

    async fn renew(&self, watched: Vec<FeedId>) -> Result<(), LogError> {
        self.log.renew(watched).await
    }

    async fn last_of(&self, key: &ObjectKey, kind: Option<Kind>) -> Result<Option<Arc<Entry>>, LogError> {
        self.log.last_of(key, kind).await
    }

    async fn tail(&self, watched: watch::Receiver<Shards>, told: mpsc::Sender<Tail>) -> Result<(), LogError> {
        self.log.tail(watched, told).await
    }

    async fn ping(&self) -> Result<(), LogError> {
        self.log.ping().await
    }
}

#[tokio::test(start_paused = true)]
async fn invariant_4_join_has_no_seam() {
    let (log, hub, _stop) = begin(RETENTION);
    let mut watchers = Vec::new();
    for number in 1..=500 {
        append(&log, number).await;
        let watcher = Watcher::with_room(usize::MAX);
        let end = hub.log().end(&summer()).await.unwrap();
        let watching = hub.watch(&summer());
        append(&log, 500 + number).await;
        watchers.push((end.offset, watching.subscribe(end, watcher.clone()), watcher));
    }
    for (from, _place, watcher) in watchers {
        watcher.until(|watcher| watcher.took().last() == Some(&1000)).await;
        assert_eq!(watcher.took(), (from + 1..=1000).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn invariant_5_a_full_subscriber_is_caught_up_and_holds_up_nobody() {
    let (log, hub, _stop) = begin(RETENTION);
    let (slow, quick) = (Watcher::with_room(3), Watcher::with_room(usize::MAX));
    let _places = (join(&hub, None, &slow).await, join(&hub, None, &quick).await);
    for number in 1..=900 {
        append(&log, number).await;
    }
    quick.until(|quick| quick.took().len() == 900).await;
    assert_eq!(slow.took(), [1, 2, 3]);
    slow.room.store(usize::MAX, Ordering::SeqCst);
    slow.until(|slow| slow.took().len() == 900).await;
    assert_eq!(slow.took(), (1..=900).collect::<Vec<_>>(), "beyond the window, from the log");
    assert!(!slow.cut.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn invariant_5_a_subscriber_that_takes_nothing_is_cut() {
    let (log, hub, _stop) = begin(RETENTION);
    let stalled = Watcher::with_room(0);
    let _place = join(&hub, None, &stalled).await;
    append(&log, 1).await;
    stalled.until(|stalled| stalled.cut.load(Ordering::SeqCst)).await;
}

#[tokio::test(start_paused = true)]
async fn invariant_3_a_subscriber_that_the_log_was_trimmed_past_is_told_so() {
    let (log, hub, _stop) = begin(Retention { entries: 600, ..RETENTION });
    let slow = Watcher::with_room(1);
    let _place = join(&hub, None, &slow).await;
    append(&log, 1).await;
    slow.until(|slow| slow.took() == [1]).await;
    let mut end = None;
    for number in 2..=2000 {
        end = Some(append(&log, number).await);
    }
    slow.room.store(usize::MAX, Ordering::SeqCst);
    slow.until(|slow| !slow.lost.lock().unwrap().is_empty()).await;
    assert_eq!(slow.took(), [1]);
    assert_eq!(slow.lost.lock().unwrap().first().copied(), end);
    append(&log, 2001).await;
    slow.until(|slow| slow.took() == [1, 2001]).await;
}

#[tokio::test(start_paused = true)]
async fn who_left_is_told_nothing_more() {
    let (log, hub, _stop) = begin(RETENTION);
    let (gone, stays) = (Watcher::with_room(usize::MAX), Watcher::with_room(usize::MAX));
    let place = join(&hub, None, &gone).await;
    let _stays = join(&hub, None, &stays).await;
    assert_eq!(hub.watchers(&summer()), 2);
    drop(place);
    append(&log, 1).await;
    stays.until(|stays| stays.took() == [1]).await;
    assert_eq!((gone.took(), hub.watchers(&summer())), (Vec::new(), 1));
}

#[tokio::test(start_paused = true)]
async fn who_pauses_goes_on_where_it_was() {
    let (log, hub, _stop) = begin(RETENTION);
    let (pausing, other) = (Watcher::with_room(usize::MAX), Watcher::with_room(usize::MAX));
    let (place, _other) = (join(&hub, None, &pausing).await, join(&hub, None, &other).await);
    append(&log, 1).await;
    pausing.until(|pausing| pausing.took() == [1]).await;
    place.pause();
    append(&log, 2).await;
    other.until(|other| other.took() == [1, 2]).await;
    assert_eq!(pausing.took(), [1]);
    place.resume();
    pausing.until(|pausing| pausing.took().len() == 2).await;
    append(&log, 3).await;
    pausing.until(|pausing| pausing.took() == [1, 2, 3]).await;
}

#[tokio::test]
async fn a_cursor_of_another_life_or_the_future_is_lost() {
    let log = Arc::new(MemoryLog::new(RETENTION));
    let end = append(&log, 1).await;
    let other = Arc::new(MemoryLog::new(RETENTION));
    append(&other, 1).await;
    assert!(matches!(other.read_after(&summer(), end, 10).await, Ok(Read::Lost(_))));
    let future = Cursor { offset: 7, ..end };
    assert_eq!(log.read_after(&summer(), future, 10).await.unwrap(), Read::Lost(end));
}

#[tokio::test(start_paused = true)]
async fn the_only_subscriber_of_a_feed_is_told_what_it_missed_at_once() {
    let (log, hub, _stop) = begin(RETENTION);
    let start = hub.log().end(&summer()).await.unwrap();
    // Once somebody was told, the tail is past its beginning, where it has every feed read anew.
    let earlier = Watcher::with_room(usize::MAX);
    let place = join(&hub, None, &earlier).await;
    append(&log, 1).await;
    earlier.until(|earlier| earlier.took() == [1]).await;
    drop(place);
    for number in 2..=900 {
        append(&log, number).await;
    }
    // In the tests' own time: the hub hears of all of it while nobody watches.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let late = Watcher::with_room(usize::MAX);
    let _place = join(&hub, Some(start), &late).await;
    late.until(|late| late.took().len() == 900).await;
    assert_eq!(late.took(), (1..=900).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn when_the_log_begins_anew_those_who_followed_the_old_one_are_told_so() {
    let (log, hub, _stop) = begin(RETENTION);
    let old = Watcher::with_room(usize::MAX);
    let _old = join(&hub, None, &old).await;
    append(&log, 1).await;
    old.until(|old| old.took() == [1]).await;
    log.forget_idle(Timestamp::MAX);
    let new = Watcher::with_room(usize::MAX);
    let _new = join(&hub, None, &new).await;
    let first = append(&log, 2).await;
    old.until(|old| !old.lost.lock().unwrap().is_empty()).await;
    let second = append(&log, 3).await;
    new.until(|new| new.took() == [1, 2]).await;
    assert_eq!(*new.lost.lock().unwrap(), []);
    let lost_to = old.lost.lock().unwrap()[0];
    assert_eq!((lost_to.epoch, first.epoch), (first.epoch, second.epoch));
    old.until(|old| old.took().last() == Some(&2)).await;
    assert_eq!(old.took()[1..], (lost_to.offset + 1..=2).collect::<Vec<_>>());
    assert_eq!(old.lost.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_the_log_was_trimmed_past_tells_only_those_who_are_behind() {
    let (log, hub, _stop) = begin(Retention { entries: 600, ..RETENTION });
    let behind = Watcher::with_room(usize::MAX);
    let _behind = join(&hub, None, &behind).await;
    append(&log, 1).await;
    behind.until(|behind| behind.took() == [1]).await;
    // More than its tail keeps, before the hub has its turn.
    for number in 2..=6000 {
        append(&log, number).await;
    }
    let fresh = Watcher::with_room(usize::MAX);
    let _fresh = join(&hub, None, &fresh).await;
    let forged = Watcher::with_room(usize::MAX);
    let end = log.end(&summer()).await.unwrap();
    let _forged = join(&hub, Some(Cursor { tag: Tag(end.tag.0 ^ 1), ..end }), &forged).await;
    behind.until(|behind| *behind.lost.lock().unwrap() == [end]).await;
    forged.until(|forged| *forged.lost.lock().unwrap() == [end]).await;
    append(&log, 6001).await;
    behind.until(|behind| behind.took() == [1, 6001]).await;
    fresh.until(|fresh| fresh.took() == [6001]).await;
    assert_eq!(*fresh.lost.lock().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_can_not_be_read_for_a_while_delays_and_loses_nothing() {
    let log = Moody::new();
    let (hub, _stop) = begin_over(log.clone());
    let start = hub.log().end(&summer()).await.unwrap();
    for number in 1..=700 {
        append(&log, number).await;
    }
    log.refuses.store(true, Ordering::SeqCst);
    let (late, live) = (Watcher::with_room(usize::MAX), Watcher::with_room(usize::MAX));
    let _places = (join(&hub, Some(start), &late).await, join(&hub, None, &live).await);
    log.until_refused(5).await;
    append(&log, 701).await;
    log.refuses.store(false, Ordering::SeqCst);
    late.until(|late| late.took().len() == 701).await;
    live.until(|live| live.took() == [701]).await;
    assert_eq!(late.took(), (1..=701).collect::<Vec<_>>());
    assert_eq!((late.lost.lock().unwrap().len(), live.lost.lock().unwrap().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn reads_of_the_log_are_bounded_and_come_back_at_different_moments() {
    let log = Moody::new();
    let (hub, _stop) = begin_over(log.clone());
    log.refuses.store(true, Ordering::SeqCst);
    let watcher = Watcher::with_room(usize::MAX);
    let feeds = (0..200).map(|number| FeedId::parse(&format!("feed{number}")).unwrap());
    let _places: Vec<_> = feeds
        .map(|feed| hub.watch(&feed).subscribe(Cursor::start(Epoch::random()), watcher.clone()))
        .collect();
    log.until_refused(400).await;
    assert_eq!(log.most_reading.load(Ordering::SeqCst), 64);
    let retried: HashSet<_> = log.refused.lock().unwrap()[200..400].iter().copied().collect();
    assert!(retried.len() > 20, "all come back together: {} moments", retried.len());
}

#[tokio::test]
async fn on_redis_nothing_is_missed_while_connections_are_cut_and_a_lost_log_is_told_of() {
    let server = RedisServer::start().await;
    let log = server.log(RETENTION);
    let poller = server.log(RETENTION);
    let (hub, _stop) = begin_over(log);
    let watcher = Watcher::with_room(usize::MAX);
    let _place = join(&hub, None, &watcher).await;
    for number in 1..=300 {
        append(&poller, number).await;
        if number % 100 == 0 {
            server.ask::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
        }
    }
    watcher.until(|watcher| watcher.took().len() == 300).await;
    assert_eq!(watcher.took(), (1..=300).collect::<Vec<_>>());

    server.ask::<()>(&["FLUSHALL"]).await.unwrap();
    append(&poller, 301).await;
    watcher.until(|watcher| watcher.lost.lock().unwrap().len() == 1).await;
    append(&poller, 302).await;
    watcher.until(|watcher| watcher.took().last() == Some(&2)).await;
}
