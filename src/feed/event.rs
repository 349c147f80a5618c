//! Events: the entries of a feed's log.

use jiff::Timestamp;

use super::{FeedId, ObjectKey, Sequencer};

/// The kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A photo was uploaded, or overwritten.
    Uploaded,
    /// A photo was removed.
    Removed,
}

/// A change in a feed, from an S3 event. Fields that the S3 event does not have are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// Upload or removal.
    pub kind: EventKind,
    /// The key of the photo.
    pub key: ObjectKey,
    /// The event name of S3 without the `s3:` prefix, for example `ObjectCreated:Put`.
    pub event_name: String,
    /// When S3 finished processing the request.
    pub event_time: Option<Timestamp>,
    /// Orders the events of this key.
    pub sequencer: Option<Sequencer>,
    /// The properties of the uploaded object; all `None` for a removal.
    pub photo: Photo,
}

/// The known properties of an uploaded object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Photo {
    /// The size in bytes.
    pub size: Option<u64>,
    /// The entity tag, without quotes.
    pub e_tag: Option<String>,
    /// The version ID, in a bucket with versioning.
    pub version_id: Option<String>,
    /// The media type.
    pub content_type: Option<String>,
    /// The width in pixels, after the Exif orientation is applied.
    pub width: Option<u32>,
    /// The height in pixels, after the Exif orientation is applied.
    pub height: Option<u32>,
    /// The name of the uploaded file.
    pub filename: Option<String>,
    /// The caption that the uploader wrote.
    pub caption: Option<String>,
    /// The `sub` claim of the uploader.
    pub uploaded_by: Option<String>,
}

impl EventKind {
    /// The name of the event in the client protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uploaded => "imageUploaded",
            Self::Removed => "imageRemoved",
        }
    }
}

impl FeedEvent {
    /// The feed that the event belongs to.
    #[must_use]
    pub fn feed(&self) -> &FeedId {
        self.key.feed()
    }
}
