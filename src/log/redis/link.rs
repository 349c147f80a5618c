//! A connection that many share, made when it is needed and made anew when it fails.

use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::{connection::Connection, nodes::Nodes};

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
    /// replica) the next caller gets a new one.
    async fn ask_once<T>(
        &self,
        ask: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let (number, connecting) = self.connecting();
        let connection = connecting.await.inspect_err(|_| self.forget(number))?;
        ask(connection).await.inspect_err(|error| {
            if is_of_connection(error) {
                self.forget(number);
            }
        })
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
            *current = Current { number: number + 1, connecting: None };
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
