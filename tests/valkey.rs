//! The suites of the log in Redis, run on Valkey: `support::redis_server` starts a Valkey in this test crate.

#![allow(clippy::unwrap_used)]
#![allow(clippy::duplicate_mod, reason = "each suite includes the support module")]

#[path = "feed_log.rs"]
mod feed_log;
#[path = "feed_log_model.rs"]
mod feed_log_model;
#[path = "redis_cluster.rs"]
mod redis_cluster;
#[path = "redis_log.rs"]
mod redis_log;
mod support;

use photoshare_server::doctor::probe_redis;
use support::redis_server::{RedisServer, settings};

#[tokio::test]
async fn a_probe_reports_the_name_and_version_of_valkey() {
    let server = RedisServer::start().await;
    let info: String = server.command(&["INFO", "server"]).await.unwrap();
    let version = info.lines().find_map(|line| line.strip_prefix("valkey_version:")).unwrap();
    let health = probe_redis(&settings(&server.url(), 0)).await.unwrap();
    assert_eq!(health.server, format!("Valkey {version}"));
    assert_eq!(version.split('.').next().unwrap().parse(), Ok(health.major_version));
}
