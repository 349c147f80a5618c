//! Whether a Redis is fit for the log: what `photoshare doctor` asks of it.

use std::time::{Duration, Instant};

use redis::{RedisError, aio::MultiplexedConnection, streams::StreamReadReply};

use super::{RedisSettings, codec, nodes::Nodes, script::Script};
use crate::feed::Epoch;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// What the log does with each event, on a key that goes by itself if nobody removes it.
const WRITE: &str = "redis.call('XADD', KEYS[1], '1-0', 'probe', '1')
redis.call('EXPIRE', KEYS[1], 60)
return redis.call('XLEN', KEYS[1])";

/// A Redis that did all that the log asks of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisHealth {
    /// Redis or Valkey, and its version.
    pub server: String,
    /// The first number of its version; the log needs 7 of either, since Valkey went on from Redis 7.
    pub major: u32,
    /// What becomes of keys when its memory is full; `None` where its memory has no limit.
    pub eviction: Option<String>,
    /// How many replicas follow it.
    pub replicas: usize,
    /// From a question to its answer.
    pub round_trip: Duration,
}

/// A Redis that the log can't use.
#[derive(Debug, thiserror::Error)]
pub enum RedisProbeError {
    /// Nobody vouches for whom we speak to.
    #[error("its certificate is not trusted")]
    Certificate(#[source] RedisError),
    /// No connection, or none that lets us in.
    #[error("it can't be connected to")]
    Connect(#[source] RedisError),
    /// It refused what the log does.
    #[error("it does not do what the log needs ({what})")]
    Work {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        #[source]
        source: RedisError,
    },
}

impl RedisSettings {
    /// Does once what the log does all the time, under a key of its own that is removed again.
    ///
    /// # Errors
    /// When the log could not work there.
    pub async fn probe(&self) -> Result<RedisHealth, RedisProbeError> {
        let key = self.prefix.trial(&codec::epoch_text(Epoch::random()));
        let mut connection = connect(&Nodes::new(self.address.info())).await?;
        let begun = Instant::now();
        let info: String = work("INFO", redis::cmd("INFO").query_async(&mut connection).await)?;
        let round_trip = begun.elapsed();
        let worked = write_and_read(&mut connection, &key).await;
        let removed = work("DEL", redis::cmd("DEL").arg(&key).query_async::<()>(&mut connection).await);
        worked.and(removed).map(|()| health(&info, round_trip))
    }
}

/// Connects to where trials lie.
async fn connect(nodes: &Nodes) -> Result<MultiplexedConnection, RedisProbeError> {
    let holder = nodes.connect_to_holder(0, ANSWER_TIMEOUT).await;
    holder.map(|holder| holder.connection).map_err(|error| {
        // The TLS library's own error is not kept as a type on the way here.
        let of_certificate = error.to_string().contains("certificate");
        if of_certificate { RedisProbeError::Certificate(error) } else { RedisProbeError::Connect(error) }
    })
}

async fn write_and_read(connection: &mut MultiplexedConnection, key: &str) -> Result<(), RedisProbeError> {
    work(
        "a script that adds to a stream",
        Script::new(WRITE).call(&[key.to_owned()]).invoke::<u64>(connection).await,
    )?;
    let mut read = redis::cmd("XREAD");
    read.arg("BLOCK").arg(1000).arg("STREAMS").arg(key).arg("0");
    work("XREAD", read.query_async::<StreamReadReply>(connection).await)?;
    Ok(())
}

fn work<T>(what: &'static str, answer: Result<T, RedisError>) -> Result<T, RedisProbeError> {
    answer.map_err(|source| RedisProbeError::Work { what, source })
}

/// <https://redis.io/docs/latest/commands/info/>
fn health(info: &str, round_trip: Duration) -> RedisHealth {
    let field = |name: &str| {
        let named = info.lines().filter_map(|line| line.split_once(':')).find(|(known, _)| *known == name);
        named.map(|(_, value)| value.trim())
    };
    // Valkey says of `redis_version` which Redis it came from, whatever it has learnt since.
    let (name, version) = match field("valkey_version") {
        Some(version) => ("Valkey", version),
        None => ("Redis", field("redis_version").unwrap_or_default()),
    };
    let limited = field("maxmemory").is_some_and(|bytes| bytes != "0");
    RedisHealth {
        server: format!("{name} {version}"),
        major: version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default(),
        eviction: field("maxmemory_policy").filter(|_| limited).map(str::to_owned),
        replicas: field("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or_default(),
        round_trip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_is_read() {
        let redis = "# Server\r\nredis_version:6.2.14\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n";
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n\
            maxmemory:1000\r\nmaxmemory_policy:allkeys-lru\r\nconnected_slaves:2\r\n";
        for (info, server, major, eviction, replicas) in [
            (redis, "Redis 6.2.14", 6, None, 0),
            (valkey, "Valkey 8.0.1", 8, Some("allkeys-lru"), 2),
            ("", "Redis ", 0, None, 0),
        ] {
            let eviction = eviction.map(str::to_owned);
            let expected =
                RedisHealth { server: server.into(), major, eviction, replicas, round_trip: Duration::ZERO };
            assert_eq!(health(info, Duration::ZERO), expected);
        }
    }
}
