//! Why a record is not announced.

use std::time::Duration;

use crate::{bucket::BucketError, events::RecordError, feed::ObjectKey, log::LogError};

/// Why a record was dropped on purpose. Exported as the `reason` label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DropReason {
    OtherBucket,
    NotAPhotoKey,
    OtherEvent,
    DoctorPing,
    Duplicate,
    Stale,
    ObjectMissing,
    ObjectExists,
    TypeNotAllowed,
}

/// Why a record could not be ingested.
#[derive(Debug, thiserror::Error)]
pub(super) enum IngestError {
    #[error(transparent)]
    UnreadableRecord(#[from] RecordError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("inspection of {key} timed out after {} s", .limit.as_secs())]
    Timeout { key: ObjectKey, limit: Duration },
}

impl DropReason {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::OtherBucket => "other_bucket",
            Self::NotAPhotoKey => "no_photo_key",
            Self::OtherEvent => "other_event",
            Self::DoctorPing => "doctor",
            Self::Duplicate => "duplicate",
            Self::Stale => "stale",
            Self::ObjectMissing => "gone",
            Self::ObjectExists => "still_there",
            Self::TypeNotAllowed => "not_allowed",
        }
    }
}
