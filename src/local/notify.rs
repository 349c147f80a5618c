//! S3 event messages: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use jiff::Timestamp;
use serde_json::json;

use super::BUCKET;
use crate::{events::encode_key, queue::LocalQueue};

/// Writes the messages.
#[derive(Debug)]
pub(super) struct Notifier {
    queue: Arc<LocalQueue>,
    last_sequencer: AtomicU64,
}

impl Notifier {
    pub(super) fn new(queue: Arc<LocalQueue>) -> Self {
        Self { queue, last_sequencer: AtomicU64::new(0) }
    }

    /// Tells that `key` was stored.
    pub(super) fn created(&self, how: &str, key: &str, size: Option<u64>, e_tag: Option<&str>) {
        let mut object = json!({ "key": encode_key(key), "sequencer": self.sequencer() });
        if let Some(size) = size {
            object["size"] = json!(size);
        }
        if let Some(e_tag) = e_tag {
            object["eTag"] = json!(e_tag);
        }
        self.send(&format!("ObjectCreated:{how}"), &object);
    }

    /// Tells that `key` was deleted; S3 tells it also of keys that never were.
    pub(super) fn removed(&self, key: &str) {
        let object = json!({ "key": encode_key(key), "sequencer": self.sequencer() });
        self.send("ObjectRemoved:Delete", &object);
    }

    fn send(&self, name: &str, object: &serde_json::Value) {
        let body = json!({ "Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "local",
            "eventTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            "eventName": name,
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "photoshare-dev",
                "bucket": { "name": BUCKET, "arn": format!("arn:aws:s3:::{BUCKET}") },
                "object": object,
            },
        }] });
        self.queue.send(body.to_string());
    }

    /// Nanoseconds since 1970, never the same twice: greater than those of earlier runs, too.
    fn sequencer(&self) -> String {
        let now = u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0);
        let next = |last: u64| Some(now.max(last + 1));
        let last = self.last_sequencer.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        format!("{:016X}", now.max(last.unwrap_or(0) + 1))
    }
}
