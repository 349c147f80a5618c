//! Rates, by the generic cell rate algorithm: <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    num::NonZeroU32,
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, NotUntil, Quota, RateLimiter,
    clock::{Clock, DefaultClock, Reference},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};

use super::{Caller, TooMany};

/// Callers that are told apart. Beyond that, new ones share an allowance with others, so that inventing
/// addresses takes no memory.
const MAX_CALLERS: usize = 100_000;
/// Allowances that are shared then.
const SHARED: u64 = 4096;

/// So many in a period, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    period: Duration,
    burst: NonZeroU32,
}

/// The allowances of all callers.
pub(super) struct PerCaller<C: Clock = DefaultClock> {
    what: &'static str,
    rate: Rate,
    limiter: RateLimiter<u64, HashMapStateStore<u64>, C, NoOpMiddleware<C::Instant>>,
    hasher: RandomState,
}

/// The joins of one connection.
#[derive(Debug, Default)]
pub struct JoinRate(Option<(Rate, DefaultDirectRateLimiter)>);

impl Rate {
    /// `count` in `period` (not longer than it in nanoseconds), of them `burst` at once.
    #[must_use]
    pub fn new(count: NonZeroU32, period: Duration, burst: NonZeroU32) -> Self {
        Self { count, period, burst }
    }

    fn quota(&self) -> Quota {
        let each = (self.period / self.count.get()).max(Duration::from_nanos(1));
        Quota::with_period(each).expect("not zero").allow_burst(self.burst)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, period, burst } = self;
        match period.as_secs() {
            1 => write!(f, "{count} a second (bursts of {burst})"),
            60 => write!(f, "{count} a minute (bursts of {burst})"),
            secs => write!(f, "{count} in {secs} s (bursts of {burst})"),
        }
    }
}

impl PerCaller {
    pub(super) fn new(what: &'static str, rate: Rate) -> Self {
        Self::with_clock(what, rate, DefaultClock::default())
    }
}

impl<C: Clock> PerCaller<C> {
    fn with_clock(what: &'static str, rate: Rate, clock: C) -> Self {
        let limiter = RateLimiter::hashmap_with_clock(rate.quota(), clock);
        Self { what, rate, limiter, hasher: RandomState::new() }
    }

    pub(super) fn count(&self, caller: &Caller, cells: usize) -> Result<(), TooMany> {
        let cells = u32::try_from(cells).unwrap_or(u32::MAX).clamp(1, self.rate.burst.get());
        let cells = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN);
        let hash = self.hasher.hash_one(caller);
        let key = if self.limiter.len() < MAX_CALLERS { hash } else { hash % SHARED };
        match self.limiter.check_key_n(&key, cells) {
            Ok(Err(not_until)) => Err(TooMany {
                what: self.what,
                rate: self.rate,
                retry_after: wait(&not_until, self.limiter.clock()),
            }),
            // What is asked for was cut to what can be had.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Forgets those who have all their allowance again.
    pub(super) fn forget_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

impl JoinRate {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self(rate.map(|rate| (rate, RateLimiter::direct(rate.quota()))))
    }

    /// Counts a join.
    ///
    /// # Errors
    /// When there were too many.
    pub fn join(&self) -> Result<(), TooMany> {
        let Some((rate, limiter)) = &self.0 else { return Ok(()) };
        limiter.check().map_err(|not_until| TooMany {
            what: "joins on one connection",
            rate: *rate,
            retry_after: wait(&not_until, limiter.clock()),
        })
    }
}

/// In whole seconds, rounded up: that is what `Retry-After` can tell.
fn wait<R: Reference, C: Clock<Instant = R>>(not_until: &NotUntil<R>, clock: &C) -> Duration {
    let wait = not_until.wait_time_from(clock.now());
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

impl<C: Clock> fmt::Debug for PerCaller<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PerCaller({} {})", self.rate, self.what)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limit(clock: &FakeRelativeClock, count: u32, burst: u32) -> PerCaller<FakeRelativeClock> {
        let [count, burst] = [count, burst].map(|n| NonZeroU32::new(n).unwrap());
        PerCaller::with_clock("requests", Rate::new(count, Duration::from_mins(1), burst), clock.clone())
    }

    fn caller(name: &str) -> Caller {
        Caller::Subject(name.to_owned())
    }

    #[test]
    fn bursts_are_let_through_and_what_follows_waits() {
        let clock = FakeRelativeClock::default();
        let limit = limit(&clock, 30, 4);
        let counted = |name: &str, cells, later: u64| {
            clock.advance(Duration::from_secs(later));
            limit.count(&caller(name), cells).map_err(|too_many| too_many.retry_after.as_secs())
        };
        for (name, cells, later, expected) in [
            ("a", 1, 0, Ok(())),
            ("a", 3, 0, Ok(())),
            ("a", 1, 0, Err(2)),
            ("a", 3, 0, Err(6)),
            ("b", 4, 0, Ok(())),
            ("a", 1, 1, Err(1)),
            ("a", 1, 1, Ok(())),
            ("a", 1, 0, Err(2)),
            // All or nothing, and more than ever fits costs all that does.
            ("a", 100, 7, Err(1)),
            ("a", 100, 1, Ok(())),
            ("a", 0, 0, Err(2)),
        ] {
            assert_eq!(counted(name, cells, later), expected, "{cells} of {name}, {later} s later");
        }
    }

    #[test]
    fn the_refusal_names_the_limit() {
        let clock = FakeRelativeClock::default();
        let limit = limit(&clock, 1, 1);
        limit.count(&caller("a"), 1).unwrap();
        let refusal = limit.count(&caller("a"), 1).unwrap_err().to_string();
        assert_eq!(refusal, "requests: at most 1 a minute (bursts of 1); try again in 60 s");
    }

    #[test]
    fn idle_callers_are_forgotten_and_others_are_not() {
        let clock = FakeRelativeClock::default();
        let limit = limit(&clock, 60, 2);
        limit.count(&caller("a"), 1).unwrap();
        clock.advance(Duration::from_secs(10));
        limit.count(&caller("b"), 2).unwrap();
        limit.forget_idle();
        assert_eq!(limit.limiter.len(), 1);
        assert!(limit.count(&caller("b"), 1).is_err(), "b's allowance is still used up");
    }

    #[test]
    fn any_number_of_callers_takes_bounded_memory() {
        let clock = FakeRelativeClock::default();
        let limit = limit(&clock, 1, 1);
        for n in 0..2 * MAX_CALLERS {
            let _ = limit.count(&caller(&n.to_string()), 1);
        }
        let shared = usize::try_from(SHARED).unwrap();
        assert!(limit.limiter.len() <= MAX_CALLERS + shared, "{}", limit.limiter.len());
    }

    #[test]
    fn a_connection_joins_as_often_as_its_rate_says() {
        let [count, burst] = [1, 2].map(|n| NonZeroU32::new(n).unwrap());
        let joins = JoinRate::new(Some(Rate::new(count, Duration::from_hours(1), burst)));
        assert_eq!((joins.join(), joins.join()), (Ok(()), Ok(())));
        assert!(joins.join().is_err());
        let unlimited = JoinRate::new(None);
        assert!((0..10_000).all(|_| unlimited.join().is_ok()));
    }
}
