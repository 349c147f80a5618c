//! Delays between retries.

use std::time::Duration;

/// The ceiling of the delay after the first failure; it doubles with each further one.
const INITIAL_DELAY: Duration = Duration::from_millis(200);
const MAX_DELAY: Duration = Duration::from_secs(20);

/// Exponential backoff with jitter, so that clients that failed together do not retry together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay before the next attempt: at least half of the initial delay, so that no retry loop is hot.
    pub(super) fn next(&mut self) -> Duration {
        let ceiling = Self::ceiling(self.failures);
        self.failures = self.failures.saturating_add(1);
        let fraction = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        INITIAL_DELAY / 2 + ceiling.mul_f64(fraction)
    }

    /// Starts over after a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    fn ceiling(failures: u32) -> Duration {
        INITIAL_DELAY.saturating_mul(2_u32.saturating_pow(failures)).min(MAX_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_are_never_zero_and_differ() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..100).map(|_| backoff.next()).collect();
        let min_delay = INITIAL_DELAY / 2;
        for (failures, delay) in (0..).zip(&delays) {
            let range = min_delay..=min_delay + Backoff::ceiling(failures);
            assert!(range.contains(delay), "{failures}: {delay:?}");
        }
        assert_eq!(Backoff::ceiling(99), MAX_DELAY);
        let distinct: std::collections::HashSet<_> = delays.iter().collect();
        assert!(distinct.len() > 90, "{delays:?}");
        backoff.reset();
        assert!(backoff.next() <= min_delay + INITIAL_DELAY);
    }
}
