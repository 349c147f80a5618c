//! The fan-out, with the log in memory and subscribers whose room the tests decide.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use photoshare_server::{
    feed::{Cursor, FeedEvent, FeedId, KeyPrefix, Kind, ObjectKey, Photo},
    hub::{Hub, Refused, Subscriber, Subscription},
    log::{Entry, FeedLog, MemoryLog, Outcome, Proof, Read, Retention},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const RETENTION: Retention = Retention {
    entries: 1000,
    seen: 10_000,
    seen_for: Duration::from_hours(24),
    idle: Duration::from_hours(24),
};
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

async fn append(log: &MemoryLog, number: usize) -> Cursor {
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
    fn deliver(&self, entry: &Entry) -> Result<(), Refused> {
        let less = |room: usize| room.checked_sub(1);
        self.room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).map_err(|_| Refused::Full)?;
        self.took.lock().unwrap().push(entry.cursor.offset);
        self.told.notify_one();
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
    let hub = Hub::new(log.clone(), PATIENCE);
    let stop = CancellationToken::new();
    tokio::spawn(hub.clone().run(stop.clone()));
    (log, hub, stop)
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

#[tokio::test]
async fn a_cursor_of_another_life_or_the_future_is_lost() {
    let log = MemoryLog::new(RETENTION);
    let end = append(&log, 1).await;
    let other = MemoryLog::new(RETENTION);
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
