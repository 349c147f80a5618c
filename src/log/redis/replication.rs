//! Probe writes to a shard, and the confirmation of writes by replicas.

use std::time::Duration;

use redis::{Cmd, RedisError};

use super::{connection::RedisConnection, keys::RedisKeyPrefix};
use crate::log::LogError;

const PROBE_TTL: Duration = Duration::from_mins(1);

/// The number of replicas that must confirm a write, and the timeout.
pub(super) struct ReplicaWait {
    pub(super) replicas: usize,
    pub(super) timeout: Duration,
}

/// Too few replicas confirmed a write in time.
#[derive(Debug, thiserror::Error)]
#[error("{confirmed} of {required} required replicas confirmed the write")]
struct NotReplicated {
    required: usize,
    confirmed: usize,
}

impl ReplicaWait {
    /// Waits until enough replicas have confirmed the writes to `shard` over `connection`. Returns how many.
    ///
    /// WAIT covers only the writes of its own connection, and a cluster connection may consist of several. So
    /// WAIT is pipelined after one more write to the shard, which routes it to the same connection.
    pub(super) async fn wait_for_replicas(
        &self,
        key_prefix: &RedisKeyPrefix,
        shard: u16,
        connection: &mut RedisConnection,
    ) -> Result<usize, RedisError> {
        if self.replicas == 0 {
            return Ok(0);
        }
        let timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let mut pipeline = redis::pipe();
        pipeline.add_command(probe_write(key_prefix, shard)).ignore();
        pipeline.cmd("WAIT").arg(self.replicas).arg(timeout_ms);
        let (confirmed,) = pipeline.query_async(connection).await?;
        Ok(confirmed)
    }

    /// Checks the number that [`ReplicaWait::wait_for_replicas`] returned.
    pub(super) fn check_confirmed(&self, confirmed: usize) -> Result<(), LogError> {
        let required = self.replicas;
        if confirmed < required { Err(NotReplicated { required, confirmed }.into()) } else { Ok(()) }
    }
}

/// A write that checks whether a shard accepts writes. PING is no substitute: a server that is out of memory,
/// cannot save or became a replica still responds to it.
pub(super) fn probe_write(key_prefix: &RedisKeyPrefix, shard: u16) -> Cmd {
    redis::cmd("SET").arg(key_prefix.probe_key(shard)).arg("").arg("EX").arg(PROBE_TTL.as_secs()).to_owned()
}

impl From<NotReplicated> for LogError {
    fn from(error: NotReplicated) -> Self {
        Self(Box::new(error))
    }
}
