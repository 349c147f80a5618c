//! Where one subscriber is in its feed.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Refused, Subscriber, VISIT};
use crate::{
    feed::{Cursor, FeedId},
    log::Entry,
};

/// One subscriber's place.
pub(super) struct Place {
    subscriber: Arc<dyn Subscriber>,
    pub(super) position: Cursor,
    /// Nothing is told until an answer to it has been put together.
    pub(super) paused: bool,
    /// Apart, since hardly anybody has it at any time.
    behind: Option<Box<Behind>>,
}

/// What one has that can't be told from the window, or not now.
#[derive(Default)]
pub(super) struct Behind {
    /// Read from the log for this one alone, older than the window.
    pub(super) backlog: VecDeque<Arc<Entry>>,
    /// The read whose answer is waited for; others come too late.
    pub(super) reading: Option<u64>,
    /// Whether its position is one of the log's is to be asked of the log.
    pub(super) doubtful: bool,
    /// The log can't prove the way to here: this is its end, and the subscriber is to be told so.
    pub(super) lost: Option<Cursor>,
    full_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    UpToDate,
    /// There is more, for another time.
    More,
    NeedsLog,
}

impl Place {
    pub(super) fn new(subscriber: Arc<dyn Subscriber>, position: Cursor) -> Self {
        Self { subscriber, position, paused: false, behind: None }
    }

    pub(super) fn behind(&mut self) -> &mut Behind {
        self.behind.get_or_insert_default()
    }

    /// Notes that the log is read for it, unless it is already.
    pub(super) fn reads(&mut self, number: u64) -> bool {
        let reading = &mut self.behind().reading;
        let begins = reading.is_none();
        reading.get_or_insert(number);
        begins
    }

    /// What the answer to that read is for, if it is still waited for.
    pub(super) fn answered(&mut self, number: u64) -> Option<&mut Behind> {
        let behind = self.behind.as_mut().filter(|behind| behind.reading == Some(number))?;
        behind.reading = None;
        Some(behind)
    }

    /// Tells what is there, as far as it is taken, and not too much at a time.
    pub(super) fn tell(
        &mut self,
        feed: &FeedId,
        window: &VecDeque<Arc<Entry>>,
        end: Cursor,
    ) -> Result<Progress, Refused> {
        if self.paused {
            return Ok(Progress::UpToDate);
        }
        if self.catch_up(feed)? == Progress::More {
            return Ok(Progress::More);
        }
        let doubtful = self.behind.as_ref().is_some_and(|behind| behind.doubtful);
        if doubtful || self.position.epoch != end.epoch {
            return Ok(Progress::NeedsLog);
        }
        if self.position.offset >= end.offset {
            return Ok(Progress::UpToDate);
        }
        let missing = usize::try_from(end.offset - self.position.offset).unwrap_or(usize::MAX);
        let Some(from) = window.len().checked_sub(missing) else {
            return Ok(Progress::NeedsLog);
        };
        // Each entry of the window follows the one before.
        if !window[from].follows(self.position) {
            return Ok(Progress::NeedsLog);
        }
        self.deliver(&mut window.range(from..).map(Arc::as_ref).take(VISIT))?;
        Ok(if missing > VISIT { Progress::More } else { Progress::UpToDate })
    }

    /// Tells what comes before the window.
    fn catch_up(&mut self, feed: &FeedId) -> Result<Progress, Refused> {
        let Some(behind) = &mut self.behind else { return Ok(Progress::UpToDate) };
        if let Some(lost) = behind.lost {
            self.subscriber.lost(feed, lost)?;
            self.position = lost;
            behind.full_since = None;
            behind.lost = None;
            behind.doubtful = false;
        }
        if !behind.backlog.is_empty() {
            self.tell_backlog()?;
        }
        let Some(behind) = &self.behind else { return Ok(Progress::UpToDate) };
        if !behind.backlog.is_empty() {
            return Ok(Progress::More);
        }
        if behind.reading.is_none() && !behind.doubtful && behind.full_since.is_none() {
            self.behind = None;
        }
        Ok(Progress::UpToDate)
    }

    /// Tells what was read for this one alone, and forgets what it has now.
    fn tell_backlog(&mut self) -> Result<(), Refused> {
        let mut backlog = mem::take(&mut self.behind().backlog);
        while backlog.pop_front_if(|entry| !entry.follows(self.position)).is_some() {}
        let told = self.deliver(&mut backlog.iter().map(Arc::as_ref).take(VISIT));
        while backlog.pop_front_if(|entry| entry.cursor.offset <= self.position.offset).is_some() {}
        self.behind().backlog = backlog;
        told
    }

    /// Tells these, as far as they are taken.
    fn deliver(&mut self, entries: &mut dyn Iterator<Item = &Entry>) -> Result<(), Refused> {
        let before = self.position;
        let told = self.subscriber.deliver(entries, &mut self.position);
        if let Some(behind) = self.behind.as_mut().filter(|_| self.position != before) {
            behind.full_since = None;
        }
        told
    }

    /// Waits for room, up to `patience`; then its connection is cut, once.
    pub(super) fn wait(&mut self, patience: Duration) {
        let now = Instant::now();
        let since = self.behind().full_since.get_or_insert(now);
        if now - *since > patience {
            *since = now;
            self.subscriber.cut();
        }
    }
}
