//! Entries as they are stored in Redis.
//!
//! New fields may be added, and readers ignore unknown ones: during a deployment, processes of two versions
//! share the log.

use std::borrow::Cow;

use jiff::Timestamp;
use redis::streams::StreamId;
use serde::{Deserialize, Serialize};

use crate::{
    feed::{
        Cursor, Epoch, EventKind, FeedEvent, FeedId, FeedIdError, KeyError, KeyPrefix, KeyPrefixError,
        ObjectKey, Photo, Sequencer, Tag,
    },
    log::Entry,
};

/// An entry in Redis that this version cannot decode.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("field {field} of entry {id} is missing or malformed")]
    Field { id: String, field: &'static str },
    #[error("failed to parse the event as JSON")]
    Event(#[from] serde_json::Error),
    #[error("the event has an invalid feed")]
    Feed(#[from] FeedIdError),
    #[error("the event has an invalid key prefix")]
    Prefix(#[from] KeyPrefixError),
    #[error("the event has an invalid object key")]
    Key(#[from] KeyError),
}

/// The JSON of an event: the field `e` of a stream entry.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventRecord<'a> {
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
    photo: PhotoRecord,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PhotoRecord {
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

/// Encodes an event as JSON.
pub(super) fn encode_event(event: &FeedEvent) -> String {
    let photo = event.photo.clone();
    let record = EventRecord {
        removed: event.kind == EventKind::Removed,
        prefix: event.key.prefix().into(),
        feed: event.feed().as_str().into(),
        name: event.key.name().into(),
        event_name: event.event_name.as_str().into(),
        event_time: event.event_time,
        sequencer: event.sequencer.clone(),
        photo: PhotoRecord {
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
    serde_json::to_string(&record).expect("an event has a JSON form")
}

fn decode_event(text: &str) -> Result<FeedEvent, DecodeError> {
    let record: EventRecord<'_> = serde_json::from_str(text)?;
    let feed = FeedId::parse(&record.feed)?;
    let key = ObjectKey::build(&KeyPrefix::parse(&record.prefix)?, &feed, &record.name)?;
    let photo = record.photo;
    Ok(FeedEvent {
        kind: if record.removed { EventKind::Removed } else { EventKind::Uploaded },
        key,
        event_name: record.event_name.into_owned(),
        event_time: record.event_time,
        sequencer: record.sequencer,
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

/// Decodes an entry of a feed's stream. Its id is the offset.
pub(super) fn decode_feed_entry(id: &StreamId, epoch: Epoch) -> Result<Entry, DecodeError> {
    let offset = id.id.split_once('-').and_then(|(offset, _)| offset.parse().ok());
    decode_entry(id, epoch, offset.ok_or_else(|| invalid_field(id, "offset"))?)
}

/// Decodes an entry of a shard's tail. Its fields hold the epoch and the offset.
pub(super) fn decode_tail_entry(id: &StreamId) -> Result<Entry, DecodeError> {
    let epoch = read_field(id, "l")?;
    let offset: u64 = read_field(id, "o")?.parse().map_err(|_| invalid_field(id, "o"))?;
    decode_entry(id, parse_epoch(&epoch).ok_or_else(|| invalid_field(id, "l"))?, offset)
}

fn decode_entry(id: &StreamId, epoch: Epoch, offset: u64) -> Result<Entry, DecodeError> {
    let tag =
        |name| read_field(id, name).and_then(|text| parse_tag(&text).ok_or_else(|| invalid_field(id, name)));
    Ok(Entry {
        cursor: Cursor { epoch, offset, tag: tag("t")? },
        previous_tag: tag("p")?,
        event: decode_event(&read_field(id, "e")?)?,
    })
}

fn read_field(id: &StreamId, name: &'static str) -> Result<String, DecodeError> {
    id.get(name).ok_or_else(|| invalid_field(id, name))
}

fn invalid_field(id: &StreamId, field: &'static str) -> DecodeError {
    DecodeError::Field { id: id.id.clone(), field }
}

pub(super) fn format_epoch(epoch: Epoch) -> String {
    format!("{:016x}", epoch.0)
}

pub(super) fn parse_epoch(text: &str) -> Option<Epoch> {
    u64::from_str_radix(text, 16).ok().map(Epoch)
}

pub(super) fn format_tag(tag: Tag) -> String {
    format!("{:08x}", tag.0)
}

pub(super) fn parse_tag(text: &str) -> Option<Tag> {
    u32::from_str_radix(text, 16).ok().map(Tag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::support::{event::upload, feed};

    proptest! {
        #[test]
        fn an_event_is_the_same_after_encoding_and_decoding(
            removed: bool, name in "[^/.]{1,40}", size: Option<u64>, caption: Option<String>, time in 0_i64..4_000_000_000_000,
        ) {
            let mut event = upload(&feed("Größe"), &name)
                .prefix(&KeyPrefix::parse("app/").unwrap())
                .kind(if removed { EventKind::Removed } else { EventKind::Uploaded })
                .sequencer("0061aF")
                .photo(Photo { size, caption, ..Photo::default() })
                .build();
            event.event_time = Some(Timestamp::from_millisecond(time).unwrap());
            prop_assert_eq!(decode_event(&encode_event(&event)).unwrap(), event);
        }
    }

    #[test]
    fn fields_of_a_newer_version_are_ignored() {
        let text = r#"{"removed":false,"prefix":"","feed":"f","name":"a.jpg","eventName":"ObjectCreated:Put","later":{"x":1}}"#;
        assert_eq!(decode_event(text).unwrap().key.as_str(), "f/a.jpg");
    }
}
