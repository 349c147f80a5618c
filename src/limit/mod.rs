//! Rate limits per caller, the quota of concurrent connections, and the limits of request bodies.
//!
//! A caller is identified by the token's subject, or by the client's address without one. Each process counts
//! separately: with n processes, a caller can reach n times the limit.

mod body_reader;
mod connection_quota;
mod paced_body;
mod rate;
mod rate_limits;

use std::num::NonZeroUsize;

pub use body_reader::{BodyError, BodyReader};
pub use connection_quota::{ConnectionPermit, ConnectionQuota, ConnectionQuotaExceeded};
pub use paced_body::PacedBody;
pub use rate::{JoinRateLimiter, Rate, RateLimitExceeded, RateLimitKey};
pub use rate_limits::RateLimits;

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
