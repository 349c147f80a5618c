//! One entry of `Records`.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use aws_lambda_events::s3::S3Entity;
use serde::Deserialize;
use serde_json::Value;

use super::{ObjectEvent, RecordError, check_version, decode_key, filled, sequencer};

/// The envelope around the part that `aws_lambda_events` describes. That crate's own envelope asks for
/// fields that nobody needs and that not every store sends (`userIdentity`, `requestParameters`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_version: Option<String>,
    event_name: Option<String>,
    event_time: Option<String>,
    s3: Option<S3Entity>,
}

pub(super) fn parse(value: Value) -> Result<ObjectEvent, RecordError> {
    let record: Record = serde_json::from_value(value).map_err(|_| RecordError::Shape)?;
    check_version(record.event_version.as_deref())?;
    let name = filled(record.event_name).ok_or(RecordError::Missing("eventName"))?;
    let s3 = record.s3.ok_or(RecordError::Missing("s3"))?;
    let key = filled(s3.object.key).ok_or(RecordError::Missing("s3.object.key"))?;
    Ok(ObjectEvent {
        name: name.strip_prefix("s3:").unwrap_or(&name).to_owned(),
        time: filled(record.event_time)
            .map(|time| time.parse().map_err(|_| RecordError::Time))
            .transpose()?,
        bucket: filled(s3.bucket.name).ok_or(RecordError::Missing("s3.bucket.name"))?,
        key: decode_key(&key)?,
        size: s3.object.size.and_then(|size| u64::try_from(size).ok()),
        e_tag: filled(s3.object.e_tag),
        version_id: filled(s3.object.version_id),
        sequencer: sequencer(s3.object.sequencer)?,
    })
}
