//! Entries as they are kept in Redis. Fields may be added; readers ignore what they don't know, so that
//! processes of two versions can share a log while one replaces the other.

use std::borrow::Cow;

use jiff::Timestamp;
use redis::streams::StreamId;
use serde::{Deserialize, Serialize};

use crate::{
    feed::{
        Cursor, Epoch, FeedEvent, FeedId, FeedIdError, KeyError, KeyPrefix, KeyPrefixError, Kind, ObjectKey,
        Photo, Sequencer, Tag,
    },
    log::Entry,
};

/// What is in Redis is not what was put there.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("entry {id} has no proper field {field}")]
    Field { id: String, field: &'static str },
    #[error("event")]
    Event(#[from] serde_json::Error),
    #[error("feed of an event")]
    Feed(#[from] FeedIdError),
    #[error("key prefix of an event")]
    Prefix(#[from] KeyPrefixError),
    #[error("key of an event")]
    Key(#[from] KeyError),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored<'a> {
    removed: bool,
    prefix: Cow<'a, str>,
    feed: Cow<'a, str>,
    name: Cow<'a, str>,
    event_name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequencer: Option<Sequencer>,
    #[serde(flatten)]
    photo: StoredPhoto,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredPhoto {
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e_tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caption: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uploaded_by: Option<String>,
}

/// The event as text.
pub(super) fn encode(event: &FeedEvent) -> String {
    let photo = event.photo.clone();
    let stored = Stored {
        removed: event.kind == Kind::Removed,
        prefix: event.key.prefix().into(),
        feed: event.feed().as_str().into(),
        name: event.key.name().into(),
        event_name: event.event_name.as_str().into(),
        event_time: event.event_time,
        sequencer: event.sequencer.clone(),
        photo: StoredPhoto {
            size: photo.size,
            e_tag: photo.e_tag,
            version_id: photo.version_id,
            content_type: photo.content_type,
            width: photo.width,
            height: photo.height,
            filename: photo.filename,
            caption: photo.caption,
            uploaded_by: photo.uploaded_by,
        },
    };
    serde_json::to_string(&stored).expect("an event is always JSON")
}

fn decode(text: &str) -> Result<FeedEvent, DecodeError> {
    let stored: Stored<'_> = serde_json::from_str(text)?;
    let feed = FeedId::parse(&stored.feed)?;
    let key = ObjectKey::build(&KeyPrefix::parse(&stored.prefix)?, &feed, &stored.name)?;
    let photo = stored.photo;
    Ok(FeedEvent {
        kind: if stored.removed { Kind::Removed } else { Kind::Uploaded },
        key,
        event_name: stored.event_name.into_owned(),
        event_time: stored.event_time,
        sequencer: stored.sequencer,
        photo: Photo {
            size: photo.size,
            e_tag: photo.e_tag,
            version_id: photo.version_id,
            content_type: photo.content_type,
            width: photo.width,
            height: photo.height,
            filename: photo.filename,
            caption: photo.caption,
            uploaded_by: photo.uploaded_by,
        },
    })
}

/// An entry of a feed's own stream, whose ids are the offsets.
pub(super) fn entry_of_feed(id: &StreamId, epoch: Epoch) -> Result<Entry, DecodeError> {
    let offset = id.id.split_once('-').and_then(|(offset, _)| offset.parse().ok());
    entry(id, epoch, offset.ok_or_else(|| no_field(id, "offset"))?)
}

/// An entry of a shard's tail.
pub(super) fn entry_of_tail(id: &StreamId) -> Result<Entry, DecodeError> {
    let epoch = field(id, "l")?;
    let offset: u64 = field(id, "o")?.parse().map_err(|_| no_field(id, "o"))?;
    entry(id, epoch_of(&epoch).ok_or_else(|| no_field(id, "l"))?, offset)
}

fn entry(id: &StreamId, epoch: Epoch, offset: u64) -> Result<Entry, DecodeError> {
    let tag = |name| field(id, name).and_then(|text| tag_of(&text).ok_or_else(|| no_field(id, name)));
    Ok(Entry {
        cursor: Cursor { epoch, offset, tag: tag("t")? },
        previous: tag("p")?,
        event: decode(&field(id, "e")?)?,
    })
}

fn field(id: &StreamId, name: &'static str) -> Result<String, DecodeError> {
    id.get(name).ok_or_else(|| no_field(id, name))
}

fn no_field(id: &StreamId, field: &'static str) -> DecodeError {
    DecodeError::Field { id: id.id.clone(), field }
}

pub(super) fn epoch_text(epoch: Epoch) -> String {
    format!("{:016x}", epoch.0)
}

pub(super) fn epoch_of(text: &str) -> Option<Epoch> {
    u64::from_str_radix(text, 16).ok().map(Epoch)
}

pub(super) fn tag_text(tag: Tag) -> String {
    format!("{:08x}", tag.0)
}

pub(super) fn tag_of(text: &str) -> Option<Tag> {
    u32::from_str_radix(text, 16).ok().map(Tag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_event_survives_the_way_through_redis(
            removed: bool, name in "[^/.]{1,40}", size: Option<u64>, caption: Option<String>, time in 0_i64..4_000_000_000_000,
        ) {
            let feed = FeedId::parse("Größe").unwrap();
            let prefix = KeyPrefix::parse("app/").unwrap();
            let event = FeedEvent {
                kind: if removed { Kind::Removed } else { Kind::Uploaded },
                key: ObjectKey::build(&prefix, &feed, &name).unwrap(),
                event_name: "ObjectCreated:Put".into(),
                event_time: Some(Timestamp::from_millisecond(time).unwrap()),
                sequencer: Some(Sequencer::parse("0061aF").unwrap()),
                photo: Photo { size, caption, ..Photo::default() },
            };
            prop_assert_eq!(decode(&encode(&event)).unwrap(), event);
        }
    }

    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let text = r#"{"removed":false,"prefix":"","feed":"f","name":"a.jpg","eventName":"ObjectCreated:Put","later":{"x":1}}"#;
        assert_eq!(decode(text).unwrap().key.as_str(), "f/a.jpg");
    }
}
