//! The log in a Redis Cluster: feeds on several nodes, slots that move, nodes that fail.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::HashSet, time::Duration};

use photoshare_server::{
    feed::FeedId,
    log::{FeedLog, Presence, RedisLog, Shards, TailItem},
};
use support::{
    RETENTION, append_new,
    cluster_feeds::{feed_on, feeds_of_all_shards, tail_key},
    event::upload,
    expect_appended, feed, read_entries,
    redis_cluster::RedisCluster,
    redis_server::{RedisServer, free_port, open_log_with_replicas},
    tail_subscriber::TailSubscriber,
    wait::wait_for,
};

#[tokio::test]
async fn a_tail_delivers_the_appends_of_every_shard() {
    let cluster = RedisCluster::start().await;
    let (log, other) = (cluster.open_log(RETENTION), cluster.open_log(RETENTION));
    let feeds = feeds_of_all_shards();
    let mut tail = TailSubscriber::start(log.clone(), Shards::ALL);
    let mut missing = Shards::ALL;
    while !missing.is_empty() {
        if let TailItem::Resync(shards) = tail.next_item().await {
            missing.0 &= !shards.0;
        }
    }
    for feed in &feeds {
        append_new(&*other, upload(feed, "a")).await;
    }
    let mut received = HashSet::new();
    while received.len() < feeds.len() {
        let entry = tail.next_entry().await;
        assert!(received.insert(entry.feed().clone()), "{entry:?} twice");
    }
}

#[tokio::test]
async fn subscribers_are_counted_for_feeds_of_every_shard() {
    let cluster = RedisCluster::start().await;
    let (local, remote) = (cluster.open_log(RETENTION), cluster.open_log(RETENTION));
    let feeds = feeds_of_all_shards();
    remote.set_presence(feeds.iter().cloned().map(|feed| (feed, 2)).collect()).await.unwrap();
    for feed in &feeds {
        assert_eq!(local.count_remote(feed).await.unwrap(), 2, "{feed}");
    }
}

#[tokio::test]
async fn a_slot_that_moves_to_another_node_is_followed() {
    let cluster = RedisCluster::start().await;
    let (log, feed) = (cluster.open_log(RETENTION), feed_on(&cluster, 0).await);
    let start = log.read_end(&feed).await.unwrap();
    let mut tail = TailSubscriber::start(log.clone(), Shards::of(&feed));
    tail.append_until_received(&*log, &feed).await;
    cluster.move_slot_of(&tail_key(&feed), 2).await;
    assert_eq!(cluster.node_holding(&tail_key(&feed)).await, 2);
    tail.append_until_received(&*log, &feed).await;
    let end = log.read_end(&feed).await.unwrap();
    assert_eq!(read_entries(&*log, &feed, start).await.last().unwrap().cursor, end);
}

#[tokio::test]
async fn a_failed_node_affects_only_the_feeds_that_it_holds() {
    let mut cluster = RedisCluster::start().await;
    let log = cluster.open_log(RETENTION);
    let (affected, unaffected) = (feed_on(&cluster, 0).await, feed_on(&cluster, 1).await);
    let shards = Shards(Shards::of(&affected).0 | Shards::of(&unaffected).0);
    let mut tail = TailSubscriber::start(log.clone(), shards);
    tail.append_until_received(&*log, &affected).await;
    tail.append_until_received(&*log, &unaffected).await;
    // The node that the settings name.
    cluster.nodes[0].kill();
    cluster.nodes[1].command::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
    tail.append_until_received(&*log, &unaffected).await;
    upload(&affected, "rejected").append_to(&*log).await.unwrap_err();
    cluster.nodes[0].restart().await;
    tail.append_until_received(&*log, &affected).await;
}

/// The connections to `node` whose last command was a script.
async fn script_connections(node: &RedisServer) -> HashSet<String> {
    let clients: String = node.command(&["CLIENT", "LIST"]).await.unwrap();
    let callers = clients.lines().filter(|client| client.contains(" cmd=eval"));
    callers.map(|client| client.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn calls_to_a_failed_node_do_not_replace_the_connections_to_the_others() {
    let mut cluster = RedisCluster::start().await;
    let log = cluster.open_log(RETENTION);
    let (affected, unaffected) = (feed_on(&cluster, 0).await, feed_on(&cluster, 1).await);
    append_new(&*log, upload(&unaffected, "before")).await;
    let before = script_connections(&cluster.nodes[1]).await;
    assert_eq!(before.len(), 1);
    cluster.nodes[0].kill();
    for number in 0..3 {
        upload(&affected, "rejected").append_to(&*log).await.unwrap_err();
        append_new(&*log, upload(&unaffected, &format!("{number}"))).await;
        assert_eq!(script_connections(&cluster.nodes[1]).await, before, "after {number}");
    }
}

#[tokio::test]
async fn a_script_is_loaded_on_one_node_while_another_does_not_respond() {
    let cluster = RedisCluster::start().await;
    let log = cluster.open_log(RETENTION);
    let (silent, other) = (feed_on(&cluster, 0).await, feed_on(&cluster, 1).await);
    append_new(&*log, upload(&silent, "before")).await;
    cluster.nodes[1].command::<()>(&["SCRIPT", "FLUSH"]).await.unwrap();
    cluster.nodes[0].suspend();
    let waiting = upload(&silent, "waiting").append_to(&*log);
    let responsive = upload(&other, "a").append_to(&*log);
    tokio::select! {
        biased;
        result = waiting => panic!("the call to the other node waited for the suspended one: {result:?}"),
        result = responsive => expect_appended(result.unwrap()),
    };
}

#[tokio::test]
async fn a_server_that_becomes_a_cluster_and_a_server_again_is_followed() {
    let server = RedisServer::start().await;
    let (log, port) = (server.open_log(RETENTION), server.port);
    let (one, two) = (feed("one"), feed("two"));
    let mut tail = TailSubscriber::start(log.clone(), Shards(Shards::of(&one).0 | Shards::of(&two).0));
    tail.append_until_received(&*log, &one).await;

    drop(server);
    let bus = free_port().to_string();
    let options = ["--cluster-enabled", "yes", "--cluster-port", &bus];
    let server = RedisServer::start_on_port(port, &options).await;
    server.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
    tail.append_until_received(&*log, &one).await;
    tail.append_until_received(&*log, &two).await;
    server.wait_for_tail_readers(2).await;

    drop(server);
    let server = RedisServer::start_on_port(port, &[]).await;
    tail.append_until_received(&*log, &two).await;
    tail.append_until_received(&*log, &one).await;
    server.wait_for_tail_readers(1).await;
}

#[tokio::test]
async fn the_log_is_ready_while_any_master_accepts_writes() {
    let mut cluster = RedisCluster::start().await;
    let log = cluster.open_log(RETENTION);
    log.ping().await.unwrap();
    for writable in [2, 1, 0] {
        cluster.nodes[writable].command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
        assert_eq!(log.ping().await.is_ok(), writable > 0, "{writable} nodes accept writes");
    }
    for node in &cluster.nodes {
        node.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    }
    cluster.nodes[2].kill();
    log.ping().await.unwrap();
    for node in &mut cluster.nodes[..2] {
        node.kill();
    }
    log.ping().await.unwrap_err();
}

#[tokio::test]
async fn an_append_without_enough_replicas_fails() {
    let cluster = RedisCluster::start().await;
    let log = open_log_with_replicas(&cluster.nodes[0].url(), 1);
    let error = upload(&feed_on(&cluster, 2).await, "a").append_to(&log).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("replicas"), "{source}");
}

/// Appends photos, each confirmed by a replica.
async fn append_replicated(cluster: &RedisCluster, feed: &FeedId, names: &[String]) {
    let log = open_log_with_replicas(&cluster.nodes[0].url(), 1);
    let appends = async {
        for name in names {
            while upload(feed, name).append_to(&log).await.is_err() {}
        }
    };
    wait_for("a replica to confirm the appends", appends).await;
}

/// Makes a replica take over from the master of a feed by `fail_over`, and finally calls `restore`.
async fn check_failover(
    fail_over: impl AsyncFnOnce(&mut RedisServer, &RedisServer),
    restore: impl AsyncFnOnce(&mut RedisServer),
) {
    let mut cluster = RedisCluster::start().await;
    let replica = cluster.start_replica_of(0).await;
    let log = cluster.open_log(RETENTION);
    let (feed, feed_on_other_node) = (feed_on(&cluster, 0).await, feed_on(&cluster, 1).await);
    let start = log.read_end(&feed).await.unwrap();
    let mut tail = TailSubscriber::start(log.clone(), Shards::of(&feed));
    tail.append_until_received(&*log, &feed).await;
    let names: Vec<_> = (0..20).map(|number| format!("replicated{number}")).collect();
    append_replicated(&cluster, &feed, &names).await;

    fail_over(&mut cluster.nodes[0], &replica).await;
    tokio::select! {
        () = tail.append_until_received(&*log, &feed) => {}
        () = append_continuously(&log, &feed_on_other_node) => {}
    }
    replica.command::<i64>(&["EXISTS", &tail_key(&feed)]).await.expect("the replica took over");
    let entries = read_entries(&*log, &feed, start).await;
    let kept: Vec<_> = entries.iter().map(|entry| entry.event.key.name()).collect();
    assert_eq!(kept.iter().collect::<HashSet<_>>().len(), entries.len(), "appended twice: {kept:?}");
    assert!(names.iter().all(|name| kept.contains(&name.as_str())), "lost: {kept:?}");

    restore(&mut cluster.nodes[0]).await;
    tail.append_until_received(&*log, &feed).await;
    assert_eq!(read_entries(&*log, &feed, start).await[..entries.len()], entries);
}

/// Panics if a call fails.
async fn append_continuously(log: &RedisLog, feed: &FeedId) {
    loop {
        upload(feed, "a").append_to(log).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_replica_takes_over_from_a_master_that_is_killed() {
    check_failover(async |master, _| master.kill(), RedisServer::restart).await;
}

#[tokio::test]
async fn a_replica_takes_over_from_a_master_that_does_not_respond() {
    check_failover(async |master, _| master.suspend(), async |master| master.resume()).await;
}

#[tokio::test]
async fn a_replica_takes_over_from_a_master_that_becomes_a_replica() {
    let fail_over = async |_: &mut RedisServer, replica: &RedisServer| {
        replica.command::<()>(&["CLUSTER", "FAILOVER"]).await.unwrap();
        replica.wait_for_response(&["INFO", "replication"], "role:master").await;
    };
    check_failover(fail_over, async |_| {}).await;
}
