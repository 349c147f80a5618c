//! Following what is appended, over as many connections as it takes, each made anew when it fails.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::RedisError;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{RedisLog, tail::Reader};
use crate::log::{SHARDS, Shards, Tail};

/// Between two attempts to connect, at most; each process waits a random part of it.
const RETRY: Duration = Duration::from_secs(1);
const ALL: Shards = Shards(u64::MAX);

/// Tells `told` of everything, until nobody listens.
pub(super) async fn run(log: &RedisLog, watched: watch::Receiver<Shards>, told: mpsc::Sender<Tail>) {
    let followed = async {
        let outage = Outage::default();
        loop {
            let in_cluster = are_a_cluster(log, &outage).await;
            let lanes = lanes(in_cluster).map(|shards| Lane {
                log,
                in_cluster,
                watched: Watched { all: watched.clone(), lane: shards },
                told: &told,
                outage: &outage,
            });
            // When one ends, all are to be laid anew.
            lanes.map(Lane::follow_while_it_fits).collect::<FuturesUnordered<_>>().next().await;
        }
    };
    tokio::select! {
        () = told.closed() => {}
        () = followed => {}
    }
}

async fn are_a_cluster(log: &RedisLog, outage: &Outage) -> bool {
    loop {
        match log.nodes.are_a_cluster().await {
            Ok(in_cluster) => return in_cluster,
            Err(error) => outage.pause(ALL, &error).await,
        }
    }
}

/// How the shards are shared out to connections: one for all of them, but on a cluster one for each, since
/// one read can't name the keys of several slots.
fn lanes(in_cluster: bool) -> impl Iterator<Item = Shards> {
    let width = if in_cluster { 1 } else { SHARDS };
    (0..SHARDS).step_by(width.into()).map(move |first| Shards(ALL.0 >> (SHARDS - width) << first))
}

/// Shards that are followed over one connection.
struct Lane<'a> {
    log: &'a RedisLog,
    in_cluster: bool,
    watched: Watched,
    told: &'a mpsc::Sender<Tail>,
    outage: &'a Outage,
}

impl Lane<'_> {
    /// Follows over one connection after the other, until a server is met where a cluster was, or the
    /// other way round.
    async fn follow_while_it_fits(mut self) {
        loop {
            let shards = self.watched_shards().await;
            let followed = match Reader::connect(self.log, shards).await {
                Ok(reader) if reader.in_cluster != self.in_cluster => return,
                Ok(reader) => self.follow(reader).await,
                Err(error) => Err(error),
            };
            if let Err(error) = followed {
                self.outage.pause(self.watched.lane, &error).await;
            }
        }
    }

    /// Waits until something is watched. Meanwhile no connection is missed.
    async fn watched_shards(&mut self) -> Shards {
        if self.watched.now() == Shards::default() {
            self.outage.leave(self.watched.lane);
        }
        self.watched.any().await
    }

    /// Follows over one connection, until it fails or nothing is watched: one that nobody uses would die
    /// unnoticed.
    async fn follow(&mut self, mut reader: Reader<'_>) -> Result<(), RedisError> {
        loop {
            let shards = self.watched.now();
            if shards == Shards::default() {
                return Ok(());
            }
            let new = reader.turn_to(shards).await?;
            self.outage.end(self.watched.lane);
            if new != Shards::default() && self.told.send(Tail::Resync(new)).await.is_err() {
                return Ok(());
            }
            let reply = reader.read(&mut self.watched).await?;
            for item in reader.take(reply) {
                if self.told.send(item).await.is_err() {
                    return Ok(());
                }
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

/// A time in which lanes that are needed have no connection, told of once, however many they are.
#[derive(Default)]
struct Outage(Mutex<Away>);

#[derive(Default)]
struct Away {
    since: Option<Instant>,
    shards: Shards,
}

impl Outage {
    /// Waits for the next attempt of `lane`.
    async fn pause(&self, lane: Shards, error: &RedisError) {
        if self.begin(lane) {
            warn!(error = error as &dyn std::error::Error, "the tail of the log broke off");
        }
        let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        sleep(RETRY.mul_f64(share)).await;
    }

    /// `lane` has its connection.
    fn end(&self, lane: Shards) {
        if let Some(since) = self.leave(lane) {
            let away_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            info!(away_ms, "the tail is back");
        }
    }

    /// Whether `lane` is the first.
    fn begin(&self, lane: Shards) -> bool {
        let mut away = self.away();
        away.shards.0 |= lane.0;
        let first = away.since.is_none();
        away.since.get_or_insert_with(Instant::now);
        first
    }

    /// Since when it was, if `lane` is the last.
    fn leave(&self, lane: Shards) -> Option<Instant> {
        let mut away = self.away();
        away.shards.0 &= !lane.0;
        if away.shards == Shards::default() { away.since.take() } else { None }
    }

    fn away(&self) -> MutexGuard<'_, Away> {
        self.0.lock().expect("no panic while held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_of_many_lanes_is_told_of_once() {
        let outage = Outage::default();
        let begun: Vec<_> = lanes(true).filter(|lane| outage.begin(*lane)).collect();
        assert_eq!(begun, [Shards(1)]);
        assert!(!outage.begin(Shards(1)), "told of already");
        let ended: Vec<_> = lanes(true).filter(|lane| outage.leave(*lane).is_some()).collect();
        assert_eq!(ended, [Shards(1 << (SHARDS - 1))]);
        assert!(outage.leave(Shards(1)).is_none() && outage.begin(Shards(1)));
    }
}
