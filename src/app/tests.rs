use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;

use super::{readiness::check_queue, *};
use crate::{
    feed::{Cursor, Epoch, EventKind, FeedEvent, FeedId, ObjectKey, Photo},
    hub::{DeliveryError, Hub, Subscriber},
    log::{Entry, FeedLog, MemoryLog, Proof, Retention},
    queue::{
        Disposition, Handler, Message,
        scripted::{ScriptedResponse, ScriptedSqs, empty_long_poll},
    },
};

struct Idle;

#[async_trait]
impl Handler for Idle {
    async fn handle(&self, _: &Message) -> Disposition {
        Disposition::Delete
    }

    async fn is_ready(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_not_ready_while_it_does_not_respond_and_ready_once_it_does_again() {
    let unresponsive = Arc::new(AtomicBool::new(false));
    let is_unresponsive = unresponsive.clone();
    let sqs = ScriptedSqs::new(move |_| {
        if is_unresponsive.load(Ordering::Relaxed) { ScriptedResponse::NoResponse } else { empty_long_poll() }
    });
    let consumer = Consumer::new(
        sqs.queue(),
        Arc::new(Idle),
        ConsumerConfig { max_loops: 1, drain_timeout: DRAIN_TIMEOUT },
    );
    let health = consumer.health();
    let stop = CancellationToken::new();
    let running = tokio::spawn(consumer.run(stop.clone()));
    tokio::time::sleep(Duration::from_mins(10)).await;
    let status = check_queue(&health).expect("an idle queue is ready");
    assert!(status.starts_with("ok, last response "), "{status}");
    unresponsive.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_mins(3)).await;
    let status = check_queue(&health).unwrap_err();
    assert!(status.starts_with("no response for 1"), "{status}");
    unresponsive.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!(check_queue(&health).is_ok());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_has_refused_every_receive_is_not_ready() {
    let sqs = ScriptedSqs::new(|_| ScriptedResponse::Json(403, json!({"__type": "AccessDenied"})));
    let consumer = Consumer::new(
        sqs.queue(),
        Arc::new(Idle),
        ConsumerConfig { max_loops: 1, drain_timeout: DRAIN_TIMEOUT },
    );
    let health = consumer.health();
    let running = tokio::spawn(consumer.run(CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = check_queue(&health).unwrap_err();
    assert!(status.contains("SQS_QUEUE_URL"), "{status}");
    running.abort();
}

struct Watcher;

impl Subscriber for Watcher {
    fn deliver(&self, _: &mut dyn Iterator<Item = &Entry>, _: &mut Cursor) -> Result<(), DeliveryError> {
        Ok(())
    }

    fn notify_lost(&self, _: &FeedId, _: Cursor) -> Result<(), DeliveryError> {
        Ok(())
    }

    fn abort(&self) {}
}

/// Appends an upload to `feed` that is older than the retention.
async fn append_expired_upload(log: &MemoryLog, feed: &str) -> ObjectKey {
    let feed = FeedId::parse(feed).unwrap();
    let key = ObjectKey::build(&KeyPrefix::default(), &feed, "a.jpg").unwrap();
    let event = FeedEvent {
        kind: EventKind::Uploaded,
        key: key.clone(),
        event_name: "ObjectCreated:Put".into(),
        event_time: None,
        sequencer: None,
        photo: Photo::default(),
    };
    log.append(event, Proof::Bucket, Timestamp::UNIX_EPOCH).await.unwrap();
    key
}

#[tokio::test(start_paused = true)]
async fn the_log_does_not_expire_a_watched_feed_without_new_events() {
    const DAY: Duration = Duration::from_hours(24);
    let retention = Retention { max_entries: 10, max_seen_keys: 10, seen_ttl: DAY, idle_ttl: DAY };
    let log = Arc::new(MemoryLog::new(retention));
    let (watched, unwatched) =
        (append_expired_upload(&log, "watched").await, append_expired_upload(&log, "unwatched").await);
    let hub = Hub::new(log.clone(), DAY);
    let watching = hub.watch(watched.feed());
    let _subscription = watching.subscribe(Cursor::start(Epoch::random()), Arc::new(Watcher));
    tokio::spawn(maintenance::renew_watched_feeds(
        hub.clone(),
        log.clone(),
        retention,
        CancellationToken::new(),
    ));
    tokio::time::sleep(Duration::from_mins(5)).await;
    log.remove_idle_feeds(Timestamp::now());
    assert!(log.find_latest(&watched, None).await.unwrap().is_some());
    assert!(log.find_latest(&unwatched, None).await.unwrap().is_none());
}
