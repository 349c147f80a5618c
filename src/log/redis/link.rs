//! A connection that many share, made when it is needed and made anew when it fails.

use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::{connection::Connection, nodes::Nodes};

/// Calls that fail, without one among them that does not, before a cluster is looked for anew.
const PATIENCE: u32 = 16;

type Connecting = Shared<BoxFuture<'static, Result<Connection, RedisError>>>;

/// A shared connection. All who need it while it is being made wait for the same attempt, so that many
/// callers cost an ailing server no more than one does.
pub(super) struct Link {
    nodes: Arc<Nodes>,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    number: u64,
    connecting: Option<Connecting>,
    /// Calls that failed since the last that did not.
    failures: u32,
}

impl Link {
    pub(super) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes, current: Mutex::default() }
    }

    /// Has `ask` ask over the connection. One that is found broken is replaced, and asked once more: so
    /// `ask` must be fit to be asked twice.
    pub(super) async fn ask<T>(
        &self,
        ask: impl AsyncFnOnce(Connection) -> Result<T, RedisError> + Clone,
    ) -> Result<T, RedisError> {
        match self.ask_once(ask.clone()).await {
            Err(error) if error.is_connection_dropped() => self.ask_once(ask).await,
            answer => answer,
        }
    }

    /// After a failure of the connection (no answer in time is one, and so is a server that became a
    /// replica) the next caller gets a new one. The one to a cluster connects to single nodes anew by
    /// itself: it is replaced only when nothing succeeds any more, since all may be elsewhere then.
    async fn ask_once<T>(
        &self,
        ask: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let (number, connecting) = self.connecting();
        let connection = connecting.await.inspect_err(|_| self.forget(number))?;
        let in_cluster = matches!(connection, Connection::Cluster(_));
        let answer = ask(connection).await;
        let failures = self.count(number, answer.is_err());
        if let Err(error) = &answer
            && if in_cluster { failures >= PATIENCE } else { is_of_connection(error) }
        {
            self.forget(number);
        }
        answer
    }

    /// How many calls have failed in a row, after one more.
    fn count(&self, number: u64, failed: bool) -> u32 {
        let mut current = self.current();
        if current.number != number {
            return 0;
        }
        current.failures = if failed { current.failures + 1 } else { 0 };
        current.failures
    }

    fn connecting(&self) -> (u64, Connecting) {
        let mut current = self.current();
        let connecting = current.connecting.get_or_insert_with(|| {
            let nodes = self.nodes.clone();
            async move { nodes.connect().await }.boxed().shared()
        });
        let connecting = connecting.clone();
        (current.number, connecting)
    }

    fn forget(&self, number: u64) {
        let mut current = self.current();
        if current.number == number {
            *current = Current { number: number + 1, ..Current::default() };
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().expect("no panic while held")
    }
}

fn is_of_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
