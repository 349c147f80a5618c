//! What only the log in Redis can meet: other processes, and a Redis that comes, goes and forgets.

#![allow(clippy::unwrap_used)]

mod support;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use photoshare_server::{
    feed::Kind,
    log::{FeedLog, Outcome, Presence, Proof, Read, RedisLog, Shards, Tail},
};
use support::{
    RETENTION, appended, entries_after, event, feed,
    redis_server::{RedisServer, free_port, settings, until_readers},
    second,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    sync::{mpsc, watch},
};

async fn put(log: &RedisLog, name: &str) -> Result<Outcome, photoshare_server::log::LogError> {
    log.append(event(&feed("summer"), name, Kind::Uploaded, "01", second(10)), Proof::Bucket, second(10))
        .await
}

/// A tail of the feed's shard that has begun to follow.
async fn tail_of(log: &Arc<RedisLog>) -> (mpsc::Receiver<Tail>, watch::Sender<Shards>) {
    let watched = watch::Sender::new(Shards::of(&feed("summer")));
    let (told, mut tail) = mpsc::channel(1024);
    let (log, watching) = (log.clone(), watched.subscribe());
    tokio::spawn(async move { log.tail(watching, told).await });
    until_resync(&mut tail).await;
    (tail, watched)
}

async fn until_resync(tail: &mut mpsc::Receiver<Tail>) {
    let resync = async {
        while !matches!(tail.recv().await, Some(Tail::Resync(shards)) if shards.contain(&feed("summer"))) {}
    };
    tokio::time::timeout(Duration::from_secs(10), resync).await.expect("told to read anew");
}

async fn until_told_of(tail: &mut mpsc::Receiver<Tail>, name: &str) {
    let told = async {
        while !matches!(tail.recv().await, Some(Tail::Appended(entry)) if entry.event.key.name() == name) {}
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("told of the append");
}

#[tokio::test]
async fn a_log_that_was_emptied_begins_a_new_epoch_and_its_tail_says_so() {
    let server = RedisServer::start().await;
    let log = server.log(RETENTION);
    let (mut tail, _watched) = tail_of(&log).await;
    for name in ["a", "b", "c"] {
        put(&log, name).await.unwrap();
    }
    until_told_of(&mut tail, "c").await;
    let old = log.end(&feed("summer")).await.unwrap();

    server.ask::<()>(&["FLUSHALL"]).await.unwrap();
    let first = appended(put(&log, "a").await.unwrap());
    assert_eq!(first.offset, 1);
    assert_ne!(first.epoch, old.epoch);
    until_resync(&mut tail).await;
    assert_eq!(log.read_after(&feed("summer"), old, 10).await.unwrap(), Read::Lost(first));
    put(&log, "d").await.unwrap();
    until_told_of(&mut tail, "d").await;
}

#[tokio::test]
async fn what_a_server_may_have_forgotten_needs_the_bucket() {
    let mut server = RedisServer::start().await;
    let log = server.log(RETENTION);
    let feed = feed("summer");
    let offer = async |name, kind, sequencer, time, now| {
        let event = event(&feed, name, kind, sequencer, second(time));
        log.append(event, Proof::Event, second(now)).await.unwrap()
    };
    assert_eq!(offer("first", Kind::Uploaded, "01", 0, 1).await, Outcome::Unproven);
    appended(offer("a", Kind::Uploaded, "01", 2, 2).await);
    server.ask::<()>(&["SAVE"]).await.unwrap();
    let forgotten = appended(offer("a", Kind::Removed, "03", 4, 4).await);
    appended(offer("b", Kind::Removed, "03", 4, 4).await);

    server.restart().await;
    // Both were removed, of which nothing is known any more.
    assert_eq!(offer("a", Kind::Uploaded, "02", 3, 9).await, Outcome::Unproven);
    assert_eq!(offer("b", Kind::Uploaded, "02", 3, 9).await, Outcome::Unproven);
    assert_eq!(offer("a", Kind::Uploaded, "01", 2, 9).await, Outcome::Duplicate);
    let used_again = appended(offer("c", Kind::Uploaded, "01", 9, 9).await);
    assert_eq!((used_again.epoch, used_again.offset), (forgotten.epoch, forgotten.offset));
    assert_eq!(log.read_after(&feed, forgotten, 10).await.unwrap(), Read::Lost(used_again));
}

#[tokio::test]
async fn a_broken_connection_resumes_with_a_resync() {
    let server = RedisServer::start().await;
    let log = server.log(RETENTION);
    let (mut tail, _watched) = tail_of(&log).await;
    for round in 0..3 {
        server.ask::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
        until_resync(&mut tail).await;
        let name = format!("{round}");
        put(&log, &name).await.unwrap();
        until_told_of(&mut tail, &name).await;
    }
}

#[tokio::test]
async fn a_tail_of_which_nothing_is_watched_keeps_no_connection() {
    let server = RedisServer::start().await;
    let log = server.log(RETENTION);
    let (mut tail, watched) = tail_of(&log).await;
    until_readers(&server, 1).await;
    watched.send_replace(Shards::default());
    until_readers(&server, 0).await;
    watched.send_replace(Shards::of(&feed("summer")));
    until_resync(&mut tail).await;
    put(&log, "a").await.unwrap();
    until_told_of(&mut tail, "a").await;
}

#[tokio::test]
async fn a_tail_that_was_trimmed_past_is_told_to_read_anew() {
    let server = RedisServer::start().await;
    let log = server.log(RETENTION);
    let (mut tail, _watched) = tail_of(&log).await;
    put(&log, "first").await.unwrap();
    until_told_of(&mut tail, "first").await;
    // A reader that is held up: the tail moves on and is cut behind it, in one go.
    let cut = "for i = 1, 3 do \
               local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1] \
               local epoch, number = string.match(last, '(%d+)-(%d+)') \
               redis.call('XADD', KEYS[1], epoch .. '-' .. (number + 1), 'x', 'x') end \
               redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)";
    server.ask::<()>(&["EVAL", cut, "1", "test:{s09}:tail"]).await.unwrap();
    until_resync(&mut tail).await;
    put(&log, "next").await.unwrap();
    until_told_of(&mut tail, "next").await;
}

#[tokio::test]
async fn what_was_appended_by_one_process_is_told_in_another() {
    let server = RedisServer::start().await;
    let (here, there) = (server.log(RETENTION), server.log(RETENTION));
    let start = here.end(&feed("summer")).await.unwrap();
    let (mut tail, _watched) = tail_of(&here).await;
    let cursor = appended(put(&there, "a").await.unwrap());
    until_told_of(&mut tail, "a").await;
    assert_eq!(entries_after(&*here, &feed("summer"), start).await[0].cursor, cursor);
    assert_eq!(put(&here, "a").await.unwrap(), Outcome::Duplicate);
}

#[tokio::test]
async fn without_enough_replicas_an_append_is_not_done() {
    let server = RedisServer::start().await;
    let log = RedisLog::new(settings(&server.url(), 1), RETENTION).unwrap();
    for attempt in 0..2 {
        let refused = put(&log, "a").await.unwrap_err();
        let why = std::error::Error::source(&refused).unwrap().to_string();
        assert!(why.contains("replicas"), "{attempt}: {why}");
    }
    let replica_of = server.port.to_string();
    let _replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &replica_of]).await;
    let taken = async {
        loop {
            match put(&log, "a").await {
                Ok(outcome) => return outcome,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(20), taken).await.expect("the replica has it");
    assert_eq!(outcome, Outcome::Duplicate);
}

#[tokio::test]
async fn a_log_that_is_away_says_so_and_comes_back() {
    let port = free_port();
    let log = RedisLog::new(settings(&format!("redis://127.0.0.1:{port}"), 0), RETENTION).unwrap();
    assert!(log.ping().await.is_err());
    assert!(put(&log, "a").await.is_err());
    let _server = RedisServer::start_on(port, &[]).await;
    log.ping().await.unwrap();
    assert!(matches!(put(&log, "a").await.unwrap(), Outcome::Appended(_)));
}

#[tokio::test]
async fn a_connection_is_made_even_if_its_first_caller_gives_up() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let log = RedisLog::new(settings(&format!("redis://127.0.0.1:{port}"), 0), RETENTION).unwrap();
    assert!(log.end(&feed("summer")).now_or_never().is_none());
    let spoken_to = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.read(&mut [0; 64]).await.unwrap()
    };
    let heard = tokio::time::timeout(Duration::from_secs(10), spoken_to).await.expect("it goes on");
    assert!(heard > 0);
}

/// What `log` says is wrong with it.
async fn complaint(log: &RedisLog) -> String {
    let refused = log.ping().await.expect_err("it can't be written to");
    std::error::Error::source(&refused).unwrap().to_string()
}

#[tokio::test]
async fn a_redis_that_answers_but_can_not_be_written_to_is_not_ready() {
    let server = RedisServer::start().await;
    let log = server.log(RETENTION);
    log.ping().await.unwrap();
    for (setting, bad, good, why) in [
        ("maxmemory", "1", "0", "OOM"),
        ("min-replicas-to-write", "1", "0", "NOREPLICAS"),
        ("replicaof", "127.0.0.1 1", "no one", "READONLY"),
    ] {
        let set = async |value: &str| {
            let mut words =
                if setting == "replicaof" { vec!["REPLICAOF"] } else { vec!["CONFIG", "SET", setting] };
            words.extend(value.split(' '));
            server.ask::<()>(&words).await.unwrap();
        };
        set(bad).await;
        let said = complaint(&log).await;
        assert!(said.to_uppercase().contains(why), "{setting}: {said}");
        set(good).await;
        log.ping().await.unwrap();
    }
    let log = RedisLog::new(settings(&server.url(), 1), RETENTION).unwrap();
    let said = complaint(&log).await;
    assert!(said.contains("replicas"), "{said}");
}

#[tokio::test]
async fn an_examination_says_what_failed_first() {
    let server = RedisServer::start().await;
    settings(&server.url(), 0).probe().await.unwrap();
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    let refused = settings(&server.url(), 0).probe().await.unwrap_err().to_string();
    assert!(refused.contains("a script"), "{refused}");
}

#[tokio::test]
async fn an_entry_that_can_not_be_read_is_lost_and_holds_up_nobody() {
    let server = RedisServer::start().await;
    let log = server.log(RETENTION);
    let start = log.end(&feed("summer")).await.unwrap();
    put(&log, "a").await.unwrap();
    let spoilt = "local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] \
                  redis.call('DEL', KEYS[1]) \
                  last[2][6] = 'not JSON' \
                  redis.call('XADD', KEYS[1], last[1], unpack(last[2]))";
    server.ask::<()>(&["EVAL", spoilt, "1", "test:{s09}:feed:summer"]).await.unwrap();
    let end = appended(put(&log, "b").await.unwrap());
    assert_eq!(log.read_after(&feed("summer"), start, 10).await.unwrap(), Read::Lost(end));
    let key = |name| event(&feed("summer"), name, Kind::Uploaded, "01", second(10)).key;
    assert_eq!(log.last_of(&key("b"), None).await.unwrap().unwrap().cursor, end);
    assert_eq!(log.last_of(&key("a"), None).await.unwrap(), None);
}

#[tokio::test]
async fn everything_of_an_idle_feed_expires() {
    let server = RedisServer::start().await;
    let log = server.log(RETENTION);
    put(&log, "a").await.unwrap();
    log.note(vec![(feed("summer"), 1)]).await.unwrap();
    let keys: Vec<String> = server.ask(&["KEYS", "*"]).await.unwrap();
    assert_eq!(keys.len(), 6, "{keys:?}");
    for key in keys {
        let left: i64 = server.ask(&["TTL", &key]).await.unwrap();
        assert!((1..=86_400).contains(&left), "{key} lives {left} s");
    }
}

#[tokio::test]
async fn a_feed_that_fails_keeps_no_other_from_being_renewed_and_noted() {
    let server = RedisServer::start().await;
    let log = server.log(RETENTION);
    let (broken, summer) = (feed("broken"), feed("summer"));
    let shard = photoshare_server::log::shard(&broken);
    for kind in ["meta", "watchers"] {
        let key = format!("test:{{s{shard:02}}}:{kind}:broken");
        server.ask::<()>(&["SET", &key, "of another type"]).await.unwrap();
    }
    put(&log, "a").await.unwrap();
    server.age(&summer, Duration::from_hours(23)).await;
    // More than are under way at once, before the one that is well.
    let mut watched = vec![broken.clone(); 100];
    watched.push(summer.clone());
    log.note(watched.iter().cloned().map(|feed| (feed, 1)).collect()).await.unwrap_err();
    assert_eq!(server.log(RETENTION).elsewhere(&summer).await.unwrap(), 1);
    log.renew(watched).await.unwrap_err();
    let left: i64 = server.ask(&["TTL", "test:{s09}:meta:summer"]).await.unwrap();
    assert!(left > 3600, "{left} s are left");
}

#[tokio::test]
async fn watchers_are_counted_over_all_processes() {
    let server = RedisServer::start().await;
    let (here, there) = (server.log(RETENTION), server.log(RETENTION));
    let (summer, winter) = (feed("summer"), feed("winter"));
    here.note(vec![(summer.clone(), 3)]).await.unwrap();
    there.note(vec![(summer.clone(), 4), (winter.clone(), 1)]).await.unwrap();
    assert_eq!(here.elsewhere(&summer).await.unwrap(), 4);
    assert_eq!(there.elsewhere(&summer).await.unwrap(), 3);
    assert_eq!(here.elsewhere(&winter).await.unwrap(), 1);
    there.note(vec![(summer.clone(), 2)]).await.unwrap();
    assert_eq!((here.elsewhere(&summer).await.unwrap(), here.elsewhere(&winter).await.unwrap()), (2, 0));
    there.note(Vec::new()).await.unwrap();
    assert_eq!(here.elsewhere(&summer).await.unwrap(), 0);
}

#[tokio::test]
async fn what_dead_processes_noted_does_not_count_and_is_removed() {
    let server = RedisServer::start().await;
    let (here, there) = (server.log(RETENTION), server.log(RETENTION));
    let summer = feed("summer");
    there.note(vec![(summer.clone(), 4)]).await.unwrap();
    let watchers = "test:{s09}:watchers:summer";
    let odd = ["dead", "3 100", "odd", "x", "none", "x 99999999999", "never", "3"];
    server.ask::<()>(&[&["HSET", watchers][..], &odd].concat()).await.unwrap();
    assert_eq!(here.elsewhere(&summer).await.unwrap(), 4);
    here.note(vec![(summer.clone(), 1)]).await.unwrap();
    assert_eq!(server.ask::<usize>(&["HLEN", watchers]).await.unwrap(), 2);
    assert_eq!(here.elsewhere(&summer).await.unwrap(), 4);
}
