//! Which shards hold feeds that are watched here.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use crate::{
    feed::FeedId,
    log::{SHARDS, Shards, shard},
};

/// Counts the watched feeds of each shard, so that a join or leave costs the same however many there are.
pub(super) struct WatchedShards {
    feeds: Mutex<[usize; SHARDS as usize]>,
    watched: watch::Sender<Shards>,
}

impl Default for WatchedShards {
    fn default() -> Self {
        Self { feeds: Mutex::new([0; SHARDS as usize]), watched: watch::Sender::default() }
    }
}

impl WatchedShards {
    pub(super) fn subscribe(&self) -> watch::Receiver<Shards> {
        self.watched.subscribe()
    }

    /// `feed`, which was not watched so far, is.
    pub(super) fn add(&self, feed: &FeedId) {
        let mut feeds = self.feeds();
        let count = &mut feeds[usize::from(shard(feed))];
        *count += 1;
        if *count == 1 {
            self.watched.send_modify(|watched| watched.0 |= Shards::of(feed).0);
        }
    }

    /// `feed`, which was watched, no longer is.
    pub(super) fn remove(&self, feed: &FeedId) {
        let mut feeds = self.feeds();
        let count = &mut feeds[usize::from(shard(feed))];
        *count -= 1;
        if *count == 0 {
            self.watched.send_modify(|watched| watched.0 &= !Shards::of(feed).0);
        }
    }

    fn feeds(&self) -> MutexGuard<'_, [usize; SHARDS as usize]> {
        self.feeds.lock().expect("no panic while held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_watched_as_long_as_one_of_its_feeds_is() {
        let feed = |name: &str| FeedId::parse(name).unwrap();
        let one = feed("one");
        let same =
            (0..1000).map(|number| feed(&format!("{number}"))).find(|other| shard(other) == shard(&one));
        let (same, another) = (same.unwrap(), feed("another"));
        assert_ne!(shard(&one), shard(&another));

        let shards = WatchedShards::default();
        let watched = shards.subscribe();
        shards.add(&one);
        shards.add(&same);
        shards.add(&another);
        assert_eq!(*watched.borrow(), Shards(Shards::of(&one).0 | Shards::of(&another).0));
        shards.remove(&one);
        shards.remove(&another);
        assert_eq!(*watched.borrow(), Shards::of(&one));
        shards.remove(&same);
        assert_eq!(*watched.borrow(), Shards::default());
    }
}
