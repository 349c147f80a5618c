//! Follows the tails of all watched shards, over as many connections as the deployment needs: one for a
//! single server, one for each shard on a cluster, since a single XREAD cannot name keys of several slots.

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

use super::{assigned_shards::AssignedShards, client::RedisClient, tail_reader::TailReader};
use crate::log::{SHARD_COUNT, Shards, TailItem};

/// The longest wait between two attempts to connect. Each process waits a random fraction of it.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Sends the entries that are appended to the `watched` shards to `tx`, until its receiver is dropped.
pub(super) async fn follow_tails(
    client: &RedisClient,
    watched: watch::Receiver<Shards>,
    tx: mpsc::Sender<TailItem>,
) {
    let follow = async {
        let outage = TailOutage::default();
        loop {
            let in_cluster = detect_cluster(client, &outage).await;
            let followers = partition_shards(in_cluster).map(|assigned| TailFollower {
                client,
                in_cluster,
                shards: AssignedShards { watched: watched.clone(), assigned },
                tx: &tx,
                outage: &outage,
            });
            // A follower ends when the deployment became a cluster or a single server: all start over.
            followers.map(TailFollower::run).collect::<FuturesUnordered<_>>().next().await;
        }
    };
    tokio::select! {
        () = tx.closed() => {}
        () = follow => {}
    }
}

async fn detect_cluster(client: &RedisClient, outage: &TailOutage) -> bool {
    loop {
        match client.topology.is_cluster().await {
            Ok(in_cluster) => return in_cluster,
            Err(error) => outage.wait_to_reconnect(Shards::ALL, &error).await,
        }
    }
}

/// Assigns the shards to followers: one to each on a cluster, all to a single one otherwise.
fn partition_shards(in_cluster: bool) -> impl Iterator<Item = Shards> {
    let size = if in_cluster { 1 } else { SHARD_COUNT };
    (0..SHARD_COUNT)
        .step_by(size.into())
        .map(move |first| Shards(Shards::ALL.0 >> (SHARD_COUNT - size) << first))
}

/// Follows the tails of its assigned shards, over one connection at a time.
struct TailFollower<'a> {
    client: &'a RedisClient,
    in_cluster: bool,
    shards: AssignedShards,
    tx: &'a mpsc::Sender<TailItem>,
    outage: &'a TailOutage,
}

impl TailFollower<'_> {
    /// Reconnects after each failure. Returns when a single server has become a cluster, or the reverse.
    async fn run(mut self) {
        loop {
            let shards = self.wait_for_watched().await;
            let result = match TailReader::connect(self.client, shards).await {
                Ok(reader) if reader.in_cluster != self.in_cluster => return,
                Ok(reader) => self.forward(reader).await,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                self.outage.wait_to_reconnect(self.shards.assigned, &error).await;
            }
        }
    }

    /// Waits until any of the shards is watched. Until then a missing connection is no outage.
    async fn wait_for_watched(&mut self) -> Shards {
        if self.shards.current().is_empty() {
            self.outage.remove(self.shards.assigned);
        }
        self.shards.wait_for_any().await
    }

    /// Forwards what `reader` returns, until it fails or none of the shards is watched: then the connection
    /// is closed, since without reads its failure would not be detected.
    async fn forward(&mut self, mut reader: TailReader<'_>) -> Result<(), RedisError> {
        loop {
            let shards = self.shards.current();
            if shards.is_empty() {
                return Ok(());
            }
            let added = reader.set_shards(shards).await?;
            self.outage.mark_connected(self.shards.assigned);
            if !added.is_empty() && self.tx.send(TailItem::Resync(added)).await.is_err() {
                return Ok(());
            }
            let reply = reader.read(&mut self.shards).await?;
            for item in reader.decode_reply(reply) {
                if self.tx.send(item).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// An outage, which lasts while any follower has no connection. It is logged once, however many are affected.
#[derive(Default)]
struct TailOutage(Mutex<OutageState>);

#[derive(Default)]
struct OutageState {
    since: Option<Instant>,
    /// The shards without a connection.
    shards: Shards,
}

impl TailOutage {
    /// Records that `shards` have no connection, and waits before the next attempt.
    async fn wait_to_reconnect(&self, shards: Shards, error: &RedisError) {
        if self.add(shards) {
            warn!(
                error = error as &dyn std::error::Error,
                "failed to read the tail of the feed log from Redis"
            );
        }
        let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        sleep(MAX_RETRY_DELAY.mul_f64(share)).await;
    }

    fn mark_connected(&self, shards: Shards) {
        if let Some(since) = self.remove(shards) {
            let outage_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            info!(outage_ms, "reading the tail of the feed log from Redis again");
        }
    }

    /// Returns whether the outage begins with `shards`.
    fn add(&self, shards: Shards) -> bool {
        let mut state = self.lock_state();
        state.shards.0 |= shards.0;
        let is_first = state.since.is_none();
        state.since.get_or_insert_with(Instant::now);
        is_first
    }

    /// Returns when the outage began, if it ends with `shards`.
    fn remove(&self, shards: Shards) -> Option<Instant> {
        let mut state = self.lock_state();
        state.shards.0 &= !shards.0;
        if state.shards.is_empty() { state.since.take() } else { None }
    }

    fn lock_state(&self) -> MutexGuard<'_, OutageState> {
        self.0.lock().expect("no panic while the lock is held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_of_many_shards_begins_and_ends_once() {
        let outage = TailOutage::default();
        let began: Vec<_> = partition_shards(true).filter(|shards| outage.add(*shards)).collect();
        assert_eq!(began, [Shards(1)]);
        assert!(!outage.add(Shards(1)), "it has begun already");
        let ended: Vec<_> =
            partition_shards(true).filter(|shards| outage.remove(*shards).is_some()).collect();
        assert_eq!(ended, [Shards(1 << (SHARD_COUNT - 1))]);
        assert!(outage.remove(Shards(1)).is_none() && outage.add(Shards(1)));
    }
}
