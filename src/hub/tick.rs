//! Schedules delivery rounds: immediately after a pause, otherwise at most once a tick. A single event leaves
//! without delay, a burst of events leaves in few writes.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Minimum time between the starts of two delivery rounds.
const TICK: Duration = Duration::from_millis(10);

/// Schedules the next delivery round.
#[derive(Debug, Default)]
pub(super) struct TickScheduler {
    next_round: Option<Instant>,
    earliest_start: Option<Instant>,
}

impl TickScheduler {
    /// Schedules a round for new work, one tick after the start of the last round at the earliest.
    pub(super) fn schedule(&mut self) {
        let now = Instant::now();
        self.next_round.get_or_insert(self.earliest_start.map_or(now, |earliest| earliest.max(now)));
    }

    /// Marks the start of a round. The tick counts from here, since a round may take longer than a tick.
    pub(super) fn start_round(&mut self) {
        self.next_round = None;
        self.earliest_start = Some(Instant::now() + TICK);
    }

    /// Schedules a round that retries subscribers whose buffer was full.
    pub(super) fn schedule_retry(&mut self) {
        self.next_round = Some(Instant::now() + TICK);
    }

    /// Schedules a round without delay: the last one left entries that subscribers can accept.
    pub(super) fn schedule_now(&mut self) {
        self.next_round = Some(Instant::now());
    }

    /// Waits until the next round is due; indefinitely if none is scheduled.
    pub(super) async fn wait_until_due(&self) {
        match self.next_round {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
