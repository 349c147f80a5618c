//! Where the log is: the one server that the settings name, or the nodes of the Redis Cluster that it is
//! a node of.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, Value,
    aio::MultiplexedConnection, cluster::ClusterClient, from_redis_value,
};

use super::connection::Connection;

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer may take. A connection that is open but dead is noticed by this alone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a call follows a cluster that changes.
const REDIRECTIONS: u32 = 4;
/// Milliseconds between them, at most.
const REDIRECT_WAIT: u64 = 200;

/// Makes connections.
pub(super) struct Nodes {
    named: ConnectionInfo,
    /// The masters of the cluster, as last heard: any of them knows the others when the named one is gone.
    known: Mutex<Vec<ConnectionInfo>>,
}

/// Slots, and the master that holds them.
struct Held {
    first: u16,
    last: u16,
    master: ConnectionInfo,
}

impl Nodes {
    pub(super) fn new(named: ConnectionInfo) -> Self {
        Self { named, known: Mutex::default() }
    }

    /// A connection for calls about any feed.
    pub(super) async fn connect(&self) -> Result<Connection, RedisError> {
        let mut node = self.any(ANSWER_TIMEOUT).await?;
        if !is_of_cluster(&mut node).await? {
            return Ok(Connection::Server(node));
        }
        self.held(&mut node).await?;
        let client = ClusterClient::builder(self.known().clone())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(ANSWER_TIMEOUT)
            .retries(REDIRECTIONS)
            .max_retry_wait(REDIRECT_WAIT)
            .min_retry_wait(REDIRECT_WAIT / 10)
            .tcp_settings(self.named.tcp_settings().clone())
            .build()?;
        Ok(Connection::Cluster(client.get_async_connection().await?))
    }

    /// A connection of one's own to the server that holds `key`, whose answers may take up to `answer`.
    pub(super) async fn connect_to_holder(
        &self,
        key: &str,
        answer: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        let mut node = self.any(answer).await?;
        if !is_of_cluster(&mut node).await? {
            return Ok(node);
        }
        let slot: u16 = redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query_async(&mut node).await?;
        let held = self.held(&mut node).await?;
        let holder = held.into_iter().find(|held| (held.first..=held.last).contains(&slot));
        let holder = holder.ok_or((ErrorKind::ClusterConnectionNotFound, "nobody holds the slot"))?;
        connect(&holder.master, answer).await
    }

    /// Connects to the named server, or to another node of its cluster.
    async fn any(&self, answer: Duration) -> Result<MultiplexedConnection, RedisError> {
        let mut connected = connect(&self.named, answer).await;
        let known = self.known().clone();
        for node in known {
            if connected.is_ok() {
                break;
            }
            connected = connect(&node, answer).await.or(connected);
        }
        connected
    }

    async fn held(&self, node: &mut MultiplexedConnection) -> Result<Vec<Held>, RedisError> {
        let ranges: Vec<Vec<Value>> = redis::cmd("CLUSTER").arg("SLOTS").query_async(node).await?;
        let held: Vec<_> = ranges.into_iter().map(|range| self.held_in(range)).collect::<Result<_, _>>()?;
        *self.known() = held.iter().map(|held| held.master.clone()).collect();
        Ok(held)
    }

    /// One range of the answer to CLUSTER SLOTS: first, last, master, replicas; a node is its host, port
    /// and more. Without a host it is the one that was asked.
    /// <https://redis.io/docs/latest/commands/cluster-slots/>
    fn held_in(&self, range: Vec<Value>) -> Result<Held, RedisError> {
        let mut range = range.into_iter();
        let mut next = || range.next().ok_or((ErrorKind::Parse, "a range of slots without a master"));
        let (first, last) = (from_redis_value(next()?)?, from_redis_value(next()?)?);
        let master: Vec<Value> = from_redis_value(next()?)?;
        let mut master = master.into_iter();
        let host: Option<String> = from_redis_value(master.next().unwrap_or(Value::Nil))?;
        let port = from_redis_value(master.next().unwrap_or(Value::Nil))?;
        Ok(Held { first, last, master: self.at(host.filter(|host| !host.is_empty()), port) })
    }

    /// The named server's settings, at another address.
    fn at(&self, host: Option<String>, port: u16) -> ConnectionInfo {
        let address = match self.named.addr().clone() {
            ConnectionAddr::TcpTls { host: named, insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host: host.unwrap_or(named), port, insecure, tls_params }
            }
            ConnectionAddr::Tcp(named, _) => ConnectionAddr::Tcp(host.unwrap_or(named), port),
            other => other,
        };
        self.named.clone().set_addr(address)
    }

    fn known(&self) -> MutexGuard<'_, Vec<ConnectionInfo>> {
        self.known.lock().expect("no panic while held")
    }
}

async fn is_of_cluster(node: &mut MultiplexedConnection) -> Result<bool, RedisError> {
    let info: String = redis::cmd("INFO").arg("cluster").query_async(node).await?;
    Ok(info.lines().any(|line| line.trim_end() == "cluster_enabled:1"))
}

async fn connect(to: &ConnectionInfo, answer: Duration) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(answer));
    Client::open(to.clone())?.get_multiplexed_async_connection_with_config(&config).await
}
