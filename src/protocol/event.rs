//! JSON of photo events, with a view URL that is signed when the event is encoded.

use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use socketioxide_core::Str;

use crate::{
    bucket::{Bucket, BucketUrl},
    feed::{Cursor, EventKind, FeedId, Sequencer},
    log::Entry,
};

/// Slots of the cache. A collision costs one more encoding of the entry that was evicted.
const CACHE_SLOTS: usize = 4096;
/// Bucket URLs per cached entry. With an embedded S3 the URL depends on the `Host` header, which clients
/// choose.
const MAX_BASES_PER_ENTRY: usize = 8;

/// Encodes log entries as events. Each entry is encoded once for all clients that reach the bucket by the
/// same URL, and again when the signing period of its view URL is over.
#[derive(Debug)]
pub struct EventEncoder {
    bucket: Bucket,
    /// Indexed by the entry's tag: tags are random, so no hash is computed for each delivery.
    cache: Mutex<Vec<Option<Box<CachedEntry>>>>,
}

/// The encodings of an entry in one signing period of its view URL.
#[derive(Debug)]
struct CachedEntry {
    feed: FeedId,
    cursor: Cursor,
    period: i64,
    encoded: Vec<(BucketUrl, EncodedEvent)>,
}

/// An encoded event.
#[derive(Debug, Clone)]
pub struct EncodedEvent {
    /// Event name: `imageUploaded` or `imageRemoved`.
    pub event: &'static str,
    /// Event data as JSON.
    pub data: Arc<RawValue>,
    /// Socket.IO payload: a JSON array of name and data.
    pub packet: Str,
}

/// An event and its name.
#[derive(Debug, Clone, Serialize)]
pub struct NamedEvent {
    /// Event name.
    pub event: &'static str,
    /// Event data, encoded already.
    #[serde(serialize_with = "serialize_raw")]
    pub data: Arc<RawValue>,
}

/// A locked [`EventEncoder`], for a run of entries to one client.
pub struct EncoderGuard<'a> {
    bucket: &'a Bucket,
    cache: MutexGuard<'a, Vec<Option<Box<CachedEntry>>>>,
    base: &'a BucketUrl,
    now: Timestamp,
    period: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventPayload<'a> {
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

impl EventEncoder {
    /// Creates an encoder that signs view URLs of `bucket`.
    #[must_use]
    pub fn new(bucket: Bucket) -> Self {
        let cache = std::iter::repeat_with(|| None).take(CACHE_SLOTS).collect();
        Self { bucket, cache: Mutex::new(cache) }
    }
    /// Locks the encoder for clients that reach the bucket by `base`. View URLs are signed as of `now`.
    #[must_use]
    pub fn lock<'a>(&'a self, base: &'a BucketUrl, now: Timestamp) -> EncoderGuard<'a> {
        let cache = self.cache.lock().expect("no panic while held");
        EncoderGuard { bucket: &self.bucket, cache, base, now, period: self.bucket.view_signing_time(now) }
    }
}

impl EncoderGuard<'_> {
    /// Encodes `entry`, or returns the cached encoding.
    #[must_use]
    pub fn encode(&mut self, entry: &Entry) -> &EncodedEvent {
        let Self { cache, base, period, .. } = self;
        let slot = &mut cache[entry.cursor.tag.0 as usize % CACHE_SLOTS];
        slot.take_if(|cached| !cached.matches(entry, *period));
        let CachedEntry { encoded, .. } =
            &mut **slot.get_or_insert_with(|| CachedEntry::new(entry, *period).into());
        let index = if let Some(index) = encoded.iter().position(|(known, _)| known == *base) {
            index
        } else {
            if encoded.len() >= MAX_BASES_PER_ENTRY {
                encoded.clear();
            }
            encoded.push(((*base).clone(), EncodedEvent::new(entry, base, self.bucket, self.now)));
            encoded.len() - 1
        };
        &encoded[index].1
    }
}

impl EncodedEvent {
    fn new(entry: &Entry, base: &BucketUrl, bucket: &Bucket, now: Timestamp) -> Self {
        let event = &entry.event;
        let url = (event.kind == EventKind::Uploaded).then(|| bucket.view_url(base, &event.key, now));
        let (url, url_expires_at) = url.map_or((None, None), |url| (Some(url.url), Some(url.expires_at)));
        let photo = &event.photo;
        let payload = EventPayload {
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
        let data = serde_json::value::to_raw_value(&payload).expect("an event is always JSON");
        let name = event.kind.name();
        Self { event: name, packet: format!(r#"["{name}",{data}]"#).into(), data: data.into() }
    }
}

impl CachedEntry {
    fn new(entry: &Entry, period: i64) -> Self {
        Self { feed: entry.feed().clone(), cursor: entry.cursor, period, encoded: Vec::with_capacity(1) }
    }

    fn matches(&self, entry: &Entry, period: i64) -> bool {
        self.cursor == entry.cursor && self.period == period && self.feed == *entry.feed()
    }
}

impl From<&EncodedEvent> for NamedEvent {
    fn from(encoded: &EncodedEvent) -> Self {
        Self { event: encoded.event, data: encoded.data.clone() }
    }
}

fn serialize_raw<S: Serializer>(data: &Arc<RawValue>, serializer: S) -> Result<S::Ok, S::Error> {
    data.as_ref().serialize(serializer)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        feed::{Epoch, Tag},
        support::{
            entry::entry,
            event::upload,
            feed,
            scripted_aws::{ScriptedAws, empty_long_poll},
        },
    };

    #[tokio::test]
    async fn a_cached_encoding_is_used_only_for_the_same_entry_url_and_period() {
        let aws = ScriptedAws::new(|_| empty_long_poll());
        let (encoder, now) = (EventEncoder::new(aws.bucket().await), Timestamp::now());
        let later = now + jiff::SignedDuration::from_hours(1);
        let first = Cursor { offset: 1, tag: Tag(7), ..Cursor::start(Epoch::random()) };
        let near = BucketUrl { origin: "http://near".into(), path: "".into() };
        let far = BucketUrl { origin: "http://far".into(), path: "".into() };
        let entry_of = |name, cursor| entry(upload(&feed(name), "a.jpg"), cursor);
        let (summer, winter) = (entry_of("summer", first), entry_of("winter", first));
        let next = entry_of("summer", Cursor { offset: 2, ..first });
        let encode =
            |entry: &Entry, base: &BucketUrl, now| encoder.lock(base, now).encode(entry).data.clone();
        let cached = encode(&summer, &near, now);
        assert!(Arc::ptr_eq(&cached, &encode(&summer, &near, now)), "encoded once");
        for (entry, base, now, url_prefix) in [
            (&winter, &near, now, "http://near/winter/"),
            (&next, &near, now, "http://near/summer/"),
            (&summer, &far, now, "http://far/summer/"),
            (&summer, &near, later, "http://near/summer/"),
            (&summer, &near, now, "http://near/summer/"),
        ] {
            let data: Value = serde_json::from_str(encode(entry, base, now).get()).unwrap();
            assert!(data["url"].as_str().unwrap().starts_with(url_prefix), "{data}");
            assert_eq!(data["cursor"], serde_json::json!(entry.cursor), "{data}");
            assert_eq!(data["feed"], entry.feed().as_str());
        }
        let (before, after) = (encode(&summer, &near, now), encode(&summer, &near, later));
        assert_ne!(before.get(), after.get(), "signed again in the next period");
    }
}
