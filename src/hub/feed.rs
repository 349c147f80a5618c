//! Delivery state of one watched feed.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::subscriber::{DeliveryError, Progress, Subscriber, SubscriberState};
use crate::{
    feed::{Cursor, FeedId},
    log::{Entry, LogError, ReadResult},
};

/// Entries kept in memory for subscribers that are slightly behind. Older ones are read from the log.
const WINDOW_CAPACITY: usize = 512;
/// Entries per log read for a whole feed.
pub(super) const FEED_READ_LIMIT: usize = 256;

/// The newest entries of a feed and its local subscribers.
pub(super) struct FeedState {
    /// Distinguishes this state from earlier and later ones of the same feed, which is dropped with its last
    /// watcher.
    pub(super) generation: u64,
    /// Contiguous; the last entry is the one at `end`.
    window: VecDeque<Arc<Entry>>,
    /// Position up to which the hub has followed the log. `None` until the first subscriber sets it.
    end: Option<Cursor>,
    /// Entries may be missing from the window: the log has to be read from `end`.
    needs_read: bool,
    read_in_flight: bool,
    /// Id of the latest read for a single subscriber.
    last_read_id: u64,
    /// Ordered by id, so that a delivery can continue where it stopped.
    subscribers: BTreeMap<u64, SubscriberState>,
    /// Ids of watch guards that have not subscribed yet.
    pending: HashSet<u64>,
}

/// The work that remains after a visit to the subscribers of a feed.
#[derive(Default)]
pub(super) struct FlushResult {
    /// Position after which the log has to be read for the feed.
    pub(super) feed_read: Option<Cursor>,
    pub(super) subscriber_reads: Vec<SubscriberRead>,
    pub(super) backlog: Backlog,
    /// First subscriber that was not visited because the budget ran out.
    pub(super) next_subscriber: Option<u64>,
}

/// A log read for one subscriber whose position precedes the window.
#[derive(Debug)]
pub(super) struct SubscriberRead {
    pub(super) subscriber: u64,
    pub(super) read_id: u64,
    pub(super) after: Cursor,
}

/// Why a round left entries in memory undelivered. The greatest value is the most urgent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Backlog {
    /// No entry is left.
    #[default]
    Empty,
    /// A subscriber's buffer is full.
    Blocked,
    /// A subscriber has received as many entries as one visit allows.
    Ready,
}

impl FeedState {
    pub(super) fn new(generation: u64) -> Self {
        Self {
            generation,
            window: VecDeque::new(),
            end: None,
            needs_read: false,
            read_in_flight: false,
            last_read_id: 0,
            subscribers: BTreeMap::new(),
            pending: HashSet::new(),
        }
    }

    pub(super) fn add_pending(&mut self, id: u64) {
        self.pending.insert(id);
    }

    pub(super) fn subscribe(&mut self, id: u64, position: Cursor, subscriber: Arc<dyn Subscriber>) {
        self.pending.remove(&id);
        match self.end {
            // The position may be far from the end of the log, which is not known yet.
            None => {
                self.end = Some(position);
                self.needs_read = true;
            }
            // Either the hub or the subscriber has an outdated epoch; a read of the log determines which.
            Some(end) if end.epoch != position.epoch => self.needs_read = true,
            Some(_) => {}
        }
        self.subscribers.insert(id, SubscriberState::new(subscriber, position));
    }

    pub(super) fn set_paused(&mut self, id: u64, paused: bool) {
        if let Some(state) = self.subscribers.get_mut(&id) {
            state.paused = paused;
        }
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.pending.remove(&id);
        self.subscribers.remove(&id);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.subscribers.is_empty()
    }

    pub(super) fn subscriber_count(&self) -> usize {
        self.subscribers.len()
    }

    /// Appends an entry from the tail to the window. If it does not follow the window, entries were missed
    /// or the log was replaced: a read has to find out.
    pub(super) fn on_entry(&mut self, entry: Arc<Entry>) {
        let Some(end) = self.end else {
            self.needs_read = true;
            return;
        };
        let known = entry.cursor.epoch == end.epoch
            && entry.cursor.offset <= end.offset
            && self.agrees_with_window(&entry);
        if self.read_in_flight || !(known || entry.follows(end)) {
            self.needs_read = true;
        } else if !known {
            self.push_to_window(entry);
        }
    }

    /// Requests a read of the log: the tail may have skipped entries.
    pub(super) fn request_read(&mut self) {
        self.needs_read = true;
    }

    /// Takes the result of the read requested by [`FlushResult::feed_read`].
    pub(super) fn on_feed_read(&mut self, result: Result<ReadResult, LogError>) {
        self.read_in_flight = false;
        match result {
            Err(_) => self.needs_read = true,
            Ok(ReadResult::Lost(end)) => self.reset_to(end),
            Ok(ReadResult::Entries(entries)) => {
                self.needs_read |= entries.len() >= FEED_READ_LIMIT;
                for entry in entries {
                    if self.end.is_some_and(|end| entry.follows(end)) {
                        self.push_to_window(entry);
                    }
                }
            }
        }
    }

    /// Takes the result of one of [`FlushResult::subscriber_reads`].
    pub(super) fn on_subscriber_read(&mut self, id: u64, read_id: u64, result: Result<ReadResult, LogError>) {
        let state = self.subscribers.get_mut(&id);
        let Some(lag) = state.and_then(|state| state.complete_read(read_id)) else { return };
        match result {
            // The next visit requests the read again.
            Err(_) => {}
            Ok(ReadResult::Lost(end)) => lag.lost_to = Some(end),
            Ok(ReadResult::Entries(entries)) => {
                lag.position_unverified = false;
                if entries.is_empty() {
                    // The subscriber is at the end of a log that the hub does not follow yet.
                    self.needs_read = true;
                }
                lag.entries = entries.into();
            }
        }
    }

    /// Visits the subscribers from the id `from` on, until `budget` entries have been delivered. Counts the
    /// budget down.
    pub(super) fn flush_subscribers(
        &mut self,
        feed: &FeedId,
        stall_timeout: Duration,
        from: u64,
        budget: &mut u64,
    ) -> FlushResult {
        let mut result = FlushResult::default();
        let Some(end) = self.end else { return result };
        if self.needs_read && !self.read_in_flight {
            self.needs_read = false;
            self.read_in_flight = true;
            result.feed_read = Some(end);
        }
        let mut disconnected = Vec::new();
        for (&id, state) in self.subscribers.range_mut(from..) {
            if *budget == 0 {
                result.next_subscriber = Some(id);
                break;
            }
            let before = state.position.offset;
            match state.deliver_pending(feed, &self.window, end) {
                Ok(Progress::UpToDate) => {}
                Ok(Progress::MorePending) => result.backlog = Backlog::Ready,
                Ok(Progress::NeedsRead) => {
                    if state.begin_read(self.last_read_id + 1) {
                        self.last_read_id += 1;
                        result.subscriber_reads.push(SubscriberRead {
                            subscriber: id,
                            read_id: self.last_read_id,
                            after: state.position,
                        });
                    }
                }
                Err(DeliveryError::Full) => {
                    result.backlog = result.backlog.max(Backlog::Blocked);
                    state.abort_if_stalled(stall_timeout);
                }
                Err(DeliveryError::Disconnected) => disconnected.push(id),
            }
            *budget = budget.saturating_sub(state.position.offset.saturating_sub(before));
        }
        for id in disconnected {
            self.subscribers.remove(&id);
        }
        result
    }

    /// Whether the window has this very entry at its offset, or no longer reaches back that far.
    fn agrees_with_window(&self, entry: &Entry) -> bool {
        let back = self.end.map_or(0, |end| end.offset - entry.cursor.offset);
        let held = usize::try_from(back).ok().and_then(|back| self.window.iter().nth_back(back));
        held.is_none_or(|held| held.cursor == entry.cursor)
    }

    fn push_to_window(&mut self, entry: Arc<Entry>) {
        self.end = Some(entry.cursor);
        self.window.push_back(entry);
        if self.window.len() > WINDOW_CAPACITY {
            self.window.pop_front();
        }
    }

    /// Follows the log from `end` on: it was replaced, or trimmed beyond the position of the hub.
    ///
    /// Subscribers that were no further than the hub are notified of the loss. Those that joined later, at a
    /// position that the hub had not reached, keep it; if the epoch is the same, the log must confirm the
    /// position first.
    fn reset_to(&mut self, end: Cursor) {
        let old = self.end.replace(end);
        self.window.clear();
        self.needs_read = true;
        let followed = old.filter(|old| old.epoch == end.epoch).map(|old| old.offset);
        for state in self.subscribers.values_mut() {
            let joined_later = followed.is_none_or(|followed| state.position.offset > followed);
            let keeps_position = state.position.epoch == end.epoch && joined_later;
            let lag = state.lag_mut();
            // The result of a read in flight belongs to the log that was lost.
            lag.pending_read = None;
            if keeps_position {
                lag.position_unverified = followed.is_some();
            } else {
                lag.lost_to = Some(end);
                lag.entries.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        feed::Epoch,
        support::{buffered_subscriber::BufferedSubscriber, entry::EntrySequence, feed},
    };

    const STALL_TIMEOUT: Duration = Duration::from_secs(30);

    fn subscribe_all(state: &mut FeedState, count: u64, position: Cursor) -> Vec<Arc<BufferedSubscriber>> {
        let subscribe = |id| {
            let subscriber = BufferedSubscriber::unlimited();
            state.subscribe(id, position, subscriber.clone());
            subscriber
        };
        (1..=count).map(subscribe).collect()
    }

    #[test]
    fn a_read_that_completes_after_the_log_was_replaced_moves_no_subscriber_back() {
        let feed = feed("summer");
        let mut state = FeedState::new(1);
        let flush =
            |state: &mut FeedState| state.flush_subscribers(&feed, STALL_TIMEOUT, 0, &mut { u64::MAX });
        let old_end = Cursor { offset: 7, ..Cursor::start(Epoch::random()) };
        let subscriber = BufferedSubscriber::unlimited();
        state.subscribe(1, old_end, BufferedSubscriber::unlimited());
        state.subscribe(2, Cursor { offset: 3, ..old_end }, subscriber.clone());
        let FlushResult { feed_read, subscriber_reads, .. } = flush(&mut state);
        assert_eq!(feed_read, Some(old_end));
        let [SubscriberRead { subscriber: 2, read_id, .. }] = subscriber_reads[..] else {
            panic!("{subscriber_reads:?}")
        };

        let new_start = Cursor::start(Epoch::random());
        let mut entries = EntrySequence::after(&feed, new_start);
        state.on_feed_read(Ok(ReadResult::Lost(new_start)));
        flush(&mut state);
        state.on_feed_read(Ok(ReadResult::Entries(vec![entries.next_upload(), entries.next_upload()])));
        flush(&mut state);
        state.on_subscriber_read(2, read_id, Ok(ReadResult::Lost(new_start)));
        flush(&mut state);
        state.on_entry(entries.next_upload());
        flush(&mut state);
        assert_eq!((subscriber.lost(), subscriber.accepted()), (vec![new_start], vec![1, 2, 3]));
    }

    #[test]
    fn a_visit_delivers_a_bounded_number_of_entries_and_later_visits_deliver_the_others() {
        let (feed, start) = (feed("summer"), Cursor::start(Epoch::random()));
        let mut state = FeedState::new(1);
        let subscribers = subscribe_all(&mut state, 3, start);
        let mut entries = EntrySequence::after(&feed, start);
        let history: Vec<_> = (0..75).map(|_| entries.next_upload()).collect();
        for entry in &history {
            state.on_entry(entry.clone());
        }
        // The third subscriber gets the first 40 entries by a read, as if they had left the window.
        assert!(state.subscribers.get_mut(&3).unwrap().begin_read(7));
        state.on_subscriber_read(3, 7, Ok(ReadResult::Entries(history[..40].to_vec())));
        for delivered in [32, 64, 75] {
            let result = state.flush_subscribers(&feed, STALL_TIMEOUT, 0, &mut { u64::MAX });
            assert_eq!(subscribers[0].accepted().len(), delivered);
            assert_eq!((result.backlog == Backlog::Ready), delivered < 75);
        }
        for subscriber in &subscribers {
            assert_eq!(subscriber.accepted(), (1..=75).collect::<Vec<_>>());
        }
    }

    #[test]
    fn subscribers_that_the_budget_did_not_reach_receive_the_entry_after_the_round_yields() {
        let (feed, start) = (feed("summer"), Cursor::start(Epoch::random()));
        let mut state = FeedState::new(1);
        let subscribers = subscribe_all(&mut state, 10, start);
        state.on_entry(EntrySequence::after(&feed, start).next_upload());
        let mut visits = 0;
        let mut from = Some(0);
        while let Some(next) = from {
            visits += 1;
            from = state.flush_subscribers(&feed, STALL_TIMEOUT, next, &mut 4).next_subscriber;
        }
        assert_eq!(visits, 3);
        assert!(subscribers.iter().all(|subscriber| subscriber.accepted() == [1]));
    }
}
