//! The contract of [`FeedLog`]: one suite, run on the log in memory, in Redis and in a Redis Cluster.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use photoshare_server::{
    feed::{Cursor, Epoch, EventKind, FeedId, Tag},
    log::{AppendOutcome, FeedLog, MemoryLog, Proof, ReadResult, Retention, Shards},
};
use support::{
    RETENTION, append, append_new,
    event::{removal, upload},
    expect_appended, feed, read_entries,
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
    tail_subscriber::TailSubscriber,
};

/// The storage of the log under test.
enum Backend {
    Memory(OnceLock<Arc<MemoryLog>>),
    Redis(RedisServer),
    Cluster(Arc<RedisCluster>),
}

impl Backend {
    fn open_log(&self, retention: Retention) -> Arc<dyn FeedLog> {
        match self {
            Self::Memory(log) => log.get_or_init(|| Arc::new(MemoryLog::new(retention))).clone(),
            Self::Redis(server) => server.open_log(retention),
            Self::Cluster(cluster) => cluster.open_log(retention),
        }
    }

    /// Expires `feed` as if it had not been used for `time`.
    async fn advance_time(&self, feed: &FeedId, time: Duration) {
        match self {
            Self::Memory(log) => {
                let later = Timestamp::now() + SignedDuration::try_from(time).unwrap();
                log.get().expect("a log").remove_idle_feeds(later);
            }
            Self::Redis(server) => server.shorten_ttl(feed, time).await,
            Self::Cluster(cluster) => cluster.shorten_ttl(feed, time).await,
        }
    }
}

/// Makes each function a test on every backend. On the cluster they are one test: starting it takes seconds.
macro_rules! test_on_all_backends {
    ($($case:ident)*) => {
        mod in_memory {
            $(#[tokio::test] async fn $case() { super::$case(super::Backend::Memory(Default::default())).await })*
        }
        mod in_redis {
            use super::{Backend, RedisServer};
            $(#[tokio::test] async fn $case() { super::$case(Backend::Redis(RedisServer::start().await)).await })*
        }
        #[tokio::test]
        async fn in_a_redis_cluster() {
            let cluster = Arc::new(RedisCluster::start().await);
            $(
                println!("{}", stringify!($case));
                cluster.flush_all().await;
                $case(Backend::Cluster(cluster.clone())).await;
            )*
        }
    };
}

test_on_all_backends! {
    offsets_have_no_gaps_and_each_entry_holds_the_tag_of_the_one_before
    a_duplicate_is_appended_once
    a_late_older_event_is_stale
    a_removal_keeps_a_late_upload_from_coming_back
    sequencers_of_different_keys_are_not_compared
    events_without_sequencers_are_compared_by_time
    an_event_older_than_the_records_needs_the_confirmation_of_the_bucket
    records_are_trimmed_by_count
    records_are_trimmed_by_time
    a_position_is_proved_or_lost
    a_position_before_trimmed_entries_is_lost
    a_read_returns_no_more_entries_than_requested
    reading_the_end_creates_a_feed_whose_position_can_be_recovered_from
    a_tail_delivers_every_append_in_order
    unusual_names_are_kept_unchanged
    concurrent_appends_of_the_same_events_append_each_once
    the_latest_entry_of_a_key_is_found_however_old_it_is
    an_idle_feed_expires
    reading_a_feed_renews_its_ttl
    a_feed_whose_ttl_is_renewed_does_not_expire
    a_feed_without_entries_expires_soon_unless_its_ttl_is_renewed
}

async fn offsets_have_no_gaps_and_each_entry_holds_the_tag_of_the_one_before(backend: Backend) {
    let (log, feed) = (backend.open_log(RETENTION), feed("summer"));
    let start = log.read_end(&feed).await.unwrap();
    assert_eq!((start.offset, start.tag), (0, Tag::default()));
    for (offset, name) in (1_u64..).zip(["a", "b", "c"]) {
        let cursor = append_new(&*log, upload(&feed, name)).await;
        assert_eq!((cursor.offset, cursor.epoch), (offset, start.epoch));
        assert_eq!(log.read_end(&feed).await.unwrap(), cursor);
    }
    let entries = read_entries(&*log, &feed, start).await;
    let mut position = start;
    for entry in &entries {
        assert!(entry.follows(position), "{entry:?} after {position:?}");
        position = entry.cursor;
    }
    assert_eq!(entries[1].event, upload(&feed, "b").build());
    assert_ne!(entries[0].cursor.tag, entries[1].cursor.tag);
}

async fn a_duplicate_is_appended_once(backend: Backend) {
    let (log, feed) = (backend.open_log(RETENTION), feed("summer"));
    let cursor = append_new(&*log, upload(&feed, "a").sequencer("0055AED6DCD90281E5")).await;
    for same in ["0055AED6DCD90281E5", "55aed6dcd90281e5"] {
        let outcome = append(&*log, upload(&feed, "a").sequencer(same)).await;
        assert_eq!(outcome, AppendOutcome::Duplicate, "{same}");
    }
    assert_eq!(log.read_end(&feed).await.unwrap(), cursor);
}

async fn a_late_older_event_is_stale(backend: Backend) {
    let (log, feed) = (backend.open_log(RETENTION), feed("summer"));
    append_new(&*log, upload(&feed, "a").sequencer("0055AED6DCD90281E6")).await;
    for older in ["0055AED6DCD90281E5", "55AED6DCD90281", "0054FFFFFFFFFFFFFF"] {
        let outcome = append(&*log, upload(&feed, "a").sequencer(older)).await;
        assert_eq!(outcome, AppendOutcome::Stale, "{older}");
    }
    append_new(&*log, upload(&feed, "a").sequencer("0055AED6DCD90281E601")).await;
}

async fn a_removal_keeps_a_late_upload_from_coming_back(backend: Backend) {
    let (log, feed) = (backend.open_log(RETENTION), feed("summer"));
    let removed = append_new(&*log, removal(&feed, "a").sequencer("05")).await;
    assert_eq!(append(&*log, upload(&feed, "a").sequencer("04")).await, AppendOutcome::Stale);
    assert_eq!(log.read_end(&feed).await.unwrap(), removed);
    append_new(&*log, upload(&feed, "a").sequencer("06")).await;
}

async fn sequencers_of_different_keys_are_not_compared(backend: Backend) {
    let (log, one, two) = (backend.open_log(RETENTION), feed("one"), feed("two"));
    append_new(&*log, upload(&one, "a").sequencer("09")).await;
    append_new(&*log, upload(&one, "b").sequencer("01")).await;
    append_new(&*log, upload(&two, "a").sequencer("01")).await;
}

async fn events_without_sequencers_are_compared_by_time(backend: Backend) {
    let (log, feed) = (backend.open_log(RETENTION), feed("summer"));
    let unordered = || upload(&feed, "a").without_sequencer();
    append_new(&*log, unordered().at(5)).await;
    assert_eq!(append(&*log, unordered().at(5)).await, AppendOutcome::Duplicate);
    assert_eq!(append(&*log, unordered().at(4)).await, AppendOutcome::Stale);
    // A single sequencer cannot be compared either.
    assert_eq!(append(&*log, upload(&feed, "a").at(4)).await, AppendOutcome::Stale);
    append_new(&*log, unordered().at(6)).await;
    // An event with neither cannot be recognized as a duplicate.
    append_new(&*log, unordered().without_time()).await;
    append_new(&*log, unordered().without_time()).await;
}

async fn an_event_older_than_the_records_needs_the_confirmation_of_the_bucket(backend: Backend) {
    let (log, feed) = (backend.open_log(RETENTION), feed("summer"));
    // The feed is created, with its records, by the first append: at second 100.
    let old = upload(&feed, "a").at(99).appended_at(100);
    assert_eq!(append(&*log, old.clone().unconfirmed()).await, AppendOutcome::Unproven);
    append_new(&*log, old.clone()).await;
    assert_eq!(append(&*log, old.unconfirmed()).await, AppendOutcome::Duplicate);
    append_new(&*log, upload(&feed, "b").at(100).appended_at(100).unconfirmed()).await;
    let without_time = upload(&feed, "c").without_time().appended_at(100).unconfirmed();
    assert_eq!(append(&*log, without_time).await, AppendOutcome::Unproven);
}

async fn records_are_trimmed_by_count(backend: Backend) {
    let (log, feed) = (backend.open_log(Retention { max_seen_keys: 2, ..RETENTION }), feed("summer"));
    for (second, name) in (100..).zip(["a", "b", "c"]) {
        append_new(&*log, upload(&feed, name).sequencer("05").at(second).appended_at(second)).await;
    }
    let late = |name, second| upload(&feed, name).sequencer("04").at(second).appended_at(103).unconfirmed();
    assert_eq!(append(&*log, late("b", 101)).await, AppendOutcome::Stale);
    // The record of `a` was removed: only the time shows that the event may have been appended before.
    assert_eq!(append(&*log, late("a", 99)).await, AppendOutcome::Unproven);
    assert_eq!(append(&*log, late("d", 99)).await, AppendOutcome::Unproven);
    append_new(&*log, late("d", 100)).await;
}

async fn records_are_trimmed_by_time(backend: Backend) {
    let retention = Retention { seen_ttl: Duration::from_mins(1), ..RETENTION };
    let (log, feed) = (backend.open_log(retention), feed("summer"));
    let event = |name, sequencer, time, now| {
        upload(&feed, name).sequencer(sequencer).at(time).appended_at(now).unconfirmed()
    };
    append_new(&*log, event("a", "05", 100, 100)).await;
    append_new(&*log, event("b", "05", 160, 160)).await;
    let outcome = append(&*log, event("a", "04", 160, 160)).await;
    assert_eq!(outcome, AppendOutcome::Stale, "the record is exactly as old as its TTL");
    append_new(&*log, event("c", "05", 161, 161)).await;
    append_new(&*log, event("a", "04", 160, 161)).await;
    assert_eq!(append(&*log, event("d", "05", 99, 161)).await, AppendOutcome::Unproven);
}

async fn a_position_is_proved_or_lost(backend: Backend) {
    let (log, feed) = (backend.open_log(RETENTION), feed("summer"));
    let start = log.read_end(&feed).await.unwrap();
    let first = append_new(&*log, upload(&feed, "a")).await;
    let end = append_new(&*log, upload(&feed, "b")).await;
    for (position, missed) in [(start, 2), (first, 1), (end, 0)] {
        assert_eq!(read_entries(&*log, &feed, position).await.len(), missed);
    }
    let invalid = [
        Cursor { epoch: Epoch(start.epoch.0 ^ 1), ..first },
        Cursor { tag: Tag(first.tag.0 ^ 1), ..first },
        Cursor { tag: Tag(end.tag.0 ^ 1), ..end },
        Cursor { tag: Tag(1), ..start },
        Cursor { offset: 3, ..end },
        Cursor { offset: u64::MAX, ..end },
        Cursor { offset: 1 << 53, ..end },
        log.read_end(&self::feed("another")).await.unwrap(),
    ];
    for cursor in invalid {
        let result = log.read_after(&feed, cursor, 10).await.unwrap();
        assert_eq!(result, ReadResult::Lost(end), "{cursor:?}");
    }
}

async fn a_position_before_trimmed_entries_is_lost(backend: Backend) {
    let (log, feed) = (backend.open_log(Retention { max_entries: 3, ..RETENTION }), feed("summer"));
    let mut cursors = vec![log.read_end(&feed).await.unwrap()];
    for name in ["a", "b", "c", "d", "e"] {
        cursors.push(append_new(&*log, upload(&feed, name)).await);
    }
    for (offset, cursor) in cursors.iter().enumerate() {
        match log.read_after(&feed, *cursor, 10).await.unwrap() {
            ReadResult::Lost(end) => assert!(offset < 2 && end == cursors[5], "{offset}"),
            ReadResult::Entries(entries) => assert!(offset >= 2 && entries.len() == 5 - offset, "{offset}"),
        }
    }
}

async fn a_read_returns_no_more_entries_than_requested(backend: Backend) {
    let (log, feed) = (backend.open_log(RETENTION), feed("summer"));
    let start = log.read_end(&feed).await.unwrap();
    for name in ["a", "b", "c"] {
        append_new(&*log, upload(&feed, name)).await;
    }
    let result = log.read_after(&feed, start, 2).await.unwrap();
    let ReadResult::Entries(entries) = result else { panic!("{result:?}") };
    assert_eq!(entries.iter().map(|entry| entry.cursor.offset).collect::<Vec<_>>(), [1, 2]);
}

async fn reading_the_end_creates_a_feed_whose_position_can_be_recovered_from(backend: Backend) {
    let (log, feed) = (backend.open_log(RETENTION), feed("summer"));
    let start = log.read_end(&feed).await.unwrap();
    assert_eq!(log.read_end(&feed).await.unwrap(), start);
    assert_eq!(read_entries(&*log, &feed, start).await, []);
    append_new(&*log, upload(&feed, "a")).await;
    assert_eq!(read_entries(&*log, &feed, start).await.len(), 1);
}

async fn a_tail_delivers_every_append_in_order(backend: Backend) {
    let log = backend.open_log(RETENTION);
    let feeds = ["one", "two", "three"].map(feed);
    let shards = Shards(feeds.iter().fold(0, |bits, feed| bits | Shards::of(feed).0));
    let mut tail = TailSubscriber::start(log.clone(), Shards::of(&feeds[0]));
    // Shards are added while the tail runs.
    tail.watch(shards);
    for feed in &feeds {
        tail.append_until_received(&*log, feed).await;
    }
    let mut ends = Vec::new();
    for feed in &feeds {
        ends.push(log.read_end(feed).await.unwrap());
    }
    for round in 0..200 {
        for feed in &feeds {
            append_new(&*log, upload(feed, &format!("{round}"))).await;
        }
    }
    let mut remaining = feeds.len() * 200;
    while remaining > 0 {
        let entry = tail.next_entry().await;
        let index = feeds.iter().position(|feed| feed == entry.feed()).unwrap();
        if entry.cursor.offset <= ends[index].offset {
            continue;
        }
        assert!(entry.follows(ends[index]), "{entry:?} after {:?}", ends[index]);
        ends[index] = entry.cursor;
        remaining -= 1;
    }
    let task = tail.close();
    append_new(&*log, upload(&feeds[0], "last")).await;
    task.await.unwrap().unwrap();
}

async fn unusual_names_are_kept_unchanged(backend: Backend) {
    let log = backend.open_log(RETENTION);
    for name in ["a b", "Größe", "🏖", "}{", "{x}", "a:b", "*a", "%2F", "a\"b\\c"] {
        let feed = feed(name);
        let start = log.read_end(&feed).await.unwrap();
        append_new(&*log, upload(&feed, name)).await;
        let entries = read_entries(&*log, &feed, start).await;
        assert_eq!(entries[0].event, upload(&feed, name).build());
    }
}

async fn concurrent_appends_of_the_same_events_append_each_once(backend: Backend) {
    let feed = feed("summer");
    // On Redis: two processes that received the same messages, since SQS may deliver a message twice.
    let first = backend.open_log(RETENTION);
    let second = match &backend {
        Backend::Memory(_) => first.clone(),
        Backend::Redis(_) | Backend::Cluster(_) => backend.open_log(RETENTION),
    };
    let start = first.read_end(&feed).await.unwrap();
    let mut appends = tokio::task::JoinSet::new();
    for log in [first.clone(), second] {
        for number in 0..100 {
            let (log, event) = (log.clone(), upload(&feed, &format!("{number}")));
            appends.spawn(async move { append(&*log, event).await });
        }
    }
    let outcomes = appends.join_all().await;
    let appended = outcomes.iter().filter(|outcome| matches!(outcome, AppendOutcome::Appended(_))).count();
    assert_eq!((appended, outcomes.len()), (100, 200));
    let entries = read_entries(&*first, &feed, start).await;
    let offsets: Vec<_> = entries.iter().map(|entry| entry.cursor.offset).collect();
    assert_eq!(offsets, (1..=100).collect::<Vec<u64>>());
}

async fn the_latest_entry_of_a_key_is_found_however_old_it_is(backend: Backend) {
    let (log, feed) = (backend.open_log(RETENTION), feed("summer"));
    let key = |name| upload(&feed, name).key();
    assert_eq!(log.find_latest(&key("a"), None).await.unwrap(), None);
    let start = log.read_end(&feed).await.unwrap();
    let uploaded = append_new(&*log, upload(&feed, "a").sequencer("01")).await;
    let removed = append_new(&*log, removal(&feed, "a").sequencer("02")).await;
    for number in 0..250 {
        append_new(&*log, upload(&feed, &format!("{number}"))).await;
    }
    for (name, offset) in [("a", removed.offset), ("0", 3), ("249", 252)] {
        let found = log.find_latest(&key(name), None).await.unwrap().unwrap();
        assert_eq!((found.cursor.offset, found.event.key.name()), (offset, name));
    }
    for (kind, cursor) in [(EventKind::Uploaded, Some(uploaded)), (EventKind::Removed, Some(removed))] {
        let found = log.find_latest(&key("a"), Some(kind)).await.unwrap();
        assert_eq!(found.map(|entry| entry.cursor), cursor, "{kind:?}");
    }
    assert_eq!(log.find_latest(&key("0"), Some(EventKind::Removed)).await.unwrap(), None);
    assert_eq!(log.find_latest(&key("none"), None).await.unwrap(), None);
    assert_eq!(log.read_end(&feed).await.unwrap().epoch, start.epoch);
    let in_unknown_feed = upload(&self::feed("unknown"), "a").key();
    assert_eq!(log.find_latest(&in_unknown_feed, None).await.unwrap(), None);
}

const MINUTE: Duration = Duration::from_mins(1);
/// A minute less than the TTL of feeds.
const ALMOST_TTL: Duration = Duration::from_mins(24 * 60 - 1);

/// A feed with one entry that expires within a minute.
async fn feed_about_to_expire(backend: &Backend, log: &dyn FeedLog) -> (FeedId, Cursor) {
    let feed = feed("summer");
    let then = Timestamp::now() - SignedDuration::try_from(ALMOST_TTL).unwrap();
    let event = upload(&feed, "a").at(then.as_second()).build();
    let end = expect_appended(log.append(event, Proof::Bucket, then).await.unwrap());
    if !matches!(backend, Backend::Memory(_)) {
        backend.advance_time(&feed, ALMOST_TTL).await;
    }
    (feed, end)
}

async fn an_idle_feed_expires(backend: Backend) {
    let log = backend.open_log(RETENTION);
    let (feed, end) = feed_about_to_expire(&backend, &*log).await;
    backend.advance_time(&feed, 2 * MINUTE).await;
    assert_ne!(log.read_end(&feed).await.unwrap().epoch, end.epoch);
}

async fn reading_a_feed_renews_its_ttl(backend: Backend) {
    let log = backend.open_log(RETENTION);
    let (feed, end) = feed_about_to_expire(&backend, &*log).await;
    assert_eq!(read_entries(&*log, &feed, end).await, []);
    backend.advance_time(&feed, ALMOST_TTL).await;
    assert_eq!(log.read_end(&feed).await.unwrap(), end);
    backend.advance_time(&feed, ALMOST_TTL).await;
    assert_eq!(log.read_after(&feed, end, 10).await.unwrap(), ReadResult::Entries(Vec::new()));
}

async fn a_feed_whose_ttl_is_renewed_does_not_expire(backend: Backend) {
    let log = backend.open_log(RETENTION);
    let (feed, end) = feed_about_to_expire(&backend, &*log).await;
    log.renew_ttl(vec![feed.clone(), self::feed("another")]).await.unwrap();
    backend.advance_time(&feed, ALMOST_TTL).await;
    let known = upload(&feed, "a").build();
    let outcome = log.append(known, Proof::Event, Timestamp::now()).await.unwrap();
    assert_eq!(outcome, AppendOutcome::Duplicate, "the records of its keys are renewed, too");
    assert_eq!(log.read_end(&feed).await.unwrap(), end);
}

async fn a_feed_without_entries_expires_soon_unless_its_ttl_is_renewed(backend: Backend) {
    let (log, feed) = (backend.open_log(RETENTION), feed("unused"));
    let end = log.read_end(&feed).await.unwrap();
    backend.advance_time(&feed, 8 * MINUTE).await;
    log.renew_ttl(vec![feed.clone()]).await.unwrap();
    backend.advance_time(&feed, 8 * MINUTE).await;
    assert_eq!(log.read_end(&feed).await.unwrap(), end);
    backend.advance_time(&feed, 11 * MINUTE).await;
    let recreated = log.read_end(&feed).await.unwrap();
    assert_ne!(recreated.epoch, end.epoch);

    append_new(&*log, upload(&feed, "a")).await;
    log.renew_ttl(vec![feed.clone()]).await.unwrap();
    backend.advance_time(&feed, 11 * MINUTE).await;
    assert_eq!(read_entries(&*log, &feed, recreated).await.len(), 1);
}
