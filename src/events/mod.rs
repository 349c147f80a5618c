//! From the body of a queue message to object events. Pure: no call, no clock.
//!
//! A body is one of: an S3 notification with `Records`, S3's `s3:TestEvent`, either of them wrapped by
//! SNS, or an EventBridge event. Its records are parsed one by one, so that a bad one costs itself only.

mod event_bridge;
mod key_encoding;
mod record;

use jiff::Timestamp;
use serde_json::Value;

use crate::feed::Sequencer;

pub use key_encoding::{KeyEncodingError, decode_key, encode_key};

/// SNS may wrap what SNS wrapped, but nobody does that on purpose more than once.
const MAX_WRAPPINGS: usize = 2;

/// One record of an S3 event notification, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEvent {
    /// Without `s3:` in front: `ObjectCreated:Put`.
    pub name: String,
    /// When S3 took the request.
    pub time: Option<Timestamp>,
    /// The bucket that speaks.
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// Bytes, of a created object.
    pub size: Option<u64>,
    /// Without quotes.
    pub e_tag: Option<String>,
    /// The version that the event is about.
    pub version_id: Option<String>,
    /// Orders the events of this key.
    pub sequencer: Option<Sequencer>,
}

/// What a message body holds.
#[derive(Debug)]
pub enum Body {
    /// S3's greeting when the notification is set up.
    TestEvent,
    /// Each record, or why it could not be read.
    Records(Vec<Result<ObjectEvent, RecordError>>),
}

/// Why a whole body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Not JSON at all. The position is told, never the text.
    #[error("body is not JSON (line {line}, column {column})")]
    NotJson {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON, but none of the known shapes.
    #[error("body is no S3 notification: {0}")]
    UnknownShape(&'static str),
}

/// Why one record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The record lacks what an announcement needs.
    #[error("record has no {0}")]
    Missing(&'static str),
    /// A major version that this parser does not know.
    #[error("eventVersion {0:?} is not 2.x")]
    Version(String),
    /// A field is of another type than S3 documents.
    #[error("record is not of S3's shape")]
    Shape,
    /// The key's encoding is broken.
    #[error("key: {0}")]
    Key(#[from] KeyEncodingError),
    /// The sequencer is not hexadecimal.
    #[error(transparent)]
    Sequencer(#[from] crate::feed::SequencerError),
    /// The time is not RFC 3339.
    #[error("eventTime is no RFC 3339 time")]
    Time,
}

/// Reads the body of one queue message.
///
/// # Errors
/// When the body as a whole is of no known shape; a bad record is an `Err` among the records.
pub fn parse(body: &str) -> Result<Body, BodyError> {
    let mut value = json(body)?;
    for _ in 0..MAX_WRAPPINGS {
        match sns_message(&value) {
            Some(inner) => value = json(inner)?,
            None => break,
        }
    }
    if value.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
        return Ok(Body::TestEvent);
    }
    match value.get_mut("Records").map(Value::take) {
        Some(Value::Array(records)) => Ok(Body::Records(records.into_iter().map(record::parse).collect())),
        Some(_) => Err(BodyError::UnknownShape("Records is not an array")),
        None if value.get("detail-type").is_some() => Ok(Body::Records(vec![event_bridge::parse(&value)])),
        None => Err(BodyError::UnknownShape("neither Records nor detail-type")),
    }
}

fn json(text: &str) -> Result<Value, BodyError> {
    serde_json::from_str(text)
        .map_err(|error| BodyError::NotJson { line: error.line(), column: error.column() })
}

/// The text inside an SNS envelope; with raw delivery there is none.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html>
fn sns_message(value: &Value) -> Option<&str> {
    value.get("TopicArn")?;
    value.get("Message")?.as_str()
}

/// Accepts 2.x, whatever the minor version: S3 adds fields without changing what was there.
fn check_version(version: Option<&str>) -> Result<(), RecordError> {
    match version {
        None => Ok(()),
        Some(version) if version.split('.').next() == Some("2") => Ok(()),
        Some(version) => Err(RecordError::Version(version.chars().take(16).collect())),
    }
}

/// An empty text is what some stores send for "none".
fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn sequencer(text: Option<String>) -> Result<Option<Sequencer>, RecordError> {
    Ok(filled(text).map(|text| Sequencer::parse(&text)).transpose()?)
}

#[cfg(test)]
mod tests;
