//! S3 event messages: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use jiff::Timestamp;
use serde_json::json;

use crate::{events::encode_key, queue::LocalQueue};

/// Name of the bucket, the first segment of its paths.
pub const BUCKET_NAME: &str = "photoshare";

/// Sends S3 event messages to the queue.
#[derive(Debug)]
pub(super) struct Notifier {
    queue: Arc<LocalQueue>,
    last_sequencer: AtomicU64,
}

impl Notifier {
    pub(super) fn new(queue: Arc<LocalQueue>) -> Self {
        Self { queue, last_sequencer: AtomicU64::new(0) }
    }

    /// Sends `ObjectCreated:{operation}` for `key`.
    pub(super) fn send_created(&self, operation: &str, key: &str, size: Option<u64>, e_tag: Option<&str>) {
        let mut object = json!({ "key": encode_key(key), "sequencer": self.next_sequencer() });
        if let Some(size) = size {
            object["size"] = json!(size);
        }
        if let Some(e_tag) = e_tag {
            object["eTag"] = json!(e_tag);
        }
        self.send_event(&format!("ObjectCreated:{operation}"), &object);
    }

    /// Sends `ObjectRemoved:Delete` for `key`. S3 also sends it for keys that did not exist.
    pub(super) fn send_removed(&self, key: &str) {
        let object = json!({ "key": encode_key(key), "sequencer": self.next_sequencer() });
        self.send_event("ObjectRemoved:Delete", &object);
    }

    fn send_event(&self, name: &str, object: &serde_json::Value) {
        let body = json!({ "Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "local",
            "eventTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            "eventName": name,
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "photoshare-dev",
                "bucket": { "name": BUCKET_NAME, "arn": format!("arn:aws:s3:::{BUCKET_NAME}") },
                "object": object,
            },
        }] });
        self.queue.send(body.to_string());
    }

    /// Nanoseconds since the epoch, strictly increasing, also across restarts.
    fn next_sequencer(&self) -> String {
        let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0);
        let next = |last: u64| Some(now.max(last + 1));
        let last = self.last_sequencer.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        format!("{:016X}", now.max(last.unwrap_or(0) + 1))
    }
}
