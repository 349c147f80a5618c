//! Rate limits and connection limits.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use clap::Args;

use super::{
    setting::{Setting, integer},
    validate::Validator,
};
use crate::limit::{LimitSettings, Rate};

/// Settings of the limits. A caller is the subject of a token, or else a client address.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// Maximum number of connections of one process
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "50000")]
    #[arg(value_name = "NUMBER", value_parser = integer::<usize>(1..=1_000_000))]
    max_connections: Setting<usize>,
    /// Maximum number of connections from one IP address; 0 for no limit, since thousands of phones can share
    /// an address
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", default_value = "0")]
    #[arg(value_name = "NUMBER", value_parser = integer::<usize>(0..=1_000_000))]
    max_connections_per_address: Setting<usize>,
    /// Number of trusted proxies in front of this process that append to X-Forwarded-For; on Heroku 1
    #[arg(long, env = "TRUSTED_PROXY_HOPS", default_value = "0")]
    #[arg(value_name = "NUMBER", value_parser = integer::<usize>(0..=16))]
    trusted_proxy_hops: Setting<usize>,
    /// Maximum number of uploads granted to one caller (token subject, else IP address) per minute, counting
    /// each file of a batch; 0 for no limit
    #[arg(long, env = "GRANTS_PER_MINUTE", default_value = "6000")]
    #[arg(value_name = "NUMBER", value_parser = integer::<u32>(0..=1_000_000))]
    grants_per_minute: Setting<u32>,
    /// Burst size for GRANTS_PER_MINUTE, in uploads
    #[arg(long, env = "GRANTS_BURST", default_value = "3000")]
    #[arg(value_name = "NUMBER", value_parser = integer::<u32>(1..=1_000_000))]
    grants_burst: Setting<u32>,
    /// Maximum number of requests under /v1, without upload grants, from one caller (token subject, else IP
    /// address) per minute; 0 for no limit
    #[arg(long, env = "REQUESTS_PER_MINUTE", default_value = "30000")]
    #[arg(value_name = "NUMBER", value_parser = integer::<u32>(0..=1_000_000))]
    requests_per_minute: Setting<u32>,
    /// Burst size for REQUESTS_PER_MINUTE, in requests
    #[arg(long, env = "REQUESTS_BURST", default_value = "10000")]
    #[arg(value_name = "NUMBER", value_parser = integer::<u32>(1..=1_000_000))]
    requests_burst: Setting<u32>,
    /// Maximum number of joins on one connection per second; 0 for no limit
    #[arg(long, env = "JOINS_PER_SECOND", default_value = "200")]
    #[arg(value_name = "NUMBER", value_parser = integer::<u32>(0..=1_000_000))]
    joins_per_second: Setting<u32>,
    /// Burst size for JOINS_PER_SECOND, in joins
    #[arg(long, env = "JOINS_BURST", default_value = "1000")]
    #[arg(value_name = "NUMBER", value_parser = integer::<u32>(1..=1_000_000))]
    joins_burst: Setting<u32>,
}

impl LimitArgs {
    pub(super) fn validate(self, rate_limits: bool, validator: &mut Validator) -> LimitSettings {
        let mut rate = |count, period, burst| {
            let [count, burst] = [count, burst].map(|setting| NonZeroU32::new(validator.value(setting)));
            Some(Rate::new(count?, period, burst?)).filter(|_| rate_limits)
        };
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        LimitSettings {
            grants: rate(self.grants_per_minute, minute, self.grants_burst),
            requests: rate(self.requests_per_minute, minute, self.requests_burst),
            joins: rate(self.joins_per_second, second, self.joins_burst),
            connections: validator.value(self.max_connections),
            connections_per_address: NonZeroUsize::new(validator.value(self.max_connections_per_address)),
            trusted_proxy_hops: validator.value(self.trusted_proxy_hops),
        }
    }
}
