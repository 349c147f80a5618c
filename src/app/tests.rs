use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;

use super::{poller::DRAIN_TIMEOUT, readiness::check_queue, *};
use crate::{
    feed::{Cursor, Epoch},
    hub::Hub,
    log::{FeedLog, MemoryLog},
    queue::{Consumer, ConsumerConfig, Disposition, Handler, Message},
    support::{
        RETENTION, append_new,
        buffered_subscriber::BufferedSubscriber,
        event::upload,
        feed,
        scripted_aws::{ScriptedAws, ScriptedResponse, empty_long_poll},
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
    let sqs = ScriptedAws::new(move |_| {
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
    let sqs = ScriptedAws::new(|_| ScriptedResponse::Json(403, json!({"__type": "AccessDenied"})));
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

#[tokio::test(start_paused = true)]
async fn the_log_does_not_expire_a_watched_feed_without_new_events() {
    const DAY: Duration = Duration::from_hours(24);
    let log = Arc::new(MemoryLog::new(RETENTION));
    let [watched, unwatched] = ["watched", "unwatched"].map(|name| upload(&feed(name), "a.jpg"));
    for long_expired in [&watched, &unwatched] {
        append_new(&*log, long_expired.clone()).await;
    }
    let hub = Hub::new(log.clone(), DAY);
    let watch = hub.watch(watched.key().feed());
    let _subscription = watch.subscribe(Cursor::start(Epoch::random()), BufferedSubscriber::unlimited());
    tokio::spawn(maintenance::renew_watched_feeds(
        hub.clone(),
        log.clone(),
        RETENTION,
        CancellationToken::new(),
    ));
    tokio::time::sleep(Duration::from_mins(5)).await;
    log.remove_idle_feeds(Timestamp::now());
    assert!(log.find_latest(&watched.key(), None).await.unwrap().is_some());
    assert!(log.find_latest(&unwatched.key(), None).await.unwrap().is_none());
}
