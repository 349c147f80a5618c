//! A Redis Cluster for one test: three masters that share the slots.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use photoshare_server::{
    feed::FeedId,
    log::{RedisLog, Retention},
};

use super::{
    certificate::Certificate,
    redis_server::{RedisServer, free_port},
    wait::{wait_for, wait_until},
};

const SLOT_RANGES: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
    ports: Vec<NodePorts>,
}

/// The ports by which the other nodes reach a node.
struct NodePorts {
    clients: String,
    bus: String,
}

/// Starts a node that has not joined the cluster.
async fn start_node(certificate: Option<&Certificate>) -> (RedisServer, NodePorts) {
    let (port, tls_port, bus) = (free_port(), free_port().to_string(), free_port().to_string());
    let mut options = [
        ["--cluster-enabled", "yes"],
        ["--cluster-node-timeout", "2000"],
        ["--cluster-require-full-coverage", "no"],
        ["--cluster-port", &bus],
    ]
    .concat();
    if let Some(certificate) = certificate {
        options.extend(certificate.redis_options(&tls_port));
        options.extend(["--tls-cluster", "yes"]);
    }
    let node = RedisServer::start_on_port(port, &options).await;
    let clients = if certificate.is_some() { tls_port } else { port.to_string() };
    (node, NodePorts { clients, bus })
}

impl RedisCluster {
    pub async fn start() -> Self {
        Self::start_nodes(None).await
    }

    /// The nodes use TLS among each other, and accept it from clients.
    pub async fn start_with_tls(certificate: &Certificate) -> Self {
        Self::start_nodes(Some(certificate)).await
    }

    async fn start_nodes(certificate: Option<&Certificate>) -> Self {
        let (mut nodes, mut ports) = (Vec::new(), Vec::new());
        for _ in SLOT_RANGES {
            let (node, node_ports) = start_node(certificate).await;
            nodes.push(node);
            ports.push(node_ports);
        }
        let cluster = Self { nodes, ports };
        for (index, (node, (first, last))) in cluster.nodes.iter().zip(SLOT_RANGES).enumerate() {
            node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await.unwrap();
            let config_epoch = (index + 1).to_string();
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &config_epoch]).await.unwrap();
            cluster.add_node(node).await;
        }
        for node in &cluster.nodes {
            for state in ["cluster_state:ok", "cluster_size:3"] {
                node.wait_for_response(&["CLUSTER", "INFO"], state).await;
            }
        }
        cluster
    }

    async fn add_node(&self, node: &RedisServer) {
        let NodePorts { clients, bus } = &self.ports[0];
        node.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", clients, bus]).await.unwrap();
    }

    /// The address at which the node with this index accepts TLS connections.
    pub fn tls_address(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.ports[index].clients)
    }

    /// Adds a replica of the node with this index. Returns once all nodes know it and it is synchronized.
    pub async fn start_replica_of(&self, index: usize) -> RedisServer {
        let (replica, _) = start_node(None).await;
        self.add_node(&replica).await;
        let master: String = self.nodes[index].command(&["CLUSTER", "MYID"]).await.unwrap();
        // Rejected until the replica has discovered the master.
        wait_until("the replica to accept its master", async || {
            replica.command::<()>(&["CLUSTER", "REPLICATE", &master]).await.is_ok()
        })
        .await;
        for node in &self.nodes {
            node.wait_for_response(&["CLUSTER", "NODES"], &format!("slave {master}")).await;
        }
        replica.wait_for_response(&["INFO", "replication"], "master_link_status:up").await;
        replica
    }

    /// A log on the cluster. It is configured with the first node.
    pub fn open_log(&self, retention: Retention) -> Arc<RedisLog> {
        self.nodes[0].open_log(retention)
    }

    /// The index of the node that holds `key`.
    pub async fn node_holding(&self, key: &str) -> usize {
        wait_for("a node that holds the key", async {
            loop {
                for (index, node) in self.nodes.iter().enumerate() {
                    if node.command::<i64>(&["EXISTS", key]).await.is_ok() {
                        return index;
                    }
                }
                // A node rejects commands while it considers the others failed.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// Moves the slot of `key`, with all its keys, to the node with index `to`.
    pub async fn move_slot_of(&self, key: &str, to: usize) {
        let (source, target) = (&self.nodes[self.node_holding(key).await], &self.nodes[to]);
        let slot: u16 = source.command(&["CLUSTER", "KEYSLOT", key]).await.unwrap();
        let slot = slot.to_string();
        let source_id: String = source.command(&["CLUSTER", "MYID"]).await.unwrap();
        let target_id: String = target.command(&["CLUSTER", "MYID"]).await.unwrap();
        target.command::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await.unwrap();
        source.command::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await.unwrap();
        let keys: Vec<String> = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await.unwrap();
        let target_port = &self.ports[to].clients;
        let mut migrate = vec!["MIGRATE", "127.0.0.1", target_port, "", "0", "5000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        source.command::<()>(&migrate).await.unwrap();
        for node in [target, source] {
            node.command::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await.unwrap();
        }
    }

    pub async fn flush_all(&self) {
        for node in &self.nodes {
            node.command::<()>(&["FLUSHALL"]).await.unwrap();
        }
    }

    /// Shortens the TTL of all keys of `feed`, as if time had passed.
    pub async fn shorten_ttl(&self, feed: &FeedId, by: Duration) {
        for node in &self.nodes {
            node.shorten_ttl(feed, by).await;
        }
    }
}
