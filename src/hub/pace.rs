//! When the hub delivers: at once after a pause, else at most once in a tick, so that a lone event
//! leaves without delay and a burst leaves in few writes.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The least time from the beginning of a delivery to that of the next.
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

    /// A delivery begins. It may take longer than a tick.
    pub(super) fn begin(&mut self) {
        self.next = None;
        self.earliest = Some(Instant::now() + TICK);
    }

    /// Somebody was full.
    pub(super) fn try_again(&mut self) {
        self.next = Some(Instant::now() + TICK);
    }

    /// There is more to tell than a round tells.
    pub(super) fn go_on(&mut self) {
        self.next = Some(Instant::now());
    }

    /// Waits until it is time; for ever when there is nothing to do.
    pub(super) async fn due(&self) {
        match self.next {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
