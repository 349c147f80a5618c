//! Tests of the ingestion from the queue message to the log, with an embedded S3.

use std::{path::PathBuf, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    bucket::UrlTtls,
    feed::{Cursor, KeyPrefix},
    http, local,
    log::MemoryLog,
    queue::{LocalQueue, ReceiptHandle},
    support::{RETENTION, feed, read_entries},
};

/// A handler with its own embedded S3 and log.
struct TestIngest {
    ingest: IngestHandler,
    log: Arc<MemoryLog>,
    start: Cursor,
    folder: PathBuf,
}

impl TestIngest {
    async fn new() -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let folder = std::env::temp_dir().join(format!("photoshare-ingest-{}", hex::encode(random)));
        let keys = local::LocalCredentials::load_or_create(&folder).unwrap();
        let store = local::open_store(&folder, &keys, Arc::new(LocalQueue::default())).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(
            axum::serve(listener, http::embedded_s3_router(local::BUCKET_NAME, store)).into_future(),
        );
        let bucket = connect_bucket(endpoint, &keys.access_key_id, &keys.secret_access_key).await;
        let log = Arc::new(MemoryLog::new(RETENTION));
        let start = log.read_end(&feed("summer")).await.unwrap();
        Self { ingest: IngestHandler::new(bucket, log.clone(), None), log, start, folder }
    }

    /// Stores an object without an event.
    fn store(&self, name: &str) {
        self.store_at(&format!("summer/{name}"));
    }

    fn store_at(&self, key: &str) {
        let file = self.folder.join("s3").join(local::BUCKET_NAME).join(key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "photo").unwrap();
    }

    async fn handle(&self, body: &Value) -> Disposition {
        self.handle_received(body, 1).await
    }

    async fn handle_received(&self, body: &Value, receive_count: u32) -> Disposition {
        self.ingest.handle(&message(body, receive_count)).await
    }

    /// The events of the feed, as `+key` and `-key`.
    async fn feed_changes(&self) -> Vec<String> {
        let entries = read_entries(&*self.log, &feed("summer"), self.start).await;
        let sign = |kind| if kind == EventKind::Uploaded { '+' } else { '-' };
        entries.iter().map(|entry| format!("{}{}", sign(entry.event.kind), entry.event.key)).collect()
    }
}

impl Drop for TestIngest {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A bucket at `endpoint`, which is called once for each request.
async fn connect_bucket(endpoint: String, key_id: &str, secret: &str) -> Bucket {
    let credentials = Credentials::new(key_id, secret, None, None, "test");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .retry_config(RetryConfig::disabled())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let url_ttls = UrlTtls { view: Duration::from_hours(1), upload_max: Duration::from_hours(1) };
    Bucket::connect(&sdk, local::BUCKET_NAME, KeyPrefix::default(), url_ttls).await.unwrap()
}

fn message(body: &Value, receive_count: u32) -> Message {
    Message {
        id: "message-1".into(),
        receipt: ReceiptHandle("receipt".into()),
        body: body.as_str().map_or_else(|| body.to_string(), str::to_owned),
        receive_count,
    }
}

/// A record with the current time.
fn record(name: &str, key: &str, sequencer: &str) -> Value {
    json!({
        "eventVersion": "2.1", "eventName": name, "eventTime": Timestamp::now().to_string(),
        "s3": {"bucket": {"name": local::BUCKET_NAME}, "object": {"key": key, "size": 5, "eTag": "e", "sequencer": sequencer}}
    })
}

fn put(key: &str, sequencer: &str) -> Value {
    record("ObjectCreated:Put", key, sequencer)
}

fn removal(key: &str, sequencer: &str) -> Value {
    let mut removed = record("ObjectRemoved:Delete", key, sequencer);
    removed["s3"]["object"] = json!({"key": key, "sequencer": sequencer});
    removed
}

/// The same record, an hour before the oldest event that the log remembers.
fn old(mut record: Value) -> Value {
    record["eventTime"] = json!((Timestamp::now() - SignedDuration::from_hours(1)).to_string());
    record
}

fn records(records: &[Value]) -> Value {
    json!({ "Records": records })
}

#[tokio::test]
async fn the_test_event_is_deleted_and_nothing_is_announced() {
    let test = TestIngest::new().await;
    let test_event = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": local::BUCKET_NAME});
    assert_eq!(test.handle(&test_event).await, Disposition::Delete);
    assert_eq!(test.feed_changes().await, [""; 0]);
}

#[tokio::test]
async fn keys_are_announced_as_they_are_stored() {
    let test = TestIngest::new().await;
    for (encoded, key) in
        [("summer/a+b%2Bc%40d%C3%A9.jpg", "summer/a b+c@dé.jpg"), ("summer/a%252Fb.jpg", "summer/a%2Fb.jpg")]
    {
        assert_eq!(test.handle(&records(&[put(encoded, "01")])).await, Disposition::Delete);
        assert_eq!(test.feed_changes().await.pop(), Some(format!("+{key}")));
    }
}

#[tokio::test]
async fn a_removal_without_etag_and_size_is_announced_and_tagging_is_not() {
    let test = TestIngest::new().await;
    let mut tagging = record("ObjectTagging:Put", "summer/a.jpg", "");
    tagging["s3"]["object"].as_object_mut().unwrap().remove("sequencer");
    let body = records(&[put("summer/a.jpg", "01"), tagging, removal("summer/a.jpg", "02")]);
    assert_eq!(test.handle(&body).await, Disposition::Delete);
    assert_eq!(test.feed_changes().await, ["+summer/a.jpg", "-summer/a.jpg"]);
}

#[tokio::test]
async fn a_record_of_an_unsupported_version_is_left_for_the_dead_letter_queue() {
    let test = TestIngest::new().await;
    let mut unsupported = put("summer/a.jpg", "01");
    unsupported["eventVersion"] = json!("3.0");
    assert_eq!(test.handle(&records(&[unsupported])).await, Disposition::Redeliver);
    let mut supported = put("summer/b.jpg", "01");
    supported["eventVersion"] = json!("2.6");
    supported["s3"]["object"]["newField"] = json!([{}]);
    assert_eq!(test.handle(&records(&[supported])).await, Disposition::Delete);
    assert_eq!(test.feed_changes().await, ["+summer/b.jpg"]);
}

#[tokio::test]
async fn an_older_event_is_not_announced_and_two_keys_are_never_compared() {
    let test = TestIngest::new().await;
    for record in [
        put("summer/a.jpg", "0055AED6DCD90281E6"),
        put("summer/a.jpg", "0055AED6DCD90281E5"),
        put("summer/b.jpg", "0055AED6DCD90281E4"),
    ] {
        assert_eq!(test.handle(&records(&[record])).await, Disposition::Delete);
    }
    assert_eq!(test.feed_changes().await, ["+summer/a.jpg", "+summer/b.jpg"]);
}

#[tokio::test]
async fn sequencers_of_16_and_18_digits_and_mixed_case_keep_their_order() {
    let test = TestIngest::new().await;
    let body = records(&[
        put("summer/a.jpg", "55aed6dcd90281e5"),
        put("summer/a.jpg", "0055AED6DCD90281E5"),
        removal("summer/a.jpg", "0055aed6dcd90281e6"),
        put("summer/a.jpg", "55AED6DCD90281E5"),
    ]);
    assert_eq!(test.handle(&body).await, Disposition::Delete);
    assert_eq!(test.feed_changes().await, ["+summer/a.jpg", "-summer/a.jpg"]);
}

#[tokio::test]
async fn an_upload_delivered_after_its_removal_does_not_restore_the_photo() {
    let test = TestIngest::new().await;
    assert_eq!(test.handle(&records(&[removal("summer/a.jpg", "02")])).await, Disposition::Delete);
    assert_eq!(test.handle(&records(&[put("summer/a.jpg", "01")])).await, Disposition::Delete);
    assert_eq!(test.feed_changes().await, ["-summer/a.jpg"]);
}

#[tokio::test]
async fn a_message_handled_by_two_processes_is_announced_once() {
    let test = TestIngest::new().await;
    let other = IngestHandler::new(test.ingest.bucket.clone(), test.log.clone(), None);
    let body = records(&[put("summer/a.jpg", "01"), put("summer/b.jpg", "01")]);
    let received_again = message(&body, 1);
    let both = tokio::join!(test.handle(&body), other.handle(&received_again));
    assert_eq!(both, (Disposition::Delete, Disposition::Delete));
    assert_eq!(test.feed_changes().await, ["+summer/a.jpg", "+summer/b.jpg"]);
}

#[tokio::test]
async fn a_malformed_record_keeps_the_message_and_the_others_are_announced() {
    let test = TestIngest::new().await;
    let body = records(&[put("summer/a.jpg", "01"), json!({"s3": 1}), put("summer/b.jpg", "01")]);
    assert_eq!(test.handle(&body).await, Disposition::Redeliver);
    assert_eq!(test.handle_received(&body, 2).await, Disposition::Redeliver);
    assert_eq!(test.feed_changes().await, ["+summer/a.jpg", "+summer/b.jpg"]);
}

#[tokio::test]
async fn the_same_event_in_every_envelope_is_announced_once() {
    let test = TestIngest::new().await;
    let time = Timestamp::now().to_string();
    let mut direct = put("summer/a+b.jpg", "01");
    direct["eventTime"] = json!(time);
    let direct = records(&[direct]);
    let wrapped =
        json!({"Type": "Notification", "TopicArn": "arn:aws:sns:::t", "Message": direct.to_string()});
    let bridge = json!({"detail-type": "Object Created", "time": time, "detail": {"reason": "PutObject",
        "bucket": {"name": local::BUCKET_NAME}, "object": {"key": "summer/a b.jpg", "size": 5, "etag": "e", "sequencer": "01"}}});
    for body in [direct, wrapped, bridge] {
        assert_eq!(test.handle(&body).await, Disposition::Delete);
        assert_eq!(test.feed_changes().await, ["+summer/a b.jpg"]);
    }
}

#[tokio::test]
async fn a_multipart_etag_is_announced_verbatim() {
    let test = TestIngest::new().await;
    let mut completed = record("ObjectCreated:CompleteMultipartUpload", "summer/a.jpg", "01");
    completed["s3"]["object"]["eTag"] = json!("9bb58f26192e4ba00f01e2e7b136bbd8-5");
    test.handle(&records(&[completed])).await;
    let entries = read_entries(&*test.log, &feed("summer"), test.start).await;
    assert_eq!(entries[0].event.photo.e_tag.as_deref(), Some("9bb58f26192e4ba00f01e2e7b136bbd8-5"));
}

#[tokio::test]
async fn an_upload_older_than_the_log_remembers_is_announced_only_if_the_object_exists() {
    let test = TestIngest::new().await;
    test.store("stored.jpg");
    let body = records(&[old(put("summer/stored.jpg", "01")), old(put("summer/missing.jpg", "01"))]);
    assert_eq!(test.handle(&body).await, Disposition::Delete);
    assert_eq!(test.feed_changes().await, ["+summer/stored.jpg"]);
}

#[tokio::test]
async fn a_removal_older_than_the_log_remembers_is_announced_only_if_the_object_does_not_exist() {
    let test = TestIngest::new().await;
    test.store("stored.jpg");
    let body = records(&[old(removal("summer/stored.jpg", "01")), old(removal("summer/missing.jpg", "01"))]);
    assert_eq!(test.handle(&body).await, Disposition::Delete);
    assert_eq!(test.feed_changes().await, ["-summer/missing.jpg"]);
}

#[tokio::test]
async fn a_deleted_version_is_announced_only_if_the_object_does_not_exist() {
    let test = TestIngest::new().await;
    test.store("stored.jpg");
    for (name, key) in [
        ("ObjectRemoved:Delete", "summer/stored.jpg"),
        ("LifecycleExpiration:Delete", "summer/stored.jpg"),
        ("ObjectRemoved:Delete", "summer/missing.jpg"),
    ] {
        let mut removed = record(name, key, "02");
        removed["s3"]["object"]["versionId"] = json!("3Lg");
        assert_eq!(test.handle(&records(&[removed])).await, Disposition::Delete);
    }
    assert_eq!(test.feed_changes().await, ["-summer/missing.jpg"]);
}

#[tokio::test]
async fn without_the_bucket_a_message_is_retried_and_the_handler_is_not_ready() {
    let test = TestIngest::new().await;
    assert!(test.ingest.is_ready().await);
    let bucket = connect_bucket("http://127.0.0.1:9".into(), "id", "secret").await;
    let ingest = IngestHandler::new(bucket, test.log.clone(), None);
    let message = |record| message(&records(&[record]), 1);
    assert_eq!(ingest.handle(&message(old(put("summer/a.jpg", "01")))).await, Disposition::Retry);
    assert!(!ingest.is_ready().await);
    assert_eq!(ingest.handle(&message(put("summer/b.jpg", "01"))).await, Disposition::Delete);
    assert_eq!(test.feed_changes().await, ["+summer/b.jpg"], "a record that needs no HEAD is announced");
}

#[tokio::test]
async fn records_of_another_bucket_and_keys_outside_feeds_are_dropped() {
    let test = TestIngest::new().await;
    let mut foreign = put("summer/a.jpg", "01");
    foreign["s3"]["bucket"]["name"] = json!("another");
    let keys = ["no-feed.jpg", ".photoshare/kept.jpg", "summer/", "summer//a.jpg"];
    let mut body = vec![foreign];
    body.extend(keys.map(|key| put(key, "01")));
    assert_eq!(test.handle(&records(&body)).await, Disposition::Delete);
    assert_eq!(test.feed_changes().await, [""; 0]);
}

#[tokio::test]
async fn other_bodies_are_left_for_the_dead_letter_queue() {
    let test = TestIngest::new().await;
    for body in [json!("garbage"), json!({}), json!({"Records": 7})] {
        assert_eq!(test.handle(&body).await, Disposition::Redeliver, "{body}");
    }
}

/// Collects the log output.
#[derive(Clone, Default)]
struct LogBuffer(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_unreadable_message_is_counted_each_time_and_logged_once_without_its_body() {
    let buffer = LogBuffer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let test = TestIngest::new().await;
                for receive_count in 1..=3 {
                    test.handle_received(&json!("secret garbage"), receive_count).await;
                }
            });
        });
    });
    let log = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("unreadable")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("message-1") && lines[0].contains("body is not JSON"), "{log}");
    assert!(!log.contains("secret"), "{log}");
    let metrics = recorder.handle().render();
    assert!(metrics.contains("photoshare_messages_unreadable_total 3"), "{metrics}");
}

/// Handles `events` in this order, and returns the last change of the feed.
async fn last_feed_change(order: Vec<usize>, events: &[Value]) -> Option<String> {
    let test = TestIngest::new().await;
    for event in order {
        assert_eq!(test.handle(&records(&[events[event].clone()])).await, Disposition::Delete);
    }
    test.feed_changes().await.pop()
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
            let mut event = if *upload { put("summer/a.jpg", &sequencer) } else { removal("summer/a.jpg", &sequencer) };
            event["eventTime"] = json!("2200-01-01T00:00:00Z"); // no HEAD is needed
            event
        }).collect();
        let mut order: Vec<_> = (0..events.len()).chain(repeats.into_iter().map(|at| at % events.len())).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, usize::try_from((seed >> (at * 5)) % (at as u64 + 1)).unwrap());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let last_change = runtime.block_on(last_feed_change(order, &events));
        let expected = if *uploads.last().unwrap() { "+summer/a.jpg" } else { "-summer/a.jpg" };
        prop_assert_eq!(last_change.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn the_test_upload_of_the_doctor_is_answered_only_while_it_exists() {
    let test = TestIngest::new().await;
    let bucket = &test.ingest.bucket;
    for exists in [true, false] {
        let ping = Ping::random(bucket.prefix());
        if exists {
            test.store_at(&ping.key());
        }
        assert_eq!(test.handle(&records(&[put(&ping.key(), "01")])).await, Disposition::Delete);
        assert_eq!(bucket.object_exists(&ping.pong_key()).await.unwrap(), exists);
    }
    assert_eq!(test.feed_changes().await, [""; 0]);
}
