//! Before an upload is announced, it is looked at: a PDF that calls itself a photo is none.

use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::info;

use super::{Dropped, Trouble};
use crate::{
    bucket::{Bucket, Look},
    feed::{FeedEvent, Photo},
    inspect::{Findings, inspect},
};

/// How uploads are looked at.
#[derive(Debug, Clone)]
pub struct InspectorRules {
    /// Media types that are announced, in lower case.
    pub content_types: Vec<String>,
    /// What becomes of the others, besides that they are not announced.
    pub unwelcome: Unwelcome,
    /// Looks at the same time.
    pub concurrency: usize,
    /// How long one may take.
    pub time_out: Duration,
    /// Whether everybody is told who uploaded a photo.
    pub show_uploader: bool,
}

/// What becomes of an object whose real type is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwelcome {
    /// It stays.
    Keep,
    /// It is deleted.
    Delete,
    /// It is moved to where nothing is announced from.
    Quarantine,
}

/// Looks at uploads, not at too many at a time.
#[derive(Debug)]
pub struct Inspector {
    rules: InspectorRules,
    room: Semaphore,
}

impl Inspector {
    /// An inspector by `rules`.
    #[must_use]
    pub fn new(rules: InspectorRules) -> Self {
        let room = Semaphore::new(rules.concurrency);
        Self { rules, room }
    }

    /// Looks at the object that `event` tells of, and adds to it what was seen.
    pub(super) async fn look_at(
        &self,
        bucket: &Bucket,
        event: FeedEvent,
    ) -> Result<Result<FeedEvent, Dropped>, Trouble> {
        let _room = self.room.acquire().await.expect("never closed");
        let limit = self.rules.time_out;
        let Ok(look) = tokio::time::timeout(limit, bucket.look(&event.key)).await else {
            return Err(Trouble::TimeOut { key: event.key, limit });
        };
        let Some(look) = look? else { return Ok(Err(Dropped::Gone)) };
        let findings = inspect(&look.first);
        if !findings.kind.is_taken(&self.rules.content_types) {
            info!(s3.key = %event.key, kind = ?findings.kind, "not announced: this is no photo");
            self.dispose(bucket, &event, &look).await?;
            return Ok(Err(Dropped::NotAllowed));
        }
        Ok(Ok(seen(event, look, findings, self.rules.show_uploader)))
    }

    async fn dispose(&self, bucket: &Bucket, event: &FeedEvent, look: &Look) -> Result<(), Trouble> {
        match self.rules.unwelcome {
            Unwelcome::Keep => {}
            Unwelcome::Delete => bucket.discard(&event.key, look.e_tag.as_deref()).await?,
            Unwelcome::Quarantine => bucket.quarantine(&event.key, look.e_tag.as_deref()).await?,
        }
        Ok(())
    }
}

/// `event` with what was seen; without it when another write came between, whose own event will tell.
fn seen(mut event: FeedEvent, look: Look, findings: Findings, show_uploader: bool) -> FeedEvent {
    let another = event.photo.e_tag.is_some() && look.e_tag.is_some() && event.photo.e_tag != look.e_tag;
    if another {
        return event;
    }
    let (width, height) = findings.dimensions.unzip();
    event.photo = Photo {
        e_tag: event.photo.e_tag.or(look.e_tag),
        content_type: findings.kind.photo().map(str::to_owned).or(look.content_type),
        width,
        height,
        filename: look.filename,
        caption: look.caption,
        uploaded_by: look.uploaded_by.filter(|_| show_uploader),
        ..event.photo
    };
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        feed::{KeyPrefix, Kind, ObjectKey},
        inspect,
    };

    fn event(e_tag: &str) -> FeedEvent {
        let key = ObjectKey::parse(&KeyPrefix::default(), "summer/a.jpg").unwrap();
        let photo = Photo { e_tag: Some(e_tag.into()), ..Photo::default() };
        let event_name = "ObjectCreated:Put".into();
        FeedEvent { kind: Kind::Uploaded, key, event_name, event_time: None, sequencer: None, photo }
    }

    fn look() -> Look {
        Look {
            e_tag: Some("a".into()),
            content_type: Some("image/jpeg".into()),
            filename: Some("IMG_1.JPG".into()),
            uploaded_by: Some("ann".into()),
            ..Look::default()
        }
    }

    #[test]
    fn what_was_seen_is_told_and_the_uploader_only_where_that_is_wanted() {
        let png = Findings { kind: inspect::Kind::Photo("image/png"), dimensions: Some((4, 3)) };
        let photo = seen(event("a"), look(), png, false).photo;
        assert_eq!(photo.content_type.as_deref(), Some("image/png"), "the real type");
        assert_eq!((photo.width, photo.height), (Some(4), Some(3)));
        assert_eq!((photo.filename.as_deref(), photo.uploaded_by), (Some("IMG_1.JPG"), None));
        let unknown = Findings { kind: inspect::Kind::Unknown, dimensions: None };
        let photo = seen(event("a"), look(), unknown, true).photo;
        assert_eq!(photo.content_type.as_deref(), Some("image/jpeg"), "what the uploader said");
        assert_eq!((photo.width, photo.uploaded_by.as_deref()), (None, Some("ann")));
    }

    #[test]
    fn what_another_write_left_is_not_told_of_this_one() {
        let png = Findings { kind: inspect::Kind::Photo("image/png"), dimensions: Some((4, 3)) };
        assert_eq!(seen(event("b"), look(), png, true), event("b"));
    }
}
