//! Entries of the log, as clients see them: with a signed URL, made when it is handed out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Named;
use crate::{
    bucket::{Base, Bucket},
    feed::{Cursor, Kind, Sequencer},
    log::Entry,
};

/// Entries kept ready. When they are full they are dropped as a whole: making one anew is cheap.
const KEPT: usize = 4096;

/// Shows entries, each encoded once for everybody who reaches the bucket under the same base.
#[derive(Debug)]
pub struct Showcase {
    bucket: Bucket,
    ready: Mutex<HashMap<(Cursor, Base), (i64, Shown)>>,
}

/// An entry as clients see it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The event's name.
    pub event: &'static str,
    /// The event's JSON.
    pub data: Arc<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "S3's own names")]
struct Event<'a> {
    feed: &'a str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e_tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequencer: Option<&'a str>,
    event_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url_expires_at: Option<Timestamp>,
    cursor: Cursor,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caption: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uploaded_by: Option<&'a str>,
}

impl Showcase {
    /// Shows the photos of `bucket`.
    #[must_use]
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket, ready: Mutex::default() }
    }

    /// The bucket whose photos are shown.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// `entry` for those who reach the bucket under `base`.
    #[must_use]
    pub fn show(&self, entry: &Entry, base: &Base, now: Timestamp) -> Shown {
        let period = self.bucket.view_period(now);
        let place = (entry.cursor, base.clone());
        let mut ready = self.ready.lock().expect("no panic while held");
        if let Some((_, shown)) = ready.get(&place).filter(|(made, _)| *made == period) {
            return shown.clone();
        }
        let shown = Shown { event: entry.event.kind.name(), data: self.encode(entry, base, now) };
        if ready.len() >= KEPT {
            ready.clear();
        }
        ready.insert(place, (period, shown.clone()));
        shown
    }

    fn encode(&self, entry: &Entry, base: &Base, now: Timestamp) -> Arc<RawValue> {
        let event = &entry.event;
        let url = (event.kind == Kind::Uploaded).then(|| self.bucket.view_url(base, &event.key, now));
        let (url, url_expires_at) = url.map_or((None, None), |url| (Some(url.url), Some(url.expires_at)));
        let photo = &event.photo;
        let shown = Event {
            feed: event.feed().as_str(),
            key: event.key.as_str(),
            size: photo.size,
            e_tag: photo.e_tag.as_deref(),
            version_id: photo.version_id.as_deref(),
            sequencer: event.sequencer.as_ref().map(Sequencer::as_str),
            event_name: &event.event_name,
            event_time: event.event_time,
            url,
            url_expires_at,
            cursor: entry.cursor,
            content_type: photo.content_type.as_deref(),
            width: photo.width,
            height: photo.height,
            filename: photo.filename.as_deref(),
            caption: photo.caption.as_deref(),
            uploaded_by: photo.uploaded_by.as_deref(),
        };
        serde_json::value::to_raw_value(&shown).expect("an event is always JSON").into()
    }
}

impl From<Shown> for Named {
    fn from(shown: Shown) -> Self {
        Self { event: shown.event, data: shown.data }
    }
}
