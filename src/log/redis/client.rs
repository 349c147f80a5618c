//! The Redis client that the log, its tail readers and presence share: the connections to one deployment and
//! the names of its keys.

use std::sync::Arc;

use futures_util::{StreamExt, future, stream};
use redis::{Cmd, FromRedisValue, RedisError};

use super::{
    connection::RedisConnection, keys::RedisKeyPrefix, script::ScriptCall, settings::RedisAddress,
    shared_connection::SharedConnection, topology::Topology,
};

/// Calls that [`run_all`] keeps in flight at the same time.
const MAX_CONCURRENT_CALLS: usize = 64;

/// A client of one Redis deployment. It connects on the first call.
pub(super) struct RedisClient {
    pub(super) topology: Arc<Topology>,
    pub(super) key_prefix: RedisKeyPrefix,
    /// For calls to which Redis responds immediately.
    pub(super) calls: SharedConnection,
    /// For appends. While an append waits for replicas, Redis runs no other command of its connection.
    pub(super) appends: SharedConnection,
}

impl RedisClient {
    pub(super) fn new(address: &RedisAddress, key_prefix: RedisKeyPrefix) -> Self {
        let topology = Arc::new(Topology::new(address.connection_info()));
        Self {
            calls: SharedConnection::new(topology.clone()),
            appends: SharedConnection::new(topology.clone()),
            topology,
            key_prefix,
        }
    }

    /// Runs a command that is safe to run twice.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.calls
            .run(async |mut connection: RedisConnection| command.query_async(&mut connection).await)
            .await
    }

    /// Calls a script that is safe to run twice.
    pub(super) async fn call_script<T: FromRedisValue>(
        &self,
        call: &ScriptCall<'_>,
    ) -> Result<T, RedisError> {
        self.calls.run(async |mut connection: RedisConnection| call.invoke(&mut connection).await).await
    }
}

/// Runs all `calls`, a bounded number at a time. A call that fails does not stop the others.
///
/// # Errors
/// The first error.
pub(super) async fn run_all(
    calls: impl Iterator<Item = impl Future<Output = Result<(), RedisError>>>,
) -> Result<(), RedisError> {
    let results = stream::iter(calls).buffer_unordered(MAX_CONCURRENT_CALLS);
    results.fold(Ok(()), |so_far, result| future::ready(so_far.and(result))).await
}
