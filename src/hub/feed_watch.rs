//! What the hub holds of one watched feed.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Refused, Subscriber,
    place::{Place, Progress},
};
use crate::{
    feed::{Cursor, FeedId},
    log::{Entry, LogError, Read},
};

/// Entries kept at hand for subscribers that are a little behind.
const WINDOW: usize = 512;

/// The newest entries of a feed and those who follow it.
pub(super) struct FeedWatch {
    /// Tells this watch from others of the same feed, before and after it.
    pub(super) generation: u64,
    /// Contiguous, the last one at `end`.
    window: VecDeque<Arc<Entry>>,
    /// How far the hub has followed the log; `None` until the first subscriber says where it is.
    end: Option<Cursor>,
    /// Something may have gone by: the log is to be read from `end`.
    missed: bool,
    reading: bool,
    /// Counts the reads for single subscribers.
    reads: u64,
    /// By their ids, so that telling them can go on where it stopped.
    subscribers: BTreeMap<u64, Place>,
    /// Those who are about to subscribe.
    held: HashSet<u64>,
}

/// What a flush could not do by itself.
#[derive(Default)]
pub(super) struct Wants {
    pub(super) read_feed: Option<Cursor>,
    /// For which subscriber, by which read, after what.
    pub(super) read_for: Vec<(u64, u64, Cursor)>,
    pub(super) untold: Untold,
    /// The first of those whose turn has not come.
    pub(super) next: Option<u64>,
}

/// Who has not been told all that is at hand.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Untold {
    #[default]
    Nothing,
    /// One that had no room.
    NoRoom,
    /// One that has been told enough for this round.
    More,
}

impl FeedWatch {
    pub(super) fn new(generation: u64) -> Self {
        Self {
            generation,
            window: VecDeque::new(),
            end: None,
            missed: false,
            reading: false,
            reads: 0,
            subscribers: BTreeMap::new(),
            held: HashSet::new(),
        }
    }

    pub(super) fn hold(&mut self, id: u64) {
        self.held.insert(id);
    }

    pub(super) fn subscribe(&mut self, id: u64, position: Cursor, subscriber: Arc<dyn Subscriber>) {
        self.held.remove(&id);
        match self.end {
            // Where the log really ends is not known yet: the subscriber may be far behind.
            None => {
                self.end = Some(position);
                self.missed = true;
            }
            // One of the two knows another life of the log than the other: the log will tell.
            Some(end) if end.epoch != position.epoch => self.missed = true,
            Some(_) => {}
        }
        self.subscribers.insert(id, Place::new(subscriber, position));
    }

    pub(super) fn pause(&mut self, id: u64, paused: bool) {
        if let Some(place) = self.subscribers.get_mut(&id) {
            place.paused = paused;
        }
    }

    pub(super) fn leave(&mut self, id: u64) {
        self.held.remove(&id);
        self.subscribers.remove(&id);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.subscribers.is_empty()
    }

    pub(super) fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    /// Takes an entry that the tail told. One that does not follow what is held shows that something
    /// was missed, or that the log began anew.
    pub(super) fn hear(&mut self, entry: Arc<Entry>) {
        let Some(end) = self.end else {
            self.missed = true;
            return;
        };
        let known =
            entry.cursor.epoch == end.epoch && entry.cursor.offset <= end.offset && self.holds(&entry);
        if self.reading || !(known || entry.follows(end)) {
            self.missed = true;
        } else if !known {
            self.push(entry);
        }
    }

    pub(super) fn missed(&mut self) {
        self.missed = true;
    }

    /// The answer to the read that [`Wants::read_feed`] asked for.
    pub(super) fn read_answered(&mut self, read: Result<Read, LogError>) {
        self.reading = false;
        match read {
            Err(_) => self.missed = true,
            Ok(Read::Lost(end)) => self.begin_anew(end),
            Ok(Read::Entries(entries)) => {
                self.missed |= entries.len() >= super::READ_LIMIT;
                for entry in entries {
                    if self.end.is_some_and(|end| entry.follows(end)) {
                        self.push(entry);
                    }
                }
            }
        }
    }

    /// The answer to one of [`Wants::read_for`].
    pub(super) fn read_answered_for(&mut self, id: u64, number: u64, read: Result<Read, LogError>) {
        let place = self.subscribers.get_mut(&id);
        let Some(behind) = place.and_then(|place| place.answered(number)) else { return };
        match read {
            Err(_) => {}
            Ok(Read::Lost(end)) => behind.lost = Some(end),
            Ok(Read::Entries(entries)) => {
                behind.doubtful = false;
                if entries.is_empty() {
                    // It stands at the end of a log that the hub has not followed so far.
                    self.missed = true;
                }
                behind.backlog = entries.into();
            }
        }
    }

    /// Tells subscribers what they can take, from the one with the id `from` on, until some `turn` entries
    /// have been told, which it counts down.
    pub(super) fn flush(&mut self, feed: &FeedId, patience: Duration, from: u64, turn: &mut u64) -> Wants {
        let mut wants = Wants::default();
        let Some(end) = self.end else { return wants };
        if self.missed && !self.reading {
            self.missed = false;
            self.reading = true;
            wants.read_feed = Some(end);
        }
        let mut gone = Vec::new();
        for (&id, place) in self.subscribers.range_mut(from..) {
            if *turn == 0 {
                wants.next = Some(id);
                break;
            }
            let before = place.position.offset;
            match place.tell(feed, &self.window, end) {
                Ok(Progress::UpToDate) => {}
                Ok(Progress::More) => wants.untold = Untold::More,
                Ok(Progress::NeedsLog) => {
                    if place.reads(self.reads + 1) {
                        self.reads += 1;
                        wants.read_for.push((id, self.reads, place.position));
                    }
                }
                Err(Refused::Full) => {
                    wants.untold = wants.untold.max(Untold::NoRoom);
                    place.wait(patience);
                }
                Err(Refused::Gone) => gone.push(id),
            }
            *turn = turn.saturating_sub(place.position.offset.saturating_sub(before));
        }
        for id in gone {
            self.subscribers.remove(&id);
        }
        wants
    }

    fn holds(&self, entry: &Entry) -> bool {
        let back = self.end.map_or(0, |end| end.offset - entry.cursor.offset);
        let held = usize::try_from(back).ok().and_then(|back| self.window.iter().nth_back(back));
        held.is_none_or(|held| held.cursor == entry.cursor)
    }

    fn push(&mut self, entry: Arc<Entry>) {
        self.end = Some(entry.cursor);
        self.window.push_back(entry);
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
    }

    /// The log lost what the hub had followed: it began anew, or was trimmed past the hub. Those who are
    /// no further are told. Those who joined since then, and stand where the hub never was, stay; in the
    /// same epoch the log is asked whether they do.
    fn begin_anew(&mut self, end: Cursor) {
        let old = self.end.replace(end);
        self.window.clear();
        self.missed = true;
        let followed = old.filter(|old| old.epoch == end.epoch).map(|old| old.offset);
        for place in self.subscribers.values_mut() {
            let joined_since = followed.is_none_or(|followed| place.position.offset > followed);
            let stays = place.position.epoch == end.epoch && joined_since;
            // What is still to come was asked of a log that is no more.
            let behind = place.behind();
            behind.reading = None;
            if stays {
                behind.doubtful = followed.is_some();
            } else {
                behind.lost = Some(end);
                behind.backlog.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::feed::{Epoch, FeedEvent, KeyPrefix, Kind, ObjectKey, Photo, Tag};

    /// Keeps the offsets that it was told, and 0 where the log was lost.
    #[derive(Default)]
    struct Told(Mutex<Vec<u64>>);

    impl Subscriber for Told {
        fn deliver(
            &self,
            entries: &mut dyn Iterator<Item = &Entry>,
            position: &mut Cursor,
        ) -> Result<(), Refused> {
            for entry in entries {
                assert!(entry.follows(*position));
                *position = entry.cursor;
                self.0.lock().unwrap().push(entry.cursor.offset);
            }
            Ok(())
        }

        fn lost(&self, _: &FeedId, _: Cursor) -> Result<(), Refused> {
            self.0.lock().unwrap().push(0);
            Ok(())
        }

        fn cut(&self) {}
    }

    fn next(after: &mut Cursor) -> Arc<Entry> {
        let key = ObjectKey::parse(&KeyPrefix::default(), "summer/a.jpg").unwrap();
        let (event_name, photo) = ("ObjectCreated:Put".into(), Photo::default());
        let event =
            FeedEvent { kind: Kind::Uploaded, key, event_name, event_time: None, sequencer: None, photo };
        let cursor = Cursor { offset: after.offset + 1, tag: Tag::random(), ..*after };
        let previous = std::mem::replace(after, cursor).tag;
        Arc::new(Entry { cursor, previous, event })
    }

    #[test]
    fn an_answer_that_comes_after_the_log_began_anew_moves_nobody_back() {
        let (feed, told) = (FeedId::parse("summer").unwrap(), Arc::new(Told::default()));
        let mut watch = FeedWatch::new(1);
        let flush = |watch: &mut FeedWatch| watch.flush(&feed, Duration::from_secs(30), 0, &mut { u64::MAX });
        let old = Cursor { offset: 7, ..Cursor::start(Epoch::random()) };
        watch.subscribe(1, old, Arc::new(Told::default()));
        watch.subscribe(2, Cursor { offset: 3, ..old }, told.clone());
        let Wants { read_feed, read_for, .. } = flush(&mut watch);
        assert_eq!(read_feed, Some(old));
        let [(2, number, _)] = read_for[..] else { panic!("{read_for:?}") };

        let mut end = Cursor::start(Epoch::random());
        let begun = end;
        watch.read_answered(Ok(Read::Lost(begun)));
        flush(&mut watch);
        watch.read_answered(Ok(Read::Entries(vec![next(&mut end), next(&mut end)])));
        flush(&mut watch);
        watch.read_answered_for(2, number, Ok(Read::Lost(begun)));
        flush(&mut watch);
        watch.hear(next(&mut end));
        flush(&mut watch);
        assert_eq!(*told.0.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn nobody_is_told_much_at_a_time_and_everybody_is_told_all() {
        let (feed, begun) = (FeedId::parse("summer").unwrap(), Cursor::start(Epoch::random()));
        let (mut watch, mut end) = (FeedWatch::new(1), begun);
        let told: Vec<_> = (0..3).map(|_| Arc::new(Told::default())).collect();
        let offsets = |told: &Told| told.0.lock().unwrap().clone();
        for (id, told) in (1..).zip(&told) {
            watch.subscribe(id, begun, told.clone());
        }
        let history: Vec<_> = (0..75).map(|_| next(&mut end)).collect();
        for entry in &history {
            watch.hear(entry.clone());
        }
        // The last one is told from the log what came before the window.
        assert!(watch.subscribers.get_mut(&3).unwrap().reads(7));
        watch.read_answered_for(3, 7, Ok(Read::Entries(history[..40].to_vec())));
        for so_far in [32, 64, 75] {
            let wants = watch.flush(&feed, Duration::from_secs(30), 0, &mut { u64::MAX });
            assert_eq!(offsets(&told[0]).len(), so_far);
            assert_eq!((wants.untold == Untold::More), so_far < 75);
        }
        for told in &told {
            assert_eq!(offsets(told), (1..=75).collect::<Vec<_>>());
        }
    }

    #[test]
    fn whoever_waits_for_a_turn_is_told_all_the_same() {
        let (feed, mut end) = (FeedId::parse("summer").unwrap(), Cursor::start(Epoch::random()));
        let mut watch = FeedWatch::new(1);
        let told: Vec<_> = (0..10).map(|_| Arc::new(Told::default())).collect();
        for (id, told) in (1..).zip(&told) {
            watch.subscribe(id, end, told.clone());
        }
        watch.hear(next(&mut end));
        let mut rounds = 0;
        let mut from = Some(0);
        while let Some(next) = from {
            rounds += 1;
            from = watch.flush(&feed, Duration::from_secs(30), next, &mut 4).next;
        }
        assert_eq!(rounds, 3);
        assert!(told.iter().all(|told| *told.0.lock().unwrap() == [1]));
    }
}
