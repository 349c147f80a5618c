//! The log in a Redis with TLS.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use photoshare_server::log::{FeedLog, RedisAddress, RedisLog, RedisSettings, Shards};
use support::{
    RETENTION,
    certificate::Certificate,
    cluster_feeds::{feed_on, tail_key},
    redis_cluster::RedisCluster,
    redis_server::{RedisServer, free_port, settings},
    tail_subscriber::TailSubscriber,
};

fn open_log(address: &str, any_certificate: bool) -> Arc<RedisLog> {
    let url = format!("rediss://{address}");
    let address = RedisAddress::parse(&url, any_certificate).unwrap();
    Arc::new(RedisLog::new(RedisSettings { address, ..settings(&url, 0) }, RETENTION).unwrap())
}

async fn assert_rejects_certificate(log: &RedisLog) {
    let error = log.ping().await.unwrap_err();
    let source = format!("{:?}", std::error::Error::source(&error));
    assert!(source.to_lowercase().contains("certificate"), "{source}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_rejected_unless_any_is_accepted() {
    let certificate = Certificate::self_signed();
    let port = free_port().to_string();
    let _server = RedisServer::start_with_options(&certificate.redis_options(&port)).await;

    let address = format!("127.0.0.1:{port}");
    assert_rejects_certificate(&open_log(&address, false)).await;
    open_log(&address, true).ping().await.unwrap();
}

#[tokio::test]
async fn a_cluster_with_a_self_signed_certificate_is_rejected_unless_any_is_accepted() {
    let certificate = Certificate::self_signed();
    let cluster = RedisCluster::start_with_tls(&certificate).await;
    assert_rejects_certificate(&open_log(&cluster.tls_address(0), false)).await;
    open_log(&cluster.tls_address(0), true).ping().await.unwrap();
}

#[tokio::test]
async fn all_connections_to_the_nodes_of_a_cluster_use_tls() {
    let certificate = Certificate::self_signed();
    let mut cluster = RedisCluster::start_with_tls(&certificate).await;
    let log = open_log(&cluster.tls_address(0), true);
    let mut tail = TailSubscriber::start(log.clone(), Shards::ALL);
    for index in 0..3 {
        let feed = feed_on(&cluster, index).await;
        tail.append_until_received(&*log, &feed).await;
        let clients: String = cluster.nodes[index].command(&["CLIENT", "LIST"]).await.unwrap();
        let is_of_log = |client: &&str| client.contains(" cmd=eval") || client.contains(" cmd=xread");
        let connections: Vec<_> = clients.lines().filter(is_of_log).collect();
        let tls_address = format!(" laddr={} ", cluster.tls_address(index));
        let all_use_tls = connections.iter().all(|client| client.contains(&tls_address));
        assert!(!connections.is_empty() && all_use_tls, "{clients}");
    }
    let feed = feed_on(&cluster, 1).await;
    cluster.move_slot_of(&tail_key(&feed), 2).await;
    tail.append_until_received(&*log, &feed).await;
    cluster.nodes[2].restart().await;
    tail.append_until_received(&*log, &feed).await;
}
