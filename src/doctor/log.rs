//! The log that several processes share, where there is one.

use super::{Finding, with_sources};
use crate::log::{RedisHealth, RedisProbeError, RedisSettings};

const CHECK: &str = "redis";
/// The first whose scripts and streams do all that the log asks for.
const OLDEST: u32 = 7;

pub(super) async fn examine(settings: Option<&RedisSettings>) -> Vec<Finding> {
    let Some(settings) = settings else {
        return vec![Finding::ok(CHECK, "not configured: one process")];
    };
    match settings.probe().await {
        Ok(health) => vec![answering(&health), memory(&health), replicas(&health, settings.wait_replicas)],
        Err(error) => {
            let found = format!("{:?}: {}", settings.address, with_sources(&error));
            vec![Finding::failure(CHECK, found, mend(&error))]
        }
    }
}

fn mend(error: &RedisProbeError) -> &'static str {
    match error {
        RedisProbeError::Certificate(_) => {
            "REDIS_TLS_INSECURE=true accepts it, as Heroku's self-signed ones need; elsewhere give the server \
             a certificate that an authority signed"
        }
        RedisProbeError::Connect(_) => {
            "start it, or set REDIS_URL to where it is; on Heroku: heroku config:get REDIS_URL"
        }
        RedisProbeError::Work { .. } => {
            "point REDIS_URL to the primary, or let its user do that: redis-cli -u \"$REDIS_URL\" ACL SETUSER \
             \"$(redis-cli -u \"$REDIS_URL\" ACL WHOAMI)\" allkeys +@all"
        }
    }
}

fn answering(health: &RedisHealth) -> Finding {
    let RedisHealth { server, major, round_trip, .. } = health;
    if *major < OLDEST {
        let found = format!("{server}: the log needs Redis or Valkey {OLDEST} or later");
        return Finding::failure(CHECK, found, "upgrade it; on Heroku: heroku redis:upgrade");
    }
    let latency = round_trip.as_micros() as f64 / 1000.0;
    Finding::ok(CHECK, format!("{server} answers in {latency:.1} ms, and runs scripts on streams"))
}

/// All that the log keeps expires in the end, so that the policies named `volatile-…` hit it as well: what
/// was seen of a key would be forgotten, and old events told as news.
fn memory(health: &RedisHealth) -> Finding {
    const CHECK: &str = "redis-memory";
    match health.eviction.as_deref() {
        None => Finding::ok(CHECK, "no limit, nothing is evicted"),
        Some("noeviction") => Finding::ok(CHECK, "a limit, nothing is evicted"),
        Some(policy) => Finding::warning(
            CHECK,
            format!("{policy}: when it is full, it forgets what the log holds"),
            "redis-cli -u \"$REDIS_URL\" CONFIG SET maxmemory-policy noeviction; on Heroku: \
             heroku redis:maxmemory REDIS_URL --policy noeviction",
        ),
    }
}

fn replicas(health: &RedisHealth, wanted: usize) -> Finding {
    const CHECK: &str = "redis-replicas";
    let found = format!("{} follow, REDIS_WAIT_REPLICAS is {wanted}", health.replicas);
    if health.replicas >= wanted {
        return Finding::ok(CHECK, found);
    }
    let mend = format!("start more replicas, or set REDIS_WAIT_REPLICAS={}", health.replicas);
    Finding::failure(CHECK, format!("{found}: no event is ever done"), mend)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::Level;

    fn health(major: u32, eviction: Option<&str>) -> RedisHealth {
        RedisHealth {
            server: format!("Redis {major}"),
            major,
            eviction: eviction.map(str::to_owned),
            replicas: 1,
            round_trip: Duration::from_millis(1),
        }
    }

    #[test]
    fn an_old_version_can_not_hold_the_log() {
        for (major, level) in [(6, Level::Failure), (7, Level::Ok), (8, Level::Ok)] {
            assert_eq!(answering(&health(major, None)).level, level, "{major}");
        }
    }

    #[test]
    fn a_policy_that_evicts_what_expires_is_warned_of() {
        for (eviction, level) in [
            (None, Level::Ok),
            (Some("noeviction"), Level::Ok),
            (Some("allkeys-lru"), Level::Warning),
            (Some("volatile-lru"), Level::Warning),
        ] {
            assert_eq!(memory(&health(7, eviction)).level, level, "{eviction:?}");
        }
    }

    #[test]
    fn as_many_replicas_must_follow_as_are_waited_for() {
        for (wanted, level) in [(0, Level::Ok), (1, Level::Ok), (2, Level::Failure)] {
            assert_eq!(replicas(&health(7, None), wanted).level, level, "{wanted}");
        }
    }
}
