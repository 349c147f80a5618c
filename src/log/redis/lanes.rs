//! Following what is appended, over as many connections as it takes, each made anew when it fails.

use std::time::Duration;

use futures_util::future::join_all;
use redis::RedisError;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{RedisLog, connection::Connection, tail::Reader};
use crate::log::{SHARDS, Shards, Tail};

/// Between two attempts to connect, at most; each process waits a random part of it.
const RETRY: Duration = Duration::from_secs(1);

/// Tells `told` of everything, until nobody listens.
pub(super) async fn run(log: &RedisLog, watched: watch::Receiver<Shards>, told: mpsc::Sender<Tail>) {
    let followed = async {
        let lanes = lanes(log).await;
        let told = &told;
        join_all(lanes.map(|lane| follow_for_good(log, Watched { all: watched.clone(), lane }, told))).await
    };
    tokio::select! {
        () = told.closed() => {}
        _ = followed => {}
    }
}

/// How the shards are shared out to connections: one for all of them, but on a cluster one for each, since
/// one read can't name the keys of several slots.
async fn lanes(log: &RedisLog) -> impl Iterator<Item = Shards> {
    let mut outage = Outage::default();
    let width = loop {
        match log.calls.ask(async |connection: Connection| Ok(connection)).await {
            Ok(Connection::Server(_)) => break SHARDS,
            Ok(Connection::Cluster(_)) => break 1,
            Err(error) => outage.pause(&error).await,
        }
    };
    (0..SHARDS).step_by(width.into()).map(move |first| Shards(u64::MAX >> (SHARDS - width) << first))
}

/// Follows over one connection after the other.
async fn follow_for_good(log: &RedisLog, mut watched: Watched, told: &mpsc::Sender<Tail>) {
    let mut outage = Outage::default();
    while let Err(error) = follow(log, &mut watched, told, &mut outage).await {
        outage.pause(&error).await;
    }
}

/// Follows over one connection, until it fails.
async fn follow(
    log: &RedisLog,
    watched: &mut Watched,
    told: &mpsc::Sender<Tail>,
    outage: &mut Outage,
) -> Result<(), RedisError> {
    let mut reader = Reader::connect(log, watched.any().await).await?;
    loop {
        let new = reader.turn_to(watched.now()).await?;
        outage.end();
        if new != Shards::default() && told.send(Tail::Resync(new)).await.is_err() {
            return Ok(());
        }
        let Some(reply) = reader.read(watched).await? else { continue };
        for item in reader.take(reply) {
            if told.send(item).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// What is watched of a lane's shards.
pub(super) struct Watched {
    all: watch::Receiver<Shards>,
    lane: Shards,
}

impl Watched {
    fn now(&mut self) -> Shards {
        Shards(self.all.borrow_and_update().0 & self.lane.0)
    }

    /// Waits until something is watched.
    async fn any(&mut self) -> Shards {
        if self.now() == Shards::default() {
            self.more_than(Shards::default()).await;
        }
        self.now()
    }

    /// Waits until a shard is watched that is not one of those `read`.
    pub(super) async fn more_than(&mut self, read: Shards) {
        loop {
            if self.all.changed().await.is_err() {
                return std::future::pending().await;
            }
            if self.now().0 & !read.0 != 0 {
                return;
            }
        }
    }
}

/// A time without connection, told of once.
#[derive(Default)]
struct Outage {
    since: Option<Instant>,
}

impl Outage {
    async fn pause(&mut self, error: &RedisError) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            warn!(error = error as &dyn std::error::Error, "the tail of the log broke off");
        }
        let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        sleep(RETRY.mul_f64(share)).await;
    }

    fn end(&mut self) {
        if let Some(since) = self.since.take() {
            let away_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            info!(away_ms, "the tail is back");
        }
    }
}
