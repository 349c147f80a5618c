//! A connection that many share, made when it is needed and made anew when it fails.

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
    connection::Connection,
    nodes::{Connected, Layout, Nodes},
};

/// Calls that fail, without one among them that does not, before a cluster is looked for anew.
const PATIENCE: u32 = 16;

type Connecting = Shared<BoxFuture<'static, Result<Connected, RedisError>>>;

/// A shared connection. All who need it while it is being made wait for the same attempt, so that many
/// callers cost an ailing server no more than one does.
pub(super) struct Link {
    nodes: Arc<Nodes>,
    current: Mutex<Current>,
    /// Held by the caller that asks whether a cluster has changed.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Current {
    number: u64,
    connecting: Option<Connecting>,
    /// Calls that failed since the last that did not.
    failures: u32,
}

struct Failure {
    error: RedisError,
    /// Whether another attempt may go better.
    again: bool,
}

impl Link {
    pub(super) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes, current: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// Has `ask` ask over the connection. One that is found broken is replaced, and asked once more: so
    /// `ask` must be fit to be asked twice.
    pub(super) async fn ask<T>(
        &self,
        ask: impl AsyncFnOnce(Connection) -> Result<T, RedisError> + Clone,
    ) -> Result<T, RedisError> {
        let answer = match self.ask_once(ask.clone()).await {
            Err(Failure { again: true, .. }) => self.ask_once(ask).await,
            answer => answer,
        };
        answer.map_err(|failure| failure.error)
    }

    async fn ask_once<T>(
        &self,
        ask: impl AsyncFnOnce(Connection) -> Result<T, RedisError>,
    ) -> Result<T, Failure> {
        let (number, connecting) = self.connecting();
        let Connected { connection, layout } = connecting.await.map_err(|error| {
            self.forget(number);
            Failure { again: error.is_connection_dropped(), error }
        })?;
        let answer = ask(connection).await;
        let failures = self.count(number, answer.is_err());
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.judge(error, number, failures, layout).await),
        }
    }

    /// After a failure of the connection to a single server the next caller gets a new one. The one to a
    /// cluster connects to single nodes anew by itself: it is replaced only when nothing succeeds any more,
    /// since all may be elsewhere then, and when it was left behind.
    async fn judge(&self, error: RedisError, number: u64, failures: u32, layout: Option<Layout>) -> Failure {
        let (broken, left_behind) = match layout {
            None => (is_of_connection(&error), false),
            Some(layout) => (failures >= PATIENCE, self.is_left_behind(&error, &layout).await),
        };
        if broken || left_behind {
            self.forget(number);
        }
        Failure { again: left_behind || error.is_connection_dropped(), error }
    }

    /// Whether the connection to a cluster, which was made for `layout`, waits for a node that was replaced.
    /// Any node that answers would send it on; of one that is silent others know. One caller asks them at a
    /// time.
    async fn is_left_behind(&self, error: &RedisError, layout: &Layout) -> bool {
        if !error.is_timeout() {
            return false;
        }
        let Ok(_asking) = self.asking.try_lock() else { return false };
        self.nodes.still_hold(layout).await.is_ok_and(|same| !same)
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
            // A task of its own, since whoever began it may give up: nobody else would drive it on, and whoever
            // came next would find its time over.
            let attempt = tokio::spawn(async move { nodes.connect().await });
            let made = |ended: Result<_, JoinError>| {
                ended.unwrap_or_else(|error| Err(io::Error::other(error).into()))
            };
            attempt.map(made).boxed().shared()
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

/// No answer in time is a failure of the connection, and so is a server that became a replica.
fn is_of_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
