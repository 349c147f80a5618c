//! The shards that contain watched feeds. The log's tail follows them.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use crate::{
    feed::FeedId,
    log::{SHARD_COUNT, Shards, shard_of},
};

/// Number of watched feeds per shard, so that a join or leave takes constant time however many feeds there
/// are.
pub(super) struct WatchedShards {
    feed_counts: Mutex<[usize; SHARD_COUNT as usize]>,
    watched: watch::Sender<Shards>,
}

impl Default for WatchedShards {
    fn default() -> Self {
        Self { feed_counts: Mutex::new([0; SHARD_COUNT as usize]), watched: watch::Sender::default() }
    }
}

impl WatchedShards {
    pub(super) fn subscribe(&self) -> watch::Receiver<Shards> {
        self.watched.subscribe()
    }

    /// Adds a feed that was not watched before.
    pub(super) fn add(&self, feed: &FeedId) {
        let mut feed_counts = self.lock_feed_counts();
        let count = &mut feed_counts[usize::from(shard_of(feed))];
        *count += 1;
        if *count == 1 {
            self.watched.send_modify(|watched| watched.0 |= Shards::of(feed).0);
        }
    }

    /// Removes a feed that is no longer watched.
    pub(super) fn remove(&self, feed: &FeedId) {
        let mut feed_counts = self.lock_feed_counts();
        let count = &mut feed_counts[usize::from(shard_of(feed))];
        *count -= 1;
        if *count == 0 {
            self.watched.send_modify(|watched| watched.0 &= !Shards::of(feed).0);
        }
    }

    fn lock_feed_counts(&self) -> MutexGuard<'_, [usize; SHARD_COUNT as usize]> {
        self.feed_counts.lock().expect("no panic while held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::feed;

    #[test]
    fn a_shard_is_watched_while_one_of_its_feeds_is() {
        let one = feed("one");
        let same = (0..1000)
            .map(|number| feed(&format!("{number}")))
            .find(|other| shard_of(other) == shard_of(&one));
        let (same, another) = (same.unwrap(), feed("another"));
        assert_ne!(shard_of(&one), shard_of(&another));

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
