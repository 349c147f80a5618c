//! A Redis Cluster of one's own: three masters that share the slots.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use photoshare_server::{
    feed::FeedId,
    log::{RedisLog, Retention},
};

use super::redis_server::{RedisServer, free_port};

const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what is waited for.
const AGAIN: Duration = Duration::from_millis(20);
const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
    /// The ports by which the first node is met.
    first: [String; 2],
}

/// A node that knows no other, and the ports by which it is met.
async fn start_node() -> (RedisServer, [String; 2]) {
    let bus = free_port().to_string();
    let options = [
        ["--cluster-enabled", "yes"],
        ["--cluster-node-timeout", "2000"],
        ["--cluster-require-full-coverage", "no"],
        ["--cluster-port", &bus],
    ]
    .concat();
    let node = RedisServer::start_with(&options).await;
    let ports = [node.port.to_string(), bus];
    (node, ports)
}

impl RedisCluster {
    pub async fn start() -> Self {
        let (node, first) = start_node().await;
        let mut nodes = vec![node];
        for _ in &SLOTS[1..] {
            nodes.push(start_node().await.0);
        }
        let cluster = Self { nodes, first };
        for (at, (node, (first, last))) in cluster.nodes.iter().zip(SLOTS).enumerate() {
            node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await.unwrap();
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]).await.unwrap();
            cluster.meet(node).await;
        }
        tokio::time::timeout(PATIENCE, cluster.until_all_agree()).await.expect("a cluster");
        cluster
    }

    async fn meet(&self, node: &RedisServer) {
        let [port, bus] = &self.first;
        node.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", port, bus]).await.unwrap();
    }

    /// Adds a replica of the node at `at`, which everybody knows and which has all that that one has.
    pub async fn start_replica_of(&self, at: usize) -> RedisServer {
        let (replica, _) = start_node().await;
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
        for (at, node) in self.nodes.iter().enumerate() {
            if node.ask::<i64>(&["EXISTS", key]).await.is_ok() {
                return at;
            }
        }
        panic!("nobody holds {key}");
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
        let port = target.port.to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
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
