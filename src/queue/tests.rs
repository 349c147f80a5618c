//! Tests of the consumer with a scripted SQS, in paused time.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, advance, sleep},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::support::scripted_aws::{
    RecordedCall, ScriptedAws, ScriptedResponse, VISIBILITY_TIMEOUT, empty_long_poll, error_response,
    messages_body, messages_body_with_count,
};

const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_mins(1);

/// A handler that takes a given time and returns a given disposition.
struct TestHandler {
    handling_time: Box<dyn Fn(&Message) -> Duration + Send + Sync>,
    disposition: Disposition,
    ready: AtomicBool,
    /// How long `is_ready` takes.
    ready_delay: Mutex<Duration>,
    handled: Mutex<Vec<(String, Instant)>>,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
}

impl TestHandler {
    fn new(
        disposition: Disposition,
        handling_time: impl Fn(&Message) -> Duration + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            handling_time: Box::new(handling_time),
            disposition,
            ready: true.into(),
            ready_delay: Mutex::default(),
            handled: Mutex::default(),
            in_flight: AtomicUsize::default(),
            max_in_flight: AtomicUsize::default(),
        })
    }

    fn deleting_at_once() -> Arc<Self> {
        Self::new(Disposition::Delete, |_| Duration::ZERO)
    }

    fn handled(&self) -> Vec<String> {
        self.handled.lock().unwrap().iter().map(|(id, _)| id.clone()).collect()
    }
}

#[async_trait]
impl Handler for TestHandler {
    async fn handle(&self, message: &Message) -> Disposition {
        self.handled.lock().unwrap().push((message.id.clone(), Instant::now()));
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        sleep((self.handling_time)(message)).await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.disposition
    }

    async fn is_ready(&self) -> bool {
        let ready_delay = *self.ready_delay.lock().unwrap();
        sleep(ready_delay).await;
        self.ready.load(Ordering::Relaxed)
    }
}

/// A spawned consumer.
struct RunningConsumer {
    stop: CancellationToken,
    task: JoinHandle<()>,
    health: Arc<ConsumerHealth>,
}

fn spawn_consumer(queue: Arc<dyn Queue>, handler: &Arc<TestHandler>) -> RunningConsumer {
    let stop = CancellationToken::new();
    let consumer =
        Consumer::new(queue, handler.clone(), ConsumerConfig { max_loops: 4, drain_timeout: DRAIN_TIMEOUT });
    let health = consumer.health();
    RunningConsumer { task: tokio::spawn(consumer.run(stop.clone())), stop, health }
}

impl RunningConsumer {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// An SQS that responds to receives with `receives`, or with an empty long poll; all other calls succeed.
fn sqs_receiving(
    receives: impl Fn(&RecordedCall) -> Option<ScriptedResponse> + Send + Sync + 'static,
) -> ScriptedAws {
    ScriptedAws::new(move |call| match call.action.as_str() {
        "ReceiveMessage" => receives(call).unwrap_or_else(empty_long_poll),
        "DeleteMessageBatch" => ScriptedResponse::Json(200, json!({"Successful": [], "Failed": []})),
        _ => ScriptedResponse::Json(200, json!({})),
    })
}

fn deleted_receipts(delete: &RecordedCall) -> Vec<String> {
    let entries = delete.body["Entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["ReceiptHandle"].as_str().unwrap().to_owned()).collect()
}

fn visibility_changes(sqs: &ScriptedAws) -> Vec<(Value, Value)> {
    let calls = sqs.calls("ChangeMessageVisibility");
    calls
        .iter()
        .map(|call| (call.body["ReceiptHandle"].clone(), call.body["VisibilityTimeout"].clone()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_idle_consumer_receives_three_times_a_minute_and_each_waits_20_s() {
    let sqs = sqs_receiving(|_| None);
    let running = spawn_consumer(sqs.queue(), &TestHandler::deleting_at_once());
    sleep(Duration::from_secs(599)).await;
    let receives = sqs.calls("ReceiveMessage");
    assert_eq!(receives.len(), 30);
    for receive in receives {
        assert_eq!(receive.body["WaitTimeSeconds"], 20);
        assert_eq!(receive.body["MaxNumberOfMessages"], 10);
        assert_eq!(receive.body["VisibilityTimeout"], VISIBILITY_TIMEOUT.as_secs());
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_is_handled_as_soon_as_it_is_received_and_then_deleted() {
    let sqs = sqs_receiving(|call| {
        let response = ScriptedResponse::JsonAfter(Duration::from_secs(7), messages_body(["a"]));
        (call.index == 0).then_some(response)
    });
    let (handler, started) = (TestHandler::deleting_at_once(), Instant::now());
    let running = spawn_consumer(sqs.queue(), &handler);
    sleep(MINUTE).await;
    let (id, at) = handler.handled.lock().unwrap()[0].clone();
    assert_eq!((id.as_str(), at - started), ("a", Duration::from_secs(7)));
    assert_eq!(deleted_receipts(&sqs.calls("DeleteMessageBatch")[0]), ["receipt a"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn loops_are_added_while_batches_are_full_and_dropped_to_one_afterwards() {
    let sqs = sqs_receiving(|call| {
        let ten = (0..10).map(|i| format!("{}-{i}", call.index));
        (call.index < 40).then(|| ScriptedResponse::JsonAfter(Duration::from_millis(50), messages_body(ten)))
    });
    let handler = TestHandler::new(Disposition::Delete, |_| Duration::from_secs(1));
    let running = spawn_consumer(sqs.queue(), &handler);
    sleep(MINUTE).await;
    assert_eq!(handler.handled().len(), 400);
    assert_eq!(
        handler.max_in_flight.load(Ordering::Relaxed),
        4 * MAX_BATCH_SIZE,
        "four loops, each with a full batch"
    );
    let before = sqs.calls("ReceiveMessage").len();
    sleep(10 * MINUTE).await;
    assert_eq!(sqs.calls("ReceiveMessage").len() - before, 30, "one loop is left");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_is_deleted_by_one_call() {
    let sqs =
        sqs_receiving(|call| (call.index == 0).then(|| ScriptedResponse::Json(200, messages_body(0..10))));
    let running = spawn_consumer(sqs.queue(), &TestHandler::deleting_at_once());
    sleep(MINUTE).await;
    let deletes = sqs.calls("DeleteMessageBatch");
    assert_eq!(deletes.iter().map(|call| deleted_receipts(call).len()).collect::<Vec<_>>(), [10]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_long_polling_is_not_polled_in_a_hot_loop() {
    let sqs = sqs_receiving(|_| Some(ScriptedResponse::Json(200, json!({}))));
    let running = spawn_consumer(sqs.queue(), &TestHandler::deleting_at_once());
    sleep(10 * MINUTE).await;
    assert!(sqs.calls("ReceiveMessage").len() < 120, "{}", sqs.calls("ReceiveMessage").len());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_receive_without_a_response_times_out_and_is_retried() {
    let sqs = sqs_receiving(|call| match call.index {
        0..3 => Some(ScriptedResponse::NoResponse),
        3 => Some(ScriptedResponse::Json(200, messages_body(["a"]))),
        _ => None,
    });
    let (handler, started) = (TestHandler::deleting_at_once(), Instant::now());
    let running = spawn_consumer(sqs.queue(), &handler);
    sleep(3 * MINUTE).await;
    assert_eq!(handler.handled(), ["a"]);
    for pair in sqs.calls("ReceiveMessage")[..4].windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!((25..=29).contains(&gap.as_secs()), "timed out after {gap:?}, started at {started:?}");
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_receive_without_a_response_does_not_delay_a_shutdown() {
    let sqs = sqs_receiving(|_| Some(ScriptedResponse::NoResponse));
    let running = spawn_consumer(sqs.queue(), &TestHandler::deleting_at_once());
    sleep(MINUTE).await;
    let before = Instant::now();
    running.stop().await;
    assert!(before.elapsed() <= Duration::from_secs(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_handler_slower_than_the_visibility_timeout_keeps_its_message() {
    let queue = Arc::new(LocalQueue::default());
    let handler = TestHandler::new(Disposition::Delete, |_| 10 * MINUTE);
    let running = spawn_consumer(queue.clone(), &handler);
    queue.send("a".into());
    sleep(11 * MINUTE).await;
    assert_eq!(handler.handled().len(), 1, "it was not redelivered");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_stays_invisible_when_every_other_heartbeat_fails() {
    let sqs = ScriptedAws::new(|call| match (call.action.as_str(), call.index) {
        ("ReceiveMessage", 0) => ScriptedResponse::Json(200, messages_body(["a"])),
        ("ReceiveMessage", _) => empty_long_poll(),
        ("ChangeMessageVisibility", index) if index % 2 == 1 => error_response(503, "ServiceUnavailable"),
        _ => ScriptedResponse::Json(200, json!({"Successful": [], "Failed": []})),
    });
    let running = spawn_consumer(sqs.queue(), &TestHandler::new(Disposition::Delete, |_| 5 * MINUTE));
    sleep(6 * MINUTE).await;
    let (beats, delete) = (sqs.calls("ChangeMessageVisibility"), sqs.calls("DeleteMessageBatch").remove(0));
    let extended_at = beats.iter().filter(|beat| beat.index % 2 == 0).map(|beat| beat.at).chain([delete.at]);
    let mut invisible_until = sqs.calls("ReceiveMessage")[0].at + VISIBILITY_TIMEOUT;
    for at in extended_at {
        assert!(at < invisible_until, "it became visible");
        invisible_until = at + VISIBILITY_TIMEOUT;
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn quick_messages_are_deleted_without_waiting_for_a_slow_one() {
    let sqs =
        sqs_receiving(|call| (call.index == 0).then(|| ScriptedResponse::Json(200, messages_body(0..10))));
    let handling_time = |message: &Message| if message.id == "4" { 5 * MINUTE } else { Duration::ZERO };
    let running = spawn_consumer(sqs.queue(), &TestHandler::new(Disposition::Delete, handling_time));
    sleep(VISIBILITY_TIMEOUT / 2).await;
    let deleted: Vec<_> = sqs.calls("DeleteMessageBatch").iter().flat_map(deleted_receipts).collect();
    assert_eq!(deleted.len(), 9);
    assert!(!deleted.contains(&"receipt 4".to_owned()));
    sleep(5 * MINUTE).await;
    assert_eq!(deleted_receipts(sqs.calls("DeleteMessageBatch").last().unwrap()), ["receipt 4"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_message_does_not_delay_the_messages_after_it() {
    let sqs = sqs_receiving(|call| match call.index {
        0 => Some(ScriptedResponse::Json(200, messages_body(["slow"]))),
        1 | 2 => Some(ScriptedResponse::JsonAfter(
            Duration::from_secs(5),
            messages_body([format!("quick {}", call.index)]),
        )),
        _ => None,
    });
    let handling_time = |message: &Message| if message.id == "slow" { 5 * MINUTE } else { Duration::ZERO };
    let handler = TestHandler::new(Disposition::Delete, handling_time);
    let running = spawn_consumer(sqs.queue(), &handler);
    sleep(MINUTE).await;
    assert_eq!(handler.handled(), ["slow", "quick 1", "quick 2"]);
    assert!(
        running.health.time_since_response() < Duration::from_secs(25),
        "the queue responds all the time"
    );
    sleep(10 * MINUTE).await;
    let before = sqs.calls("ReceiveMessage").len();
    sleep(10 * MINUTE).await;
    assert_eq!(sqs.calls("ReceiveMessage").len() - before, 30, "one loop is left");
    running.stop().await;
}

/// An SQS with three messages; `delete` responds to deletes.
fn sqs_deleting(delete: impl Fn(usize) -> ScriptedResponse + Send + Sync + 'static) -> ScriptedAws {
    ScriptedAws::new(move |call| match (call.action.as_str(), call.index) {
        ("ReceiveMessage", 0) => ScriptedResponse::Json(200, messages_body(["a", "b", "c"])),
        ("ReceiveMessage", _) => empty_long_poll(),
        (_, index) => delete(index),
    })
}

#[tokio::test(start_paused = true)]
async fn only_the_retriable_failures_of_a_delete_batch_are_retried() {
    let sqs = sqs_deleting(|index| match index {
        0 => ScriptedResponse::Json(
            200,
            json!({"Successful": [{"Id": "0"}], "Failed": [
            {"Id": "1", "Code": "InternalError", "SenderFault": false},
            {"Id": "2", "Code": "ReceiptHandleIsInvalid", "SenderFault": true}]}),
        ),
        _ => ScriptedResponse::Json(200, json!({"Successful": [{"Id": "0"}], "Failed": []})),
    });
    let running = spawn_consumer(sqs.queue(), &TestHandler::deleting_at_once());
    sleep(MINUTE).await;
    let deletes: Vec<_> = sqs.calls("DeleteMessageBatch").iter().map(deleted_receipts).collect();
    assert_eq!(deletes, [vec!["receipt a", "receipt b", "receipt c"], vec!["receipt b"]]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn receiving_continues_after_the_last_attempt_to_delete() {
    for response in [|| error_response(503, "ServiceUnavailable"), || ScriptedResponse::NoResponse] {
        let sqs = sqs_deleting(move |_| response());
        let running = spawn_consumer(sqs.queue(), &TestHandler::deleting_at_once());
        sleep(2 * MINUTE).await;
        assert_eq!(sqs.calls("DeleteMessageBatch").len(), 4);
        assert!(sqs.calls("ReceiveMessage").len() > 3);
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn throttling_and_5xx_are_retried_with_backoff_and_jitter() {
    for (status, code) in [(400, "RequestThrottled"), (500, "InternalError"), (503, "ServiceUnavailable")] {
        let sqs = sqs_receiving(move |call| match call.index {
            0..50 => Some(error_response(status, code)),
            50 => Some(ScriptedResponse::Json(200, messages_body(["a"]))),
            _ => None,
        });
        let handler = TestHandler::deleting_at_once();
        let running = spawn_consumer(sqs.queue(), &handler);
        sleep(5 * MINUTE).await;
        let receives = sqs.calls("ReceiveMessage");
        let gaps: Vec<_> = receives.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        assert!(receives.len() < 60, "{code}: {} receives", receives.len());
        assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(100)), "{gaps:?}");
        assert!(gaps.iter().collect::<HashSet<_>>().len() > gaps.len() / 2, "without jitter: {gaps:?}");
        sleep(15 * MINUTE).await;
        assert_eq!(handler.handled(), ["a"], "it continues after the errors");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn during_an_outage_only_the_primary_loop_receives() {
    let started = Instant::now();
    let sqs = sqs_receiving(move |call| {
        let ten = (0..10).map(|i| format!("{}-{i}", call.index));
        let busy = started.elapsed() < Duration::from_secs(10);
        Some(if busy {
            ScriptedResponse::Json(200, messages_body(ten))
        } else {
            error_response(503, "ServiceUnavailable")
        })
    });
    let running =
        spawn_consumer(sqs.queue(), &TestHandler::new(Disposition::Delete, |_| Duration::from_secs(1)));
    sleep(11 * MINUTE).await;
    let late = sqs.calls("ReceiveMessage").iter().filter(|call| call.at - started > MINUTE).count();
    assert!(late < 120, "{late} receives in ten minutes");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_contains_no_message_body() {
    let sqs = ScriptedAws::new(|_| ScriptedResponse::Json(500, messages_body(["a"])));
    let error = sqs.queue().receive().await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("ReceiveMessage failed: service error"), "{text}");
    assert!(!text.contains("secret body") && !text.contains("receipt"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn on_shutdown_messages_in_flight_are_finished_and_deleted() {
    let sqs =
        sqs_receiving(|call| (call.index == 0).then(|| ScriptedResponse::Json(200, messages_body(0..9))));
    let running =
        spawn_consumer(sqs.queue(), &TestHandler::new(Disposition::Delete, |_| Duration::from_secs(3)));
    sleep(Duration::from_secs(1)).await;
    running.stop().await;
    assert_eq!(deleted_receipts(&sqs.calls("DeleteMessageBatch")[0]).len(), 9);
    assert_eq!(visibility_changes(&sqs), []);
    assert_eq!(sqs.calls("ReceiveMessage").len(), 1, "nothing more is received");
}

#[tokio::test(start_paused = true)]
async fn on_shutdown_unfinished_messages_are_released_after_the_drain_timeout() {
    let sqs = sqs_receiving(|call| {
        (call.index == 0).then(|| ScriptedResponse::Json(200, messages_body(["quick", "slow"])))
    });
    let handling_time = |message: &Message| if message.id == "slow" { 10 * MINUTE } else { Duration::ZERO };
    let running = spawn_consumer(sqs.queue(), &TestHandler::new(Disposition::Delete, handling_time));
    sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    running.stop().await;
    assert_eq!(before.elapsed(), DRAIN_TIMEOUT);
    assert_eq!(
        sqs.calls("DeleteMessageBatch").iter().map(deleted_receipts).collect::<Vec<_>>(),
        [["receipt quick"]]
    );
    assert_eq!(visibility_changes(&sqs), [(json!("receipt slow"), json!(0))]);
}

#[tokio::test(start_paused = true)]
async fn messages_received_after_the_shutdown_began_are_released() {
    let late = || ScriptedResponse::JsonAfter(Duration::from_millis(1500), messages_body(["a", "b"]));
    let sqs = sqs_receiving(move |call| (call.index == 0).then(late));
    let handler = TestHandler::deleting_at_once();
    let running = spawn_consumer(sqs.queue(), &handler);
    sleep(Duration::from_secs(1)).await;
    running.stop().await;
    assert_eq!(handler.handled(), [""; 0]);
    assert_eq!(visibility_changes(&sqs), [(json!("receipt a"), json!(0)), (json!("receipt b"), json!(0))]);
}

#[tokio::test(start_paused = true)]
async fn on_shutdown_messages_that_can_not_be_handled_are_released() {
    for disposition in [Disposition::Redeliver, Disposition::Retry] {
        let sqs = sqs_receiving(|call| {
            (call.index == 0).then(|| ScriptedResponse::Json(200, messages_body(["a"])))
        });
        let running = spawn_consumer(sqs.queue(), &TestHandler::new(disposition, |_| Duration::from_secs(2)));
        sleep(Duration::from_secs(1)).await;
        running.stop().await;
        assert_eq!(visibility_changes(&sqs), [(json!("receipt a"), json!(0))], "{disposition:?}");
        assert!(sqs.calls("DeleteMessageBatch").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_readiness_check() {
    let queue = Arc::new(LocalQueue::default());
    let handler = TestHandler::new(Disposition::Retry, |_| Duration::ZERO);
    *handler.ready_delay.lock().unwrap() = MINUTE;
    queue.send("a".to_owned());
    let running = spawn_consumer(queue, &handler);
    sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    running.stop().await;
    assert!(before.elapsed() <= DRAIN_TIMEOUT, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_received_while_the_handler_is_not_ready() {
    let queue = Arc::new(LocalQueue::default());
    let handler = TestHandler::new(Disposition::Retry, |_| Duration::ZERO);
    handler.ready.store(false, Ordering::Relaxed);
    for id in 0..30 {
        queue.send(id.to_string());
    }
    let running = spawn_consumer(queue.clone(), &handler);
    sleep(60 * MINUTE).await;
    let handled = handler.handled().len();
    assert!(handled <= 30, "handled {handled} times: none of them twice");
    assert!(running.health.is_paused());
    handler.ready.store(true, Ordering::Relaxed);
    sleep(MINUTE).await;
    assert!(handler.handled().len() > handled + 30, "it continues");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_delay_of_a_retry_doubles_each_time() {
    let sqs = sqs_receiving(|call| {
        let count = u32::try_from(call.index).unwrap() + 1;
        (call.index < 9).then(|| ScriptedResponse::Json(200, messages_body_with_count(["a"], count)))
    });
    let running = spawn_consumer(sqs.queue(), &TestHandler::new(Disposition::Retry, |_| Duration::ZERO));
    sleep(10 * MINUTE).await;
    let delays: Vec<_> = visibility_changes(&sqs).into_iter().map(|(_, seconds)| seconds).collect();
    assert_eq!(delays, [5, 10, 20, 40, 80, 160, 320, 640, 900]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_can_not_be_handled_is_redelivered_after_its_visibility_timeout() {
    let queue = Arc::new(LocalQueue::default());
    queue.send("garbage".into());
    let handler = TestHandler::new(Disposition::Redeliver, |_| Duration::ZERO);
    let running = spawn_consumer(queue.clone(), &handler);
    sleep(Duration::from_secs(299)).await;
    assert_eq!(handler.handled().len(), 10, "once every 30 seconds");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_handler_ends_the_consumer() {
    let queue = Arc::new(LocalQueue::default());
    queue.send("a".into());
    let running = spawn_consumer(queue, &TestHandler::new(Disposition::Delete, |_| panic!("on purpose")));
    advance(Duration::from_secs(1)).await;
    assert!(running.task.await.unwrap_err().is_panic());
}
