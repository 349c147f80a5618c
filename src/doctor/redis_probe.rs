//! Reads what a Redis reports about itself, and tries the operations that the log needs.

use std::time::{Duration, Instant};

use redis::{RedisError, aio::MultiplexedConnection, streams::StreamReadReply};

use crate::log::{RedisSettings, Script};

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// The shard that the probe writes to. Any would do.
const SHARD: u16 = 0;

/// Writes to a stream as the log does. The key expires if the probe cannot delete it.
const WRITE_SCRIPT: &str = "redis.call('XADD', KEYS[1], '1-0', 'probe', '1')
redis.call('EXPIRE', KEYS[1], 60)
return redis.call('XLEN', KEYS[1])";

/// What a Redis on which the log works reported about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisHealth {
    /// Its name and version, as in `Valkey 8.0.1`.
    pub server: String,
    /// Its major version. The log needs 7 of both: Valkey's numbers continue those of Redis 7.
    pub major_version: u32,
    /// Its `maxmemory-policy`; `None` if its memory has no limit.
    pub eviction_policy: Option<String>,
    /// The number of connected replicas.
    pub replica_count: usize,
    /// The duration of one command.
    pub round_trip: Duration,
}

/// Why the log cannot use a Redis.
#[derive(Debug, thiserror::Error)]
pub enum RedisProbeError {
    /// No trusted authority signed the server's certificate.
    #[error("the server's certificate is not trusted")]
    Certificate(#[source] RedisError),
    /// No connection was established or authenticated.
    #[error("failed to connect to Redis")]
    Connect(#[source] RedisError),
    /// Redis rejected an operation that the log needs.
    #[error("Redis rejected an operation that the log needs: {operation}")]
    Operation {
        /// The operation.
        operation: &'static str,
        /// Why.
        #[source]
        source: RedisError,
    },
}

/// Runs each operation that the log needs once, on a key of its own, and deletes the key.
///
/// # Errors
/// The first operation that failed.
pub async fn probe_redis(settings: &RedisSettings) -> Result<RedisHealth, RedisProbeError> {
    let id = getrandom::u64().expect("the system has randomness");
    let key = settings.key_prefix.trial_key(SHARD, &format!("{id:016x}"));
    let mut connection = connect(settings).await?;
    let started = Instant::now();
    let info: String = check_operation("INFO", redis::cmd("INFO").query_async(&mut connection).await)?;
    let round_trip = started.elapsed();
    let checked = write_and_read(&mut connection, &key).await;
    let deleted =
        check_operation("DEL", redis::cmd("DEL").arg(&key).query_async::<()>(&mut connection).await);
    checked.and(deleted).map(|()| parse_health(&info, round_trip))
}

/// Connects to the server that holds the key of the probe.
async fn connect(settings: &RedisSettings) -> Result<MultiplexedConnection, RedisProbeError> {
    settings.connect_to_shard(SHARD, RESPONSE_TIMEOUT).await.map_err(|error| {
        // The redis crate does not keep the type of the TLS library's error.
        let is_certificate_error = error.to_string().contains("certificate");
        if is_certificate_error {
            RedisProbeError::Certificate(error)
        } else {
            RedisProbeError::Connect(error)
        }
    })
}

async fn write_and_read(connection: &mut MultiplexedConnection, key: &str) -> Result<(), RedisProbeError> {
    check_operation(
        "a script that adds to a stream",
        Script::new(WRITE_SCRIPT).with_keys(&[key.to_owned()]).invoke::<u64>(connection).await,
    )?;
    let mut read = redis::cmd("XREAD");
    read.arg("BLOCK").arg(1000).arg("STREAMS").arg(key).arg("0");
    check_operation("XREAD", read.query_async::<StreamReadReply>(connection).await)?;
    Ok(())
}

fn check_operation<T>(operation: &'static str, result: Result<T, RedisError>) -> Result<T, RedisProbeError> {
    result.map_err(|source| RedisProbeError::Operation { operation, source })
}

/// Parses the response to INFO.
/// <https://redis.io/docs/latest/commands/info/>
fn parse_health(info: &str, round_trip: Duration) -> RedisHealth {
    let field = |name: &str| {
        let mut fields = info.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(known, _)| *known == name).map(|(_, value)| value.trim())
    };
    // Valkey reports the Redis version that it is compatible with as `redis_version`.
    let (name, version) = match field("valkey_version") {
        Some(version) => ("Valkey", version),
        None => ("Redis", field("redis_version").unwrap_or_default()),
    };
    let limited = field("maxmemory").is_some_and(|bytes| bytes != "0");
    RedisHealth {
        server: format!("{name} {version}"),
        major_version: version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default(),
        eviction_policy: field("maxmemory_policy").filter(|_| limited).map(str::to_owned),
        replica_count: field("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or_default(),
        round_trip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_version_and_settings_are_parsed_from_info() {
        let redis = "# Server\r\nredis_version:6.2.14\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n";
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n\
            maxmemory:1000\r\nmaxmemory_policy:allkeys-lru\r\nconnected_slaves:2\r\n";
        for (info, server, major_version, eviction_policy, replica_count) in [
            (redis, "Redis 6.2.14", 6, None, 0),
            (valkey, "Valkey 8.0.1", 8, Some("allkeys-lru"), 2),
            ("", "Redis ", 0, None, 0),
        ] {
            let eviction_policy = eviction_policy.map(str::to_owned);
            let server = server.into();
            let round_trip = Duration::ZERO;
            let expected = RedisHealth { server, major_version, eviction_policy, replica_count, round_trip };
            assert_eq!(parse_health(info, round_trip), expected);
        }
    }
}
