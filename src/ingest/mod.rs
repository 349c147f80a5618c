//! Ingests S3 events: parses queue messages, checks each record, and appends it to the feed log.
//!
//! This is the only module that uses the queue, the bucket and the log together.

mod inspector;
mod outcome;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tracing::{debug, warn};

use crate::{
    bucket::{Bucket, Ping},
    events::{self, MessageBody, ObjectEvent, RecordError},
    feed::{EventKind, FeedEvent, ObjectKey, Photo},
    log::{AppendOutcome, FeedLog, LogError, Proof},
    queue::{Disposition, Handler, Message},
};

use outcome::{DropReason, IngestError};

pub use inspector::{Inspector, InspectorConfig, RejectAction};

/// The [`Handler`] that appends the events of a bucket to the feed log.
#[derive(Debug)]
pub struct IngestHandler {
    bucket: Bucket,
    log: Arc<dyn FeedLog>,
    inspector: Option<Inspector>,
}

/// The result of ingesting one record.
enum RecordOutcome {
    Announced,
    Dropped(DropReason),
}

impl IngestHandler {
    /// Creates a handler for the events of `bucket`. Without an inspector, uploads are announced without
    /// being inspected.
    #[must_use]
    pub fn new(bucket: Bucket, log: Arc<dyn FeedLog>, inspector: Option<Inspector>) -> Self {
        Self { bucket, log, inspector }
    }

    async fn ingest_record(
        &self,
        record: Result<ObjectEvent, RecordError>,
    ) -> Result<RecordOutcome, IngestError> {
        let object = record?;
        if let Some(reason) = self.acknowledge_doctor_ping(&object).await {
            return Ok(RecordOutcome::Dropped(reason));
        }
        let has_version = object.version_id.is_some();
        let event = match self.to_feed_event(object) {
            Ok(event) => event,
            Err(reason) => return Ok(RecordOutcome::Dropped(reason)),
        };
        // S3 reports the deletion of a version like that of an object, but the object may still exist in
        // another version.
        if event.kind == EventKind::Removed && event.event_name.ends_with(":Delete") && has_version {
            return self.append_if_bucket_confirms(event).await;
        }
        if let (EventKind::Uploaded, Some(inspector)) = (event.kind, &self.inspector) {
            // The inspection has read the object, which proves that it exists: no HEAD is needed.
            return match inspector.inspect(&self.bucket, event).await? {
                Ok(event) => Ok(self.append(event, Proof::Bucket).await?.into()),
                Err(reason) => Ok(RecordOutcome::Dropped(reason)),
            };
        }
        match self.append(event.clone(), Proof::Event).await? {
            AppendOutcome::Unproven => self.append_if_bucket_confirms(event).await,
            outcome => Ok(outcome.into()),
        }
    }

    /// Acknowledges the test upload of `photoshare doctor`, which waits for its event to arrive. Returns
    /// `None` for other events. A failure is only logged: no feed is affected, and no retry is needed.
    async fn acknowledge_doctor_ping(&self, object: &ObjectEvent) -> Option<DropReason> {
        let is_upload = object.bucket == self.bucket.name()
            && parse_event_kind(&object.name) == Some(EventKind::Uploaded);
        let ping = is_upload.then(|| Ping::parse(self.bucket.prefix(), &object.key)).flatten()?;
        if let Err(error) = self.bucket.acknowledge_ping(&ping).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "failed to acknowledge the test upload of photoshare doctor"
            );
        }
        Some(DropReason::DoctorPing)
    }

    /// Appends an upload if the object exists, and a removal if it does not.
    async fn append_if_bucket_confirms(&self, event: FeedEvent) -> Result<RecordOutcome, IngestError> {
        let stored = self.bucket.head_object(&event.key).await?;
        match (event.kind, stored) {
            (EventKind::Uploaded, None) => Ok(RecordOutcome::Dropped(DropReason::ObjectMissing)),
            (EventKind::Removed, Some(_)) => Ok(RecordOutcome::Dropped(DropReason::ObjectExists)),
            _ => Ok(self.append(event, Proof::Bucket).await?.into()),
        }
    }

    async fn append(&self, event: FeedEvent, proof: Proof) -> Result<AppendOutcome, LogError> {
        self.log.append(event, proof, Timestamp::now()).await
    }

    fn to_feed_event(&self, object: ObjectEvent) -> Result<FeedEvent, DropReason> {
        if object.bucket != self.bucket.name() {
            return Err(DropReason::OtherBucket);
        }
        let kind = parse_event_kind(&object.name).ok_or(DropReason::OtherEvent)?;
        let key =
            ObjectKey::parse(self.bucket.prefix(), &object.key).map_err(|_| DropReason::NotAPhotoKey)?;
        let photo = match kind {
            EventKind::Removed => Photo::default(),
            EventKind::Uploaded => Photo {
                size: object.size,
                e_tag: object.e_tag,
                version_id: object.version_id,
                ..Photo::default()
            },
        };
        Ok(FeedEvent {
            kind,
            key,
            event_name: object.name,
            event_time: object.time,
            sequencer: object.sequencer,
            photo,
        })
    }

    /// Ingests one record, counts the result, and returns what it requires of the message.
    async fn handle_record(
        &self,
        message: &Message,
        record: Result<ObjectEvent, RecordError>,
    ) -> Disposition {
        match self.ingest_record(record).await {
            Ok(RecordOutcome::Announced) => {
                metrics::counter!("photoshare_events_announced_total").increment(1);
                Disposition::Delete
            }
            Ok(RecordOutcome::Dropped(reason)) => {
                metrics::counter!("photoshare_events_dropped_total", "reason" => reason.label()).increment(1);
                Disposition::Delete
            }
            Err(IngestError::UnreadableRecord(error)) => {
                report_unreadable(message, &error);
                Disposition::Redeliver
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "failed to ingest a record, will be retried");
                Disposition::Retry
            }
        }
    }
}

#[async_trait]
impl Handler for IngestHandler {
    /// Deletes the message if each of its records was appended or dropped on purpose.
    ///
    /// A record that can't be parsed keeps the message for the dead-letter queue, and a record that can't
    /// be ingested now keeps it for a retry. Either way the other records are ingested: when the message
    /// is redelivered, the log recognizes them as duplicates.
    async fn handle(&self, message: &Message) -> Disposition {
        let records = match events::parse_body(&message.body) {
            Ok(MessageBody::TestEvent) => {
                debug!("received the test event of S3");
                return Disposition::Delete;
            }
            Ok(MessageBody::Records(records)) => records,
            Err(error) => {
                report_unreadable(message, &error);
                return Disposition::Redeliver;
            }
        };
        let mut disposition = Disposition::Delete;
        for record in records {
            disposition = disposition.max(self.handle_record(message, record).await);
        }
        disposition
    }

    /// A bucket that denies access is available: waiting would not fix its permissions, and pausing would
    /// delay the messages that can be handled.
    async fn is_ready(&self) -> bool {
        let bucket = self.bucket.check_access().await;
        self.log.ping().await.is_ok() && bucket.err().is_none_or(|error| error.is_access_denied())
    }
}

/// Counts an unreadable message each time, and logs it at its first receive only: the queue redelivers it
/// until it moves it to the dead-letter queue.
fn report_unreadable(message: &Message, error: &(dyn std::error::Error + 'static)) {
    metrics::counter!("photoshare_messages_unreadable_total").increment(1);
    if message.receive_count <= 1 {
        warn!(sqs.message_id = message.id, error, "unreadable message, left for the dead-letter queue");
    }
}

impl From<AppendOutcome> for RecordOutcome {
    fn from(outcome: AppendOutcome) -> Self {
        match outcome {
            AppendOutcome::Appended(_) => Self::Announced,
            AppendOutcome::Duplicate => Self::Dropped(DropReason::Duplicate),
            AppendOutcome::Stale | AppendOutcome::Unproven => Self::Dropped(DropReason::Stale),
        }
    }
}

fn parse_event_kind(event_name: &str) -> Option<EventKind> {
    match event_name.split_once(':')? {
        ("ObjectCreated", _) => Some(EventKind::Uploaded),
        ("ObjectRemoved", "Delete" | "DeleteMarkerCreated") | ("LifecycleExpiration", _) => {
            Some(EventKind::Removed)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
