//! The log in a single Redis: several processes, and a server that restarts, loses data or rejects writes.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use futures_util::FutureExt;
use photoshare_server::{
    doctor::probe_redis,
    log::{AppendOutcome, FeedLog, Presence, ReadResult, RedisLog, Shards, shard_of},
};
use support::{
    RETENTION, append, append_new,
    event::{removal, upload},
    feed, read_entries,
    redis_server::{RedisServer, free_port, open_log_with_replicas, settings},
    tail_subscriber::TailSubscriber,
    wait::{wait_for, wait_until},
};
use tokio::{io::AsyncReadExt, net::TcpListener};

#[tokio::test]
async fn an_emptied_log_begins_a_new_epoch_and_its_tail_resyncs() {
    let server = RedisServer::start().await;
    let (log, feed) = (server.open_log(RETENTION), feed("summer"));
    let mut tail = TailSubscriber::start_with_feed(log.clone(), &feed).await;
    for name in ["a", "b", "c"] {
        append_new(&*log, upload(&feed, name)).await;
    }
    tail.wait_for_entry("c").await;
    let old = log.read_end(&feed).await.unwrap();

    server.command::<()>(&["FLUSHALL"]).await.unwrap();
    let first = append_new(&*log, upload(&feed, "a")).await;
    assert_eq!(first.offset, 1);
    assert_ne!(first.epoch, old.epoch);
    tail.wait_for_resync(&feed).await;
    assert_eq!(log.read_after(&feed, old, 10).await.unwrap(), ReadResult::Lost(first));
    append_new(&*log, upload(&feed, "d")).await;
    tail.wait_for_entry("d").await;
}

#[tokio::test]
async fn an_event_that_a_restarted_server_may_have_lost_needs_the_confirmation_of_the_bucket() {
    let mut server = RedisServer::start().await;
    let (log, feed) = (server.open_log(RETENTION), feed("summer"));
    let upload = |name, sequencer, time| upload(&feed, name).sequencer(sequencer).at(time).unconfirmed();
    let removal = |name, sequencer, time| removal(&feed, name).sequencer(sequencer).at(time).unconfirmed();
    assert_eq!(append(&*log, upload("first", "01", 0).appended_at(1)).await, AppendOutcome::Unproven);
    append_new(&*log, upload("a", "01", 2).appended_at(2)).await;
    server.command::<()>(&["SAVE"]).await.unwrap();
    let lost = append_new(&*log, removal("a", "03", 4).appended_at(4)).await;
    append_new(&*log, removal("b", "03", 4).appended_at(4)).await;

    server.restart().await;
    // The server has lost both removals.
    for name in ["a", "b"] {
        let late = upload(name, "02", 3).appended_at(9);
        assert_eq!(append(&*log, late).await, AppendOutcome::Unproven, "{name}");
    }
    let saved = upload("a", "01", 2).appended_at(9);
    assert_eq!(append(&*log, saved).await, AppendOutcome::Duplicate);
    let reused = append_new(&*log, upload("c", "01", 9).appended_at(9)).await;
    assert_eq!((reused.epoch, reused.offset), (lost.epoch, lost.offset));
    assert_eq!(log.read_after(&feed, lost, 10).await.unwrap(), ReadResult::Lost(reused));
}

#[tokio::test]
async fn a_tail_reconnects_and_resyncs() {
    let server = RedisServer::start().await;
    let (log, feed) = (server.open_log(RETENTION), feed("summer"));
    let mut tail = TailSubscriber::start_with_feed(log.clone(), &feed).await;
    for round in 0..3 {
        server.command::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
        tail.wait_for_resync(&feed).await;
        let name = format!("{round}");
        append_new(&*log, upload(&feed, &name)).await;
        tail.wait_for_entry(&name).await;
    }
}

#[tokio::test]
async fn a_tail_without_watched_shards_has_no_connection() {
    let server = RedisServer::start().await;
    let (log, feed) = (server.open_log(RETENTION), feed("summer"));
    let mut tail = TailSubscriber::start_with_feed(log.clone(), &feed).await;
    server.wait_for_tail_readers(1).await;
    tail.watch(Shards::NONE);
    server.wait_for_tail_readers(0).await;
    tail.watch(Shards::of(&feed));
    tail.wait_for_resync(&feed).await;
    append_new(&*log, upload(&feed, "a")).await;
    tail.wait_for_entry("a").await;
}

#[tokio::test]
async fn a_tail_that_missed_trimmed_entries_resyncs() {
    let server = RedisServer::start().await;
    let (log, feed) = (server.open_log(RETENTION), feed("summer"));
    let mut tail = TailSubscriber::start_with_feed(log.clone(), &feed).await;
    append_new(&*log, upload(&feed, "first")).await;
    tail.wait_for_entry("first").await;
    // In one step, as a slow reader sees it: entries are added and trimmed before it reads them.
    let add_and_trim = "for i = 1, 3 do \
                        local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1] \
                        local epoch, number = string.match(last, '(%d+)-(%d+)') \
                        redis.call('XADD', KEYS[1], epoch .. '-' .. (number + 1), 'x', 'x') end \
                        redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)";
    server.command::<()>(&["EVAL", add_and_trim, "1", "test:{s09}:tail"]).await.unwrap();
    tail.wait_for_resync(&feed).await;
    append_new(&*log, upload(&feed, "next")).await;
    tail.wait_for_entry("next").await;
}

#[tokio::test]
async fn an_append_of_one_process_is_delivered_in_another() {
    let server = RedisServer::start().await;
    let (local, remote, feed) = (server.open_log(RETENTION), server.open_log(RETENTION), feed("summer"));
    let start = local.read_end(&feed).await.unwrap();
    let mut tail = TailSubscriber::start_with_feed(local.clone(), &feed).await;
    let cursor = append_new(&*remote, upload(&feed, "a")).await;
    tail.wait_for_entry("a").await;
    assert_eq!(read_entries(&*local, &feed, start).await[0].cursor, cursor);
    assert_eq!(append(&*local, upload(&feed, "a")).await, AppendOutcome::Duplicate);
}

#[tokio::test]
async fn an_append_without_enough_replicas_fails_until_a_replica_has_it() {
    let server = RedisServer::start().await;
    let (log, feed) = (open_log_with_replicas(&server.url(), 1), feed("summer"));
    for attempt in 0..2 {
        let error = upload(&feed, "a").append_to(&log).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("replicas"), "{attempt}: {source}");
    }
    let port = server.port.to_string();
    let _replica = RedisServer::start_with_options(&["--replicaof", "127.0.0.1", &port]).await;
    wait_until("the replica to confirm the append", async || {
        match upload(&feed, "a").append_to(&log).await {
            Ok(outcome) => {
                assert_eq!(outcome, AppendOutcome::Duplicate);
                true
            }
            Err(_) => false,
        }
    })
    .await;
}

#[tokio::test]
async fn a_log_connects_once_its_server_is_available() {
    let port = free_port();
    let settings = settings(&format!("redis://127.0.0.1:{port}"), 0);
    let (log, feed) = (RedisLog::new(settings, RETENTION).unwrap(), feed("summer"));
    log.ping().await.unwrap_err();
    upload(&feed, "a").append_to(&log).await.unwrap_err();
    let _server = RedisServer::start_on_port(port, &[]).await;
    log.ping().await.unwrap();
    append_new(&log, upload(&feed, "a")).await;
}

#[tokio::test]
async fn a_connection_attempt_continues_after_its_first_caller_is_dropped() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings = settings(&format!("redis://127.0.0.1:{port}"), 0);
    let log = RedisLog::new(settings, RETENTION).unwrap();
    assert!(log.read_end(&feed("summer")).now_or_never().is_none());
    let first_bytes = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.read(&mut [0; 64]).await.unwrap()
    };
    assert!(wait_for("the first bytes of the connection", first_bytes).await > 0);
}

/// Why `log` is not ready.
async fn ping_error(log: &RedisLog) -> String {
    let error = log.ping().await.expect_err("a log that is not ready");
    std::error::Error::source(&error).unwrap().to_string()
}

#[tokio::test]
async fn a_redis_that_responds_but_accepts_no_writes_is_not_ready() {
    let server = RedisServer::start().await;
    let log = server.open_log(RETENTION);
    log.ping().await.unwrap();
    for (setting, bad, good, expected) in [
        ("maxmemory", "1", "0", "OOM"),
        ("min-replicas-to-write", "1", "0", "NOREPLICAS"),
        ("replicaof", "127.0.0.1 1", "no one", "READONLY"),
    ] {
        let set = async |value: &str| {
            let mut words =
                if setting == "replicaof" { vec!["REPLICAOF"] } else { vec!["CONFIG", "SET", setting] };
            words.extend(value.split(' '));
            server.command::<()>(&words).await.unwrap();
        };
        set(bad).await;
        let error = ping_error(&log).await;
        assert!(error.to_uppercase().contains(expected), "{setting}: {error}");
        set(good).await;
        log.ping().await.unwrap();
    }
    let error = ping_error(&open_log_with_replicas(&server.url(), 1)).await;
    assert!(error.contains("replicas"), "{error}");
}

#[tokio::test]
async fn a_probe_names_the_first_operation_that_failed() {
    let server = RedisServer::start().await;
    probe_redis(&settings(&server.url(), 0)).await.unwrap();
    server.command::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    let error = probe_redis(&settings(&server.url(), 0)).await.unwrap_err().to_string();
    assert!(error.contains("a script"), "{error}");
}

#[tokio::test]
async fn an_undecodable_entry_is_lost_and_does_not_affect_later_ones() {
    let server = RedisServer::start().await;
    let (log, feed) = (server.open_log(RETENTION), feed("summer"));
    let start = log.read_end(&feed).await.unwrap();
    append_new(&*log, upload(&feed, "a")).await;
    let corrupt = "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] \
                   redis.call('DEL', KEYS[1]) \
                   last[2][6] = 'not JSON' \
                   redis.call('XADD', KEYS[1], last[1], unpack(last[2]))";
    server.command::<()>(&["EVAL", corrupt, "1", "test:{s09}:feed:summer"]).await.unwrap();
    let end = append_new(&*log, upload(&feed, "b")).await;
    assert_eq!(log.read_after(&feed, start, 10).await.unwrap(), ReadResult::Lost(end));
    let key = |name| upload(&feed, name).key();
    assert_eq!(log.find_latest(&key("b"), None).await.unwrap().unwrap().cursor, end);
    assert_eq!(log.find_latest(&key("a"), None).await.unwrap(), None);
}

#[tokio::test]
async fn every_key_of_an_idle_feed_expires() {
    let server = RedisServer::start().await;
    let (log, feed) = (server.open_log(RETENTION), feed("summer"));
    append_new(&*log, upload(&feed, "a")).await;
    log.set_presence(vec![(feed, 1)]).await.unwrap();
    let keys: Vec<String> = server.command(&["KEYS", "*"]).await.unwrap();
    assert_eq!(keys.len(), 6, "{keys:?}");
    for key in keys {
        let ttl: i64 = server.command(&["TTL", &key]).await.unwrap();
        assert!((1..=86_400).contains(&ttl), "the TTL of {key} is {ttl} s");
    }
}

#[tokio::test]
async fn a_feed_that_fails_does_not_keep_others_from_being_renewed_and_reported() {
    let server = RedisServer::start().await;
    let log = server.open_log(RETENTION);
    let (broken, summer) = (feed("broken"), feed("summer"));
    for kind in ["meta", "watchers"] {
        let key = format!("test:{{s{:02}}}:{kind}:broken", shard_of(&broken));
        server.command::<()>(&["SET", &key, "of another type"]).await.unwrap();
    }
    append_new(&*log, upload(&summer, "a")).await;
    server.shorten_ttl(&summer, Duration::from_hours(23)).await;
    // More broken feeds than calls that are in flight at the same time, before the intact one.
    let mut watched = vec![broken.clone(); 100];
    watched.push(summer.clone());
    log.set_presence(watched.iter().cloned().map(|feed| (feed, 1)).collect()).await.unwrap_err();
    assert_eq!(server.open_log(RETENTION).count_remote(&summer).await.unwrap(), 1);
    log.renew_ttl(watched).await.unwrap_err();
    let ttl: i64 = server.command(&["TTL", "test:{s09}:meta:summer"]).await.unwrap();
    assert!(ttl > 3600, "the TTL is {ttl} s");
}

#[tokio::test]
async fn watchers_of_other_processes_are_counted() {
    let server = RedisServer::start().await;
    let (local, remote) = (server.open_log(RETENTION), server.open_log(RETENTION));
    let (summer, winter) = (feed("summer"), feed("winter"));
    local.set_presence(vec![(summer.clone(), 3)]).await.unwrap();
    remote.set_presence(vec![(summer.clone(), 4), (winter.clone(), 1)]).await.unwrap();
    assert_eq!(local.count_remote(&summer).await.unwrap(), 4);
    assert_eq!(remote.count_remote(&summer).await.unwrap(), 3);
    assert_eq!(local.count_remote(&winter).await.unwrap(), 1);
    remote.set_presence(vec![(summer.clone(), 2)]).await.unwrap();
    assert_eq!(local.count_remote(&summer).await.unwrap(), 2);
    assert_eq!(local.count_remote(&winter).await.unwrap(), 0);
    remote.set_presence(Vec::new()).await.unwrap();
    assert_eq!(local.count_remote(&summer).await.unwrap(), 0);
}

#[tokio::test]
async fn expired_and_malformed_reports_are_not_counted_and_removed() {
    let server = RedisServer::start().await;
    let (local, remote) = (server.open_log(RETENTION), server.open_log(RETENTION));
    let summer = feed("summer");
    remote.set_presence(vec![(summer.clone(), 4)]).await.unwrap();
    let watchers = "test:{s09}:watchers:summer";
    let reports = ["expired", "3 100", "malformed", "x", "no count", "x 99999999999", "no time", "3"];
    server.command::<()>(&[&["HSET", watchers][..], &reports].concat()).await.unwrap();
    assert_eq!(local.count_remote(&summer).await.unwrap(), 4);
    local.set_presence(vec![(summer.clone(), 1)]).await.unwrap();
    assert_eq!(server.command::<usize>(&["HLEN", watchers]).await.unwrap(), 2);
    assert_eq!(local.count_remote(&summer).await.unwrap(), 4);
}
