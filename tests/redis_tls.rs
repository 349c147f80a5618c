//! The log in a Redis that is spoken to over TLS.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use photoshare_server::log::{FeedLog, RedisAddress, RedisLog, RedisSettings, Shards};
use support::{
    RETENTION,
    certificate::Certificate,
    feeds::{feed_on, follow, tail_key, until_told},
    redis_cluster::RedisCluster,
    redis_server::{RedisServer, free_port, settings},
};

fn log(address: &str, any_certificate: bool) -> Arc<RedisLog> {
    let url = format!("rediss://{address}");
    let address = RedisAddress::parse(&url, any_certificate).unwrap();
    Arc::new(RedisLog::new(RedisSettings { address, ..settings(&url, 0) }, RETENTION).unwrap())
}

async fn assert_refuses_the_certificate(log: &RedisLog) {
    let refused = log.ping().await.unwrap_err();
    let why = format!("{:?}", std::error::Error::source(&refused));
    assert!(why.to_lowercase().contains("certificate"), "{why}");
}

#[tokio::test]
async fn trap_29_a_self_signed_certificate_is_refused_unless_it_is_allowed() {
    let certificate = Certificate::sign_itself();
    let port = free_port().to_string();
    let _server = RedisServer::start_with(&certificate.options(&port)).await;

    let address = format!("127.0.0.1:{port}");
    assert_refuses_the_certificate(&log(&address, false)).await;
    log(&address, true).ping().await.unwrap();
}

#[tokio::test]
async fn trap_29_a_cluster_with_self_signed_certificates_is_refused_unless_they_are_allowed() {
    let certificate = Certificate::sign_itself();
    let cluster = RedisCluster::start_over_tls(&certificate).await;
    assert_refuses_the_certificate(&log(&cluster.tls_address(0), false)).await;
    log(&cluster.tls_address(0), true).ping().await.unwrap();
}

#[tokio::test]
async fn all_nodes_of_a_cluster_are_spoken_to_over_tls() {
    let certificate = Certificate::sign_itself();
    let mut cluster = RedisCluster::start_over_tls(&certificate).await;
    let log = log(&cluster.tls_address(0), true);
    let (mut tail, _watched) = follow(&log, Shards(u64::MAX));
    for at in 0..3 {
        let feed = feed_on(&cluster, at).await;
        until_told(&log, &feed, &mut tail).await;
        let clients: String = cluster.nodes[at].ask(&["CLIENT", "LIST"]).await.unwrap();
        let of_log = |client: &&str| client.contains(" cmd=eval") || client.contains(" cmd=xread");
        let ours: Vec<_> = clients.lines().filter(of_log).collect();
        let over_tls = format!(" laddr={} ", cluster.tls_address(at));
        assert!(!ours.is_empty() && ours.iter().all(|client| client.contains(&over_tls)), "{clients}");
    }
    let feed = feed_on(&cluster, 1).await;
    cluster.move_slot_of(&tail_key(&feed), 2).await;
    until_told(&log, &feed, &mut tail).await;
    cluster.nodes[2].restart().await;
    until_told(&log, &feed, &mut tail).await;
}
