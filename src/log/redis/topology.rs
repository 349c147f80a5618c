//! The nodes that hold the log: the single server that the settings name, or the masters of the Redis Cluster
//! that this server belongs to.

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

use super::{connection::RedisConnection, keys};
use crate::log::SHARD_COUNT;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Detects a connection that is open but broken.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Redirections that a call follows while the cluster changes.
const MAX_REDIRECTIONS: u32 = 4;
/// The longest wait between two redirections, milliseconds.
const MAX_REDIRECT_WAIT: u64 = 200;

/// Discovers the nodes and opens connections to them.
pub(super) struct Topology {
    configured: ConnectionInfo,
    /// As last read; empty for a single server. If the configured node is unavailable, any of the masters is
    /// used instead.
    slot_map: Mutex<SlotMap>,
}

/// The master of each range of slots.
pub(super) type SlotMap = Arc<[SlotRange]>;

/// Consecutive slots and the master that holds them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SlotRange {
    slots: RangeInclusive<u16>,
    master: ConnectionAddr,
}

/// A connection for calls about any feed.
#[derive(Clone)]
pub(super) struct CallConnection {
    pub(super) connection: RedisConnection,
    /// The slot map when the connection was opened; `None` for a single server.
    pub(super) slot_map: Option<SlotMap>,
}

/// A connection to the server that holds one shard, for one caller.
pub(super) struct ShardConnection {
    pub(super) connection: MultiplexedConnection,
    pub(super) in_cluster: bool,
}

struct ReachableNode {
    address: ConnectionAddr,
    connection: MultiplexedConnection,
}

impl Topology {
    pub(super) fn new(configured: ConnectionInfo) -> Self {
        Self { configured, slot_map: Mutex::default() }
    }

    /// Opens a connection for calls about any feed.
    pub(super) async fn connect_shared(&self) -> Result<CallConnection, RedisError> {
        let mut node = self.connect_to_any_node(RESPONSE_TIMEOUT).await?;
        if !self.refresh(&mut node).await? {
            let connection = RedisConnection::Server(node.connection);
            return Ok(CallConnection { connection, slot_map: None });
        }
        let slot_map = self.lock_slot_map().clone();
        let client = ClusterClient::builder(self.masters())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .retries(MAX_REDIRECTIONS)
            .max_retry_wait(MAX_REDIRECT_WAIT)
            .min_retry_wait(MAX_REDIRECT_WAIT / 10)
            .tcp_settings(self.configured.tcp_settings().clone())
            .build()?;
        let connection = RedisConnection::Cluster(client.get_async_connection().await?);
        Ok(CallConnection { connection, slot_map: Some(slot_map) })
    }

    /// Opens a connection to the server that holds `shard`.
    pub(super) async fn connect_to_shard(
        &self,
        shard: u16,
        response_timeout: Duration,
    ) -> Result<ShardConnection, RedisError> {
        let mut node = self.connect_to_any_node(response_timeout).await?;
        if !self.refresh(&mut node).await? {
            return Ok(ShardConnection { connection: node.connection, in_cluster: false });
        }
        let master = self.master_of(shard);
        let master = master.ok_or((ErrorKind::ClusterConnectionNotFound, "no master holds the slot"))?;
        Ok(ShardConnection { connection: connect(&master, response_timeout).await?, in_cluster: true })
    }

    /// Whether the deployment is a Redis Cluster.
    pub(super) async fn is_cluster(&self) -> Result<bool, RedisError> {
        let mut node = self.connect_to_any_node(RESPONSE_TIMEOUT).await?;
        self.refresh(&mut node).await
    }

    /// Whether the masters still hold the slots of `slot_map`.
    pub(super) async fn is_unchanged(&self, slot_map: &SlotMap) -> Result<bool, RedisError> {
        self.is_cluster().await?;
        Ok(*self.lock_slot_map() == *slot_map)
    }

    /// One shard of each master, as last read; shard 0 for a single server.
    pub(super) fn one_shard_per_master(&self) -> Vec<u16> {
        let by_master: HashMap<_, _> = (0..SHARD_COUNT)
            .filter_map(|shard| self.master_of(shard).map(|master| (master.addr().to_string(), shard)))
            .collect();
        if by_master.is_empty() { vec![0] } else { by_master.into_values().collect() }
    }

    /// Connects to the configured server, else to another master of its cluster.
    async fn connect_to_any_node(&self, response_timeout: Duration) -> Result<ReachableNode, RedisError> {
        let mut connected = connect(&self.configured, response_timeout).await;
        let mut node = self.configured.clone();
        for master in self.masters() {
            if connected.is_ok() {
                break;
            }
            connected = connect(&master, response_timeout).await.or(connected);
            node = master;
        }
        Ok(ReachableNode { address: node.addr().clone(), connection: connected? })
    }

    /// Reads the slot map from `node`. Returns whether the node belongs to a cluster.
    async fn refresh(&self, node: &mut ReachableNode) -> Result<bool, RedisError> {
        let in_cluster = is_cluster_node(&mut node.connection).await?;
        let ranges = if in_cluster { fetch_slot_ranges(node).await? } else { Vec::new() };
        *self.lock_slot_map() = ranges.into();
        Ok(in_cluster)
    }

    /// Each master once, however many ranges it holds.
    fn masters(&self) -> Vec<ConnectionInfo> {
        let mut masters: Vec<ConnectionInfo> = Vec::new();
        for range in self.lock_slot_map().iter() {
            if masters.iter().all(|master| *master.addr() != range.master) {
                masters.push(self.connection_info_of(range));
            }
        }
        masters
    }

    fn master_of(&self, shard: u16) -> Option<ConnectionInfo> {
        let slot = keys::cluster_slot(shard);
        let slot_map = self.lock_slot_map();
        slot_map.iter().find(|range| range.slots.contains(&slot)).map(|range| self.connection_info_of(range))
    }

    /// The master's address, with the credentials and options of the configured server.
    fn connection_info_of(&self, range: &SlotRange) -> ConnectionInfo {
        self.configured.clone().set_addr(range.master.clone())
    }

    fn lock_slot_map(&self) -> MutexGuard<'_, SlotMap> {
        self.slot_map.lock().expect("no panic while the lock is held")
    }
}

async fn fetch_slot_ranges(node: &mut ReachableNode) -> Result<Vec<SlotRange>, RedisError> {
    let ranges: Vec<Vec<Value>> =
        redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut node.connection).await?;
    ranges.into_iter().map(|range| SlotRange::parse(range, &node.address)).collect()
}

impl SlotRange {
    /// Parses one range of the response to CLUSTER SLOTS: first slot, last slot, master, replicas. A node is
    /// its host, its port and more. A node without a host has that of `responder`, which sent the response.
    /// <https://redis.io/docs/latest/commands/cluster-slots/>
    fn parse(range: Vec<Value>, responder: &ConnectionAddr) -> Result<Self, RedisError> {
        let mut range = range.into_iter();
        let mut next = || range.next().ok_or((ErrorKind::Parse, "a range of slots has no master"));
        let (first, last) = (from_redis_value(next()?)?, from_redis_value(next()?)?);
        let master: Vec<Value> = from_redis_value(next()?)?;
        let mut master = master.into_iter();
        let host: Option<String> = from_redis_value(master.next().unwrap_or(Value::Nil))?;
        let port = from_redis_value(master.next().unwrap_or(Value::Nil))?;
        let host = host.filter(|host| !host.is_empty());
        Ok(Self { slots: first..=last, master: node_address(responder, host, port) })
    }
}

/// The address of a node, with the protocol (plain TCP or TLS) of `responder`.
fn node_address(responder: &ConnectionAddr, host: Option<String>, port: u16) -> ConnectionAddr {
    match responder.clone() {
        ConnectionAddr::TcpTls { host: same, insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: host.unwrap_or(same), port, insecure, tls_params }
        }
        ConnectionAddr::Tcp(same, _) => ConnectionAddr::Tcp(host.unwrap_or(same), port),
        other => other,
    }
}

async fn is_cluster_node(node: &mut MultiplexedConnection) -> Result<bool, RedisError> {
    let info: String = redis::cmd("INFO").arg("cluster").query_async(node).await?;
    Ok(info.lines().any(|line| line.trim_end() == "cluster_enabled:1"))
}

async fn connect(
    node: &ConnectionInfo,
    response_timeout: Duration,
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response_timeout));
    Client::open(node.clone())?.get_multiplexed_async_connection_with_config(&config).await
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;

    use super::*;

    #[test]
    fn a_node_without_a_host_has_that_of_the_responder() {
        let responder = "redis://10.0.0.2:7001".into_connection_info().unwrap();
        let text = |text: &str| Value::BulkString(text.into());
        for (host, address) in
            [(text("10.0.0.3"), "10.0.0.3:7002"), (text(""), "10.0.0.2:7002"), (Value::Nil, "10.0.0.2:7002")]
        {
            let master = Value::Array(vec![host, Value::Int(7002), text("id")]);
            let range = vec![Value::Int(5), Value::Int(6), master];
            let range = SlotRange::parse(range, responder.addr()).unwrap();
            assert_eq!((range.slots, range.master.to_string().as_str()), (5..=6, address));
        }
    }
}
