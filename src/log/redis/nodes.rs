//! Where the log is: the one server that the settings name, or the nodes of the Redis Cluster that it is
//! a node of.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, Value,
    aio::MultiplexedConnection, cluster::ClusterClient, from_redis_value,
};

use super::{connection::Connection, keys};
use crate::log::SHARDS;

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
    /// Who holds what in the cluster, as last heard: any master knows the others when the named one is gone.
    known: Mutex<Layout>,
}

/// Who holds what.
pub(super) type Layout = Arc<[Held]>;

/// Slots, and the master that holds them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    slots: RangeInclusive<u16>,
    master: ConnectionAddr,
}

/// A connection for calls about any feed.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) connection: Connection,
    /// That of the cluster, when the connection was made.
    pub(super) layout: Option<Layout>,
}

/// A connection of one's own to the server that holds a shard.
pub(super) struct Holder {
    pub(super) connection: MultiplexedConnection,
    pub(super) in_cluster: bool,
}

/// A node that answers.
struct Node {
    at: ConnectionAddr,
    connection: MultiplexedConnection,
}

impl Nodes {
    pub(super) fn new(named: ConnectionInfo) -> Self {
        Self { named, known: Mutex::default() }
    }

    /// Connects for calls about any feed.
    pub(super) async fn connect(&self) -> Result<Connected, RedisError> {
        let mut node = self.any(ANSWER_TIMEOUT).await?;
        if !self.learn(&mut node).await? {
            return Ok(Connected { connection: Connection::Server(node.connection), layout: None });
        }
        let layout = self.known().clone();
        let client = ClusterClient::builder(self.masters())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(ANSWER_TIMEOUT)
            .retries(REDIRECTIONS)
            .max_retry_wait(REDIRECT_WAIT)
            .min_retry_wait(REDIRECT_WAIT / 10)
            .tcp_settings(self.named.tcp_settings().clone())
            .build()?;
        let connection = Connection::Cluster(client.get_async_connection().await?);
        Ok(Connected { connection, layout: Some(layout) })
    }

    /// A connection of one's own to the server that holds `shard`, whose answers may take up to `answer`.
    pub(super) async fn connect_to_holder(&self, shard: u16, answer: Duration) -> Result<Holder, RedisError> {
        let mut node = self.any(answer).await?;
        if !self.learn(&mut node).await? {
            return Ok(Holder { connection: node.connection, in_cluster: false });
        }
        let holder = self.holder(shard);
        let holder = holder.ok_or((ErrorKind::ClusterConnectionNotFound, "nobody holds the slot"))?;
        Ok(Holder { connection: connect(&holder, answer).await?, in_cluster: true })
    }

    /// Whether they are those of a Redis Cluster.
    pub(super) async fn are_a_cluster(&self) -> Result<bool, RedisError> {
        let mut node = self.any(ANSWER_TIMEOUT).await?;
        self.learn(&mut node).await
    }

    /// Whether they hold what they did by `layout`.
    pub(super) async fn still_hold(&self, layout: &Layout) -> Result<bool, RedisError> {
        self.are_a_cluster().await?;
        Ok(*self.known() == *layout)
    }

    /// A shard of each master, as last heard; any shard where there is but one server.
    pub(super) fn shard_of_each(&self) -> Vec<u16> {
        let by_master: HashMap<_, _> = (0..SHARDS)
            .filter_map(|shard| self.holder(shard).map(|holder| (holder.addr().to_string(), shard)))
            .collect();
        if by_master.is_empty() { vec![0] } else { by_master.into_values().collect() }
    }

    /// Connects to the named server, or to another node of its cluster.
    async fn any(&self, answer: Duration) -> Result<Node, RedisError> {
        let mut connected = connect(&self.named, answer).await;
        let mut at = self.named.clone();
        for master in self.masters() {
            if connected.is_ok() {
                break;
            }
            connected = connect(&master, answer).await.or(connected);
            at = master;
        }
        Ok(Node { at: at.addr().clone(), connection: connected? })
    }

    /// Learns who holds what, and whether `node` is of a cluster at all.
    async fn learn(&self, node: &mut Node) -> Result<bool, RedisError> {
        let in_cluster = is_of_cluster(&mut node.connection).await?;
        let held = if in_cluster { held(node).await? } else { Vec::new() };
        *self.known() = held.into();
        Ok(in_cluster)
    }

    /// Each once, however many ranges it holds.
    fn masters(&self) -> Vec<ConnectionInfo> {
        let mut masters: Vec<ConnectionInfo> = Vec::new();
        for held in self.known().iter() {
            if masters.iter().all(|master| *master.addr() != held.master) {
                masters.push(self.beside_named(held));
            }
        }
        masters
    }

    fn holder(&self, shard: u16) -> Option<ConnectionInfo> {
        let slot = keys::slot(shard);
        self.known().iter().find(|held| held.slots.contains(&slot)).map(|held| self.beside_named(held))
    }

    fn beside_named(&self, held: &Held) -> ConnectionInfo {
        self.named.clone().set_addr(held.master.clone())
    }

    fn known(&self) -> MutexGuard<'_, Layout> {
        self.known.lock().expect("no panic while held")
    }
}

async fn held(by: &mut Node) -> Result<Vec<Held>, RedisError> {
    let ranges: Vec<Vec<Value>> = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut by.connection).await?;
    ranges.into_iter().map(|range| Held::parse(range, &by.at)).collect()
}

impl Held {
    /// One range of the answer to CLUSTER SLOTS: first, last, master, replicas; a node is its host, port
    /// and more. Without a host it is the one that was `asked`.
    /// <https://redis.io/docs/latest/commands/cluster-slots/>
    fn parse(range: Vec<Value>, asked: &ConnectionAddr) -> Result<Self, RedisError> {
        let mut range = range.into_iter();
        let mut next = || range.next().ok_or((ErrorKind::Parse, "a range of slots without a master"));
        let (first, last) = (from_redis_value(next()?)?, from_redis_value(next()?)?);
        let master: Vec<Value> = from_redis_value(next()?)?;
        let mut master = master.into_iter();
        let host: Option<String> = from_redis_value(master.next().unwrap_or(Value::Nil))?;
        let port = from_redis_value(master.next().unwrap_or(Value::Nil))?;
        Ok(Self { slots: first..=last, master: beside(asked, host.filter(|host| !host.is_empty()), port) })
    }
}

/// Where a node is that lets itself be spoken to as the one does that was `asked`.
fn beside(asked: &ConnectionAddr, host: Option<String>, port: u16) -> ConnectionAddr {
    match asked.clone() {
        ConnectionAddr::TcpTls { host: same, insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: host.unwrap_or(same), port, insecure, tls_params }
        }
        ConnectionAddr::Tcp(same, _) => ConnectionAddr::Tcp(host.unwrap_or(same), port),
        other => other,
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

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;

    use super::*;

    #[test]
    fn a_node_without_a_host_is_at_that_of_the_one_that_was_asked() {
        let asked = "redis://10.0.0.2:7001".into_connection_info().unwrap();
        let text = |text: &str| Value::BulkString(text.into());
        for (host, address) in
            [(text("10.0.0.3"), "10.0.0.3:7002"), (text(""), "10.0.0.2:7002"), (Value::Nil, "10.0.0.2:7002")]
        {
            let master = Value::Array(vec![host, Value::Int(7002), text("id")]);
            let held = Held::parse(vec![Value::Int(5), Value::Int(6), master], asked.addr()).unwrap();
            assert_eq!((held.slots, held.master.to_string().as_str()), (5..=6, address));
        }
    }
}
