//! What every feed log promises: one suite, run against the log in memory, in Redis and in a Redis Cluster.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use photoshare_server::{
    feed::{Cursor, Epoch, FeedId, Kind, Tag},
    log::{FeedLog, MemoryLog, Outcome, Proof, Read, Retention, Shards, Tail},
};
use support::{
    RETENTION, appended, entries_after, event, feed, redis_cluster::RedisCluster, redis_server::RedisServer,
    second,
};
use tokio::sync::{mpsc, watch};

/// A kind of log, and whatever it stands on.
enum Ground {
    Memory(OnceLock<Arc<MemoryLog>>),
    Redis(RedisServer),
    Cluster(Arc<RedisCluster>),
}

impl Ground {
    fn log(&self, retention: Retention) -> Arc<dyn FeedLog> {
        match self {
            Self::Memory(log) => log.get_or_init(|| Arc::new(MemoryLog::new(retention))).clone(),
            Self::Redis(server) => server.log(retention),
            Self::Cluster(cluster) => cluster.log(retention),
        }
    }

    /// Lets `time` go by, in which nobody uses `feed`.
    async fn pass(&self, feed: &FeedId, time: Duration) {
        match self {
            Self::Memory(log) => {
                let later = Timestamp::now() + SignedDuration::try_from(time).unwrap();
                log.get().expect("a log").forget_idle(later);
            }
            Self::Redis(server) => server.age(feed, time).await,
            Self::Cluster(cluster) => cluster.age(feed, time).await,
        }
    }
}

macro_rules! on_all {
    ($($case:ident)*) => {
        mod in_memory {
            $(#[tokio::test] async fn $case() { super::$case(super::Ground::Memory(Default::default())).await })*
        }
        mod in_redis {
            use super::{Ground, RedisServer};
            $(#[tokio::test] async fn $case() { super::$case(Ground::Redis(RedisServer::start().await)).await })*
        }
        #[tokio::test]
        async fn in_a_redis_cluster() {
            let cluster = Arc::new(RedisCluster::start().await);
            $(
                println!("{}", stringify!($case));
                cluster.empty().await;
                $case(Ground::Cluster(cluster.clone())).await;
            )*
        }
    };
}

on_all! {
    offsets_have_no_gaps_and_tags_chain
    invariant_2_a_duplicate_is_told_once
    invariant_2_a_late_older_event_is_stale
    a_removal_keeps_a_late_upload_from_coming_back
    sequencers_of_two_keys_are_never_compared
    without_sequencers_the_times_decide
    what_is_older_than_the_memory_needs_the_bucket
    memory_is_trimmed_by_count
    memory_is_trimmed_by_time
    a_position_is_proved_or_lost
    trimmed_entries_are_lost
    a_read_brings_no_more_than_asked_for
    asking_for_the_end_makes_a_log_that_can_be_recovered_from
    a_tail_tells_every_append_in_order
    strange_names_are_kept_as_they_are
    appends_at_the_same_time_are_each_told_once
    the_latest_entry_of_a_key_is_found_however_far_back
    a_feed_is_forgotten_when_it_was_idle_for_long
    reading_a_feed_keeps_it
    a_watched_feed_is_kept_however_quiet_it_is
    a_feed_that_was_never_used_is_forgotten_soon_unless_it_is_watched
}

const PUT: Kind = Kind::Uploaded;
const REMOVE: Kind = Kind::Removed;

/// Appends at second 10, with the log there since second 0: everything is within its memory.
async fn append(log: &dyn FeedLog, feed: &FeedId, name: &str, kind: Kind, sequencer: &str) -> Outcome {
    let event = event(feed, name, kind, sequencer, second(10));
    log.append(event, Proof::Bucket, second(10)).await.unwrap()
}

async fn offsets_have_no_gaps_and_tags_chain(ground: Ground) {
    let (log, feed) = (ground.log(RETENTION), feed("summer"));
    let start = log.end(&feed).await.unwrap();
    assert_eq!((start.offset, start.tag), (0, Tag::default()));
    for (at, name) in (1_u64..).zip(["a", "b", "c"]) {
        let cursor = appended(append(&*log, &feed, name, PUT, "01").await);
        assert_eq!((cursor.offset, cursor.epoch), (at, start.epoch));
        assert_eq!(log.end(&feed).await.unwrap(), cursor);
    }
    let entries = entries_after(&*log, &feed, start).await;
    let mut place = start;
    for entry in &entries {
        assert!(entry.follows(place), "{entry:?} after {place:?}");
        place = entry.cursor;
    }
    assert_eq!(entries[1].event, event(&feed, "b", PUT, "01", second(10)));
    assert_ne!(entries[0].cursor.tag, entries[1].cursor.tag);
}

async fn invariant_2_a_duplicate_is_told_once(ground: Ground) {
    let (log, feed) = (ground.log(RETENTION), feed("summer"));
    let cursor = appended(append(&*log, &feed, "a", PUT, "0055AED6DCD90281E5").await);
    for same in ["0055AED6DCD90281E5", "55aed6dcd90281e5"] {
        assert_eq!(append(&*log, &feed, "a", PUT, same).await, Outcome::Duplicate, "{same}");
    }
    assert_eq!(log.end(&feed).await.unwrap(), cursor);
}

async fn invariant_2_a_late_older_event_is_stale(ground: Ground) {
    let (log, feed) = (ground.log(RETENTION), feed("summer"));
    appended(append(&*log, &feed, "a", PUT, "0055AED6DCD90281E6").await);
    for older in ["0055AED6DCD90281E5", "55AED6DCD90281", "0054FFFFFFFFFFFFFF"] {
        assert_eq!(append(&*log, &feed, "a", PUT, older).await, Outcome::Stale, "{older}");
    }
    appended(append(&*log, &feed, "a", PUT, "0055AED6DCD90281E601").await);
}

async fn a_removal_keeps_a_late_upload_from_coming_back(ground: Ground) {
    let (log, feed) = (ground.log(RETENTION), feed("summer"));
    let removed = appended(append(&*log, &feed, "a", REMOVE, "05").await);
    assert_eq!(append(&*log, &feed, "a", PUT, "04").await, Outcome::Stale);
    assert_eq!(log.end(&feed).await.unwrap(), removed);
    appended(append(&*log, &feed, "a", PUT, "06").await);
}

async fn sequencers_of_two_keys_are_never_compared(ground: Ground) {
    let (log, one, two) = (ground.log(RETENTION), feed("one"), feed("two"));
    appended(append(&*log, &one, "a", PUT, "09").await);
    appended(append(&*log, &one, "b", PUT, "01").await);
    appended(append(&*log, &two, "a", PUT, "01").await);
}

async fn without_sequencers_the_times_decide(ground: Ground) {
    let (log, feed) = (ground.log(RETENTION), feed("summer"));
    let at = |time| event(&feed, "a", PUT, "none", time);
    let offer = async |event| log.append(event, Proof::Bucket, second(10)).await.unwrap();
    appended(offer(at(second(5))).await);
    assert_eq!(offer(at(second(5))).await, Outcome::Duplicate);
    assert_eq!(offer(at(second(4))).await, Outcome::Stale);
    // A sequencer on one side alone says nothing.
    assert_eq!(offer(event(&feed, "a", PUT, "01", second(4))).await, Outcome::Stale);
    appended(offer(at(second(6))).await);
    // Without either, nothing shows that it is known.
    let timeless = || {
        let mut event = at(second(0));
        event.event_time = None;
        event
    };
    appended(offer(timeless()).await);
    appended(offer(timeless()).await);
}

async fn what_is_older_than_the_memory_needs_the_bucket(ground: Ground) {
    let (log, feed) = (ground.log(RETENTION), feed("summer"));
    let old = event(&feed, "a", PUT, "01", second(99));
    let offer = async |event, proof| log.append(event, proof, second(100)).await.unwrap();
    assert_eq!(offer(old.clone(), Proof::Event).await, Outcome::Unproven);
    appended(offer(old.clone(), Proof::Bucket).await);
    assert_eq!(offer(old, Proof::Event).await, Outcome::Duplicate);
    appended(offer(event(&feed, "b", PUT, "01", second(100)), Proof::Event).await);
    let mut timeless = event(&feed, "c", PUT, "01", second(100));
    timeless.event_time = None;
    assert_eq!(offer(timeless, Proof::Event).await, Outcome::Unproven);
}

async fn memory_is_trimmed_by_count(ground: Ground) {
    let (log, feed) = (ground.log(Retention { seen: 2, ..RETENTION }), feed("summer"));
    for (at, name) in (100..).zip(["a", "b", "c"]) {
        appended(
            log.append(event(&feed, name, PUT, "05", second(at)), Proof::Bucket, second(at)).await.unwrap(),
        );
    }
    let offer = async |name, time| {
        log.append(event(&feed, name, PUT, "04", second(time)), Proof::Event, second(103)).await.unwrap()
    };
    assert_eq!(offer("b", 101).await, Outcome::Stale);
    // Forgotten: it may have been told, and nothing but its time says so.
    assert_eq!(offer("a", 99).await, Outcome::Unproven);
    assert_eq!(offer("d", 99).await, Outcome::Unproven);
    appended(offer("d", 100).await);
}

async fn memory_is_trimmed_by_time(ground: Ground) {
    let (log, feed) =
        (ground.log(Retention { seen_for: Duration::from_mins(1), ..RETENTION }), feed("summer"));
    let put = async |name, sequencer, time, now| {
        log.append(event(&feed, name, PUT, sequencer, second(time)), Proof::Event, second(now)).await.unwrap()
    };
    appended(put("a", "05", 100, 100).await);
    appended(put("b", "05", 160, 160).await);
    assert_eq!(put("a", "04", 160, 160).await, Outcome::Stale, "just within the time");
    appended(put("c", "05", 161, 161).await);
    appended(put("a", "04", 160, 161).await);
    assert_eq!(put("d", "05", 99, 161).await, Outcome::Unproven);
}

async fn a_position_is_proved_or_lost(ground: Ground) {
    let (log, feed) = (ground.log(RETENTION), feed("summer"));
    let start = log.end(&feed).await.unwrap();
    let first = appended(append(&*log, &feed, "a", PUT, "01").await);
    let end = appended(append(&*log, &feed, "b", PUT, "01").await);
    for (proved, left) in [(start, 2), (first, 1), (end, 0)] {
        assert_eq!(entries_after(&*log, &feed, proved).await.len(), left);
    }
    let forged = [
        Cursor { epoch: Epoch(start.epoch.0 ^ 1), ..first },
        Cursor { tag: Tag(first.tag.0 ^ 1), ..first },
        Cursor { tag: Tag(end.tag.0 ^ 1), ..end },
        Cursor { tag: Tag(1), ..start },
        Cursor { offset: 3, ..end },
        Cursor { offset: u64::MAX, ..end },
        Cursor { offset: 1 << 53, ..end },
        log.end(&self::feed("another")).await.unwrap(),
    ];
    for cursor in forged {
        let read = log.read_after(&feed, cursor, 10).await.unwrap();
        assert_eq!(read, Read::Lost(end), "{cursor:?}");
    }
}

async fn trimmed_entries_are_lost(ground: Ground) {
    let (log, feed) = (ground.log(Retention { entries: 3, ..RETENTION }), feed("summer"));
    let mut cursors = vec![log.end(&feed).await.unwrap()];
    for name in ["a", "b", "c", "d", "e"] {
        cursors.push(appended(append(&*log, &feed, name, PUT, "01").await));
    }
    for (at, cursor) in cursors.iter().enumerate() {
        let read = log.read_after(&feed, *cursor, 10).await.unwrap();
        match read {
            Read::Lost(end) => assert!(at < 2 && end == cursors[5], "{at}"),
            Read::Entries(entries) => assert!(at >= 2 && entries.len() == 5 - at, "{at}"),
        }
    }
}

async fn a_read_brings_no_more_than_asked_for(ground: Ground) {
    let (log, feed) = (ground.log(RETENTION), feed("summer"));
    let start = log.end(&feed).await.unwrap();
    for name in ["a", "b", "c"] {
        append(&*log, &feed, name, PUT, "01").await;
    }
    let Read::Entries(entries) = log.read_after(&feed, start, 2).await.unwrap() else { panic!("lost") };
    assert_eq!(entries.iter().map(|entry| entry.cursor.offset).collect::<Vec<_>>(), [1, 2]);
}

async fn asking_for_the_end_makes_a_log_that_can_be_recovered_from(ground: Ground) {
    let (log, feed) = (ground.log(RETENTION), feed("summer"));
    let start = log.end(&feed).await.unwrap();
    assert_eq!(log.end(&feed).await.unwrap(), start);
    assert_eq!(entries_after(&*log, &feed, start).await, []);
    append(&*log, &feed, "a", PUT, "01").await;
    assert_eq!(entries_after(&*log, &feed, start).await.len(), 1);
}

async fn a_tail_tells_every_append_in_order(ground: Ground) {
    let log = ground.log(RETENTION);
    let feeds = ["one", "two", "three"].map(feed);
    let shards = Shards(feeds.iter().fold(0, |bits, feed| bits | Shards::of(feed).0));
    let (told, mut tail) = mpsc::channel(1024);
    // More is watched while the tail runs.
    let watched = watch::Sender::new(Shards::of(&feeds[0]));
    let tailing = tokio::spawn({
        let (log, watched) = (log.clone(), watched.subscribe());
        async move { log.tail(watched, told).await }
    });
    watched.send_replace(shards);
    // It follows once it tells of what is appended; what was appended before may have gone by.
    let mut probes = 0;
    for feed in &feeds {
        loop {
            probes += 1;
            append(&*log, feed, &format!("probe{probes}"), PUT, "01").await;
            if next_of(&mut tail, feed, Duration::from_millis(50)).await.is_some() {
                break;
            }
        }
    }
    let mut ends = Vec::new();
    for feed in &feeds {
        ends.push(log.end(feed).await.unwrap());
    }
    for round in 0..200 {
        for feed in &feeds {
            append(&*log, feed, &format!("{round}"), PUT, "01").await;
        }
    }
    let mut left = feeds.len() * 200;
    while left > 0 {
        let item = tokio::time::timeout(Duration::from_secs(10), tail.recv()).await.expect("told in time");
        let Some(Tail::Appended(entry)) = item else { continue };
        let place = feeds.iter().position(|feed| feed == entry.feed()).unwrap();
        if entry.cursor.offset <= ends[place].offset {
            continue;
        }
        assert!(entry.follows(ends[place]), "{entry:?} after {:?}", ends[place]);
        ends[place] = entry.cursor;
        left -= 1;
    }
    drop(tail);
    append(&*log, &feeds[0], "last", PUT, "01").await;
    tailing.await.unwrap().unwrap();
}

async fn next_of(tail: &mut mpsc::Receiver<Tail>, feed: &FeedId, patience: Duration) -> Option<()> {
    let heard = async {
        loop {
            match tail.recv().await {
                Some(Tail::Appended(entry)) if entry.feed() == feed => return,
                Some(_) => {}
                None => panic!("the tail ended"),
            }
        }
    };
    tokio::time::timeout(patience, heard).await.ok()
}

async fn strange_names_are_kept_as_they_are(ground: Ground) {
    let log = ground.log(RETENTION);
    for name in ["a b", "Größe", "🏖", "}{", "{x}", "a:b", "*a", "%2F", "a\"b\\c"] {
        let feed = feed(name);
        let start = log.end(&feed).await.unwrap();
        append(&*log, &feed, name, PUT, "01").await;
        let entries = entries_after(&*log, &feed, start).await;
        assert_eq!(entries[0].event, event(&feed, name, PUT, "01", second(10)));
    }
}

async fn appends_at_the_same_time_are_each_told_once(ground: Ground) {
    let feed = feed("summer");
    // On Redis, two processes that were given the same messages (trap 9).
    let first = ground.log(RETENTION);
    let second_log = match &ground {
        Ground::Memory(_) => first.clone(),
        Ground::Redis(_) | Ground::Cluster(_) => ground.log(RETENTION),
    };
    let start = first.end(&feed).await.unwrap();
    let mut offering = tokio::task::JoinSet::new();
    for log in [first.clone(), second_log] {
        for n in 0..100 {
            let (log, feed) = (log.clone(), feed.clone());
            offering.spawn(async move { append(&*log, &feed, &format!("{n}"), PUT, "01").await });
        }
    }
    let outcomes = offering.join_all().await;
    let news = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Appended(_))).count();
    assert_eq!((news, outcomes.len()), (100, 200));
    let entries = entries_after(&*first, &feed, start).await;
    let offsets: Vec<_> = entries.iter().map(|entry| entry.cursor.offset).collect();
    assert_eq!(offsets, (1..=100).collect::<Vec<u64>>());
}

async fn the_latest_entry_of_a_key_is_found_however_far_back(ground: Ground) {
    let (log, feed) = (ground.log(RETENTION), feed("summer"));
    let key = |name| event(&feed, name, PUT, "01", second(10)).key;
    assert_eq!(log.last_of(&key("a"), None).await.unwrap(), None);
    let start = log.end(&feed).await.unwrap();
    let upload = appended(append(&*log, &feed, "a", PUT, "01").await);
    let latest = appended(append(&*log, &feed, "a", REMOVE, "02").await);
    for number in 0..250 {
        append(&*log, &feed, &format!("{number}"), PUT, "01").await;
    }
    for (name, place) in [("a", latest.offset), ("0", 3), ("249", 252)] {
        let found = log.last_of(&key(name), None).await.unwrap().unwrap();
        assert_eq!((found.cursor.offset, found.event.key.name()), (place, name));
    }
    for (kind, place) in [(Kind::Uploaded, Some(upload)), (Kind::Removed, Some(latest))] {
        let found = log.last_of(&key("a"), Some(kind)).await.unwrap();
        assert_eq!(found.map(|entry| entry.cursor), place, "{kind:?}");
    }
    assert_eq!(log.last_of(&key("0"), Some(Kind::Removed)).await.unwrap(), None);
    assert_eq!(log.last_of(&key("none"), None).await.unwrap(), None);
    assert_eq!(log.end(&feed).await.unwrap().epoch, start.epoch);
    let invented = event(&self::feed("invented"), "a", PUT, "01", second(10)).key;
    assert_eq!(log.last_of(&invented, None).await.unwrap(), None);
}

/// A feed with one entry whose life is all but over.
async fn old_feed(ground: &Ground, log: &dyn FeedLog) -> (FeedId, Cursor) {
    let feed = feed("summer");
    let then = Timestamp::now() - SignedDuration::try_from(NEARLY_IDLE).unwrap();
    let event = event(&feed, "a", PUT, "01", then);
    let end = appended(log.append(event, Proof::Bucket, then).await.unwrap());
    if !matches!(ground, Ground::Memory(_)) {
        ground.pass(&feed, NEARLY_IDLE).await;
    }
    (feed, end)
}

const MINUTE: Duration = Duration::from_mins(1);
/// A minute less than the feeds' life.
const NEARLY_IDLE: Duration = Duration::from_mins(24 * 60 - 1);

async fn a_feed_is_forgotten_when_it_was_idle_for_long(ground: Ground) {
    let log = ground.log(RETENTION);
    let (feed, end) = old_feed(&ground, &*log).await;
    ground.pass(&feed, 2 * MINUTE).await;
    assert_ne!(log.end(&feed).await.unwrap().epoch, end.epoch);
}

async fn reading_a_feed_keeps_it(ground: Ground) {
    let log = ground.log(RETENTION);
    let (feed, end) = old_feed(&ground, &*log).await;
    assert_eq!(entries_after(&*log, &feed, end).await, []);
    ground.pass(&feed, NEARLY_IDLE).await;
    assert_eq!(log.end(&feed).await.unwrap(), end);
    ground.pass(&feed, NEARLY_IDLE).await;
    assert_eq!(log.read_after(&feed, end, 10).await.unwrap(), Read::Entries(Vec::new()));
}

async fn a_watched_feed_is_kept_however_quiet_it_is(ground: Ground) {
    let log = ground.log(RETENTION);
    let (feed, end) = old_feed(&ground, &*log).await;
    log.renew(vec![feed.clone(), self::feed("another")]).await.unwrap();
    ground.pass(&feed, NEARLY_IDLE).await;
    let known = event(&feed, "a", PUT, "01", second(10));
    let again = log.append(known, Proof::Event, Timestamp::now()).await.unwrap();
    assert_eq!(again, Outcome::Duplicate, "what was seen of its keys is kept, too");
    assert_eq!(log.end(&feed).await.unwrap(), end);
}

async fn a_feed_that_was_never_used_is_forgotten_soon_unless_it_is_watched(ground: Ground) {
    let (log, feed) = (ground.log(RETENTION), feed("invented"));
    let end = log.end(&feed).await.unwrap();
    ground.pass(&feed, 8 * MINUTE).await;
    log.renew(vec![feed.clone()]).await.unwrap();
    ground.pass(&feed, 8 * MINUTE).await;
    assert_eq!(log.end(&feed).await.unwrap(), end);
    ground.pass(&feed, 11 * MINUTE).await;
    let anew = log.end(&feed).await.unwrap();
    assert_ne!(anew.epoch, end.epoch);

    append(&*log, &feed, "a", PUT, "01").await;
    log.renew(vec![feed.clone()]).await.unwrap();
    ground.pass(&feed, 11 * MINUTE).await;
    assert_eq!(entries_after(&*log, &feed, anew).await.len(), 1);
}
