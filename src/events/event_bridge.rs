//! Parses S3 events from EventBridge. Their fields have other names, and their keys are not URL-encoded.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html>

use serde::Deserialize;
use serde_json::Value;

use super::object_event::{ObjectEvent, RecordError, non_empty, parse_sequencer};

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "detail-type")]
    detail_type: String,
    time: Option<String>,
    detail: Option<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    bucket: Option<DetailBucket>,
    object: Option<DetailObject>,
    reason: Option<String>,
    #[serde(rename = "deletion-type")]
    deletion_type: Option<String>,
}

#[derive(Deserialize)]
struct DetailBucket {
    name: Option<String>,
}

#[derive(Deserialize)]
struct DetailObject {
    key: Option<String>,
    size: Option<u64>,
    etag: Option<String>,
    #[serde(rename = "version-id")]
    version_id: Option<String>,
    sequencer: Option<String>,
}

pub(super) fn parse_event(value: &Value) -> Result<ObjectEvent, RecordError> {
    let envelope = Envelope::deserialize(value).map_err(|_| RecordError::UnexpectedShape)?;
    let detail = envelope.detail.ok_or(RecordError::MissingField("detail"))?;
    let name = notification_name(&envelope.detail_type, &detail);
    let object = detail.object.ok_or(RecordError::MissingField("detail.object"))?;
    Ok(ObjectEvent {
        name,
        time: non_empty(envelope.time)
            .map(|time| time.parse().map_err(|_| RecordError::InvalidTime))
            .transpose()?,
        bucket: detail
            .bucket
            .and_then(|bucket| non_empty(bucket.name))
            .ok_or(RecordError::MissingField("detail.bucket.name"))?,
        key: non_empty(object.key).ok_or(RecordError::MissingField("detail.object.key"))?,
        size: object.size,
        e_tag: non_empty(object.etag),
        version_id: non_empty(object.version_id),
        sequencer: parse_sequencer(object.sequencer)?,
    })
}

/// The name of the same event in an S3 notification. EventBridge sends the S3 action as `reason`, and the
/// `deletion-type`: whether a delete marker was created or an object was deleted permanently.
fn notification_name(detail_type: &str, detail: &Detail) -> String {
    let reason = detail.reason.as_deref().unwrap_or_default();
    let is_marker = detail.deletion_type.as_deref() == Some("Delete Marker Created");
    match detail_type {
        "Object Created" => {
            let action = match reason {
                "POST Object" => "Post",
                "CopyObject" => "Copy",
                "CompleteMultipartUpload" => "CompleteMultipartUpload",
                _ => "Put",
            };
            format!("ObjectCreated:{action}")
        }
        "Object Deleted" => {
            let family =
                if reason == "Lifecycle Expiration" { "LifecycleExpiration" } else { "ObjectRemoved" };
            format!("{family}:{}", if is_marker { "DeleteMarkerCreated" } else { "Delete" })
        }
        other => other.chars().take(64).collect(),
    }
}
