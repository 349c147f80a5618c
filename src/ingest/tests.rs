//! The traps of S3's events, from the message to the log, with a real bucket for HEAD to ask.

use std::{path::PathBuf, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    bucket::Lives,
    feed::{Cursor, FeedId, KeyPrefix},
    http, local,
    log::{MemoryLog, Read, Retention},
    queue::{LocalQueue, ReceiptHandle},
};

const RETENTION: Retention = Retention {
    entries: 1000,
    seen: 1000,
    seen_for: Duration::from_hours(24),
    idle: Duration::from_hours(24),
};

/// An ingest on an embedded S3 of its own.
struct World {
    ingest: Ingest,
    log: Arc<MemoryLog>,
    start: Cursor,
    folder: PathBuf,
}

impl World {
    async fn new() -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let folder = std::env::temp_dir().join(format!("photoshare-ingest-{}", hex::encode(random)));
        let keys = local::Keys::of(&folder).unwrap();
        let store = local::open(&folder, &keys, Arc::new(LocalQueue::default())).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, http::embedded_bucket(local::BUCKET, store)).into_future());
        let credentials = Credentials::new(&keys.access_key_id, &keys.secret_access_key, None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        let lives = Lives { view: Duration::from_hours(1), upload_max: Duration::from_hours(1) };
        let bucket = Bucket::connect(&sdk, local::BUCKET, KeyPrefix::default(), lives).await.unwrap();
        let log = Arc::new(MemoryLog::new(RETENTION));
        let start = log.end(&feed()).await.unwrap();
        Self { ingest: Ingest::new(bucket, log.clone(), None), log, start, folder }
    }

    /// Stores an object, past the queue.
    fn store(&self, name: &str) {
        self.store_at(&format!("summer/{name}"));
    }

    fn store_at(&self, key: &str) {
        let file = self.folder.join("s3").join(local::BUCKET).join(key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "photo").unwrap();
    }

    async fn handle(&self, body: &Value) -> Disposition {
        self.handle_again(body, 1).await
    }

    async fn handle_again(&self, body: &Value, receive_count: u32) -> Disposition {
        let message = Message {
            id: "message-1".into(),
            receipt: ReceiptHandle("receipt".into()),
            body: body.as_str().map_or_else(|| body.to_string(), str::to_owned),
            receive_count,
        };
        self.ingest.handle(&message).await
    }

    /// What the feed was told, as `+key` and `-key`.
    async fn told(&self) -> Vec<String> {
        let Read::Entries(entries) = self.log.read_after(&feed(), self.start, 1000).await.unwrap() else {
            panic!("the log was lost");
        };
        let sign = |kind| if kind == Kind::Uploaded { '+' } else { '-' };
        entries.iter().map(|entry| format!("{}{}", sign(entry.event.kind), entry.event.key)).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn feed() -> FeedId {
    FeedId::parse("summer").unwrap()
}

/// A record of now.
fn record(name: &str, key: &str, sequencer: &str) -> Value {
    json!({
        "eventVersion": "2.1", "eventName": name, "eventTime": Timestamp::now().to_string(),
        "s3": {"bucket": {"name": local::BUCKET}, "object": {"key": key, "size": 5, "eTag": "e", "sequencer": sequencer}}
    })
}

fn put(key: &str, sequencer: &str) -> Value {
    record("ObjectCreated:Put", key, sequencer)
}

fn removed(key: &str, sequencer: &str) -> Value {
    let mut removed = record("ObjectRemoved:Delete", key, sequencer);
    removed["s3"]["object"] = json!({"key": key, "sequencer": sequencer});
    removed
}

/// The same record, of an hour before the log's memory begins.
fn old(mut record: Value) -> Value {
    record["eventTime"] = json!((Timestamp::now() - SignedDuration::from_hours(1)).to_string());
    record
}

fn records(records: &[Value]) -> Value {
    json!({ "Records": records })
}

#[tokio::test]
async fn trap_1_the_test_event_is_deleted_and_nothing_is_announced() {
    let world = World::new().await;
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": local::BUCKET});
    assert_eq!(world.handle(&test).await, Disposition::Delete);
    assert_eq!(world.told().await, [""; 0]);
}

#[tokio::test]
async fn traps_2_and_3_keys_are_announced_as_they_are_stored() {
    let world = World::new().await;
    for (encoded, key) in
        [("summer/a+b%2Bc%40d%C3%A9.jpg", "summer/a b+c@dé.jpg"), ("summer/a%252Fb.jpg", "summer/a%2Fb.jpg")]
    {
        assert_eq!(world.handle(&records(&[put(encoded, "01")])).await, Disposition::Delete);
        assert_eq!(world.told().await.pop(), Some(format!("+{key}")));
    }
}

#[tokio::test]
async fn trap_4_a_removal_without_etag_and_size_is_told_and_tagging_is_not() {
    let world = World::new().await;
    let mut tagging = record("ObjectTagging:Put", "summer/a.jpg", "");
    tagging["s3"]["object"].as_object_mut().unwrap().remove("sequencer");
    let body = records(&[put("summer/a.jpg", "01"), tagging, removed("summer/a.jpg", "02")]);
    assert_eq!(world.handle(&body).await, Disposition::Delete);
    assert_eq!(world.told().await, ["+summer/a.jpg", "-summer/a.jpg"]);
}

#[tokio::test]
async fn trap_5_a_version_that_nobody_knows_is_kept_for_the_dead_letter_queue() {
    let world = World::new().await;
    let mut next = put("summer/a.jpg", "01");
    next["eventVersion"] = json!("3.0");
    assert_eq!(world.handle(&records(&[next])).await, Disposition::Redeliver);
    let mut known = put("summer/b.jpg", "01");
    known["eventVersion"] = json!("2.6");
    known["s3"]["object"]["news"] = json!([{}]);
    assert_eq!(world.handle(&records(&[known])).await, Disposition::Delete);
    assert_eq!(world.told().await, ["+summer/b.jpg"]);
}

#[tokio::test]
async fn trap_6_a_late_older_event_is_not_told_and_two_keys_are_never_compared() {
    let world = World::new().await;
    for record in [
        put("summer/a.jpg", "0055AED6DCD90281E6"),
        put("summer/a.jpg", "0055AED6DCD90281E5"),
        put("summer/b.jpg", "0055AED6DCD90281E4"),
    ] {
        assert_eq!(world.handle(&records(&[record])).await, Disposition::Delete);
    }
    assert_eq!(world.told().await, ["+summer/a.jpg", "+summer/b.jpg"]);
}

#[tokio::test]
async fn trap_7_sequencers_of_16_and_18_digits_and_mixed_case_keep_their_order() {
    let world = World::new().await;
    let body = records(&[
        put("summer/a.jpg", "55aed6dcd90281e5"),
        put("summer/a.jpg", "0055AED6DCD90281E5"),
        removed("summer/a.jpg", "0055aed6dcd90281e6"),
        put("summer/a.jpg", "55AED6DCD90281E5"),
    ]);
    assert_eq!(world.handle(&body).await, Disposition::Delete);
    assert_eq!(world.told().await, ["+summer/a.jpg", "-summer/a.jpg"]);
}

#[tokio::test]
async fn trap_8_an_upload_that_comes_after_its_removal_does_not_bring_the_photo_back() {
    let world = World::new().await;
    assert_eq!(world.handle(&records(&[removed("summer/a.jpg", "02")])).await, Disposition::Delete);
    assert_eq!(world.handle(&records(&[put("summer/a.jpg", "01")])).await, Disposition::Delete);
    assert_eq!(world.told().await, ["-summer/a.jpg"]);
}

#[tokio::test]
async fn trap_9_the_same_message_in_two_processes_is_told_once() {
    let world = World::new().await;
    let other = Ingest::new(world.ingest.bucket.clone(), world.log.clone(), None);
    let body = records(&[put("summer/a.jpg", "01"), put("summer/b.jpg", "01")]);
    let message = Message {
        id: "message-1".into(),
        receipt: ReceiptHandle("receipt".into()),
        body: body.to_string(),
        receive_count: 1,
    };
    let both = tokio::join!(world.handle(&body), other.handle(&message));
    assert_eq!(both, (Disposition::Delete, Disposition::Delete));
    assert_eq!(world.told().await, ["+summer/a.jpg", "+summer/b.jpg"]);
}

#[tokio::test]
async fn trap_10_invariant_6_a_malformed_record_keeps_the_message_and_costs_the_others_nothing() {
    let world = World::new().await;
    let body = records(&[put("summer/a.jpg", "01"), json!({"s3": 1}), put("summer/b.jpg", "01")]);
    assert_eq!(world.handle(&body).await, Disposition::Redeliver);
    assert_eq!(world.handle_again(&body, 2).await, Disposition::Redeliver);
    assert_eq!(world.told().await, ["+summer/a.jpg", "+summer/b.jpg"]);
}

#[tokio::test]
async fn trap_11_every_envelope_is_told_once_and_the_same() {
    let world = World::new().await;
    let time = Timestamp::now().to_string();
    let mut direct = put("summer/a+b.jpg", "01");
    direct["eventTime"] = json!(time);
    let direct = records(&[direct]);
    let wrapped =
        json!({"Type": "Notification", "TopicArn": "arn:aws:sns:::t", "Message": direct.to_string()});
    let bridge = json!({"detail-type": "Object Created", "time": time, "detail": {"reason": "PutObject",
        "bucket": {"name": local::BUCKET}, "object": {"key": "summer/a b.jpg", "size": 5, "etag": "e", "sequencer": "01"}}});
    for body in [direct, wrapped, bridge] {
        assert_eq!(world.handle(&body).await, Disposition::Delete);
        assert_eq!(world.told().await, ["+summer/a b.jpg"]);
    }
}

#[tokio::test]
async fn trap_12_a_multipart_etag_is_told_as_it_is() {
    let world = World::new().await;
    let mut completed = record("ObjectCreated:CompleteMultipartUpload", "summer/a.jpg", "01");
    completed["s3"]["object"]["eTag"] = json!("9bb58f26192e4ba00f01e2e7b136bbd8-5");
    world.handle(&records(&[completed])).await;
    let Read::Entries(entries) = world.log.read_after(&feed(), world.start, 1).await.unwrap() else {
        panic!()
    };
    assert_eq!(entries[0].event.photo.e_tag.as_deref(), Some("9bb58f26192e4ba00f01e2e7b136bbd8-5"));
}

#[tokio::test]
async fn an_upload_older_than_the_memory_is_told_only_if_the_object_is_there() {
    let world = World::new().await;
    world.store("there.jpg");
    let body = records(&[old(put("summer/there.jpg", "01")), old(put("summer/gone.jpg", "01"))]);
    assert_eq!(world.handle(&body).await, Disposition::Delete);
    assert_eq!(world.told().await, ["+summer/there.jpg"]);
}

#[tokio::test]
async fn a_removal_older_than_the_memory_is_told_only_if_the_object_is_gone() {
    let world = World::new().await;
    world.store("there.jpg");
    let body = records(&[old(removed("summer/there.jpg", "01")), old(removed("summer/gone.jpg", "01"))]);
    assert_eq!(world.handle(&body).await, Disposition::Delete);
    assert_eq!(world.told().await, ["-summer/gone.jpg"]);
}

#[tokio::test]
async fn the_end_of_one_version_is_told_only_if_the_object_is_gone() {
    let world = World::new().await;
    world.store("lives.jpg");
    for (name, key) in [
        ("ObjectRemoved:Delete", "summer/lives.jpg"),
        ("LifecycleExpiration:Delete", "summer/lives.jpg"),
        ("ObjectRemoved:Delete", "summer/gone.jpg"),
    ] {
        let mut removed = record(name, key, "02");
        removed["s3"]["object"]["versionId"] = json!("3Lg");
        assert_eq!(world.handle(&records(&[removed])).await, Disposition::Delete);
    }
    assert_eq!(world.told().await, ["-summer/gone.jpg"]);
}

#[tokio::test]
async fn invariant_1_a_bucket_that_is_away_keeps_the_message_for_later_and_the_handler_is_not_ready() {
    let world = World::new().await;
    assert!(world.ingest.ready().await);
    let away = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url("http://127.0.0.1:9")
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("a", "b", None, None, "test")))
        .build();
    let lives = Lives { view: Duration::from_hours(1), upload_max: Duration::from_hours(1) };
    let bucket = Bucket::connect(&away, local::BUCKET, KeyPrefix::default(), lives).await.unwrap();
    let ingest = Ingest::new(bucket, world.log.clone(), None);
    let message = |record| Message {
        id: "message-1".into(),
        receipt: ReceiptHandle("receipt".into()),
        body: records(&[record]).to_string(),
        receive_count: 1,
    };
    assert_eq!(ingest.handle(&message(old(put("summer/a.jpg", "01")))).await, Disposition::Retry);
    assert!(!ingest.ready().await);
    assert_eq!(ingest.handle(&message(put("summer/b.jpg", "01"))).await, Disposition::Delete);
    assert_eq!(world.told().await, ["+summer/b.jpg"], "what needs no HEAD is told all the same");
}

#[tokio::test]
async fn records_of_another_bucket_and_keys_of_no_feed_are_dropped() {
    let world = World::new().await;
    let mut foreign = put("summer/a.jpg", "01");
    foreign["s3"]["bucket"]["name"] = json!("another");
    let keys = ["loose.jpg", ".photoshare/kept.jpg", "summer/", "summer//a.jpg"];
    let mut body = vec![foreign];
    body.extend(keys.map(|key| put(key, "01")));
    assert_eq!(world.handle(&records(&body)).await, Disposition::Delete);
    assert_eq!(world.told().await, [""; 0]);
}

#[tokio::test]
async fn what_is_no_event_is_kept_for_the_dead_letter_queue() {
    let world = World::new().await;
    for body in [json!("garbage"), json!({}), json!({"Records": 7})] {
        assert_eq!(world.handle(&body).await, Disposition::Redeliver, "{body}");
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn poison_is_counted_each_time_and_logged_once_by_id_and_reason_without_its_body() {
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let world = World::new().await;
                for receive_count in 1..=3 {
                    world.handle_again(&json!("secret garbage"), receive_count).await;
                }
            });
        });
    });
    let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("unreadable")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("message-1") && lines[0].contains("body is not JSON"), "{log}");
    assert!(!log.contains("secret"), "{log}");
    let metrics = recorder.handle().render();
    assert!(metrics.contains("photoshare_messages_unreadable_total 3"), "{metrics}");
}

/// Tells a key's events in some order, some of them again, and says what the feed holds of it at last.
async fn last_told(order: Vec<usize>, events: &[Value]) -> Option<String> {
    let world = World::new().await;
    for event in order {
        assert_eq!(world.handle(&records(&[events[event].clone()])).await, Disposition::Delete);
    }
    world.told().await.pop()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_interleaving_and_duplication_ends_in_the_same_state(
        uploads in prop::collection::vec(any::<bool>(), 1..6),
        repeats in prop::collection::vec(0_usize..6, 0..6),
        seed in any::<u64>(),
    ) {
        let events: Vec<_> = uploads.iter().enumerate().map(|(at, upload)| {
            let sequencer = format!("0055AED6DCD9028{at:03X}");
            let mut event = if *upload { put("summer/a.jpg", &sequencer) } else { removed("summer/a.jpg", &sequencer) };
            event["eventTime"] = json!("2200-01-01T00:00:00Z"); // no HEAD is needed
            event
        }).collect();
        let mut order: Vec<_> = (0..events.len()).chain(repeats.into_iter().map(|at| at % events.len())).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, usize::try_from((seed >> (at * 5)) % (at as u64 + 1)).unwrap());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = runtime.block_on(last_told(order, &events));
        let expected = if *uploads.last().unwrap() { "+summer/a.jpg" } else { "-summer/a.jpg" };
        prop_assert_eq!(told.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_doctor_is_answered_while_its_object_is_there_and_no_longer() {
    let world = World::new().await;
    let bucket = &world.ingest.bucket;
    for waits in [true, false] {
        let ping = Ping::random(bucket.prefix());
        if waits {
            world.store_at(&ping.key());
        }
        assert_eq!(world.handle(&records(&[put(&ping.key(), "01")])).await, Disposition::Delete);
        assert_eq!(bucket.is_answered(&ping).await.unwrap(), waits);
    }
    assert_eq!(world.told().await, [""; 0]);
}
