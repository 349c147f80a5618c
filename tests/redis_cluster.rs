//! What only the log in a Redis Cluster can meet: feeds on several nodes, slots that move, nodes that die.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::HashSet, time::Duration};

use photoshare_server::{
    feed::FeedId,
    log::{FeedLog, Presence, RedisLog, Shards, Tail},
};
use support::{
    RETENTION, appended, entries_after, feed,
    feeds::{feed_on, feeds_of_all_shards, follow, put, tail_key, until_told},
    redis_cluster::{PATIENCE, RedisCluster, until_it_says},
    redis_server::{RedisServer, free_port, settings, until_readers},
};

#[tokio::test]
async fn feeds_of_every_shard_are_told_wherever_they_lie() {
    let cluster = RedisCluster::start().await;
    let (log, other) = (cluster.log(RETENTION), cluster.log(RETENTION));
    let feeds = feeds_of_all_shards();
    let (mut tail, _watched) = follow(&log, Shards(u64::MAX));
    let mut unread = u64::MAX;
    while unread != 0 {
        let item = tokio::time::timeout(PATIENCE, tail.recv()).await.expect("told to read anew");
        if let Some(Tail::Resync(shards)) = item {
            unread &= !shards.0;
        }
    }
    for feed in &feeds {
        appended(put(&other, feed, "a").await.unwrap());
    }
    let mut told = HashSet::new();
    while told.len() < feeds.len() {
        let item = tokio::time::timeout(PATIENCE, tail.recv()).await.expect("told of every feed");
        let Some(Tail::Appended(entry)) = item else { continue };
        assert!(told.insert(entry.feed().clone()), "{entry:?} twice");
    }
}

#[tokio::test]
async fn watchers_are_counted_wherever_their_feeds_lie() {
    let cluster = RedisCluster::start().await;
    let (here, there) = (cluster.log(RETENTION), cluster.log(RETENTION));
    let feeds = feeds_of_all_shards();
    there.note(feeds.iter().cloned().map(|feed| (feed, 2)).collect()).await.unwrap();
    for feed in &feeds {
        assert_eq!(here.elsewhere(feed).await.unwrap(), 2, "{feed}");
    }
}

#[tokio::test]
async fn a_slot_that_moves_is_followed() {
    let cluster = RedisCluster::start().await;
    let (log, feed) = (cluster.log(RETENTION), feed_on(&cluster, 0).await);
    let start = log.end(&feed).await.unwrap();
    let (mut tail, _watched) = follow(&log, Shards::of(&feed));
    until_told(&log, &feed, &mut tail).await;
    cluster.move_slot_of(&tail_key(&feed), 2).await;
    assert_eq!(cluster.holder(&tail_key(&feed)).await, 2);
    until_told(&log, &feed, &mut tail).await;
    let end = log.end(&feed).await.unwrap();
    assert_eq!(entries_after(&*log, &feed, start).await.last().unwrap().cursor, end);
}

#[tokio::test]
async fn a_node_that_dies_takes_nothing_with_it_but_its_own_feeds() {
    let mut cluster = RedisCluster::start().await;
    let log = cluster.log(RETENTION);
    let (lost, kept) = (feed_on(&cluster, 0).await, feed_on(&cluster, 1).await);
    let (mut tail, _watched) = follow(&log, Shards(Shards::of(&lost).0 | Shards::of(&kept).0));
    until_told(&log, &lost, &mut tail).await;
    until_told(&log, &kept, &mut tail).await;
    // The very one that the settings name.
    cluster.nodes[0].kill();
    cluster.nodes[1].ask::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
    until_told(&log, &kept, &mut tail).await;
    assert!(put(&log, &lost, "while it is away").await.is_err());
    cluster.nodes[0].restart().await;
    until_told(&log, &lost, &mut tail).await;
}

/// The connections to `node` over which scripts were called last.
async fn callers(node: &RedisServer) -> HashSet<String> {
    let clients: String = node.ask(&["CLIENT", "LIST"]).await.unwrap();
    let callers = clients.lines().filter(|client| client.contains(" cmd=eval"));
    callers.map(|client| client.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn calls_to_a_dead_node_leave_the_connections_to_the_others_alone() {
    let mut cluster = RedisCluster::start().await;
    let log = cluster.log(RETENTION);
    let (lost, kept) = (feed_on(&cluster, 0).await, feed_on(&cluster, 1).await);
    put(&log, &kept, "before").await.unwrap();
    let before = callers(&cluster.nodes[1]).await;
    assert_eq!(before.len(), 1);
    cluster.nodes[0].kill();
    for number in 0..3 {
        put(&log, &lost, "lost").await.unwrap_err();
        put(&log, &kept, &format!("{number}")).await.unwrap();
        assert_eq!(callers(&cluster.nodes[1]).await, before, "after {number}");
    }
}

#[tokio::test]
async fn a_silent_node_holds_up_no_script_that_is_new_to_another() {
    let cluster = RedisCluster::start().await;
    let log = cluster.log(RETENTION);
    let (silent, other) = (feed_on(&cluster, 0).await, feed_on(&cluster, 1).await);
    put(&log, &silent, "before").await.unwrap();
    cluster.nodes[1].ask::<()>(&["SCRIPT", "FLUSH"]).await.unwrap();
    cluster.nodes[0].pause();
    let (waits, asked) = (put(&log, &silent, "waits"), put(&log, &other, "a"));
    tokio::select! {
        biased;
        late = waits => panic!("the silent node was waited for: {late:?}"),
        put = asked => appended(put.unwrap()),
    };
}

#[tokio::test]
async fn a_server_that_becomes_a_cluster_and_one_again_is_followed() {
    let server = RedisServer::start().await;
    let (log, port) = (server.log(RETENTION), server.port);
    let (one, two) = (feed("one"), feed("two"));
    let (mut tail, _watched) = follow(&log, Shards(Shards::of(&one).0 | Shards::of(&two).0));
    until_told(&log, &one, &mut tail).await;

    drop(server);
    let bus = free_port().to_string();
    let server = RedisServer::start_on(port, &["--cluster-enabled", "yes", "--cluster-port", &bus]).await;
    server.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
    until_told(&log, &one, &mut tail).await;
    until_told(&log, &two, &mut tail).await;
    until_readers(&server, 2).await;

    drop(server);
    let server = RedisServer::start_on(port, &[]).await;
    until_told(&log, &two, &mut tail).await;
    until_told(&log, &one, &mut tail).await;
    until_readers(&server, 1).await;
}

#[tokio::test]
async fn it_is_ready_while_any_master_takes_writes() {
    let mut cluster = RedisCluster::start().await;
    let log = cluster.log(RETENTION);
    log.ping().await.unwrap();
    for left in [2, 1, 0] {
        cluster.nodes[left].ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
        assert_eq!(log.ping().await.is_ok(), left > 0, "{left} take writes");
    }
    for node in &cluster.nodes {
        node.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    }
    cluster.nodes[2].kill();
    log.ping().await.unwrap();
    for node in &mut cluster.nodes[..2] {
        node.kill();
    }
    log.ping().await.unwrap_err();
}

#[tokio::test]
async fn without_enough_replicas_an_append_is_not_done() {
    let cluster = RedisCluster::start().await;
    let log = RedisLog::new(settings(&cluster.nodes[0].url(), 1), RETENTION).unwrap();
    let refused = put(&log, &feed_on(&cluster, 2).await, "a").await.unwrap_err();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert!(why.contains("replicas"), "{why}");
}

/// Puts photos that are acknowledged only once a replica has them.
async fn put_safely(cluster: &RedisCluster, feed: &FeedId, names: &[String]) {
    let log = RedisLog::new(settings(&cluster.nodes[0].url(), 1), RETENTION).unwrap();
    let put = async {
        for name in names {
            while put(&log, feed, name).await.is_err() {}
        }
    };
    tokio::time::timeout(PATIENCE, put).await.expect("a replica that has them");
}

/// Has a replica take over from the master of a feed that `leaves`, and in the end `returns`.
async fn a_replica_takes_over(
    leaves: impl AsyncFnOnce(&mut RedisServer, &RedisServer),
    returns: impl AsyncFnOnce(&mut RedisServer),
) {
    let mut cluster = RedisCluster::start().await;
    let replica = cluster.start_replica_of(0).await;
    let log = cluster.log(RETENTION);
    let (feed, elsewhere) = (feed_on(&cluster, 0).await, feed_on(&cluster, 1).await);
    let start = log.end(&feed).await.unwrap();
    let (mut tail, _watched) = follow(&log, Shards::of(&feed));
    until_told(&log, &feed, &mut tail).await;
    let names: Vec<_> = (0..20).map(|number| format!("safe{number}")).collect();
    put_safely(&cluster, &feed, &names).await;

    leaves(&mut cluster.nodes[0], &replica).await;
    tokio::select! {
        () = until_told(&log, &feed, &mut tail) => {}
        () = put_all_the_time(&log, &elsewhere) => {}
    }
    replica.ask::<i64>(&["EXISTS", &tail_key(&feed)]).await.expect("the replica took over");
    let told = entries_after(&*log, &feed, start).await;
    let names_told: Vec<_> = told.iter().map(|entry| entry.event.key.name()).collect();
    assert_eq!(names_told.iter().collect::<HashSet<_>>().len(), told.len(), "told twice: {names_told:?}");
    assert!(names.iter().all(|name| names_told.contains(&name.as_str())), "lost: {names_told:?}");

    returns(&mut cluster.nodes[0]).await;
    until_told(&log, &feed, &mut tail).await;
    assert_eq!(entries_after(&*log, &feed, start).await[..told.len()], told);
}

/// None of it may fail.
async fn put_all_the_time(log: &RedisLog, feed: &FeedId) {
    loop {
        put(log, feed, "a").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_replica_takes_over_from_a_master_that_dies() {
    a_replica_takes_over(async |master, _| master.kill(), RedisServer::restart).await;
}

#[tokio::test]
async fn a_replica_takes_over_from_a_master_that_hangs() {
    a_replica_takes_over(async |master, _| master.pause(), async |master| master.resume()).await;
}

#[tokio::test]
async fn a_replica_takes_over_from_a_master_that_becomes_one() {
    let change_places = async |_: &mut RedisServer, replica: &RedisServer| {
        replica.ask::<()>(&["CLUSTER", "FAILOVER"]).await.unwrap();
        let promoted = until_it_says(replica, &["INFO", "replication"], "role:master");
        tokio::time::timeout(PATIENCE, promoted).await.expect("it takes over");
    };
    a_replica_takes_over(change_places, async |_| {}).await;
}
