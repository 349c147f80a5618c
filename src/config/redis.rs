//! The Redis that stores the feed log.

use std::time::Duration;

use clap::Args;

use super::{
    setting::{Setting, boolean, integer, milliseconds, parsed, text},
    validate::Validator,
};
use crate::log::{RedisAddress, RedisKeyPrefix, RedisSettings};

/// Settings of Redis.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the names of the settings")]
pub(super) struct RedisArgs {
    /// URL of the Redis or Valkey 7+ server, or of a cluster node, that stores the feed log: redis://… or
    /// rediss://…; if unset, the log is in memory
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    #[arg(value_name = "URL", value_parser = text::<String>())]
    pub(super) redis_url: Option<Setting<String>>,
    /// Whether to accept any certificate of a rediss:// server, as Heroku's self-signed ones require
    #[arg(long, env = "REDIS_TLS_INSECURE", default_value = "false")]
    #[arg(value_name = "BOOLEAN", value_parser = boolean())]
    redis_tls_insecure: Setting<bool>,
    /// Prefix of every key in Redis; separates deployments that share a server
    #[arg(long, env = "REDIS_KEY_PREFIX", default_value = "photoshare:")]
    #[arg(value_name = "PREFIX", value_parser = parsed(RedisKeyPrefix::parse))]
    redis_key_prefix: Setting<RedisKeyPrefix>,
    /// Number of replicas that must confirm an event before its message is deleted from the queue
    #[arg(long, env = "REDIS_WAIT_REPLICAS", default_value = "0")]
    #[arg(value_name = "NUMBER", value_parser = integer::<usize>(0..=10))]
    redis_wait_replicas: Setting<usize>,
    /// Timeout for the replicas of REDIS_WAIT_REPLICAS to confirm
    #[arg(long, env = "REDIS_WAIT_MS", default_value = "1000")]
    #[arg(value_name = "MILLISECONDS", value_parser = milliseconds(1..=2000))]
    redis_wait_ms: Setting<Duration>,
}

impl RedisArgs {
    pub(super) fn validate(self, validator: &mut Validator) -> Option<RedisSettings> {
        let any_certificate = validator.value(self.redis_tls_insecure);
        let key_prefix = validator.optional(Some(self.redis_key_prefix));
        let wait_replicas = validator.value(self.redis_wait_replicas);
        let wait_timeout = validator.value(self.redis_wait_ms);
        let address = RedisAddress::parse(&validator.optional(self.redis_url)?, any_certificate);
        let address = address.map_err(|error| validator.add_error("REDIS_URL", error.to_string())).ok();
        Some(RedisSettings { address: address?, key_prefix: key_prefix?, wait_replicas, wait_timeout })
    }
}
