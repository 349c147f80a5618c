use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::{
    feed::{Cursor, Epoch, FeedEvent, FeedId, Kind, ObjectKey, Photo},
    hub::{Refused, Subscriber},
    log::{Entry, MemoryLog, Proof, Retention},
    queue::{
        Disposition, Handler, Message,
        scripted::{Answer, Sqs, nothing},
    },
};

struct Idle;

#[async_trait]
impl Handler for Idle {
    async fn handle(&self, _: &Message) -> Disposition {
        Disposition::Delete
    }

    async fn ready(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn trap_20_readiness_says_that_the_queue_is_silent_and_when_it_is_back() {
    let dead = Arc::new(AtomicBool::new(false));
    let answers = dead.clone();
    let sqs = Sqs::new(move |_| if answers.load(Ordering::Relaxed) { Answer::Never } else { nothing() });
    let consumer = Consumer::new(sqs.queue(), Arc::new(Idle), ConsumerConfig { max_loops: 1, drain: DRAIN });
    let health = consumer.health();
    let stop = CancellationToken::new();
    let running = tokio::spawn(consumer.run(stop.clone()));
    tokio::time::sleep(Duration::from_mins(10)).await;
    let said = heard_from(&health).expect("an idle queue is a good one");
    assert!(said.starts_with("ok, heard from "), "{said}");
    dead.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_mins(3)).await;
    let said = heard_from(&health).unwrap_err();
    assert!(said.starts_with("no answer for 1"), "{said}");
    dead.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!(heard_from(&health).is_ok());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_refuses_from_the_start_is_not_ready_at_once() {
    let sqs = Sqs::new(|_| Answer::Says(403, json!({"__type": "AccessDenied"})));
    let consumer = Consumer::new(sqs.queue(), Arc::new(Idle), ConsumerConfig { max_loops: 1, drain: DRAIN });
    let health = consumer.health();
    let running = tokio::spawn(consumer.run(CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let said = heard_from(&health).unwrap_err();
    assert!(said.contains("SQS_QUEUE_URL"), "{said}");
    running.abort();
}

struct Watcher;

impl Subscriber for Watcher {
    fn deliver(&self, _: &mut dyn Iterator<Item = &Entry>, _: &mut Cursor) -> Result<(), Refused> {
        Ok(())
    }

    fn lost(&self, _: &FeedId, _: Cursor) -> Result<(), Refused> {
        Ok(())
    }

    fn cut(&self) {}
}

/// An upload of long ago to the feed of that name.
async fn upload_of_long_ago(log: &MemoryLog, feed: &str) -> ObjectKey {
    let feed = FeedId::parse(feed).unwrap();
    let key = ObjectKey::build(&KeyPrefix::default(), &feed, "a.jpg").unwrap();
    let event = FeedEvent {
        kind: Kind::Uploaded,
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
async fn the_log_of_a_watched_feed_is_not_forgotten_however_quiet_it_is() {
    const DAY: Duration = Duration::from_hours(24);
    let retention = Retention { entries: 10, seen: 10, seen_for: DAY, idle: DAY };
    let log = Arc::new(MemoryLog::new(retention));
    let (watched, unwatched) =
        (upload_of_long_ago(&log, "watched").await, upload_of_long_ago(&log, "unwatched").await);
    let hub = Hub::new(log.clone(), DAY);
    let watching = hub.watch(watched.feed());
    let _place = watching.subscribe(Cursor::start(Epoch::random()), Arc::new(Watcher));
    tokio::spawn(upkeep::keep_watched(hub.clone(), log.clone(), retention, CancellationToken::new()));
    tokio::time::sleep(Duration::from_mins(5)).await;
    log.forget_idle(Timestamp::now());
    assert!(log.last_of(&watched, None).await.unwrap().is_some());
    assert!(log.last_of(&unwatched, None).await.unwrap().is_none());
}
