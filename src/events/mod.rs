//! Parses the bodies of queue messages into object events. Pure: no I/O, no clock.
//!
//! A body is an S3 notification with `Records`, the `s3:TestEvent` of S3, or an EventBridge event; each of
//! them may be wrapped by SNS. Records are parsed one by one, so that an invalid one does not affect the
//! others.

mod event_bridge;
mod key_encoding;
mod record;

use jiff::Timestamp;
use serde_json::Value;

use crate::feed::Sequencer;

pub use key_encoding::{KeyEncodingError, decode_key, encode_key};

/// How many nested SNS envelopes are unwrapped.
const MAX_WRAPPINGS: usize = 2;

/// A decoded record of an S3 event notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEvent {
    /// The event name without the `s3:` prefix, for example `ObjectCreated:Put`.
    pub name: String,
    /// When S3 finished processing the request.
    pub time: Option<Timestamp>,
    /// The name of the bucket.
    pub bucket: String,
    /// The decoded object key.
    pub key: String,
    /// The size of a created object, in bytes.
    pub size: Option<u64>,
    /// The entity tag, without quotes.
    pub e_tag: Option<String>,
    /// The version ID of the object, in a bucket with versioning.
    pub version_id: Option<String>,
    /// Orders the events of this key.
    pub sequencer: Option<Sequencer>,
}

/// The content of a message body.
#[derive(Debug)]
pub enum MessageBody {
    /// The test message that S3 sends when a notification is configured.
    TestEvent,
    /// The records, each parsed or with the reason why it is unreadable.
    Records(Vec<Result<ObjectEvent, RecordError>>),
}

/// Why a message body is unreadable as a whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body is not JSON. The error has the position, but none of the text.
    #[error("body is not JSON (line {line}, column {column})")]
    NotJson {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// The body is JSON, but not an S3 notification.
    #[error("body is not an S3 notification: {0}")]
    UnknownShape(&'static str),
}

/// Why a record is unreadable.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A required field is missing or empty.
    #[error("record has no {0}")]
    MissingField(&'static str),
    /// The major version of the record format is not supported.
    #[error("eventVersion {0:?} is not 2.x")]
    UnsupportedVersion(String),
    /// A field has another type than S3 documents.
    #[error("record does not have the structure of an S3 event")]
    UnexpectedShape,
    /// The encoding of the key is invalid.
    #[error("invalid key: {0}")]
    InvalidKey(#[from] KeyEncodingError),
    /// The sequencer is not hexadecimal.
    #[error(transparent)]
    InvalidSequencer(#[from] crate::feed::SequencerError),
    /// The time is not an RFC 3339 timestamp.
    #[error("eventTime is not an RFC 3339 timestamp")]
    InvalidTime,
}

/// Parses the body of a queue message.
///
/// # Errors
/// When the body as a whole is unreadable. An unreadable record is an `Err` among the records.
pub fn parse_body(body: &str) -> Result<MessageBody, BodyError> {
    let mut value = parse_json(body)?;
    for _ in 0..MAX_WRAPPINGS {
        match unwrap_sns(&value) {
            Some(inner) => value = parse_json(inner)?,
            None => break,
        }
    }
    if value.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
        return Ok(MessageBody::TestEvent);
    }
    match value.get_mut("Records").map(Value::take) {
        Some(Value::Array(records)) => {
            Ok(MessageBody::Records(records.into_iter().map(record::parse_record).collect()))
        }
        Some(_) => Err(BodyError::UnknownShape("Records is not an array")),
        None if value.get("detail-type").is_some() => {
            Ok(MessageBody::Records(vec![event_bridge::parse_event(&value)]))
        }
        None => Err(BodyError::UnknownShape("neither Records nor detail-type")),
    }
}

fn parse_json(text: &str) -> Result<Value, BodyError> {
    serde_json::from_str(text)
        .map_err(|error| BodyError::NotJson { line: error.line(), column: error.column() })
}

/// The message inside an SNS envelope. With raw message delivery there is no envelope.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html>
fn unwrap_sns(value: &Value) -> Option<&str> {
    value.get("TopicArn")?;
    value.get("Message")?.as_str()
}

/// Accepts any minor version: S3 increments it for added fields.
fn check_version(version: Option<&str>) -> Result<(), RecordError> {
    match version {
        None => Ok(()),
        Some(version) if version.split('.').next() == Some("2") => Ok(()),
        Some(version) => Err(RecordError::UnsupportedVersion(version.chars().take(16).collect())),
    }
}

/// Maps an empty string to `None`: some S3 implementations send it for a missing value.
fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn parse_sequencer(text: Option<String>) -> Result<Option<Sequencer>, RecordError> {
    Ok(non_empty(text).map(|text| Sequencer::parse(&text)).transpose()?)
}

#[cfg(test)]
mod tests;
