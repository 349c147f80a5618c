//! What a feed's log holds and clients are told.

use jiff::Timestamp;

use super::{FeedId, ObjectKey, Sequencer};

/// What became of a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It is there, or there anew.
    Uploaded,
    /// It is gone.
    Removed,
}

/// One change of a feed, as S3 told it. Fields that S3 left out are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// What happened.
    pub kind: Kind,
    /// To which photo.
    pub key: ObjectKey,
    /// S3's name for it, without `s3:` in front.
    pub event_name: String,
    /// When S3 took the request.
    pub event_time: Option<Timestamp>,
    /// Its place in the order of this key's events.
    pub sequencer: Option<Sequencer>,
    /// What is known of the object; of a removed one, nothing.
    pub photo: Photo,
}

/// What is known of an uploaded object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Photo {
    /// Bytes.
    pub size: Option<u64>,
    /// S3's entity tag, without quotes.
    pub e_tag: Option<String>,
    /// The version, where the bucket keeps versions.
    pub version_id: Option<String>,
    /// The media type.
    pub content_type: Option<String>,
    /// Pixels, as shown (after the orientation is applied).
    pub width: Option<u32>,
    /// Pixels, as shown.
    pub height: Option<u32>,
    /// What the uploader's file was called.
    pub filename: Option<String>,
    /// What the uploader wrote to it.
    pub caption: Option<String>,
    /// The uploader's `sub`.
    pub uploaded_by: Option<String>,
}

impl Kind {
    /// The event's name on every wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uploaded => "imageUploaded",
            Self::Removed => "imageRemoved",
        }
    }
}

impl FeedEvent {
    /// The feed whose log it belongs in.
    #[must_use]
    pub fn feed(&self) -> &FeedId {
        self.key.feed()
    }
}
