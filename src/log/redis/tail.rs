//! Blocking reads of the shards' tails, over one connection.

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
use tokio::time::sleep;
use tracing::warn;

use super::{RedisLog, codec, connection::Connection, keys, lanes::Watched, nodes::Holder};
use crate::log::{Shards, Tail};

/// Entries of a shard that one read brings.
const COUNT: usize = 256;
/// How long Redis holds a read for which there is nothing.
const BLOCK: Duration = Duration::from_secs(2);
/// A connection over which nothing comes for so long is dead, however open it looks.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two attempts to interrupt a read: the first may come before Redis has the read.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);

/// One connection that reads, and how far it has read each shard.
pub(super) struct Reader<'a> {
    log: &'a RedisLog,
    connection: MultiplexedConnection,
    /// The connection's id: another one interrupts it by that.
    id: i64,
    pub(super) in_cluster: bool,
    places: BTreeMap<u16, Place>,
}

/// A position in a tail: its epoch and a number without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Place {
    epoch: u64,
    number: u64,
}

impl<'a> Reader<'a> {
    /// Connects to the server that holds the first of `shards`: those of one lane lie together.
    pub(super) async fn connect(log: &'a RedisLog, shards: Shards) -> Result<Self, RedisError> {
        let first = keys::numbers(shards).next().unwrap_or_default();
        let Holder { mut connection, in_cluster } = log.nodes.connect_to_holder(first, SILENCE).await?;
        let id = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await?;
        Ok(Self { log, connection, id, in_cluster, places: BTreeMap::new() })
    }

    /// From now on reads `shards`. Gives back those that were not read so far: they are read from their
    /// present ends.
    pub(super) async fn turn_to(&mut self, shards: Shards) -> Result<Shards, RedisError> {
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
        Ok(together(new.iter()))
    }

    /// Waits for what follows, or until there is more to watch.
    pub(super) async fn read(&self, watched: &mut Watched) -> Result<StreamReadReply, RedisError> {
        let read_shards = together(self.places.keys());
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
            () = watched.more_than(read_shards) => {}
        }
        tokio::select! {
            reply = &mut reading => reply,
            never = self.interrupt() => match never {},
        }
    }

    /// Ends the read that Redis holds, which on a cluster never needs to be: a lane has a single shard
    /// there. Cutting it off from this side would leave the connection waiting.
    async fn interrupt(&self) -> std::convert::Infallible {
        loop {
            let unblock = async |mut to: Connection| {
                redis::cmd("CLIENT").arg("UNBLOCK").arg(self.id).query_async::<i64>(&mut to).await
            };
            // Where it fails, the read ends by itself soon.
            let _ = self.log.calls.ask(unblock).await;
            sleep(INTERRUPT_AGAIN).await;
        }
    }

    pub(super) fn take(&mut self, reply: StreamReadReply) -> Vec<Tail> {
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

fn together<'a>(shards: impl Iterator<Item = &'a u16>) -> Shards {
    Shards(shards.fold(0, |bits, shard| bits | (1 << shard)))
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
