//! Feeds on chosen nodes of a Redis Cluster.

use photoshare_server::{
    feed::FeedId,
    log::{SHARD_COUNT, shard_of},
};

use super::{feed, redis_cluster::RedisCluster};

/// The key of the tail of the feed's shard.
pub fn tail_key(feed: &FeedId) -> String {
    format!("test:{{s{:02}}}:tail", shard_of(feed))
}

/// One feed of each shard.
pub fn feeds_of_all_shards() -> Vec<FeedId> {
    let mut feeds: Vec<FeedId> = Vec::new();
    for feed in (0..).map(|number| feed(&format!("feed{number}"))) {
        if feeds.len() == usize::from(SHARD_COUNT) {
            break;
        }
        if feeds.iter().all(|known| shard_of(known) != shard_of(&feed)) {
            feeds.push(feed);
        }
    }
    feeds
}

/// A feed that lies on the node with this index.
pub async fn feed_on(cluster: &RedisCluster, index: usize) -> FeedId {
    for feed in feeds_of_all_shards() {
        if cluster.node_holding(&tail_key(&feed)).await == index {
            return feed;
        }
    }
    panic!("no feed lies on node {index}");
}
