//! Builders of events, which tests can append to a log.

use photoshare_server::{
    feed::{EventKind, FeedEvent, FeedId, KeyPrefix, ObjectKey, Photo, Sequencer},
    log::{AppendOutcome, FeedLog, LogError, Proof},
};

use super::second;

/// Builds an event. By default an upload at second 10 with sequencer `01`, appended at once and confirmed by
/// the bucket.
#[derive(Debug, Clone)]
pub struct EventBuilder {
    key: ObjectKey,
    kind: EventKind,
    sequencer: Option<Sequencer>,
    time: Option<i64>,
    photo: Photo,
    append_time: i64,
    proof: Proof,
}

/// An upload of `{feed}/{name}`.
pub fn upload(feed: &FeedId, name: &str) -> EventBuilder {
    EventBuilder {
        key: ObjectKey::build(&KeyPrefix::default(), feed, name).unwrap(),
        kind: EventKind::Uploaded,
        sequencer: Some(Sequencer::parse("01").unwrap()),
        time: Some(10),
        photo: Photo { size: Some(7), ..Photo::default() },
        append_time: 10,
        proof: Proof::Bucket,
    }
}

/// A removal of `{feed}/{name}`.
pub fn removal(feed: &FeedId, name: &str) -> EventBuilder {
    upload(feed, name).kind(EventKind::Removed).photo(Photo::default())
}

impl EventBuilder {
    /// Sets the key prefix of the bucket.
    pub fn prefix(self, prefix: &KeyPrefix) -> Self {
        Self { key: ObjectKey::build(prefix, self.key.feed(), self.key.name()).unwrap(), ..self }
    }

    pub fn kind(self, kind: EventKind) -> Self {
        Self { kind, ..self }
    }

    pub fn sequencer(self, sequencer: &str) -> Self {
        Self { sequencer: Some(Sequencer::parse(sequencer).unwrap()), ..self }
    }

    pub fn without_sequencer(self) -> Self {
        Self { sequencer: None, ..self }
    }

    /// Sets the time of the event, in seconds.
    pub fn at(self, second: i64) -> Self {
        Self { time: Some(second), ..self }
    }

    pub fn without_time(self) -> Self {
        Self { time: None, ..self }
    }

    pub fn photo(self, photo: Photo) -> Self {
        Self { photo, ..self }
    }

    /// Sets the time at which the event is appended, in seconds.
    pub fn appended_at(self, second: i64) -> Self {
        Self { append_time: second, ..self }
    }

    /// Appends the event without a confirmation of the bucket.
    pub fn unconfirmed(self) -> Self {
        Self { proof: Proof::Event, ..self }
    }

    pub fn key(&self) -> ObjectKey {
        self.key.clone()
    }

    pub fn build(self) -> FeedEvent {
        let event_name = match self.kind {
            EventKind::Uploaded => "ObjectCreated:Put",
            EventKind::Removed => "ObjectRemoved:Delete",
        };
        FeedEvent {
            kind: self.kind,
            key: self.key,
            event_name: event_name.into(),
            event_time: self.time.map(second),
            sequencer: self.sequencer,
            photo: self.photo,
        }
    }

    /// Appends the event to `log`.
    pub async fn append_to(self, log: &dyn FeedLog) -> Result<AppendOutcome, LogError> {
        let (proof, now) = (self.proof, second(self.append_time));
        log.append(self.build(), proof, now).await
    }
}
