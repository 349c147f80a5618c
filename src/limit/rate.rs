//! Rate limiting with the generic cell rate algorithm (GCRA): <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>.

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

use crate::{auth::Access, client_address::ClientAddress};

/// Maximum number of keys with an allowance of their own. Further keys share allowances, which bounds the
/// memory that a client can use up with invented addresses.
const MAX_KEYS: usize = 100_000;
/// Number of shared allowances.
const SHARED_ALLOWANCES: u64 = 4096;

/// A rate: `count` per `period`, with bursts of up to `burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    period: Duration,
    burst: NonZeroU32,
}

/// Rate limiter with a separate allowance for each key.
pub(super) struct KeyedRateLimiter<C: Clock = DefaultClock> {
    counted: &'static str,
    rate: Rate,
    limiter: RateLimiter<u64, HashMapStateStore<u64>, C, NoOpMiddleware<C::Instant>>,
    hasher: RandomState,
}

/// Rate limiter for the joins of one connection.
#[derive(Debug, Default)]
pub struct JoinRateLimiter(Option<(Rate, DefaultDirectRateLimiter)>);

/// Identifies a caller for rate limiting.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RateLimitKey {
    /// Subject of the token.
    Subject(String),
    /// Address of the client, for tokens without a subject and for anonymous callers.
    Address(ClientAddress),
}

/// A rate limit was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many {counted}: the limit is {rate}; retry after {} s", .retry_after.as_secs())]
pub struct RateLimitExceeded {
    /// What is counted, for example `requests from this caller`.
    pub counted: &'static str,
    /// The limit.
    pub rate: Rate,
    /// Time until a retry can succeed, in whole seconds.
    pub retry_after: Duration,
}

impl Rate {
    /// `count` per `period`, with bursts of up to `burst`. `count` must not exceed the period in nanoseconds.
    #[must_use]
    pub fn new(count: NonZeroU32, period: Duration, burst: NonZeroU32) -> Self {
        Self { count, period, burst }
    }

    fn quota(&self) -> Quota {
        let interval = (self.period / self.count.get()).max(Duration::from_nanos(1));
        Quota::with_period(interval).expect("not zero").allow_burst(self.burst)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, period, burst } = self;
        match period.as_secs() {
            1 => write!(f, "{count} per second (burst of {burst})"),
            60 => write!(f, "{count} per minute (burst of {burst})"),
            secs => write!(f, "{count} per {secs} s (burst of {burst})"),
        }
    }
}

impl KeyedRateLimiter {
    pub(super) fn new(counted: &'static str, rate: Rate) -> Self {
        Self::with_clock(counted, rate, DefaultClock::default())
    }
}

impl<C: Clock> KeyedRateLimiter<C> {
    fn with_clock(counted: &'static str, rate: Rate, clock: C) -> Self {
        let limiter = RateLimiter::hashmap_with_clock(rate.quota(), clock);
        Self { counted, rate, limiter, hasher: RandomState::new() }
    }

    /// Counts `cells` for `caller`: all of them or none.
    pub(super) fn check(&self, caller: &RateLimitKey, cells: usize) -> Result<(), RateLimitExceeded> {
        let cells = u32::try_from(cells).unwrap_or(u32::MAX).clamp(1, self.rate.burst.get());
        let cells = NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN);
        let hash = self.hasher.hash_one(caller);
        let key = if self.limiter.len() < MAX_KEYS { hash } else { hash % SHARED_ALLOWANCES };
        match self.limiter.check_key_n(&key, cells) {
            Ok(Err(not_until)) => Err(RateLimitExceeded {
                counted: self.counted,
                rate: self.rate,
                retry_after: retry_after(&not_until, self.limiter.clock()),
            }),
            // `Err` means more cells than the burst size, which the clamp above excludes.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Removes keys whose allowance is full again.
    pub(super) fn forget_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

impl RateLimitKey {
    /// The key of a caller with these rights at this address.
    #[must_use]
    pub fn for_caller(access: &Access, address: ClientAddress) -> Self {
        access.subject.clone().map_or(Self::Address(address), Self::Subject)
    }
}

impl JoinRateLimiter {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self(rate.map(|rate| (rate, RateLimiter::direct(rate.quota()))))
    }

    /// Counts one join.
    ///
    /// # Errors
    /// When the connection exceeded the limit.
    pub fn check(&self) -> Result<(), RateLimitExceeded> {
        let Some((rate, limiter)) = &self.0 else { return Ok(()) };
        limiter.check().map_err(|not_until| RateLimitExceeded {
            counted: "joins on this connection",
            rate: *rate,
            retry_after: retry_after(&not_until, limiter.clock()),
        })
    }
}

/// The time until a retry can succeed, rounded up to whole seconds as in the `Retry-After` header.
fn retry_after<R: Reference, C: Clock<Instant = R>>(not_until: &NotUntil<R>, clock: &C) -> Duration {
    let wait = not_until.wait_time_from(clock.now());
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

impl<C: Clock> fmt::Debug for KeyedRateLimiter<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyedRateLimiter({} {})", self.rate, self.counted)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limiter(clock: &FakeRelativeClock, count: u32, burst: u32) -> KeyedRateLimiter<FakeRelativeClock> {
        let [count, burst] = [count, burst].map(|n| NonZeroU32::new(n).unwrap());
        KeyedRateLimiter::with_clock(
            "requests",
            Rate::new(count, Duration::from_mins(1), burst),
            clock.clone(),
        )
    }

    fn key(name: &str) -> RateLimitKey {
        RateLimitKey::Subject(name.to_owned())
    }

    #[test]
    fn bursts_are_allowed_and_further_requests_must_wait() {
        let clock = FakeRelativeClock::default();
        let limiter = limiter(&clock, 30, 4);
        let count = |name: &str, cells, later: u64| {
            clock.advance(Duration::from_secs(later));
            limiter.check(&key(name), cells).map_err(|error| error.retry_after.as_secs())
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
            // All or nothing; more than the burst size counts as the burst size.
            ("a", 100, 7, Err(1)),
            ("a", 100, 1, Ok(())),
            ("a", 0, 0, Err(2)),
        ] {
            assert_eq!(count(name, cells, later), expected, "{cells} of {name}, {later} s later");
        }
    }

    #[test]
    fn the_error_names_the_limit() {
        let clock = FakeRelativeClock::default();
        let limiter = limiter(&clock, 1, 1);
        limiter.check(&key("a"), 1).unwrap();
        let error = limiter.check(&key("a"), 1).unwrap_err().to_string();
        assert_eq!(error, "too many requests: the limit is 1 per minute (burst of 1); retry after 60 s");
    }

    #[test]
    fn only_idle_keys_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let limiter = limiter(&clock, 60, 2);
        limiter.check(&key("a"), 1).unwrap();
        clock.advance(Duration::from_secs(10));
        limiter.check(&key("b"), 2).unwrap();
        limiter.forget_idle();
        assert_eq!(limiter.limiter.len(), 1);
        assert!(limiter.check(&key("b"), 1).is_err(), "b's allowance is still used up");
    }

    #[test]
    fn any_number_of_keys_uses_bounded_memory() {
        let clock = FakeRelativeClock::default();
        let limiter = limiter(&clock, 1, 1);
        for n in 0..2 * MAX_KEYS {
            let _ = limiter.check(&key(&n.to_string()), 1);
        }
        let shared = usize::try_from(SHARED_ALLOWANCES).unwrap();
        assert!(limiter.limiter.len() <= MAX_KEYS + shared, "{}", limiter.limiter.len());
    }

    #[test]
    fn joins_are_limited_to_the_rate_of_the_connection() {
        let [count, burst] = [1, 2].map(|n| NonZeroU32::new(n).unwrap());
        let joins = JoinRateLimiter::new(Some(Rate::new(count, Duration::from_hours(1), burst)));
        assert_eq!((joins.check(), joins.check()), (Ok(()), Ok(())));
        assert!(joins.check().is_err());
        let unlimited = JoinRateLimiter::new(None);
        assert!((0..10_000).all(|_| unlimited.check().is_ok()));
    }
}
