//! Inspects uploads before they are announced: the declared content type may not be the real one.

use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::info;

use super::outcome::{DropReason, IngestError};
use crate::{
    bucket::{Bucket, ObjectSample},
    feed::{FeedEvent, Photo},
    inspect::{Inspection, inspect_bytes},
};

/// The settings of an [`Inspector`].
#[derive(Debug, Clone)]
pub struct InspectorConfig {
    /// Accepted media types, in lower case.
    pub content_types: Vec<String>,
    /// What happens to an object of another type, besides not being announced.
    pub reject_action: RejectAction,
    /// The maximum number of concurrent inspections.
    pub concurrency: usize,
    /// The timeout of one inspection.
    pub timeout: Duration,
    /// Whether events contain the `sub` of the uploader.
    pub show_uploader: bool,
}

/// What happens to an object whose real type is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectAction {
    /// It is kept.
    Keep,
    /// It is deleted.
    Delete,
    /// It is moved to a prefix from which nothing is announced.
    Quarantine,
}

/// Inspects uploads, with bounded concurrency.
#[derive(Debug)]
pub struct Inspector {
    config: InspectorConfig,
    permits: Semaphore,
}

impl Inspector {
    /// Creates an inspector.
    #[must_use]
    pub fn new(config: InspectorConfig) -> Self {
        let permits = Semaphore::new(config.concurrency);
        Self { config, permits }
    }

    /// Reads the beginning of the uploaded object, and adds its properties to `event`. The inner error is the
    /// reason to drop the event.
    pub(super) async fn inspect(
        &self,
        bucket: &Bucket,
        event: FeedEvent,
    ) -> Result<Result<FeedEvent, DropReason>, IngestError> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let limit = self.config.timeout;
        let Ok(sample) = tokio::time::timeout(limit, bucket.sample_object(&event.key)).await else {
            return Err(IngestError::Timeout { key: event.key, limit });
        };
        let Some(sample) = sample? else { return Ok(Err(DropReason::ObjectMissing)) };
        let inspection = inspect_bytes(&sample.first_bytes);
        if !inspection.detected_type.is_accepted(&self.config.content_types) {
            let detected_type = inspection.detected_type;
            info!(s3.key = %event.key, ?detected_type, "rejected an upload: its type is not accepted");
            self.apply_reject_action(bucket, &event, &sample).await?;
            return Ok(Err(DropReason::TypeNotAllowed));
        }
        Ok(Ok(add_inspection(event, sample, inspection, self.config.show_uploader)))
    }

    async fn apply_reject_action(
        &self,
        bucket: &Bucket,
        event: &FeedEvent,
        sample: &ObjectSample,
    ) -> Result<(), IngestError> {
        match self.config.reject_action {
            RejectAction::Keep => {}
            RejectAction::Delete => bucket.delete_if_unchanged(&event.key, sample.e_tag.as_deref()).await?,
            RejectAction::Quarantine => {
                bucket.quarantine_if_unchanged(&event.key, sample.e_tag.as_deref()).await?;
            }
        }
        Ok(())
    }
}

/// Adds the inspected properties to `event`, unless the object was overwritten since: its properties then
/// belong to the event of that write.
fn add_inspection(
    mut event: FeedEvent,
    sample: ObjectSample,
    inspection: Inspection,
    show_uploader: bool,
) -> FeedEvent {
    let overwritten =
        event.photo.e_tag.is_some() && sample.e_tag.is_some() && event.photo.e_tag != sample.e_tag;
    if overwritten {
        return event;
    }
    let (width, height) = inspection.dimensions.unzip();
    event.photo = Photo {
        e_tag: event.photo.e_tag.or(sample.e_tag),
        content_type: inspection.detected_type.photo_type().map(str::to_owned).or(sample.content_type),
        width,
        height,
        filename: sample.filename,
        caption: sample.caption,
        uploaded_by: sample.uploaded_by.filter(|_| show_uploader),
        ..event.photo
    };
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inspect::DetectedType,
        support::{event::upload, feed},
    };

    fn event(e_tag: &str) -> FeedEvent {
        let photo = Photo { e_tag: Some(e_tag.into()), ..Photo::default() };
        upload(&feed("summer"), "a.jpg").photo(photo).build()
    }

    fn sample() -> ObjectSample {
        ObjectSample {
            e_tag: Some("a".into()),
            content_type: Some("image/jpeg".into()),
            filename: Some("IMG_1.JPG".into()),
            uploaded_by: Some("ann".into()),
            ..ObjectSample::default()
        }
    }

    #[test]
    fn an_event_contains_the_inspected_properties_and_the_uploader_only_if_enabled() {
        let png = Inspection { detected_type: DetectedType::Photo("image/png"), dimensions: Some((4, 3)) };
        let photo = add_inspection(event("a"), sample(), png, false).photo;
        assert_eq!(photo.content_type.as_deref(), Some("image/png"), "the real type");
        assert_eq!((photo.width, photo.height), (Some(4), Some(3)));
        assert_eq!((photo.filename.as_deref(), photo.uploaded_by), (Some("IMG_1.JPG"), None));
        let unknown = Inspection { detected_type: DetectedType::Unknown, dimensions: None };
        let photo = add_inspection(event("a"), sample(), unknown, true).photo;
        assert_eq!(photo.content_type.as_deref(), Some("image/jpeg"), "the declared type");
        assert_eq!((photo.width, photo.uploaded_by.as_deref()), (None, Some("ann")));
    }

    #[test]
    fn properties_of_a_later_write_are_not_added() {
        let png = Inspection { detected_type: DetectedType::Photo("image/png"), dimensions: Some((4, 3)) };
        assert_eq!(add_inspection(event("b"), sample(), png, true), event("b"));
    }
}
