//! A Redis Cluster of one's own: three masters that share the slots.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use photoshare_server::{
    feed::FeedId,
    log::{RedisLog, Retention},
};

use super::{
    certificate::Certificate,
    redis_server::{RedisServer, free_port},
};

pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what is waited for.
const AGAIN: Duration = Duration::from_millis(20);
const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
    /// By which the others reach each node: that of its clients, and that of the bus.
    ports: Vec<[String; 2]>,
}

/// A node that knows no other, and the ports by which others reach it.
async fn start_node(certificate: Option<&Certificate>) -> (RedisServer, [String; 2]) {
    let (port, tls_port, bus) = (free_port(), free_port().to_string(), free_port().to_string());
    let mut options = [
        ["--cluster-enabled", "yes"],
        ["--cluster-node-timeout", "2000"],
        ["--cluster-require-full-coverage", "no"],
        ["--cluster-port", &bus],
    ]
    .concat();
    if let Some(certificate) = certificate {
        options.extend(certificate.options(&tls_port));
        options.extend(["--tls-cluster", "yes"]);
    }
    let node = RedisServer::start_on(port, &options).await;
    let of_clients = if certificate.is_some() { tls_port } else { port.to_string() };
    (node, [of_clients, bus])
}

impl RedisCluster {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Its nodes speak to each other over TLS, and so can clients.
    pub async fn start_over_tls(certificate: &Certificate) -> Self {
        Self::start_with(Some(certificate)).await
    }

    async fn start_with(certificate: Option<&Certificate>) -> Self {
        let (mut nodes, mut ports) = (Vec::new(), Vec::new());
        for _ in SLOTS {
            let (node, its_ports) = start_node(certificate).await;
            nodes.push(node);
            ports.push(its_ports);
        }
        let cluster = Self { nodes, ports };
        for (at, (node, (first, last))) in cluster.nodes.iter().zip(SLOTS).enumerate() {
            node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await.unwrap();
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]).await.unwrap();
            cluster.meet(node).await;
        }
        tokio::time::timeout(PATIENCE, cluster.until_all_agree()).await.expect("a cluster");
        cluster
    }

    async fn meet(&self, node: &RedisServer) {
        let [port, bus] = &self.ports[0];
        node.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", port, bus]).await.unwrap();
    }

    /// Where the node at `at` is spoken to over TLS.
    pub fn tls_address(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.ports[at][0])
    }

    /// Adds a replica of the node at `at`, which everybody knows and which has all that that one has.
    pub async fn start_replica_of(&self, at: usize) -> RedisServer {
        let (replica, _) = start_node(None).await;
        self.meet(&replica).await;
        let master: String = self.nodes[at].ask(&["CLUSTER", "MYID"]).await.unwrap();
        let follows = async {
            // Refused until it was told of the master.
            while replica.ask::<()>(&["CLUSTER", "REPLICATE", &master]).await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
            for node in &self.nodes {
                until_it_says(node, &["CLUSTER", "NODES"], &format!("slave {master}")).await;
            }
            until_it_says(&replica, &["INFO", "replication"], "master_link_status:up").await;
        };
        tokio::time::timeout(PATIENCE, follows).await.expect("a replica");
        replica
    }

    async fn until_all_agree(&self) {
        for node in &self.nodes {
            for said in ["cluster_state:ok", "cluster_size:3"] {
                until_it_says(node, &["CLUSTER", "INFO"], said).await;
            }
        }
    }

    /// A log in it, as a process would open it that was told of the first node.
    pub fn log(&self, retention: Retention) -> Arc<RedisLog> {
        self.nodes[0].log(retention)
    }

    /// The place of the node that holds `key`.
    pub async fn holder(&self, key: &str) -> usize {
        let held = async {
            loop {
                for (at, node) in self.nodes.iter().enumerate() {
                    if node.ask::<i64>(&["EXISTS", key]).await.is_ok() {
                        return at;
                    }
                }
                // One that was kept waiting for the others takes them for dead, and refuses.
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, held).await.expect("somebody holds it")
    }

    /// Moves the slot of `key`, with all that is in it, to the node at `to`.
    pub async fn move_slot_of(&self, key: &str, to: usize) {
        let (source, target) = (&self.nodes[self.holder(key).await], &self.nodes[to]);
        let slot: u16 = source.ask(&["CLUSTER", "KEYSLOT", key]).await.unwrap();
        let slot = slot.to_string();
        let source_id: String = source.ask(&["CLUSTER", "MYID"]).await.unwrap();
        let target_id: String = target.ask(&["CLUSTER", "MYID"]).await.unwrap();
        target.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await.unwrap();
        source.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await.unwrap();
        let keys: Vec<String> = source.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await.unwrap();
        let [port, _] = &self.ports[to];
        let mut migrate = vec!["MIGRATE", "127.0.0.1", port, "", "0", "5000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        source.ask::<()>(&migrate).await.unwrap();
        for node in [target, source] {
            node.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await.unwrap();
        }
    }

    pub async fn empty(&self) {
        for node in &self.nodes {
            node.ask::<()>(&["FLUSHALL"]).await.unwrap();
        }
    }

    /// Brings everything of `feed` so much nearer to its expiry.
    pub async fn age(&self, feed: &FeedId, by: Duration) {
        for node in &self.nodes {
            node.age(feed, by).await;
        }
    }
}

pub async fn until_it_says(node: &RedisServer, asked: &[&str], said: &str) {
    while !node.ask::<String>(asked).await.unwrap().contains(said) {
        tokio::time::sleep(AGAIN).await;
    }
}
