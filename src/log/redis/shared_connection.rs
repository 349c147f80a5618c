//! A connection that all callers share. It is opened on the first call and replaced after it breaks.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::task::JoinError;

use super::{
    connection::RedisConnection,
    topology::{CallConnection, SlotMap, Topology},
};

/// Calls to a cluster that may fail in a row before the connection to it is replaced.
const MAX_CONSECUTIVE_FAILURES: u32 = 16;

type Connecting = Shared<BoxFuture<'static, Result<CallConnection, RedisError>>>;

/// A connection shared by all callers. Callers that arrive while it is being opened wait for the same
/// attempt, so that many callers put no more load on a failing server than one does.
pub(super) struct SharedConnection {
    topology: Arc<Topology>,
    slot: Mutex<ConnectionSlot>,
    /// Held by the caller that checks whether the cluster has changed: one at a time.
    topology_check: tokio::sync::Mutex<()>,
}

/// The current connection, or the attempt to open it.
#[derive(Default)]
struct ConnectionSlot {
    /// Counts the connections that were replaced: a late failure of an old one must not affect a new one.
    generation: u64,
    connecting: Option<Connecting>,
    consecutive_failures: u32,
}

struct CallFailure {
    error: RedisError,
    /// Whether a second attempt may succeed.
    is_retryable: bool,
}

impl SharedConnection {
    pub(super) fn new(topology: Arc<Topology>) -> Self {
        Self { topology, slot: Mutex::default(), topology_check: tokio::sync::Mutex::default() }
    }

    /// Runs `request` over the connection, and once more over a new one if the first turns out to be broken.
    /// So `request` must be safe to run twice.
    pub(super) async fn run<T>(
        &self,
        request: impl AsyncFnOnce(RedisConnection) -> Result<T, RedisError> + Clone,
    ) -> Result<T, RedisError> {
        let result = match self.run_once(request.clone()).await {
            Err(CallFailure { is_retryable: true, .. }) => self.run_once(request).await,
            result => result,
        };
        result.map_err(|failure| failure.error)
    }

    async fn run_once<T>(
        &self,
        request: impl AsyncFnOnce(RedisConnection) -> Result<T, RedisError>,
    ) -> Result<T, CallFailure> {
        let (generation, connecting) = self.get_or_connect();
        let CallConnection { connection, slot_map } = connecting.await.map_err(|error| {
            self.discard(generation);
            CallFailure { is_retryable: error.is_connection_dropped(), error }
        })?;
        let result = request(connection).await;
        let failures = self.count_failures(generation, result.is_err());
        match result {
            Ok(response) => Ok(response),
            Err(error) => Err(self.handle_failure(error, generation, failures, slot_map).await),
        }
    }

    /// Discards the connection if it is broken, so that the next caller opens a new one.
    ///
    /// The cluster connection reconnects to single nodes by itself. It is replaced only when no call succeeds
    /// any more, since all its nodes may have moved, and when it still uses a node that was replaced.
    async fn handle_failure(
        &self,
        error: RedisError,
        generation: u64,
        failures: u32,
        slot_map: Option<SlotMap>,
    ) -> CallFailure {
        let (is_broken, is_outdated) = match slot_map {
            None => (is_connection_error(&error), false),
            Some(slot_map) => {
                (failures >= MAX_CONSECUTIVE_FAILURES, self.has_outdated_topology(&error, &slot_map).await)
            }
        };
        if is_broken || is_outdated {
            self.discard(generation);
        }
        CallFailure { is_retryable: is_outdated || error.is_connection_dropped(), error }
    }

    /// Whether the cluster has changed since the connection was opened with `slot_map`. A node that responds
    /// redirects calls itself. If a node does not respond, only the other nodes can report its replacement:
    /// after a timeout one caller at a time queries them.
    async fn has_outdated_topology(&self, error: &RedisError, slot_map: &SlotMap) -> bool {
        if !error.is_timeout() {
            return false;
        }
        let Ok(_guard) = self.topology_check.try_lock() else { return false };
        self.topology.is_unchanged(slot_map).await.is_ok_and(|unchanged| !unchanged)
    }

    /// Returns how many calls have failed in a row, including this one.
    fn count_failures(&self, generation: u64, failed: bool) -> u32 {
        let mut slot = self.lock_slot();
        if slot.generation != generation {
            return 0;
        }
        slot.consecutive_failures = if failed { slot.consecutive_failures + 1 } else { 0 };
        slot.consecutive_failures
    }

    fn get_or_connect(&self) -> (u64, Connecting) {
        let mut slot = self.lock_slot();
        let connecting = slot.connecting.get_or_insert_with(|| {
            let topology = self.topology.clone();
            // Spawned: if the first caller were dropped, nothing would poll the attempt until the next call,
            // and its timeout would have expired by then.
            let attempt = tokio::spawn(async move { topology.connect_shared().await });
            let flatten = |joined: Result<_, JoinError>| {
                joined.unwrap_or_else(|error| Err(io::Error::other(error).into()))
            };
            attempt.map(flatten).boxed().shared()
        });
        let connecting = connecting.clone();
        (slot.generation, connecting)
    }

    fn discard(&self, generation: u64) {
        let mut slot = self.lock_slot();
        if slot.generation == generation {
            *slot = ConnectionSlot { generation: generation + 1, ..ConnectionSlot::default() };
        }
    }

    fn lock_slot(&self) -> MutexGuard<'_, ConnectionSlot> {
        self.slot.lock().expect("no panic while the lock is held")
    }
}

/// Whether a single server is to be connected to again: after a timeout, too, and when it became a replica.
fn is_connection_error(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
