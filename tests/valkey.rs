//! The suites of the log in Redis once more, on Valkey: what starts a server knows by the name of this crate
//! that it is to be one.

#![allow(clippy::unwrap_used)]
#![allow(clippy::duplicate_mod, reason = "each suite brings its own")]

#[path = "feed_log.rs"]
mod feed_log;
#[path = "feed_log_model.rs"]
mod feed_log_model;
#[path = "redis_cluster.rs"]
mod redis_cluster;
#[path = "redis_log.rs"]
mod redis_log;
mod support;

use support::redis_server::{RedisServer, settings};

#[tokio::test]
async fn it_is_examined_under_its_own_name_and_version() {
    let server = RedisServer::start().await;
    let info: String = server.ask(&["INFO", "server"]).await.unwrap();
    let version = info.lines().find_map(|line| line.strip_prefix("valkey_version:")).unwrap();
    let health = settings(&server.url(), 0).probe().await.unwrap();
    assert_eq!(health.server, format!("Valkey {version}"));
    assert_eq!(version.split('.').next().unwrap().parse(), Ok(health.major));
}
