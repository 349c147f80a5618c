//! Parses the bodies of queue messages into object events. Pure: no I/O, no clock.
//!
//! A body is an S3 notification with `Records`, the `s3:TestEvent` of S3, or an EventBridge event; each of
//! them may be wrapped by SNS. Records are parsed one by one, so that an invalid one does not affect the
//! others.

mod event_bridge;
mod key_encoding;
mod object_event;
mod record;

use serde_json::Value;

pub use key_encoding::{KeyEncodingError, decode_key, encode_key};
pub use object_event::{ObjectEvent, RecordError};

/// How many nested SNS envelopes are unwrapped.
const MAX_WRAPPINGS: usize = 2;

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

#[cfg(test)]
mod tests;
