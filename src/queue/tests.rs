//! The consumer on an SQS that fails in every way, in a time of its own.

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

use super::{
    scripted::{Answer, Call, Sqs, VISIBILITY, messages, nothing, received, refusal},
    *,
};

const DRAIN: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_mins(1);

/// Takes its time, then says what it was told to say.
struct Worker {
    takes: Box<dyn Fn(&Message) -> Duration + Send + Sync>,
    says: Disposition,
    ready: AtomicBool,
    /// How long it takes to say whether it is.
    asked_for: Mutex<Duration>,
    handled: Mutex<Vec<(String, Instant)>>,
    at_work: AtomicUsize,
    most_at_work: AtomicUsize,
}

impl Worker {
    fn new(says: Disposition, takes: impl Fn(&Message) -> Duration + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            takes: Box::new(takes),
            says,
            ready: true.into(),
            asked_for: Mutex::default(),
            handled: Mutex::default(),
            at_work: AtomicUsize::default(),
            most_at_work: AtomicUsize::default(),
        })
    }

    fn quick() -> Arc<Self> {
        Self::new(Disposition::Delete, |_| Duration::ZERO)
    }

    fn handled(&self) -> Vec<String> {
        self.handled.lock().unwrap().iter().map(|(id, _)| id.clone()).collect()
    }
}

#[async_trait]
impl Handler for Worker {
    async fn handle(&self, message: &Message) -> Disposition {
        self.handled.lock().unwrap().push((message.id.clone(), Instant::now()));
        let at_work = self.at_work.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_at_work.fetch_max(at_work, Ordering::Relaxed);
        sleep((self.takes)(message)).await;
        self.at_work.fetch_sub(1, Ordering::Relaxed);
        self.says
    }

    async fn ready(&self) -> bool {
        let asked_for = *self.asked_for.lock().unwrap();
        sleep(asked_for).await;
        self.ready.load(Ordering::Relaxed)
    }
}

/// A consumer at work.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    health: Arc<Health>,
}

fn run(queue: Arc<dyn Queue>, worker: &Arc<Worker>) -> Running {
    let stop = CancellationToken::new();
    let consumer = Consumer::new(queue, worker.clone(), ConsumerConfig { max_loops: 4, drain: DRAIN });
    let health = consumer.health();
    Running { task: tokio::spawn(consumer.run(stop.clone())), stop, health }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Answers the first receives as given; further ones find nothing, and everything else succeeds.
fn sqs(receives: impl Fn(&Call) -> Option<Answer> + Send + Sync + 'static) -> Sqs {
    Sqs::new(move |call| match call.name.as_str() {
        "ReceiveMessage" => receives(call).unwrap_or_else(nothing),
        "DeleteMessageBatch" => Answer::Says(200, json!({"Successful": [], "Failed": []})),
        _ => Answer::Says(200, json!({})),
    })
}

fn receipts(delete: &Call) -> Vec<String> {
    let entries = delete.body["Entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["ReceiptHandle"].as_str().unwrap().to_owned()).collect()
}

fn changes(sqs: &Sqs) -> Vec<(Value, Value)> {
    let calls = sqs.calls("ChangeMessageVisibility");
    calls
        .iter()
        .map(|call| (call.body["ReceiptHandle"].clone(), call.body["VisibilityTimeout"].clone()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_idle_consumer_receives_three_times_a_minute_and_each_waits_20_s() {
    let sqs = sqs(|_| None);
    let running = run(sqs.queue(), &Worker::quick());
    sleep(Duration::from_secs(599)).await;
    let receives = sqs.calls("ReceiveMessage");
    assert_eq!(receives.len(), 30);
    for receive in receives {
        assert_eq!(receive.body["WaitTimeSeconds"], 20);
        assert_eq!(receive.body["MaxNumberOfMessages"], 10);
        assert_eq!(receive.body["VisibilityTimeout"], VISIBILITY.as_secs());
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_is_handled_the_moment_it_comes_and_deleted() {
    let sqs = sqs(|call| {
        let came = Answer::SaysAfter(Duration::from_secs(7), messages(["a"]));
        (call.nth == 0).then_some(came)
    });
    let (worker, began) = (Worker::quick(), Instant::now());
    let running = run(sqs.queue(), &worker);
    sleep(MINUTE).await;
    let (id, at) = worker.handled.lock().unwrap()[0].clone();
    assert_eq!((id.as_str(), at - began), ("a", Duration::from_secs(7)));
    assert_eq!(receipts(&sqs.calls("DeleteMessageBatch")[0]), ["receipt a"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn loops_grow_while_receives_come_back_full_and_shrink_to_one() {
    let sqs = sqs(|call| {
        let ten = (0..10).map(|i| format!("{}-{i}", call.nth));
        (call.nth < 40).then(|| Answer::SaysAfter(Duration::from_millis(50), messages(ten)))
    });
    let worker = Worker::new(Disposition::Delete, |_| Duration::from_secs(1));
    let running = run(sqs.queue(), &worker);
    sleep(MINUTE).await;
    assert_eq!(worker.handled().len(), 400);
    assert_eq!(worker.most_at_work.load(Ordering::Relaxed), 4 * BATCH, "four loops, each with a full batch");
    let before = sqs.calls("ReceiveMessage").len();
    sleep(10 * MINUTE).await;
    assert_eq!(sqs.calls("ReceiveMessage").len() - before, 30, "one loop is left");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_is_deleted_by_one_call() {
    let sqs = sqs(|call| (call.nth == 0).then(|| Answer::Says(200, messages(0..10))));
    let running = run(sqs.queue(), &Worker::quick());
    sleep(MINUTE).await;
    let deletes = sqs.calls("DeleteMessageBatch");
    assert_eq!(deletes.iter().map(|call| receipts(call).len()).collect::<Vec<_>>(), [10]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_wait_is_not_asked_in_a_hot_loop() {
    let sqs = sqs(|_| Some(Answer::Says(200, json!({}))));
    let running = run(sqs.queue(), &Worker::quick());
    sleep(10 * MINUTE).await;
    assert!(sqs.calls("ReceiveMessage").len() < 120, "{}", sqs.calls("ReceiveMessage").len());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn trap_20_a_server_that_accepts_and_never_answers_is_survived() {
    let sqs = sqs(|call| match call.nth {
        0..3 => Some(Answer::Never),
        3 => Some(Answer::Says(200, messages(["a"]))),
        _ => None,
    });
    let (worker, began) = (Worker::quick(), Instant::now());
    let running = run(sqs.queue(), &worker);
    sleep(3 * MINUTE).await;
    assert_eq!(worker.handled(), ["a"]);
    for pair in sqs.calls("ReceiveMessage")[..4].windows(2) {
        let given = pair[1].at - pair[0].at;
        assert!((25..=29).contains(&given.as_secs()), "given up after {given:?}, begun at {began:?}");
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn trap_20_a_server_that_never_answers_does_not_hold_up_a_stop() {
    let sqs = sqs(|_| Some(Answer::Never));
    let running = run(sqs.queue(), &Worker::quick());
    sleep(MINUTE).await;
    let before = Instant::now();
    running.stop().await;
    assert!(before.elapsed() <= Duration::from_secs(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn trap_22_a_handler_slower_than_the_visibility_keeps_its_message() {
    let queue = Arc::new(LocalQueue::default());
    let worker = Worker::new(Disposition::Delete, |_| 10 * MINUTE);
    let running = run(queue.clone(), &worker);
    queue.send("a".into());
    sleep(11 * MINUTE).await;
    assert_eq!(worker.handled().len(), 1, "it never came again");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn trap_22_one_heartbeat_that_fails_is_made_up_for_by_the_next() {
    let sqs = Sqs::new(|call| match (call.name.as_str(), call.nth) {
        ("ReceiveMessage", 0) => Answer::Says(200, messages(["a"])),
        ("ReceiveMessage", _) => nothing(),
        ("ChangeMessageVisibility", nth) if nth % 2 == 1 => refusal(503, "ServiceUnavailable"),
        _ => Answer::Says(200, json!({"Successful": [], "Failed": []})),
    });
    let running = run(sqs.queue(), &Worker::new(Disposition::Delete, |_| 5 * MINUTE));
    sleep(6 * MINUTE).await;
    let (beats, delete) = (sqs.calls("ChangeMessageVisibility"), sqs.calls("DeleteMessageBatch").remove(0));
    let kept = beats.iter().filter(|beat| beat.nth % 2 == 0).map(|beat| beat.at).chain([delete.at]);
    let mut invisible_until = sqs.calls("ReceiveMessage")[0].at + VISIBILITY;
    for at in kept {
        assert!(at < invisible_until, "it came into sight");
        invisible_until = at + VISIBILITY;
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn trap_22_quick_messages_are_deleted_without_waiting_for_a_slow_one() {
    let sqs = sqs(|call| (call.nth == 0).then(|| Answer::Says(200, messages(0..10))));
    let slow = |message: &Message| if message.id == "4" { 5 * MINUTE } else { Duration::ZERO };
    let running = run(sqs.queue(), &Worker::new(Disposition::Delete, slow));
    sleep(VISIBILITY / 2).await;
    let deleted: Vec<_> = sqs.calls("DeleteMessageBatch").iter().flat_map(receipts).collect();
    assert_eq!(deleted.len(), 9);
    assert!(!deleted.contains(&"receipt 4".to_owned()));
    sleep(5 * MINUTE).await;
    assert_eq!(receipts(sqs.calls("DeleteMessageBatch").last().unwrap()), ["receipt 4"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn trap_22_one_slow_message_keeps_no_other_waiting() {
    let sqs = sqs(|call| match call.nth {
        0 => Some(Answer::Says(200, messages(["slow"]))),
        1 | 2 => Some(Answer::SaysAfter(Duration::from_secs(5), messages([format!("quick {}", call.nth)]))),
        _ => None,
    });
    let slow = |message: &Message| if message.id == "slow" { 5 * MINUTE } else { Duration::ZERO };
    let worker = Worker::new(Disposition::Delete, slow);
    let running = run(sqs.queue(), &worker);
    sleep(MINUTE).await;
    assert_eq!(worker.handled(), ["slow", "quick 1", "quick 2"]);
    assert!(running.health.silence() < Duration::from_secs(25), "the queue is heard from all the time");
    sleep(10 * MINUTE).await;
    let before = sqs.calls("ReceiveMessage").len();
    sleep(10 * MINUTE).await;
    assert_eq!(sqs.calls("ReceiveMessage").len() - before, 30, "one loop is left");
    running.stop().await;
}

/// An SQS with three messages, whose deletes are answered by `deletes`.
fn deleting(deletes: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Sqs {
    Sqs::new(move |call| match (call.name.as_str(), call.nth) {
        ("ReceiveMessage", 0) => Answer::Says(200, messages(["a", "b", "c"])),
        ("ReceiveMessage", _) => nothing(),
        (_, nth) => deletes(nth),
    })
}

#[tokio::test(start_paused = true)]
async fn trap_23_what_a_delete_batch_left_is_deleted_again_and_nothing_else() {
    let sqs = deleting(|nth| match nth {
        0 => Answer::Says(
            200,
            json!({"Successful": [{"Id": "0"}], "Failed": [
            {"Id": "1", "Code": "InternalError", "SenderFault": false},
            {"Id": "2", "Code": "ReceiptHandleIsInvalid", "SenderFault": true}]}),
        ),
        _ => Answer::Says(200, json!({"Successful": [{"Id": "0"}], "Failed": []})),
    });
    let running = run(sqs.queue(), &Worker::quick());
    sleep(MINUTE).await;
    let deletes: Vec<_> = sqs.calls("DeleteMessageBatch").iter().map(receipts).collect();
    assert_eq!(deletes, [vec!["receipt a", "receipt b", "receipt c"], vec!["receipt b"]]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn trap_23_a_delete_that_always_fails_is_given_up_and_receiving_goes_on() {
    for answer in [|| refusal(503, "ServiceUnavailable"), || Answer::Never] {
        let sqs = deleting(move |_| answer());
        let running = run(sqs.queue(), &Worker::quick());
        sleep(2 * MINUTE).await;
        assert_eq!(sqs.calls("DeleteMessageBatch").len(), 4);
        assert!(sqs.calls("ReceiveMessage").len() > 3);
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn trap_24_throttling_and_5xx_are_backed_off_with_jitter() {
    for (status, code) in [(400, "RequestThrottled"), (500, "InternalError"), (503, "ServiceUnavailable")] {
        let sqs = sqs(move |call| match call.nth {
            0..50 => Some(refusal(status, code)),
            50 => Some(Answer::Says(200, messages(["a"]))),
            _ => None,
        });
        let worker = Worker::quick();
        let running = run(sqs.queue(), &worker);
        sleep(5 * MINUTE).await;
        let asked = sqs.calls("ReceiveMessage");
        let gaps: Vec<_> = asked.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        assert!(asked.len() < 60, "{code}: asked {} times", asked.len());
        assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(100)), "{gaps:?}");
        assert!(gaps.iter().collect::<HashSet<_>>().len() > gaps.len() / 2, "without jitter: {gaps:?}");
        sleep(15 * MINUTE).await;
        assert_eq!(worker.handled(), ["a"], "it goes on once the trouble is over");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn trap_24_in_trouble_one_loop_is_left() {
    let began = Instant::now();
    let sqs = sqs(move |call| {
        let ten = (0..10).map(|i| format!("{}-{i}", call.nth));
        let busy = began.elapsed() < Duration::from_secs(10);
        Some(if busy { Answer::Says(200, messages(ten)) } else { refusal(503, "ServiceUnavailable") })
    });
    let running = run(sqs.queue(), &Worker::new(Disposition::Delete, |_| Duration::from_secs(1)));
    sleep(11 * MINUTE).await;
    let late = sqs.calls("ReceiveMessage").iter().filter(|call| call.at - began > MINUTE).count();
    assert!(late < 120, "{late} receives in ten minutes");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn trap_24_what_is_said_of_a_failure_holds_no_body() {
    let sqs = Sqs::new(|_| Answer::Says(500, messages(["a"])));
    let error = sqs.queue().receive().await.unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(said.contains("ReceiveMessage failed: service error"), "{said}");
    assert!(!said.contains("secret body") && !said.contains("receipt"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn trap_25_what_is_in_hand_at_the_stop_is_finished_and_deleted() {
    let sqs = sqs(|call| (call.nth == 0).then(|| Answer::Says(200, messages(0..9))));
    let running = run(sqs.queue(), &Worker::new(Disposition::Delete, |_| Duration::from_secs(3)));
    sleep(Duration::from_secs(1)).await;
    running.stop().await;
    assert_eq!(receipts(&sqs.calls("DeleteMessageBatch")[0]).len(), 9);
    assert_eq!(changes(&sqs), []);
    assert_eq!(sqs.calls("ReceiveMessage").len(), 1, "nothing more is received");
}

#[tokio::test(start_paused = true)]
async fn trap_25_what_is_not_finished_in_time_is_released() {
    let sqs = sqs(|call| (call.nth == 0).then(|| Answer::Says(200, messages(["quick", "slow"]))));
    let takes = |message: &Message| if message.id == "slow" { 10 * MINUTE } else { Duration::ZERO };
    let running = run(sqs.queue(), &Worker::new(Disposition::Delete, takes));
    sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    running.stop().await;
    assert_eq!(before.elapsed(), DRAIN);
    assert_eq!(sqs.calls("DeleteMessageBatch").iter().map(receipts).collect::<Vec<_>>(), [["receipt quick"]]);
    assert_eq!(changes(&sqs), [(json!("receipt slow"), json!(0))]);
}

#[tokio::test(start_paused = true)]
async fn trap_25_what_a_receive_brings_after_the_stop_is_released() {
    let late = || Answer::SaysAfter(Duration::from_millis(1500), messages(["a", "b"]));
    let sqs = sqs(move |call| (call.nth == 0).then(late));
    let worker = Worker::quick();
    let running = run(sqs.queue(), &worker);
    sleep(Duration::from_secs(1)).await;
    running.stop().await;
    assert_eq!(worker.handled(), [""; 0]);
    assert_eq!(changes(&sqs), [(json!("receipt a"), json!(0)), (json!("receipt b"), json!(0))]);
}

#[tokio::test(start_paused = true)]
async fn trap_25_what_can_not_be_done_at_the_stop_is_released() {
    for says in [Disposition::Redeliver, Disposition::Retry] {
        let sqs = sqs(|call| (call.nth == 0).then(|| Answer::Says(200, messages(["a"]))));
        let running = run(sqs.queue(), &Worker::new(says, |_| Duration::from_secs(2)));
        sleep(Duration::from_secs(1)).await;
        running.stop().await;
        assert_eq!(changes(&sqs), [(json!("receipt a"), json!(0))], "{says:?}");
        assert!(sqs.calls("DeleteMessageBatch").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_to_hear_what_is_away() {
    let queue = Arc::new(LocalQueue::default());
    let worker = Worker::new(Disposition::Retry, |_| Duration::ZERO);
    *worker.asked_for.lock().unwrap() = MINUTE;
    queue.send("a".to_owned());
    let running = run(queue, &worker);
    sleep(Duration::from_secs(1)).await;
    let asked = Instant::now();
    running.stop().await;
    assert!(asked.elapsed() <= DRAIN, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_received_while_what_the_work_needs_is_away() {
    let queue = Arc::new(LocalQueue::default());
    let worker = Worker::new(Disposition::Retry, |_| Duration::ZERO);
    worker.ready.store(false, Ordering::Relaxed);
    for id in 0..30 {
        queue.send(id.to_string());
    }
    let running = run(queue.clone(), &worker);
    sleep(60 * MINUTE).await;
    let handled = worker.handled().len();
    assert!(handled <= 30, "handled {handled} times: none of them twice");
    assert!(running.health.is_paused());
    worker.ready.store(true, Ordering::Relaxed);
    sleep(MINUTE).await;
    assert!(worker.handled().len() > handled + 30, "it goes on");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_done_comes_again_later_each_time() {
    let sqs = sqs(|call| {
        let count = u32::try_from(call.nth).unwrap() + 1;
        (call.nth < 9).then(|| Answer::Says(200, received(["a"], count)))
    });
    let running = run(sqs.queue(), &Worker::new(Disposition::Retry, |_| Duration::ZERO));
    sleep(10 * MINUTE).await;
    let after: Vec<_> = changes(&sqs).into_iter().map(|(_, seconds)| seconds).collect();
    assert_eq!(after, [5, 10, 20, 40, 80, 160, 320, 640, 900]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_do_comes_again_by_its_visibility_and_is_no_hot_loop() {
    let queue = Arc::new(LocalQueue::default());
    queue.send("garbage".into());
    let worker = Worker::new(Disposition::Redeliver, |_| Duration::ZERO);
    let running = run(queue.clone(), &worker);
    sleep(Duration::from_secs(299)).await;
    assert_eq!(worker.handled().len(), 10, "once in each 30 seconds");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_handler_ends_the_consumer() {
    let queue = Arc::new(LocalQueue::default());
    queue.send("a".into());
    let running = run(queue, &Worker::new(Disposition::Delete, |_| panic!("on purpose")));
    advance(Duration::from_secs(1)).await;
    assert!(running.task.await.unwrap_err().is_panic());
}
