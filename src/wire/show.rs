//! Entries of the log, as clients see them: with a signed URL, made when it is handed out.

use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide_core::Str;

use super::Named;
use crate::{
    bucket::{Base, Bucket},
    feed::{Cursor, FeedId, Kind, Sequencer},
    log::Entry,
};

/// Entries kept ready. One that takes the place of another costs no more than making that one anew.
const KEPT: usize = 4096;
/// Bases under which an entry is kept ready.
const BASES: usize = 8;

/// Shows entries, each encoded once for everybody who reaches the bucket under the same base.
#[derive(Debug)]
pub struct Showcase {
    bucket: Bucket,
    /// Their places are given by their tags, which are random.
    ready: Mutex<Vec<Option<Box<Ready>>>>,
}

/// An entry in the period for which its URLs are signed.
#[derive(Debug)]
struct Ready {
    feed: FeedId,
    cursor: Cursor,
    period: i64,
    shown: Vec<(Base, Shown)>,
}

/// An entry as clients see it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The event's name.
    pub event: &'static str,
    /// The event's JSON.
    pub data: Arc<RawValue>,
    /// Both, as Socket.IO's packets hold them.
    pub packet: Str,
}

/// The showcase, as long as somebody looks at it.
pub struct Showing<'a> {
    bucket: &'a Bucket,
    ready: MutexGuard<'a, Vec<Option<Box<Ready>>>>,
    base: &'a Base,
    now: Timestamp,
    period: i64,
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
        let ready = std::iter::repeat_with(|| None).take(KEPT).collect();
        Self { bucket, ready: Mutex::new(ready) }
    }

    /// The bucket whose photos are shown.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Opens it for those who reach the bucket under `base`.
    #[must_use]
    pub fn open<'a>(&'a self, base: &'a Base, now: Timestamp) -> Showing<'a> {
        let ready = self.ready.lock().expect("no panic while held");
        Showing { bucket: &self.bucket, ready, base, now, period: self.bucket.view_period(now) }
    }
}

impl Showing<'_> {
    /// Shows `entry`.
    #[must_use]
    pub fn show(&mut self, entry: &Entry) -> &Shown {
        let Self { ready, base, period, .. } = self;
        let place = &mut ready[entry.cursor.tag.0 as usize % KEPT];
        place.take_if(|ready| !ready.is(entry, *period));
        let Ready { shown, .. } = &mut **place.get_or_insert_with(|| Ready::new(entry, *period).into());
        let at = if let Some(at) = shown.iter().position(|(known, _)| known == *base) {
            at
        } else {
            if shown.len() >= BASES {
                shown.clear();
            }
            shown.push(((*base).clone(), Shown::new(entry, base, self.bucket, self.now)));
            shown.len() - 1
        };
        &shown[at].1
    }
}

impl Shown {
    fn new(entry: &Entry, base: &Base, bucket: &Bucket, now: Timestamp) -> Self {
        let event = &entry.event;
        let url = (event.kind == Kind::Uploaded).then(|| bucket.view_url(base, &event.key, now));
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
        let data = serde_json::value::to_raw_value(&shown).expect("an event is always JSON");
        let name = event.kind.name();
        Self { event: name, packet: format!(r#"["{name}",{data}]"#).into(), data: data.into() }
    }
}

impl Ready {
    fn new(entry: &Entry, period: i64) -> Self {
        Self { feed: entry.feed().clone(), cursor: entry.cursor, period, shown: Vec::with_capacity(1) }
    }

    fn is(&self, entry: &Entry, period: i64) -> bool {
        self.cursor == entry.cursor && self.period == period && self.feed == *entry.feed()
    }
}

impl From<&Shown> for Named {
    fn from(shown: &Shown) -> Self {
        Self { event: shown.event, data: shown.data.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::{
        bucket::Lives,
        feed::{Epoch, FeedEvent, KeyPrefix, ObjectKey, Photo, Tag},
        queue::scripted::{Sqs, nothing},
    };

    async fn showcase() -> Showcase {
        let lives = Lives { view: Duration::from_hours(1), upload_max: Duration::from_hours(1) };
        let sqs = Sqs::new(|_| nothing());
        Showcase::new(Bucket::connect(&sqs.sdk(), "photos", KeyPrefix::default(), lives).await.unwrap())
    }

    fn entry(feed: &str, cursor: Cursor) -> Entry {
        let key = ObjectKey::parse(&KeyPrefix::default(), &format!("{feed}/a.jpg")).unwrap();
        let (event_name, photo) = ("ObjectCreated:Put".into(), Photo::default());
        let event =
            FeedEvent { kind: Kind::Uploaded, key, event_name, event_time: None, sequencer: None, photo };
        Entry { cursor, previous: Tag(0), event }
    }

    #[tokio::test]
    async fn what_is_kept_ready_is_shown_only_where_it_belongs() {
        let (showcase, now) = (showcase().await, Timestamp::now());
        let later = now + jiff::SignedDuration::from_hours(1);
        let first = Cursor { offset: 1, tag: Tag(7), ..Cursor::start(Epoch::random()) };
        let near = Base { origin: "http://near".into(), path: "".into() };
        let far = Base { origin: "http://far".into(), path: "".into() };
        let (summer, winter) = (entry("summer", first), entry("winter", first));
        let next = entry("summer", Cursor { offset: 2, ..first });
        let told = |entry: &Entry, base: &Base, now| showcase.open(base, now).show(entry).data.clone();
        let kept = told(&summer, &near, now);
        assert!(Arc::ptr_eq(&kept, &told(&summer, &near, now)), "encoded once");
        for (entry, base, when, beginning) in [
            (&winter, &near, now, "http://near/winter/"),
            (&next, &near, now, "http://near/summer/"),
            (&summer, &far, now, "http://far/summer/"),
            (&summer, &near, later, "http://near/summer/"),
            (&summer, &near, now, "http://near/summer/"),
        ] {
            let shown: Value = serde_json::from_str(told(entry, base, when).get()).unwrap();
            assert!(shown["url"].as_str().unwrap().starts_with(beginning), "{shown}");
            assert_eq!(shown["cursor"], serde_json::json!(entry.cursor), "{shown}");
            assert_eq!(shown["feed"], entry.feed().as_str());
        }
        let (before, after) = (told(&summer, &near, now), told(&summer, &near, later));
        assert_ne!(before.get(), after.get(), "signed anew in the next period");
    }
}
