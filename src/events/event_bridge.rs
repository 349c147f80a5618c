//! S3 events by way of EventBridge: other names, and keys that are not encoded.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>

use serde::Deserialize;
use serde_json::Value;

use super::{ObjectEvent, RecordError, filled, sequencer};

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "detail-type")]
    detail_type: String,
    time: Option<String>,
    detail: Option<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    bucket: Option<Bucket>,
    object: Option<Object>,
    reason: Option<String>,
    #[serde(rename = "deletion-type")]
    deletion_type: Option<String>,
}

#[derive(Deserialize)]
struct Bucket {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Object {
    key: Option<String>,
    size: Option<u64>,
    etag: Option<String>,
    #[serde(rename = "version-id")]
    version_id: Option<String>,
    sequencer: Option<String>,
}

pub(super) fn parse(value: &Value) -> Result<ObjectEvent, RecordError> {
    let envelope = Envelope::deserialize(value).map_err(|_| RecordError::Shape)?;
    let detail = envelope.detail.ok_or(RecordError::Missing("detail"))?;
    let name = name(&envelope.detail_type, &detail);
    let object = detail.object.ok_or(RecordError::Missing("detail.object"))?;
    Ok(ObjectEvent {
        name,
        time: filled(envelope.time).map(|time| time.parse().map_err(|_| RecordError::Time)).transpose()?,
        bucket: detail
            .bucket
            .and_then(|bucket| filled(bucket.name))
            .ok_or(RecordError::Missing("detail.bucket.name"))?,
        key: filled(object.key).ok_or(RecordError::Missing("detail.object.key"))?,
        size: object.size,
        e_tag: filled(object.etag),
        version_id: filled(object.version_id),
        sequencer: sequencer(object.sequencer)?,
    })
}

/// The name that the same event has in a direct notification. EventBridge says `reason` (the S3 call)
/// and, of deletions, whether a marker was made or something was really deleted.
fn name(detail_type: &str, detail: &Detail) -> String {
    let reason = detail.reason.as_deref().unwrap_or_default();
    let marker = detail.deletion_type.as_deref() == Some("Delete Marker Created");
    match detail_type {
        "Object Created" => {
            let call = match reason {
                "POST Object" => "Post",
                "CopyObject" => "Copy",
                "CompleteMultipartUpload" => "CompleteMultipartUpload",
                _ => "Put",
            };
            format!("ObjectCreated:{call}")
        }
        "Object Deleted" => {
            let family =
                if reason == "Lifecycle Expiration" { "LifecycleExpiration" } else { "ObjectRemoved" };
            format!("{family}:{}", if marker { "DeleteMarkerCreated" } else { "Delete" })
        }
        other => other.chars().take(64).collect(),
    }
}
