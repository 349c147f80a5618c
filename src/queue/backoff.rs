//! How long to wait after a failure.

use std::time::Duration;

/// After a first failure; doubled with each further one.
const FIRST: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(20);

/// Exponential, with full jitter: many that failed together don't come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// The next wait; never nothing at all.
    pub(super) fn next(&mut self) -> Duration {
        let ceiling = Self::ceiling(self.0);
        self.0 = self.0.saturating_add(1);
        let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        FIRST / 2 + ceiling.mul_f64(share)
    }

    /// It went well: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }

    fn ceiling(failures: u32) -> Duration {
        FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_24_waits_grow_to_a_limit_are_never_nothing_and_differ() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..100).map(|_| backoff.next()).collect();
        for (failures, wait) in (0..).zip(&waits) {
            assert!(
                (FIRST / 2..=FIRST / 2 + Backoff::ceiling(failures)).contains(wait),
                "{failures}: {wait:?}"
            );
        }
        assert_eq!(Backoff::ceiling(99), MAX);
        let distinct: std::collections::HashSet<_> = waits.iter().collect();
        assert!(distinct.len() > 90, "{waits:?}");
        backoff.reset();
        assert!(backoff.next() <= FIRST / 2 + FIRST);
    }
}
