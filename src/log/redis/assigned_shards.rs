//! The watched shards among those that one tail reader is responsible for.

use tokio::sync::watch;

use crate::log::Shards;

/// Follows which of the `assigned` shards are watched.
pub(super) struct AssignedShards {
    pub(super) watched: watch::Receiver<Shards>,
    pub(super) assigned: Shards,
}

impl AssignedShards {
    /// The assigned shards that are currently watched.
    pub(super) fn current(&mut self) -> Shards {
        Shards(self.watched.borrow_and_update().0 & self.assigned.0)
    }

    /// Waits until any of the assigned shards is watched, and returns the watched shards.
    pub(super) async fn wait_for_any(&mut self) -> Shards {
        if self.current().is_empty() {
            self.wait_for_other_than(Shards::NONE).await;
        }
        self.current()
    }

    /// Waits until an assigned shard is watched that is not one of `known`.
    pub(super) async fn wait_for_other_than(&mut self, known: Shards) {
        loop {
            if self.watched.changed().await.is_err() {
                return std::future::pending().await;
            }
            if self.current().0 & !known.0 != 0 {
                return;
            }
        }
    }
}
