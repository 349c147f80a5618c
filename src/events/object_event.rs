//! A record of an S3 notification, independent of the format that it arrived in.

use jiff::Timestamp;

use super::key_encoding::KeyEncodingError;
use crate::feed::Sequencer;

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

/// Accepts any minor version: S3 increments it for added fields.
pub(super) fn check_version(version: Option<&str>) -> Result<(), RecordError> {
    match version {
        None => Ok(()),
        Some(version) if version.split('.').next() == Some("2") => Ok(()),
        Some(version) => Err(RecordError::UnsupportedVersion(version.chars().take(16).collect())),
    }
}

/// Maps an empty string to `None`: some S3 implementations send it for a missing value.
pub(super) fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

pub(super) fn parse_sequencer(text: Option<String>) -> Result<Option<Sequencer>, RecordError> {
    Ok(non_empty(text).map(|text| Sequencer::parse(&text)).transpose()?)
}
