//! Feeds that lie on several nodes, and who is told of them.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use photoshare_server::{
    feed::{FeedId, Kind},
    log::{FeedLog, LogError, Outcome, Proof, RedisLog, SHARDS, Shards, Tail, shard},
};
use tokio::sync::{mpsc, watch};

use super::{
    event, feed,
    redis_cluster::{PATIENCE, RedisCluster},
    second,
};

pub async fn put(log: &RedisLog, feed: &FeedId, name: &str) -> Result<Outcome, LogError> {
    log.append(event(feed, name, Kind::Uploaded, "01", second(10)), Proof::Bucket, second(10)).await
}

/// The key of the tail that `feed` is told by.
pub fn tail_key(feed: &FeedId) -> String {
    format!("test:{{s{:02}}}:tail", shard(feed))
}

/// Feeds, each in another shard.
pub fn feeds_of_all_shards() -> Vec<FeedId> {
    let mut feeds: Vec<FeedId> = Vec::new();
    for feed in (0..).map(|number| feed(&format!("feed{number}"))) {
        if feeds.len() == usize::from(SHARDS) {
            break;
        }
        if feeds.iter().all(|known| shard(known) != shard(&feed)) {
            feeds.push(feed);
        }
    }
    feeds
}

/// A feed that lies on the node at `at`.
pub async fn feed_on(cluster: &RedisCluster, at: usize) -> FeedId {
    for feed in feeds_of_all_shards() {
        if cluster.holder(&tail_key(&feed)).await == at {
            return feed;
        }
    }
    panic!("no feed lies on node {at}");
}

pub fn follow(log: &Arc<RedisLog>, shards: Shards) -> (mpsc::Receiver<Tail>, watch::Sender<Shards>) {
    let watched = watch::Sender::new(shards);
    let (told, tail) = mpsc::channel(4096);
    let (log, watching) = (log.clone(), watched.subscribe());
    tokio::spawn(async move { log.tail(watching, told).await });
    (tail, watched)
}

/// Puts one photo after the other into `feed`, until one of them is told of.
pub async fn until_told(log: &RedisLog, feed: &FeedId, tail: &mut mpsc::Receiver<Tail>) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mut put_here = HashSet::new();
    let told = async {
        loop {
            let name = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
            // It may be refused while the cluster finds itself.
            let _ = put(log, feed, &name).await;
            put_here.insert(name);
            let item = async {
                while !matches!(tail.recv().await, Some(Tail::Appended(entry)) if put_here.contains(entry.event.key.name()))
                {
                }
            };
            if tokio::time::timeout(Duration::from_millis(50), item).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("told of an append");
}
