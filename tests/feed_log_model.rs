//! Random histories of a bucket, told to each log late, twice and out of order, against a simple model.

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
    feed::{Cursor, FeedEvent, FeedId, Kind},
    log::{FeedLog, MemoryLog, Outcome, Proof, Read, Retention},
};
use proptest::prelude::*;
use support::{RETENTION, event, feed, redis_server::RedisServer, second};

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    /// Somebody uploads or removes a photo: the bucket's queue gets a message.
    Happen { key: usize, kind: Kind },
    /// One of the waiting messages is handled; `crash` keeps it in the queue, as a poller does that dies
    /// before it deletes.
    Handle { which: usize, crash: bool },
    /// A reader reads from one of the positions that were ever handed out.
    Read { from: usize, limit: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..5_usize, prop_oneof![3 => Just(Kind::Uploaded), 1 => Just(Kind::Removed)])
            .prop_map(|(key, kind)| Step::Happen { key, kind }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, crash)| Step::Handle { which, crash }),
        1 => (any::<usize>(), 1..50_usize).prop_map(|(from, limit)| Step::Read { from, limit }),
    ]
}

/// What a log is to do, said as plainly as possible.
struct Model {
    retention: Retention,
    /// Every event ever appended.
    told: Vec<FeedEvent>,
    /// What is remembered, oldest first.
    seen: Vec<(Timestamp, FeedEvent)>,
    remembers_since: Timestamp,
}

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
            None if proof == Proof::Event && event.event_time.unwrap() < self.remembers_since => {
                return Expected::Unproven;
            }
            _ => {}
        }
        self.seen.retain(|(_, seen)| seen.key != event.key);
        self.seen.push((now, event.clone()));
        if self.seen.len() > self.retention.seen {
            self.remembers_since = self.remembers_since.max(self.seen.remove(0).0);
        }
        self.told.push(event.clone());
        Expected::Appended
    }

    fn kept_from(&self) -> usize {
        self.told.len().saturating_sub(self.retention.entries)
    }
}

fn same(outcome: Outcome) -> Expected {
    match outcome {
        Outcome::Appended(_) => Expected::Appended,
        Outcome::Duplicate => Expected::Duplicate,
        Outcome::Stale => Expected::Stale,
        Outcome::Unproven => Expected::Unproven,
    }
}

/// One history, on one feed of `log`.
struct History {
    log: Arc<dyn FeedLog>,
    feed: FeedId,
    model: Model,
    queue: Vec<FeedEvent>,
    /// What the bucket holds, in the end.
    bucket: BTreeMap<String, Kind>,
    positions: Vec<Cursor>,
    clock: i64,
}

impl History {
    async fn begin(log: Arc<dyn FeedLog>, feed: FeedId, retention: Retention) -> Self {
        // An append that is refused makes the log, at a time that is known.
        let first = event(&feed, "first", Kind::Uploaded, "01", second(0));
        log.append(first, Proof::Event, second(1)).await.unwrap();
        let positions = vec![log.end(&feed).await.unwrap()];
        let model = Model { retention, told: Vec::new(), seen: Vec::new(), remembers_since: second(1) };
        Self { log, feed, model, queue: Vec::new(), bucket: BTreeMap::new(), positions, clock: 1 }
    }

    async fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.clock += 1;
            match *step {
                Step::Happen { key, kind } => self.happen(key, kind),
                Step::Handle { which, crash } if !self.queue.is_empty() => {
                    let event = self.queue.swap_remove(which % self.queue.len());
                    if crash {
                        self.queue.push(event.clone());
                    }
                    self.handle(event).await;
                }
                Step::Handle { .. } => {}
                Step::Read { from, limit } => self.read(from % self.positions.len(), limit).await,
            }
        }
        while let Some(event) = self.queue.pop() {
            self.clock += 1;
            self.handle(event).await;
        }
    }

    fn happen(&mut self, key: usize, kind: Kind) {
        let name = format!("{key}.jpg");
        // The clock is in the sequencer's first digits, as with S3; lengths and case differ.
        let sequencer = if key.is_multiple_of(2) {
            format!("00{:08X}", self.clock)
        } else {
            format!("{:08x}ab", self.clock)
        };
        self.queue.push(event(&self.feed, &name, kind, &sequencer, second(self.clock)));
        self.bucket.insert(name, kind);
    }

    /// As the poller does: what the log can't prove is proved by the bucket, or dropped.
    async fn handle(&mut self, event: FeedEvent) {
        let outcome = self.offer(&event, Proof::Event).await;
        if outcome == Expected::Unproven && self.bucket.get(event.key.name()) == Some(&event.kind) {
            self.offer(&event, Proof::Bucket).await;
        }
    }

    async fn offer(&mut self, event: &FeedEvent, proof: Proof) -> Expected {
        let now = second(self.clock);
        let outcome = self.log.append(event.clone(), proof, now).await.unwrap();
        let expected = self.model.append(event, proof, now);
        assert_eq!(same(outcome), expected, "{event:?}");
        if let Outcome::Appended(cursor) = outcome {
            self.positions.push(cursor);
            assert_eq!(cursor.offset, self.model.told.len() as u64);
        }
        expected
    }

    async fn read(&self, from: usize, limit: usize) {
        match self.log.read_after(&self.feed, self.positions[from], limit).await.unwrap() {
            Read::Lost(end) => {
                assert!(from < self.model.kept_from(), "the way from {from} was there");
                assert_eq!(Some(&end), self.positions.last());
            }
            Read::Entries(entries) => {
                assert!(from >= self.model.kept_from(), "{from} was trimmed");
                let told = entries.iter().map(|entry| &entry.event);
                assert!(told.eq(self.model.told[from..].iter().take(limit)), "from {from}");
            }
        }
    }

    /// Whoever heard everything holds what the bucket holds.
    fn assert_the_log_equals_the_bucket(&self) {
        let mut held = BTreeMap::new();
        for event in &self.model.told {
            held.insert(event.key.name().to_owned(), event.kind);
        }
        assert_eq!(held, self.bucket);
    }
}

/// Runs histories on logs that `open` gives, with little memory and with enough of it.
fn run_histories(
    cases: u32,
    runtime: &tokio::runtime::Runtime,
    open: impl Fn(Retention) -> Arc<dyn FeedLog>,
) {
    let small = Retention { entries: 7, seen: 3, ..RETENTION };
    let number = AtomicUsize::new(0);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    for retention in [small, RETENTION] {
        let log = open(retention);
        let tested = runner.run(&prop::collection::vec(step(), 1..120), |steps| {
            let feed = feed(&format!("f{}", number.fetch_add(1, Ordering::Relaxed)));
            runtime.block_on(async {
                let mut history = History::begin(log.clone(), feed, retention).await;
                history.run(&steps).await;
                for from in 0..history.positions.len() {
                    history.read(from, 1000).await;
                }
                if retention.seen == RETENTION.seen {
                    history.assert_the_log_equals_the_bucket();
                }
            });
            Ok(())
        });
        tested.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn random_histories_in_memory() {
    run_histories(128, &runtime(), |retention| Arc::new(MemoryLog::new(retention)));
}

#[test]
fn random_histories_in_redis() {
    let runtime = runtime();
    let server = runtime.block_on(RedisServer::start());
    run_histories(64, &runtime, |retention| server.log(retention));
}
