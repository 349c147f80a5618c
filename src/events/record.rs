//! Parses an entry of `Records`.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use aws_lambda_events::s3::S3Entity;
use serde::Deserialize;
use serde_json::Value;

use super::{
    key_encoding::decode_key,
    object_event::{ObjectEvent, RecordError, check_version, non_empty, parse_sequencer},
};

/// A record, with the inner part as `aws_lambda_events` defines it. The record type of that crate is not
/// used: it requires fields that are not needed here and that some S3 implementations do not send
/// (`userIdentity`, `requestParameters`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_version: Option<String>,
    event_name: Option<String>,
    event_time: Option<String>,
    s3: Option<S3Entity>,
}

pub(super) fn parse_record(value: Value) -> Result<ObjectEvent, RecordError> {
    let record: Record = serde_json::from_value(value).map_err(|_| RecordError::UnexpectedShape)?;
    check_version(record.event_version.as_deref())?;
    let name = non_empty(record.event_name).ok_or(RecordError::MissingField("eventName"))?;
    let s3 = record.s3.ok_or(RecordError::MissingField("s3"))?;
    let key = non_empty(s3.object.key).ok_or(RecordError::MissingField("s3.object.key"))?;
    Ok(ObjectEvent {
        name: name.strip_prefix("s3:").unwrap_or(&name).to_owned(),
        time: non_empty(record.event_time)
            .map(|time| time.parse().map_err(|_| RecordError::InvalidTime))
            .transpose()?,
        bucket: non_empty(s3.bucket.name).ok_or(RecordError::MissingField("s3.bucket.name"))?,
        key: decode_key(&key)?,
        size: s3.object.size.and_then(|size| u64::try_from(size).ok()),
        e_tag: non_empty(s3.object.e_tag),
        version_id: non_empty(s3.object.version_id),
        sequencer: parse_sequencer(s3.object.sequencer)?,
    })
}
