//! Rate limits per caller and the limit on concurrent connections.
//!
//! A caller is identified by the token's subject, or by the client's address without one. Each process counts
//! separately: with n processes, a caller can reach n times the limit.

mod connections;
mod rate;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use http::HeaderMap;

use crate::{auth::Access, client_address::ClientAddress, listener::Peer};
use connections::ConnectionLimit;
use rate::KeyedRateLimiter;

pub use connections::{ConnectionLimitExceeded, ConnectionPermit};
pub use rate::{JoinRateLimiter, Rate};

/// Settings of the limits; `None` disables a limit.
#[derive(Debug, Clone, Default)]
pub struct LimitSettings {
    /// Upload grants per caller.
    pub grants: Option<Rate>,
    /// Other requests per caller.
    pub requests: Option<Rate>,
    /// Joins per connection.
    pub joins: Option<Rate>,
    /// Concurrent connections to this process.
    pub connections: usize,
    /// Concurrent connections per client address.
    pub connections_per_address: Option<NonZeroUsize>,
    /// Number of trusted proxies in front of the server that append to `X-Forwarded-For`.
    pub trusted_proxy_hops: usize,
}

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
    /// What is limited.
    pub counted: &'static str,
    /// The limit.
    pub rate: Rate,
    /// Time until a retry can succeed, in whole seconds.
    pub retry_after: Duration,
}

/// Enforces the limits.
#[derive(Debug)]
pub struct Limiter {
    grants: Option<KeyedRateLimiter>,
    requests: Option<KeyedRateLimiter>,
    joins: Option<Rate>,
    connections: Arc<ConnectionLimit>,
    trusted_proxy_hops: usize,
}

impl Limiter {
    /// Creates a limiter with these settings.
    #[must_use]
    pub fn new(settings: &LimitSettings) -> Self {
        Self {
            grants: settings.grants.map(|rate| KeyedRateLimiter::new("upload grants for this caller", rate)),
            requests: settings.requests.map(|rate| KeyedRateLimiter::new("requests from this caller", rate)),
            joins: settings.joins,
            connections: Arc::new(ConnectionLimit::new(
                settings.connections,
                settings.connections_per_address,
            )),
            trusted_proxy_hops: settings.trusted_proxy_hops,
        }
    }

    /// The address of the client that sent the request.
    #[must_use]
    pub fn client_address(&self, peer: Option<&Peer>, headers: &HeaderMap) -> ClientAddress {
        ClientAddress::resolve(peer.map(|peer| peer.address.ip()), headers, self.trusted_proxy_hops)
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

    /// Acquires a permit for one connection, released on drop.
    ///
    /// # Errors
    /// When the process or the address has its maximum number of connections.
    pub fn acquire_connection(
        &self,
        address: ClientAddress,
    ) -> Result<ConnectionPermit, ConnectionLimitExceeded> {
        self.connections.acquire(address)
    }

    /// Removes the state of callers whose allowance is full again. Call it periodically.
    pub fn forget_idle_keys(&self) {
        for limit in [&self.grants, &self.requests].into_iter().flatten() {
            limit.forget_idle();
        }
    }
}

impl RateLimitKey {
    /// The key of a caller with these rights at this address.
    #[must_use]
    pub fn for_caller(access: &Access, address: ClientAddress) -> Self {
        access.subject.clone().map_or(Self::Address(address), Self::Subject)
    }
}
