//! A subscriber of the hub with a bounded buffer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use photoshare_server::{
    feed::{Cursor, FeedId},
    hub::{DeliveryError, Subscriber},
    log::Entry,
};
use tokio::sync::Notify;

/// Accepts as many entries as its buffer has room for. Panics on an entry that does not follow its position.
#[derive(Default)]
pub struct BufferedSubscriber {
    accepted: Mutex<Vec<u64>>,
    room: AtomicUsize,
    lost: Mutex<Vec<Cursor>>,
    aborted: AtomicBool,
    changed: Notify,
}

impl BufferedSubscriber {
    pub fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self { room: AtomicUsize::new(room), ..Self::default() })
    }

    pub fn unlimited() -> Arc<Self> {
        Self::with_room(usize::MAX)
    }

    pub fn remove_limit(&self) {
        self.room.store(usize::MAX, Ordering::SeqCst);
    }

    /// The offsets of the entries that it accepted.
    pub fn accepted(&self) -> Vec<u64> {
        self.accepted.lock().unwrap().clone()
    }

    /// The ends of the log with which it was notified of a loss.
    pub fn lost(&self) -> Vec<Cursor> {
        self.lost.lock().unwrap().clone()
    }

    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::SeqCst)
    }

    /// Waits until `condition` holds, which is checked after each change.
    pub async fn wait_until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition(self) {
                return;
            }
            // The paused clock only advances when all tasks are idle: this fires if the state is never
            // reached.
            tokio::time::timeout(Duration::from_mins(5), changed).await.expect("the subscriber changes");
        }
    }
}

impl Subscriber for BufferedSubscriber {
    fn deliver(
        &self,
        entries: &mut dyn Iterator<Item = &Entry>,
        position: &mut Cursor,
    ) -> Result<(), DeliveryError> {
        for entry in entries {
            let take_one = |room: usize| room.checked_sub(1);
            self.room
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one)
                .map_err(|_| DeliveryError::Full)?;
            assert!(entry.follows(*position), "{:?} after {position:?}", entry.cursor);
            self.accepted.lock().unwrap().push(entry.cursor.offset);
            *position = entry.cursor;
            self.changed.notify_one();
        }
        Ok(())
    }

    fn notify_lost(&self, _: &FeedId, end: Cursor) -> Result<(), DeliveryError> {
        self.lost.lock().unwrap().push(end);
        self.changed.notify_one();
        Ok(())
    }

    fn abort(&self) {
        self.aborted.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }
}
