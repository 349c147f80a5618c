//! Random histories of a bucket, whose events reach the log late, twice and out of order, compared with a
//! simple model of the log.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::Timestamp;
use photoshare_server::{
    feed::{Cursor, EventKind, FeedEvent, FeedId},
    log::{AppendOutcome, FeedLog, MemoryLog, Proof, ReadResult, Retention},
};
use proptest::prelude::*;
use support::{RETENTION, append, event::upload, feed, redis_server::RedisServer, second};

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    /// A photo is uploaded or removed, and the queue gets a message.
    Change { key: usize, kind: EventKind },
    /// The consumer handles one of the messages. With `crash` it fails before it deletes the message.
    HandleMessage { index: usize, crash: bool },
    /// A reader reads from one of the positions that the log returned before.
    Read { position: usize, limit: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..5_usize, prop_oneof![3 => Just(EventKind::Uploaded), 1 => Just(EventKind::Removed)])
            .prop_map(|(key, kind)| Step::Change { key, kind }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(index, crash)| Step::HandleMessage { index, crash }),
        1 => (any::<usize>(), 1..50_usize).prop_map(|(position, limit)| Step::Read { position, limit }),
    ]
}

/// The expected state of a feed.
struct Model {
    retention: Retention,
    /// All entries, including those trimmed.
    entries: Vec<FeedEvent>,
    /// The latest event of each key with the time at which it was recorded, oldest first.
    seen: Vec<(Timestamp, FeedEvent)>,
    seen_since: Timestamp,
}

/// An [`AppendOutcome`] without the position.
#[derive(Debug, PartialEq)]
enum Expected {
    Appended,
    Duplicate,
    Stale,
    Unproven,
}

impl Model {
    fn append(&mut self, event: &FeedEvent, proof: Proof, now: Timestamp) -> Expected {
        match self.seen.iter().find(|(_, seen)| seen.key == event.key) {
            Some((_, seen)) if event.sequencer == seen.sequencer => return Expected::Duplicate,
            Some((_, seen)) if event.sequencer < seen.sequencer => return Expected::Stale,
            None if proof == Proof::Event && event.event_time.unwrap() < self.seen_since => {
                return Expected::Unproven;
            }
            _ => {}
        }
        self.seen.retain(|(_, seen)| seen.key != event.key);
        self.seen.push((now, event.clone()));
        if self.seen.len() > self.retention.max_seen_keys {
            self.seen_since = self.seen_since.max(self.seen.remove(0).0);
        }
        self.entries.push(event.clone());
        Expected::Appended
    }

    /// The offset before the oldest entry that is not trimmed.
    fn trimmed_offset(&self) -> usize {
        self.entries.len().saturating_sub(self.retention.max_entries)
    }
}

fn without_position(outcome: AppendOutcome) -> Expected {
    match outcome {
        AppendOutcome::Appended(_) => Expected::Appended,
        AppendOutcome::Duplicate => Expected::Duplicate,
        AppendOutcome::Stale => Expected::Stale,
        AppendOutcome::Unproven => Expected::Unproven,
    }
}

/// A history on one feed of `log`.
struct History {
    log: Arc<dyn FeedLog>,
    feed: FeedId,
    model: Model,
    queue: Vec<FeedEvent>,
    /// The latest change of each name.
    bucket: BTreeMap<String, EventKind>,
    /// The position at each offset.
    positions: Vec<Cursor>,
    clock: i64,
}

impl History {
    async fn begin(log: Arc<dyn FeedLog>, feed: FeedId, retention: Retention) -> Self {
        // A rejected append creates the feed at a known time.
        append(&*log, upload(&feed, "first").at(0).appended_at(1).unconfirmed()).await;
        let positions = vec![log.read_end(&feed).await.unwrap()];
        let model = Model { retention, entries: Vec::new(), seen: Vec::new(), seen_since: second(1) };
        Self { log, feed, model, queue: Vec::new(), bucket: BTreeMap::new(), positions, clock: 1 }
    }

    async fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.clock += 1;
            match *step {
                Step::Change { key, kind } => self.change(key, kind),
                Step::HandleMessage { index, crash } if !self.queue.is_empty() => {
                    let event = self.queue.swap_remove(index % self.queue.len());
                    if crash {
                        self.queue.push(event.clone());
                    }
                    self.handle(event).await;
                }
                Step::HandleMessage { .. } => {}
                Step::Read { position, limit } => self.read(position % self.positions.len(), limit).await,
            }
        }
        while let Some(event) = self.queue.pop() {
            self.clock += 1;
            self.handle(event).await;
        }
    }

    fn change(&mut self, key: usize, kind: EventKind) {
        let name = format!("{key}.jpg");
        // As with S3, the time is in the first digits; lengths and case differ.
        let sequencer = if key.is_multiple_of(2) {
            format!("00{:08X}", self.clock)
        } else {
            format!("{:08x}ab", self.clock)
        };
        self.queue.push(upload(&self.feed, &name).kind(kind).sequencer(&sequencer).at(self.clock).build());
        self.bucket.insert(name, kind);
    }

    /// As the poller does: an unproven event is confirmed by the bucket or dropped.
    async fn handle(&mut self, event: FeedEvent) {
        let outcome = self.append(&event, Proof::Event).await;
        if outcome == Expected::Unproven && self.bucket.get(event.key.name()) == Some(&event.kind) {
            self.append(&event, Proof::Bucket).await;
        }
    }

    async fn append(&mut self, event: &FeedEvent, proof: Proof) -> Expected {
        let now = second(self.clock);
        let outcome = self.log.append(event.clone(), proof, now).await.unwrap();
        let expected = self.model.append(event, proof, now);
        assert_eq!(without_position(outcome), expected, "{event:?}");
        if let AppendOutcome::Appended(cursor) = outcome {
            self.positions.push(cursor);
            assert_eq!(cursor.offset, self.model.entries.len() as u64);
        }
        expected
    }

    async fn read(&self, offset: usize, limit: usize) {
        match self.log.read_after(&self.feed, self.positions[offset], limit).await.unwrap() {
            ReadResult::Lost(end) => {
                assert!(offset < self.model.trimmed_offset(), "lost at {offset}, which is not trimmed");
                assert_eq!(Some(&end), self.positions.last());
            }
            ReadResult::Entries(entries) => {
                assert!(offset >= self.model.trimmed_offset(), "not lost at {offset}, which is trimmed");
                let events = entries.iter().map(|entry| &entry.event);
                assert!(events.eq(self.model.entries[offset..].iter().take(limit)), "after {offset}");
            }
        }
    }

    /// A reader of all entries can reconstruct the contents of the bucket.
    fn assert_entries_match_bucket(&self) {
        let mut latest = BTreeMap::new();
        for event in &self.model.entries {
            latest.insert(event.key.name().to_owned(), event.kind);
        }
        assert_eq!(latest, self.bucket);
    }
}

/// Runs random histories on the logs that `open_log` returns, with a small retention and a sufficient one.
fn run_histories(
    cases: u32,
    runtime: &tokio::runtime::Runtime,
    open_log: impl Fn(Retention) -> Arc<dyn FeedLog>,
) {
    let small = Retention { max_entries: 7, max_seen_keys: 3, ..RETENTION };
    let feed_number = AtomicUsize::new(0);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    for retention in [small, RETENTION] {
        let log = open_log(retention);
        let result = runner.run(&prop::collection::vec(any_step(), 1..120), |steps| {
            let feed = feed(&format!("f{}", feed_number.fetch_add(1, Ordering::Relaxed)));
            runtime.block_on(async {
                let mut history = History::begin(log.clone(), feed, retention).await;
                history.run(&steps).await;
                for offset in 0..history.positions.len() {
                    history.read(offset, 1000).await;
                }
                if retention.max_seen_keys == RETENTION.max_seen_keys {
                    history.assert_entries_match_bucket();
                }
            });
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

fn build_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn random_histories_in_memory() {
    run_histories(128, &build_runtime(), |retention| Arc::new(MemoryLog::new(retention)));
}

#[test]
fn random_histories_in_redis() {
    let runtime = build_runtime();
    let server = runtime.block_on(RedisServer::start());
    run_histories(64, &runtime, |retention| server.open_log(retention));
}
