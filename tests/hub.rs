//! Tests of the hub: mostly over the log in memory.

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
    feed::{Cursor, Epoch, EventKind, FeedEvent, FeedId, ObjectKey, Tag},
    hub::{Hub, Subscription},
    log::{
        AppendOutcome, Entry, FeedLog, LogError, MemoryLog, Proof, ReadResult, Retention, Shards, TailItem,
    },
};
use support::{
    RETENTION, buffered_subscriber::BufferedSubscriber, event::upload, expect_appended, feed,
    redis_server::RedisServer,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

const STALL_TIMEOUT: Duration = Duration::from_secs(30);

fn summer() -> FeedId {
    feed("summer")
}

fn photo(number: usize) -> FeedEvent {
    upload(&summer(), &format!("{number}.jpg")).without_sequencer().without_time().build()
}

async fn append(log: &impl Deref<Target: FeedLog>, number: usize) -> Cursor {
    expect_appended(log.append(photo(number), Proof::Bucket, Timestamp::now()).await.unwrap())
}

/// Joins as connections do: watch, read the log, subscribe from the position of the response.
async fn join(hub: &Arc<Hub>, from: Option<Cursor>, subscriber: &Arc<BufferedSubscriber>) -> Subscription {
    let watch = hub.watch(&summer());
    let position = match from {
        Some(cursor) => cursor,
        None => hub.log().read_end(&summer()).await.unwrap(),
    };
    watch.subscribe(position, subscriber.clone())
}

fn start_hub(retention: Retention) -> (Arc<MemoryLog>, Arc<Hub>, CancellationToken) {
    let log = Arc::new(MemoryLog::new(retention));
    let (hub, stop) = start_hub_over(log.clone());
    (log, hub, stop)
}

fn start_hub_over(log: Arc<dyn FeedLog>) -> (Arc<Hub>, CancellationToken) {
    let hub = Hub::new(log, STALL_TIMEOUT);
    let stop = CancellationToken::new();
    tokio::spawn(hub.clone().run(stop.clone()));
    (hub, stop)
}

/// A log in memory whose reads take 1 ms and can be made to fail.
#[derive(Debug)]
struct UnreliableLog {
    log: MemoryLog,
    fails: AtomicBool,
    failures: Mutex<Vec<Instant>>,
    concurrent_reads: AtomicUsize,
    max_concurrent_reads: AtomicUsize,
}

impl UnreliableLog {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            log: MemoryLog::new(RETENTION),
            fails: AtomicBool::new(false),
            failures: Mutex::default(),
            concurrent_reads: AtomicUsize::new(0),
            max_concurrent_reads: AtomicUsize::new(0),
        })
    }

    async fn wait_for_failures(&self, count: usize) {
        let failures = async {
            while self.failures.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(5), failures).await.expect("the reads fail");
    }
}

#[async_trait]
impl FeedLog for UnreliableLog {
    async fn append(
        &self,
        event: FeedEvent,
        proof: Proof,
        now: Timestamp,
    ) -> Result<AppendOutcome, LogError> {
        self.log.append(event, proof, now).await
    }

    async fn read_after(&self, feed: &FeedId, after: Cursor, limit: usize) -> Result<ReadResult, LogError> {
        let concurrent = self.concurrent_reads.fetch_add(1, Ordering::SeqCst) + 1;
        self.max_concurrent_reads.fetch_max(concurrent, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.concurrent_reads.fetch_sub(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            self.failures.lock().unwrap().push(Instant::now());
            return Err(LogError("read refused by the test".into()));
        }
        self.log.read_after(feed, after, limit).await
    }

    async fn read_end(&self, feed: &FeedId) -> Result<Cursor, LogError> {
        self.log.read_end(feed).await
    }

    async fn renew_ttl(&self, watched: Vec<FeedId>) -> Result<(), LogError> {
        self.log.renew_ttl(watched).await
    }

    async fn find_latest(
        &self,
        key: &ObjectKey,
        kind: Option<EventKind>,
    ) -> Result<Option<Arc<Entry>>, LogError> {
        self.log.find_latest(key, kind).await
    }

    async fn tail(
        &self,
        watched: watch::Receiver<Shards>,
        tx: mpsc::Sender<TailItem>,
    ) -> Result<(), LogError> {
        self.log.tail(watched, tx).await
    }

    async fn ping(&self) -> Result<(), LogError> {
        self.log.ping().await
    }
}

#[tokio::test(start_paused = true)]
async fn entries_appended_between_the_read_and_the_subscription_are_delivered() {
    let (log, hub, _stop) = start_hub(RETENTION);
    let mut subscribers = Vec::new();
    for number in 1..=500 {
        append(&log, number).await;
        let subscriber = BufferedSubscriber::unlimited();
        let end = hub.log().read_end(&summer()).await.unwrap();
        let watch = hub.watch(&summer());
        append(&log, 500 + number).await;
        subscribers.push((end.offset, watch.subscribe(end, subscriber.clone()), subscriber));
    }
    for (from, _subscription, subscriber) in subscribers {
        subscriber.wait_until(|subscriber| subscriber.accepted().last() == Some(&1000)).await;
        assert_eq!(subscriber.accepted(), (from + 1..=1000).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_subscriber_catches_up_and_does_not_delay_others() {
    let (log, hub, _stop) = start_hub(RETENTION);
    let (slow, fast) = (BufferedSubscriber::with_room(3), BufferedSubscriber::unlimited());
    let _subscriptions = (join(&hub, None, &slow).await, join(&hub, None, &fast).await);
    for number in 1..=900 {
        append(&log, number).await;
    }
    fast.wait_until(|fast| fast.accepted().len() == 900).await;
    assert_eq!(slow.accepted(), [1, 2, 3]);
    slow.remove_limit();
    slow.wait_until(|slow| slow.accepted().len() == 900).await;
    assert_eq!(
        slow.accepted(),
        (1..=900).collect::<Vec<_>>(),
        "entries that left the window are read from the log"
    );
    assert!(!slow.is_aborted());
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_accepts_nothing_for_the_stall_timeout_is_aborted() {
    let (log, hub, _stop) = start_hub(RETENTION);
    let stalled = BufferedSubscriber::with_room(0);
    let _subscription = join(&hub, None, &stalled).await;
    append(&log, 1).await;
    stalled.wait_until(BufferedSubscriber::is_aborted).await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_whose_position_was_trimmed_from_the_log_is_notified_of_the_loss() {
    let (log, hub, _stop) = start_hub(Retention { max_entries: 600, ..RETENTION });
    let slow = BufferedSubscriber::with_room(1);
    let _subscription = join(&hub, None, &slow).await;
    append(&log, 1).await;
    slow.wait_until(|slow| slow.accepted() == [1]).await;
    let mut end = None;
    for number in 2..=2000 {
        end = Some(append(&log, number).await);
    }
    slow.remove_limit();
    slow.wait_until(|slow| !slow.lost().is_empty()).await;
    assert_eq!(slow.accepted(), [1]);
    assert_eq!(slow.lost().first().copied(), end);
    append(&log, 2001).await;
    slow.wait_until(|slow| slow.accepted() == [1, 2001]).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_subscription_receives_nothing_more() {
    let (log, hub, _stop) = start_hub(RETENTION);
    let (leaving, staying) = (BufferedSubscriber::unlimited(), BufferedSubscriber::unlimited());
    let subscription = join(&hub, None, &leaving).await;
    let _staying = join(&hub, None, &staying).await;
    assert_eq!(hub.subscriber_count(&summer()), 2);
    drop(subscription);
    append(&log, 1).await;
    staying.wait_until(|staying| staying.accepted() == [1]).await;
    assert_eq!((leaving.accepted(), hub.subscriber_count(&summer())), (Vec::new(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_resumed_subscription_continues_at_its_position() {
    let (log, hub, _stop) = start_hub(RETENTION);
    let (pausing, other) = (BufferedSubscriber::unlimited(), BufferedSubscriber::unlimited());
    let (subscription, _other) = (join(&hub, None, &pausing).await, join(&hub, None, &other).await);
    append(&log, 1).await;
    pausing.wait_until(|pausing| pausing.accepted() == [1]).await;
    subscription.pause();
    append(&log, 2).await;
    other.wait_until(|other| other.accepted() == [1, 2]).await;
    assert_eq!(pausing.accepted(), [1]);
    subscription.resume();
    pausing.wait_until(|pausing| pausing.accepted().len() == 2).await;
    append(&log, 3).await;
    pausing.wait_until(|pausing| pausing.accepted() == [1, 2, 3]).await;
}

#[tokio::test]
async fn a_cursor_of_another_epoch_or_beyond_the_end_is_lost() {
    let log = Arc::new(MemoryLog::new(RETENTION));
    let end = append(&log, 1).await;
    let other = Arc::new(MemoryLog::new(RETENTION));
    append(&other, 1).await;
    assert!(matches!(other.read_after(&summer(), end, 10).await, Ok(ReadResult::Lost(_))));
    let future = Cursor { offset: 7, ..end };
    assert_eq!(log.read_after(&summer(), future, 10).await.unwrap(), ReadResult::Lost(end));
}

#[tokio::test(start_paused = true)]
async fn the_only_subscriber_of_a_feed_receives_what_it_missed_at_once() {
    let (log, hub, _stop) = start_hub(RETENTION);
    let start = hub.log().read_end(&summer()).await.unwrap();
    // After the first delivery the tail is past its start, where it requests a read of every feed.
    let earlier = BufferedSubscriber::unlimited();
    let subscription = join(&hub, None, &earlier).await;
    append(&log, 1).await;
    earlier.wait_until(|earlier| earlier.accepted() == [1]).await;
    drop(subscription);
    for number in 2..=900 {
        append(&log, number).await;
    }
    // The hub processes all of it while the feed has no subscriber.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let late = BufferedSubscriber::unlimited();
    let _subscription = join(&hub, Some(start), &late).await;
    late.wait_until(|late| late.accepted().len() == 900).await;
    assert_eq!(late.accepted(), (1..=900).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn when_the_log_starts_a_new_epoch_subscribers_of_the_old_one_are_notified() {
    let (log, hub, _stop) = start_hub(RETENTION);
    let old = BufferedSubscriber::unlimited();
    let _old = join(&hub, None, &old).await;
    append(&log, 1).await;
    old.wait_until(|old| old.accepted() == [1]).await;
    log.remove_idle_feeds(Timestamp::MAX);
    let new = BufferedSubscriber::unlimited();
    let _new = join(&hub, None, &new).await;
    let first = append(&log, 2).await;
    old.wait_until(|old| !old.lost().is_empty()).await;
    let second = append(&log, 3).await;
    new.wait_until(|new| new.accepted() == [1, 2]).await;
    assert_eq!(new.lost(), []);
    let lost_to = old.lost()[0];
    assert_eq!((lost_to.epoch, first.epoch), (first.epoch, second.epoch));
    old.wait_until(|old| old.accepted().last() == Some(&2)).await;
    assert_eq!(old.accepted()[1..], (lost_to.offset + 1..=2).collect::<Vec<_>>());
    assert_eq!(old.lost().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_log_was_trimmed_past_the_hub_only_subscribers_behind_it_are_notified() {
    let (log, hub, _stop) = start_hub(Retention { max_entries: 600, ..RETENTION });
    let behind = BufferedSubscriber::unlimited();
    let _behind = join(&hub, None, &behind).await;
    append(&log, 1).await;
    behind.wait_until(|behind| behind.accepted() == [1]).await;
    // More than the tail buffers, before the hub runs.
    for number in 2..=6000 {
        append(&log, number).await;
    }
    let current = BufferedSubscriber::unlimited();
    let _current = join(&hub, None, &current).await;
    let forged = BufferedSubscriber::unlimited();
    let end = log.read_end(&summer()).await.unwrap();
    let _forged = join(&hub, Some(Cursor { tag: Tag(end.tag.0 ^ 1), ..end }), &forged).await;
    behind.wait_until(|behind| behind.lost() == [end]).await;
    forged.wait_until(|forged| forged.lost() == [end]).await;
    append(&log, 6001).await;
    behind.wait_until(|behind| behind.accepted() == [1, 6001]).await;
    current.wait_until(|current| current.accepted() == [6001]).await;
    assert_eq!(current.lost(), []);
}

#[tokio::test(start_paused = true)]
async fn failed_log_reads_delay_entries_and_lose_none() {
    let log = UnreliableLog::new();
    let (hub, _stop) = start_hub_over(log.clone());
    let start = hub.log().read_end(&summer()).await.unwrap();
    for number in 1..=700 {
        append(&log, number).await;
    }
    log.fails.store(true, Ordering::SeqCst);
    let (late, live) = (BufferedSubscriber::unlimited(), BufferedSubscriber::unlimited());
    let _subscriptions = (join(&hub, Some(start), &late).await, join(&hub, None, &live).await);
    log.wait_for_failures(5).await;
    append(&log, 701).await;
    log.fails.store(false, Ordering::SeqCst);
    late.wait_until(|late| late.accepted().len() == 701).await;
    live.wait_until(|live| live.accepted() == [701]).await;
    assert_eq!(late.accepted(), (1..=701).collect::<Vec<_>>());
    assert_eq!((late.lost().len(), live.lost().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn concurrent_log_reads_are_bounded_and_retried_at_different_times() {
    let log = UnreliableLog::new();
    let (hub, _stop) = start_hub_over(log.clone());
    log.fails.store(true, Ordering::SeqCst);
    let subscriber = BufferedSubscriber::unlimited();
    let feeds = (0..200).map(|number| feed(&format!("feed{number}")));
    let _subscriptions: Vec<_> = feeds
        .map(|feed| hub.watch(&feed).subscribe(Cursor::start(Epoch::random()), subscriber.clone()))
        .collect();
    log.wait_for_failures(400).await;
    assert_eq!(log.max_concurrent_reads.load(Ordering::SeqCst), 64);
    let retried: HashSet<_> = log.failures.lock().unwrap()[200..400].iter().copied().collect();
    assert!(retried.len() > 20, "retried at only {} different times", retried.len());
}

#[tokio::test]
async fn over_redis_nothing_is_missed_when_connections_break_and_a_lost_log_is_notified() {
    let server = RedisServer::start().await;
    let log = server.open_log(RETENTION);
    let poller = server.open_log(RETENTION);
    let (hub, _stop) = start_hub_over(log);
    let subscriber = BufferedSubscriber::unlimited();
    let _subscription = join(&hub, None, &subscriber).await;
    for number in 1..=300 {
        append(&poller, number).await;
        if number % 100 == 0 {
            server.command::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
        }
    }
    subscriber.wait_until(|subscriber| subscriber.accepted().len() == 300).await;
    assert_eq!(subscriber.accepted(), (1..=300).collect::<Vec<_>>());

    server.command::<()>(&["FLUSHALL"]).await.unwrap();
    append(&poller, 301).await;
    subscriber.wait_until(|subscriber| subscriber.lost().len() == 1).await;
    append(&poller, 302).await;
    subscriber.wait_until(|subscriber| subscriber.accepted().last() == Some(&2)).await;
}
