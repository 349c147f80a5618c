use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use serde_json::json;

use super::*;
use crate::queue::{
    Disposition, Handler, Message,
    scripted::{Answer, Sqs, nothing},
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
