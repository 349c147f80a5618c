//! From a queue message to the feed log: the only place where queue, events, bucket and log meet.

mod look;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use tracing::{debug, warn};

use crate::{
    bucket::{Bucket, BucketError, Ping},
    events::{self, Body, ObjectEvent, RecordError},
    feed::{FeedEvent, Kind, ObjectKey, Photo},
    log::{FeedLog, LogError, Outcome, Proof},
    queue::{Disposition, Handler, Message},
};

pub use look::{Inspector, InspectorRules, Unwelcome};

/// Turns what S3 says into what feeds tell.
#[derive(Debug)]
pub struct Ingest {
    bucket: Bucket,
    log: Arc<dyn FeedLog>,
    inspector: Option<Inspector>,
}

/// Why a record was not announced, on purpose. The names are the `reason` label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dropped {
    OtherBucket,
    NoPhotoKey,
    OtherEvent,
    Doctor,
    Duplicate,
    Stale,
    Gone,
    StillThere,
    NotAllowed,
}

/// What came of one record.
enum Told {
    Announced,
    Dropped(Dropped),
}

/// A record could not be dealt with now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Unreadable(#[from] RecordError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("no look at {key} in {}s", .limit.as_secs())]
    TimeOut { key: ObjectKey, limit: Duration },
}

impl Ingest {
    /// Ingests the events of `bucket` into `log`; announces unseen where there is no inspector.
    #[must_use]
    pub fn new(bucket: Bucket, log: Arc<dyn FeedLog>, inspector: Option<Inspector>) -> Self {
        Self { bucket, log, inspector }
    }

    async fn record(&self, record: Result<ObjectEvent, RecordError>) -> Result<Told, Trouble> {
        let object = record?;
        if let Some(dropped) = self.answer_doctor(&object).await {
            return Ok(Told::Dropped(dropped));
        }
        let names_version = object.version_id.is_some();
        let event = match self.feed_event(object) {
            Ok(event) => event,
            Err(dropped) => return Ok(Told::Dropped(dropped)),
        };
        // S3 tells of the end of one version like of a deletion; the photo may live on in another.
        if event.kind == Kind::Removed && event.event_name.ends_with(":Delete") && names_version {
            return self.append_if_bucket_agrees(event).await;
        }
        if let (Kind::Uploaded, Some(inspector)) = (event.kind, &self.inspector) {
            // The look is the bucket's word, too: no further question about it is needed.
            return match inspector.look_at(&self.bucket, event).await? {
                Ok(event) => Ok(told(self.log.append(event, Proof::Bucket, Timestamp::now()).await?)),
                Err(dropped) => Ok(Told::Dropped(dropped)),
            };
        }
        match self.log.append(event.clone(), Proof::Event, Timestamp::now()).await? {
            Outcome::Unproven => self.append_if_bucket_agrees(event).await,
            outcome => Ok(told(outcome)),
        }
    }

    /// Tells a doctor who looks on that its object's event came all the way. Nobody else waits for that:
    /// an answer that can't be given is no reason to keep the message.
    async fn answer_doctor(&self, object: &ObjectEvent) -> Option<Dropped> {
        let ours = object.bucket == self.bucket.name() && kind(&object.name) == Some(Kind::Uploaded);
        let ping = ours.then(|| Ping::parse(self.bucket.prefix(), &object.key)).flatten()?;
        if let Err(error) = self.bucket.answer(&ping).await {
            warn!(error = &error as &dyn std::error::Error, "the doctor was not answered");
        }
        Some(Dropped::Doctor)
    }

    async fn append_if_bucket_agrees(&self, event: FeedEvent) -> Result<Told, Trouble> {
        let stored = self.bucket.head(&event.key).await?;
        match (event.kind, stored) {
            (Kind::Uploaded, None) => Ok(Told::Dropped(Dropped::Gone)),
            (Kind::Removed, Some(_)) => Ok(Told::Dropped(Dropped::StillThere)),
            _ => Ok(told(self.log.append(event, Proof::Bucket, Timestamp::now()).await?)),
        }
    }

    fn feed_event(&self, object: ObjectEvent) -> Result<FeedEvent, Dropped> {
        if object.bucket != self.bucket.name() {
            return Err(Dropped::OtherBucket);
        }
        let kind = kind(&object.name).ok_or(Dropped::OtherEvent)?;
        let key = ObjectKey::parse(self.bucket.prefix(), &object.key).map_err(|_| Dropped::NoPhotoKey)?;
        let photo = match kind {
            Kind::Removed => Photo::default(),
            Kind::Uploaded => Photo {
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
}

#[async_trait]
impl Handler for Ingest {
    /// Deletes the message once each of its records is in the log or dropped on purpose. A record that
    /// can't be read keeps the message for the dead-letter queue, one that can't be dealt with now keeps it
    /// for later; the others are announced all the same.
    async fn handle(&self, message: &Message) -> Disposition {
        let records = match events::parse(&message.body) {
            Ok(Body::TestEvent) => {
                debug!("test event");
                return Disposition::Delete;
            }
            Ok(Body::Records(records)) => records,
            Err(error) => {
                poison(message, &error);
                return Disposition::Redeliver;
            }
        };
        let mut disposition = Disposition::Delete;
        for record in records {
            match self.record(record).await {
                Ok(Told::Announced) => metrics::counter!("photoshare_events_announced_total").increment(1),
                Ok(Told::Dropped(dropped)) => {
                    metrics::counter!("photoshare_events_dropped_total", "reason" => dropped.reason())
                        .increment(1);
                }
                Err(Trouble::Unreadable(error)) => {
                    poison(message, &error);
                    if disposition == Disposition::Delete {
                        disposition = Disposition::Redeliver;
                    }
                }
                Err(trouble) => {
                    warn!(error = &trouble as &dyn std::error::Error, "left to come again");
                    disposition = Disposition::Retry;
                }
            }
        }
        disposition
    }

    /// A bucket that refuses is there: it is one message's trouble, and waiting would not mend it.
    async fn ready(&self) -> bool {
        let bucket = self.bucket.ping().await;
        self.log.ping().await.is_ok() && bucket.err().is_none_or(|error| error.is_refusal())
    }
}

/// A message that can't be read comes again until the queue gives it up: said once, counted each time.
fn poison(message: &Message, error: &(dyn std::error::Error + 'static)) {
    metrics::counter!("photoshare_messages_unreadable_total").increment(1);
    if message.receive_count <= 1 {
        warn!(sqs.message_id = message.id, error, "unreadable, left for the dead-letter queue");
    }
}

fn told(outcome: Outcome) -> Told {
    match outcome {
        Outcome::Appended(_) => Told::Announced,
        Outcome::Duplicate => Told::Dropped(Dropped::Duplicate),
        Outcome::Stale | Outcome::Unproven => Told::Dropped(Dropped::Stale),
    }
}

fn kind(event_name: &str) -> Option<Kind> {
    match event_name.split_once(':')? {
        ("ObjectCreated", _) => Some(Kind::Uploaded),
        ("ObjectRemoved", "Delete" | "DeleteMarkerCreated") | ("LifecycleExpiration", _) => {
            Some(Kind::Removed)
        }
        _ => None,
    }
}

impl Dropped {
    fn reason(self) -> &'static str {
        match self {
            Self::OtherBucket => "other_bucket",
            Self::NoPhotoKey => "no_photo_key",
            Self::OtherEvent => "other_event",
            Self::Doctor => "doctor",
            Self::Duplicate => "duplicate",
            Self::Stale => "stale",
            Self::Gone => "gone",
            Self::StillThere => "still_there",
            Self::NotAllowed => "not_allowed",
        }
    }
}

#[cfg(test)]
mod tests;
