//! Following what is appended, by blocking reads of the shards' tails.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    str::FromStr,
    time::Duration,
};

use redis::{
    RedisError,
    aio::MultiplexedConnection,
    streams::{StreamId, StreamRangeReply, StreamReadReply},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{RedisLog, codec, keys, link};
use crate::log::{Shards, Tail};

/// Entries of a shard that one read brings.
const COUNT: usize = 256;
/// How long Redis holds a read for which there is nothing.
const BLOCK: Duration = Duration::from_secs(2);
/// A connection over which nothing comes for so long is dead, however open it looks.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two attempts to interrupt a read: the first may come before Redis has the read.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);
/// Between two attempts to connect, at most; each process waits a random part of it.
const RETRY: Duration = Duration::from_secs(1);

/// Tells `told` of everything, over one connection after the other, until nobody listens.
pub(super) async fn run(log: &RedisLog, mut watched: watch::Receiver<Shards>, told: mpsc::Sender<Tail>) {
    let mut away_since = None;
    loop {
        let followed = tokio::select! {
            () = told.closed() => return,
            followed = follow(log, &mut watched, &told, &mut away_since) => followed,
        };
        let Err(error) = followed else { return };
        if away_since.is_none() {
            away_since = Some(Instant::now());
            warn!(error = &error as &dyn std::error::Error, "the tail of the log broke off");
        }
        let share = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        sleep(RETRY.mul_f64(share)).await;
    }
}

/// Follows over one connection, until it fails.
async fn follow(
    log: &RedisLog,
    watched: &mut watch::Receiver<Shards>,
    told: &mpsc::Sender<Tail>,
    away_since: &mut Option<Instant>,
) -> Result<(), RedisError> {
    let mut reader = Reader::connect(log).await?;
    loop {
        let shards = *watched.borrow_and_update();
        let new = reader.turn_to(shards).await?;
        if let Some(since) = away_since.take() {
            info!(
                away_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
                "the tail is back"
            );
        }
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

/// One connection that reads, and how far it has read each shard.
struct Reader<'a> {
    log: &'a RedisLog,
    connection: MultiplexedConnection,
    /// The connection's id: another one interrupts it by that.
    id: i64,
    places: BTreeMap<u16, Place>,
}

/// A position in a tail: its epoch and a number without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Place {
    epoch: u64,
    number: u64,
}

impl<'a> Reader<'a> {
    async fn connect(log: &'a RedisLog) -> Result<Self, RedisError> {
        let mut connection = link::connect(&log.client, SILENCE).await?;
        let id = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await?;
        Ok(Self { log, connection, id, places: BTreeMap::new() })
    }

    /// From now on reads `shards`. Gives back those that were not read so far: they are read from their
    /// present ends.
    async fn turn_to(&mut self, shards: Shards) -> Result<Shards, RedisError> {
        self.places.retain(|shard, _| shards.0 & (1 << shard) != 0);
        let new: Vec<_> = keys::numbers(shards).filter(|shard| !self.places.contains_key(shard)).collect();
        if new.is_empty() {
            return Ok(Shards::default());
        }
        let mut ends = redis::pipe();
        for shard in &new {
            ends.cmd("XREVRANGE").arg(self.log.prefix.tail(*shard)).arg("+").arg("-").arg("COUNT").arg(1);
        }
        let ends: Vec<StreamRangeReply> = ends.query_async(&mut self.connection).await?;
        for (shard, end) in new.iter().zip(ends) {
            let place = end.ids.first().and_then(|id| id.id.parse().ok()).unwrap_or_default();
            self.places.insert(*shard, place);
        }
        Ok(Shards(new.iter().fold(0, |bits, shard| bits | (1 << shard))))
    }

    /// Waits for what follows, or until there is more to watch.
    async fn read(
        &mut self,
        watched: &mut watch::Receiver<Shards>,
    ) -> Result<Option<StreamReadReply>, RedisError> {
        if self.places.is_empty() {
            self.more_watched(watched).await;
            return Ok(None);
        }
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(COUNT).arg("BLOCK").arg(BLOCK.as_secs() * 1000).arg("STREAMS");
        for shard in self.places.keys() {
            read.arg(self.log.prefix.tail(*shard));
        }
        for place in self.places.values() {
            read.arg(place.to_string());
        }
        let mut connection = self.connection.clone();
        let mut reading = pin!(read.query_async(&mut connection));
        tokio::select! {
            reply = &mut reading => return reply,
            () = self.more_watched(watched) => {}
        }
        tokio::select! {
            reply = &mut reading => reply,
            never = self.interrupt() => match never {},
        }
    }

    /// Ends the read that Redis holds. Cutting it off from this side would leave the connection waiting.
    async fn interrupt(&self) -> std::convert::Infallible {
        loop {
            let unblock = async |mut to: link::Connected| {
                redis::cmd("CLIENT").arg("UNBLOCK").arg(self.id).query_async::<i64>(&mut to.connection).await
            };
            // Where it fails, the read ends by itself soon.
            let _ = self.log.calls.ask(unblock).await;
            sleep(INTERRUPT_AGAIN).await;
        }
    }

    /// Waits until a shard is watched that is not read.
    async fn more_watched(&self, watched: &mut watch::Receiver<Shards>) {
        loop {
            if watched.changed().await.is_err() {
                return std::future::pending().await;
            }
            let shards = *watched.borrow();
            if keys::numbers(shards).any(|shard| !self.places.contains_key(&shard)) {
                return;
            }
        }
    }

    fn take(&mut self, reply: StreamReadReply) -> Vec<Tail> {
        let by_name: HashMap<_, _> =
            self.places.keys().map(|shard| (self.log.prefix.tail(*shard), *shard)).collect();
        let mut items = Vec::new();
        for stream in reply.keys {
            let Some(shard) = by_name.get(&stream.key) else { continue };
            items.extend(stream.ids.iter().map(|id| self.take_one(*shard, id)));
        }
        items
    }

    /// An entry that can't be read, or before which some are missing, makes the whole shard be read anew.
    fn take_one(&mut self, shard: u16, id: &StreamId) -> Tail {
        let resync = Tail::Resync(Shards(1 << shard));
        let Ok(place) = id.id.parse() else { return resync };
        let before = self.places.insert(shard, place).unwrap_or_default();
        if !place.follows(before) {
            return resync;
        }
        match codec::entry_of_tail(id) {
            Ok(entry) => Tail::Appended(entry.into()),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, id = id.id, shard, "tail entry");
                resync
            }
        }
    }
}

impl Place {
    fn follows(self, before: Self) -> bool {
        let first = before == Self::default();
        self.number == before.number + 1 && (first || self.epoch == before.epoch)
    }
}

impl FromStr for Place {
    type Err = std::num::ParseIntError;
    fn from_str(id: &str) -> Result<Self, Self::Err> {
        let (epoch, number) = id.split_once('-').unwrap_or((id, "0"));
        Ok(Self { epoch: epoch.parse()?, number: number.parse()? })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_and_another_epoch_are_noticed() {
        for (before, next, follows) in [
            ("5-1", "5-2", true),
            ("5-1", "5-3", false),
            ("5-1", "6-2", false),
            ("5-1", "6-1", false),
            ("0-0", "6-1", true),
            ("0-0", "6-2", false),
        ] {
            let (before, next): (Place, Place) = (before.parse().unwrap(), next.parse().unwrap());
            assert_eq!(next.follows(before), follows, "{before} {next}");
        }
    }
}
