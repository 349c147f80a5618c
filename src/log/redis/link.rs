//! A connection that many share, made when it is needed and made anew when it fails.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind, aio::MultiplexedConnection,
};

type Connecting = Shared<BoxFuture<'static, Result<Connected, RedisError>>>;

/// A connection, and to what.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) connection: MultiplexedConnection,
    /// Another one after the server was started anew, or another server took over. Such a one may have
    /// forgotten what was last written.
    pub(super) life: Arc<str>,
}

/// How long making a connection may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take. A connection that is open but dead is noticed by this alone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// A shared connection. All who need it while it is being made wait for the same attempt, so that many
/// callers cost an ailing server no more than one does.
pub(super) struct Link {
    client: Client,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    number: u64,
    connecting: Option<Connecting>,
}

impl Link {
    pub(super) fn new(client: Client) -> Self {
        Self { client, current: Mutex::default() }
    }

    /// Has `ask` ask over the connection. One that is found broken is replaced, and asked once more: so
    /// `ask` must be fit to be asked twice.
    pub(super) async fn ask<T>(
        &self,
        ask: impl AsyncFnOnce(Connected) -> Result<T, RedisError> + Clone,
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
        ask: impl AsyncFnOnce(Connected) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let (number, connecting) = self.connecting();
        let connected = connecting.await.inspect_err(|_| self.forget(number))?;
        ask(connected).await.inspect_err(|error| {
            if is_of_connection(error) {
                self.forget(number);
            }
        })
    }

    fn connecting(&self) -> (u64, Connecting) {
        let mut current = self.current();
        let connecting = current.connecting.get_or_insert_with(|| {
            let client = self.client.clone();
            async move {
                let mut connection = connect(&client, ANSWER_TIMEOUT).await?;
                let life = life_of_server(&mut connection).await?;
                Ok(Connected { connection, life })
            }
            .boxed()
            .shared()
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

async fn life_of_server(connection: &mut MultiplexedConnection) -> Result<Arc<str>, RedisError> {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    let life = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    Ok(life.unwrap_or_default().trim().into())
}

fn is_of_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// A connection of one's own, whose answers may take up to `answer`.
pub(super) async fn connect(client: &Client, answer: Duration) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(answer));
    client.get_multiplexed_async_connection_with_config(&config).await
}
