//! Builders of log entries, for tests without a log.

use std::{mem, sync::Arc};

use photoshare_server::{
    feed::{Cursor, FeedId, Tag},
    log::Entry,
};

use super::event::{EventBuilder, upload};

/// An entry at `cursor`.
pub fn entry(event: EventBuilder, cursor: Cursor) -> Entry {
    Entry { cursor, previous_tag: Tag(0), event: event.build() }
}

/// Builds the entries of one feed in order, as a log appends them.
#[derive(Debug)]
pub struct EntrySequence {
    feed: FeedId,
    end: Cursor,
}

impl EntrySequence {
    /// The first entry follows `end`.
    pub fn after(feed: &FeedId, end: Cursor) -> Self {
        Self { feed: feed.clone(), end }
    }

    /// Builds the next entry, an upload.
    pub fn next_upload(&mut self) -> Arc<Entry> {
        let cursor = Cursor { offset: self.end.offset + 1, tag: Tag::random(), ..self.end };
        let previous_tag = mem::replace(&mut self.end, cursor).tag;
        let event = upload(&self.feed, &format!("{}.jpg", cursor.offset)).build();
        Arc::new(Entry { cursor, previous_tag, event })
    }
}
