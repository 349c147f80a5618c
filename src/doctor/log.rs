//! Checks of the Redis that stores the feed log.

use super::{
    redis_probe::{RedisHealth, RedisProbeError, probe_redis},
    report::{Finding, format_with_sources},
};
use crate::log::RedisSettings;

const CHECK: &str = "redis";
/// The first version whose scripts and streams support the log.
const MIN_VERSION: u32 = 7;

pub(super) async fn check_redis(settings: Option<&RedisSettings>) -> Vec<Finding> {
    let Some(settings) = settings else {
        return vec![Finding::ok(CHECK, "not configured, the log is in memory")];
    };
    match probe_redis(settings).await {
        Ok(health) => vec![
            check_server(&health),
            check_eviction(&health),
            check_replicas(&health, settings.wait_replicas),
        ],
        Err(error) => {
            let found = format!("{:?}: {}", settings.address, format_with_sources(&error));
            vec![Finding::failure(CHECK, found, find_fix(&error))]
        }
    }
}

fn find_fix(error: &RedisProbeError) -> &'static str {
    match error {
        RedisProbeError::Certificate(_) => {
            "REDIS_TLS_INSECURE=true accepts it, as Heroku's self-signed certificates require; elsewhere install a \
             certificate that a trusted authority has signed"
        }
        RedisProbeError::Connect(_) => {
            "start Redis, or correct REDIS_URL; on Heroku: heroku config:get REDIS_URL"
        }
        RedisProbeError::Operation { .. } => {
            "point REDIS_URL to the primary, or grant its user the permissions: redis-cli -u \"$REDIS_URL\" ACL SETUSER \
             \"$(redis-cli -u \"$REDIS_URL\" ACL WHOAMI)\" allkeys +@all"
        }
    }
}

fn check_server(health: &RedisHealth) -> Finding {
    let RedisHealth { server, major_version: major, round_trip, .. } = health;
    if *major < MIN_VERSION {
        let found = format!("{server}: the log needs Redis or Valkey {MIN_VERSION} or later");
        return Finding::failure(CHECK, found, "upgrade Redis; on Heroku: heroku redis:upgrade");
    }
    let latency_ms = round_trip.as_micros() as f64 / 1000.0;
    Finding::ok(CHECK, format!("{server} responds in {latency_ms:.1} ms and runs scripts on streams"))
}

/// Every key of the log has a TTL, so the `volatile-…` policies evict it too: the deduplication state of a
/// photo would be lost, and old events would be announced again.
fn check_eviction(health: &RedisHealth) -> Finding {
    const CHECK: &str = "redis-memory";
    match health.eviction_policy.as_deref() {
        None => Finding::ok(CHECK, "no memory limit, keys are never evicted"),
        Some("noeviction") => Finding::ok(CHECK, "a memory limit, keys are never evicted"),
        Some(policy) => Finding::warning(
            CHECK,
            format!("maxmemory-policy is {policy}: when the memory is full, Redis evicts keys of the log"),
            "redis-cli -u \"$REDIS_URL\" CONFIG SET maxmemory-policy noeviction; on Heroku: \
             heroku redis:maxmemory REDIS_URL --policy noeviction",
        ),
    }
}

fn check_replicas(health: &RedisHealth, wanted: usize) -> Finding {
    const CHECK: &str = "redis-replicas";
    let found = format!("{} replicas are connected, REDIS_WAIT_REPLICAS is {wanted}", health.replica_count);
    if health.replica_count >= wanted {
        return Finding::ok(CHECK, found);
    }
    let fix = format!("start more replicas, or set REDIS_WAIT_REPLICAS={}", health.replica_count);
    Finding::failure(CHECK, format!("{found}: no event is ever confirmed, and no message deleted"), fix)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::Level;

    fn health(major: u32, eviction: Option<&str>) -> RedisHealth {
        RedisHealth {
            server: format!("Redis {major}"),
            major_version: major,
            eviction_policy: eviction.map(str::to_owned),
            replica_count: 1,
            round_trip: Duration::from_millis(1),
        }
    }

    #[test]
    fn a_redis_older_than_version_7_fails() {
        for (major, level) in [(6, Level::Failure), (7, Level::Ok), (8, Level::Ok)] {
            assert_eq!(check_server(&health(major, None)).level, level, "{major}");
        }
    }

    #[test]
    fn a_policy_that_evicts_keys_with_a_ttl_is_a_warning() {
        for (eviction, level) in [
            (None, Level::Ok),
            (Some("noeviction"), Level::Ok),
            (Some("allkeys-lru"), Level::Warning),
            (Some("volatile-lru"), Level::Warning),
        ] {
            assert_eq!(check_eviction(&health(7, eviction)).level, level, "{eviction:?}");
        }
    }

    #[test]
    fn fewer_replicas_than_redis_wait_replicas_fail() {
        for (wanted, level) in [(0, Level::Ok), (1, Level::Ok), (2, Level::Failure)] {
            assert_eq!(check_replicas(&health(7, None), wanted).level, level, "{wanted}");
        }
    }
}
