//! When the hub delivers: at once after a pause, else at most once in a tick, so that a lone event
//! leaves without delay and a burst leaves in few writes.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The least time between two deliveries.
const TICK: Duration = Duration::from_millis(10);

/// Knows when to deliver next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: Option<Instant>,
    earliest: Option<Instant>,
}

impl Pace {
    /// Something is to be delivered.
    pub(super) fn wake(&mut self) {
        let now = Instant::now();
        self.next.get_or_insert(self.earliest.map_or(now, |earliest| earliest.max(now)));
    }

    /// Everything that could be was delivered; `behind` says that somebody was full.
    pub(super) fn flushed(&mut self, behind: bool) {
        let next = Instant::now() + TICK;
        self.earliest = Some(next);
        self.next = behind.then_some(next);
    }

    /// Waits until it is time; for ever when there is nothing to do.
    pub(super) async fn due(&self) {
        match self.next {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
