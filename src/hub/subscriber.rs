//! Subscribers, and the delivery state of each in its feed.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    feed::{Cursor, FeedId},
    log::Entry,
};

/// Entries that a subscriber receives per visit.
// They collect in the write buffer of its connection, which never shrinks. With larger visits the buffers of
// 1,000 connections together no longer fit in the CPU cache, and a hub that was behind fell further behind.
const MAX_ENTRIES_PER_VISIT: usize = 32;

/// Receives the entries of a feed. Calls must not block.
pub trait Subscriber: Send + Sync + 'static {
    /// Accepts entries in order and advances `position` past each accepted one.
    ///
    /// # Errors
    /// When an entry can't be accepted. That entry and all that follow it count as not delivered.
    fn deliver(
        &self,
        entries: &mut dyn Iterator<Item = &Entry>,
        position: &mut Cursor,
    ) -> Result<(), DeliveryError>;

    /// Accepts the notification that the log can't prove what happened after the subscriber's position.
    /// Delivery continues at `end`; entries before it are not delivered.
    ///
    /// # Errors
    /// As for [`Subscriber::deliver`].
    fn notify_lost(&self, feed: &FeedId, end: Cursor) -> Result<(), DeliveryError>;

    /// Aborts the connection of a subscriber that accepted nothing for the stall timeout.
    fn abort(&self);
}

/// Why a subscriber did not accept an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryError {
    /// Its buffer is full.
    Full,
    /// Its connection is closed.
    Disconnected,
}

/// A subscriber and the position up to which it has accepted entries.
pub(super) struct SubscriberState {
    subscriber: Arc<dyn Subscriber>,
    pub(super) position: Cursor,
    /// Set while a join response for this subscriber is prepared and sent.
    pub(super) paused: bool,
    /// Boxed, since few subscribers have it at any time and most connections only listen.
    lag: Option<Box<Lag>>,
}

/// Delivery state of a subscriber that has fallen behind the in-memory window or whose buffer is full.
#[derive(Default)]
pub(super) struct Lag {
    /// Entries older than the window, read from the log for this subscriber alone.
    pub(super) entries: VecDeque<Arc<Entry>>,
    /// Id of the log read in flight. The result of any other read is stale.
    pub(super) pending_read: Option<u64>,
    /// The log must confirm that the position is one of its own.
    pub(super) position_unverified: bool,
    /// End of a log that can't prove continuity from the position; the subscriber is to be notified.
    pub(super) lost_to: Option<Cursor>,
    full_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    UpToDate,
    /// Entries are left for a later visit.
    MorePending,
    /// The entries after the position are not in the window.
    NeedsRead,
}

impl SubscriberState {
    pub(super) fn new(subscriber: Arc<dyn Subscriber>, position: Cursor) -> Self {
        Self { subscriber, position, paused: false, lag: None }
    }

    pub(super) fn lag_mut(&mut self) -> &mut Lag {
        self.lag.get_or_insert_default()
    }

    /// Records a log read for this subscriber. Returns false if one is in flight already.
    pub(super) fn begin_read(&mut self, read_id: u64) -> bool {
        let pending = &mut self.lag_mut().pending_read;
        let begins = pending.is_none();
        pending.get_or_insert(read_id);
        begins
    }

    /// Completes the read `read_id` and returns the state that its result belongs to. `None` if the read
    /// is stale.
    pub(super) fn complete_read(&mut self, read_id: u64) -> Option<&mut Lag> {
        let lag = self.lag.as_mut().filter(|lag| lag.pending_read == Some(read_id))?;
        lag.pending_read = None;
        Some(lag)
    }

    /// Delivers up to [`MAX_ENTRIES_PER_VISIT`] entries: those read from the log first, then the window.
    pub(super) fn deliver_pending(
        &mut self,
        feed: &FeedId,
        window: &VecDeque<Arc<Entry>>,
        end: Cursor,
    ) -> Result<Progress, DeliveryError> {
        if self.paused {
            return Ok(Progress::UpToDate);
        }
        if self.deliver_before_window(feed)? == Progress::MorePending {
            return Ok(Progress::MorePending);
        }
        let unverified = self.lag.as_ref().is_some_and(|lag| lag.position_unverified);
        if unverified || self.position.epoch != end.epoch {
            return Ok(Progress::NeedsRead);
        }
        if self.position.offset >= end.offset {
            return Ok(Progress::UpToDate);
        }
        let missing = usize::try_from(end.offset - self.position.offset).unwrap_or(usize::MAX);
        let Some(from) = window.len().checked_sub(missing) else {
            return Ok(Progress::NeedsRead);
        };
        // The window is contiguous: if its first entry follows the position, all of them do.
        if !window[from].follows(self.position) {
            return Ok(Progress::NeedsRead);
        }
        self.deliver_entries(&mut window.range(from..).map(Arc::as_ref).take(MAX_ENTRIES_PER_VISIT))?;
        Ok(if missing > MAX_ENTRIES_PER_VISIT { Progress::MorePending } else { Progress::UpToDate })
    }

    /// Delivers what precedes the window: the notification of a lost log, and the entries read from it.
    fn deliver_before_window(&mut self, feed: &FeedId) -> Result<Progress, DeliveryError> {
        let Some(lag) = &mut self.lag else { return Ok(Progress::UpToDate) };
        if let Some(end) = lag.lost_to {
            self.subscriber.notify_lost(feed, end)?;
            self.position = end;
            lag.full_since = None;
            lag.lost_to = None;
            lag.position_unverified = false;
        }
        if !lag.entries.is_empty() {
            self.deliver_read_entries()?;
        }
        let Some(lag) = &self.lag else { return Ok(Progress::UpToDate) };
        if !lag.entries.is_empty() {
            return Ok(Progress::MorePending);
        }
        if lag.pending_read.is_none() && !lag.position_unverified && lag.full_since.is_none() {
            self.lag = None;
        }
        Ok(Progress::UpToDate)
    }

    /// Delivers entries that were read for this subscriber and drops those that it accepted.
    fn deliver_read_entries(&mut self) -> Result<(), DeliveryError> {
        let mut entries = mem::take(&mut self.lag_mut().entries);
        while entries.pop_front_if(|entry| !entry.follows(self.position)).is_some() {}
        let delivered =
            self.deliver_entries(&mut entries.iter().map(Arc::as_ref).take(MAX_ENTRIES_PER_VISIT));
        while entries.pop_front_if(|entry| entry.cursor.offset <= self.position.offset).is_some() {}
        self.lag_mut().entries = entries;
        delivered
    }

    /// Offers `entries`; progress of any size resets the stall timer.
    fn deliver_entries(&mut self, entries: &mut dyn Iterator<Item = &Entry>) -> Result<(), DeliveryError> {
        let before = self.position;
        let delivered = self.subscriber.deliver(entries, &mut self.position);
        if let Some(lag) = self.lag.as_mut().filter(|_| self.position != before) {
            lag.full_since = None;
        }
        delivered
    }

    /// Records that the buffer is full. Aborts the connection once per `stall_timeout` without progress.
    pub(super) fn abort_if_stalled(&mut self, stall_timeout: Duration) {
        let now = Instant::now();
        let since = self.lag_mut().full_since.get_or_insert(now);
        if now - *since > stall_timeout {
            *since = now;
            self.subscriber.abort();
        }
    }
}
