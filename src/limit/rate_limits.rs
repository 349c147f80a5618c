//! The rate limits of this process.

use super::{
    LimitSettings,
    rate::{JoinRateLimiter, KeyedRateLimiter, Rate, RateLimitExceeded, RateLimitKey},
};

/// The rate limits of this process.
#[derive(Debug)]
pub struct RateLimits {
    grants: Option<KeyedRateLimiter>,
    requests: Option<KeyedRateLimiter>,
    joins: Option<Rate>,
}

impl RateLimits {
    /// Creates the rate limits of these settings.
    #[must_use]
    pub fn new(settings: &LimitSettings) -> Self {
        Self {
            grants: settings.grants.map(|rate| KeyedRateLimiter::new("upload grants for this caller", rate)),
            requests: settings.requests.map(|rate| KeyedRateLimiter::new("requests from this caller", rate)),
            joins: settings.joins,
        }
    }

    /// Counts one request of a caller.
    ///
    /// # Errors
    /// When the caller exceeded the limit.
    pub fn check_request(&self, caller: &RateLimitKey) -> Result<(), RateLimitExceeded> {
        self.requests.as_ref().map_or(Ok(()), |requests| requests.check(caller, 1))
    }

    /// Counts the uploads of one request: all of them or none. More uploads than the burst size count as the
    /// burst size.
    ///
    /// # Errors
    /// When the caller exceeded the limit.
    pub fn check_grants(&self, caller: &RateLimitKey, uploads: usize) -> Result<(), RateLimitExceeded> {
        self.grants.as_ref().map_or(Ok(()), |grants| grants.check(caller, uploads))
    }

    /// Creates the rate limiter for the joins of one connection.
    #[must_use]
    pub fn join_limiter(&self) -> JoinRateLimiter {
        JoinRateLimiter::new(self.joins)
    }

    /// Removes the state of callers whose allowance is full again. Call it periodically.
    pub fn forget_idle_keys(&self) {
        for limit in [&self.grants, &self.requests].into_iter().flatten() {
            limit.forget_idle();
        }
    }
}
