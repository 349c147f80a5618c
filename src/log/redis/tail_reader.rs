//! Blocking reads of the tails of some shards, over one connection.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt,
    num::ParseIntError,
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

use super::{assigned_shards::AssignedShards, client::RedisClient, codec, keys, topology::ShardConnection};
use crate::log::{Shards, TailItem};

/// Maximum number of entries of one shard that an XREAD returns.
const MAX_ENTRIES_PER_READ: usize = 256;
/// How long Redis holds an XREAD for which there is no entry.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than [`BLOCK_TIMEOUT`]: a connection without a response for this time is broken, even if open.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time between two attempts to unblock an XREAD: the first may arrive before the XREAD does.
const UNBLOCK_INTERVAL: Duration = Duration::from_millis(20);

/// A connection, and the position up to which each shard's tail was read.
pub(super) struct TailReader<'a> {
    client: &'a RedisClient,
    connection: MultiplexedConnection,
    /// The id by which another connection unblocks this one.
    client_id: i64,
    pub(super) in_cluster: bool,
    positions: BTreeMap<u16, TailPosition>,
}

/// The id of an entry of a tail: the epoch of the tail, and a number that increases by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct TailPosition {
    epoch: u64,
    number: u64,
}

impl<'a> TailReader<'a> {
    /// Connects to the server that holds `shards`: a single server, or the master of a single shard.
    pub(super) async fn connect(client: &'a RedisClient, shards: Shards) -> Result<Self, RedisError> {
        let first = keys::shard_numbers(shards).next().unwrap_or_default();
        let ShardConnection { mut connection, in_cluster } =
            client.topology.connect_to_shard(first, RESPONSE_TIMEOUT).await?;
        let client_id = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await?;
        Ok(Self { client, connection, client_id, in_cluster, positions: BTreeMap::new() })
    }

    /// Sets the shards to read. Returns the added shards, which are read from their current ends.
    pub(super) async fn set_shards(&mut self, shards: Shards) -> Result<Shards, RedisError> {
        self.positions.retain(|shard, _| shards.0 & (1 << shard) != 0);
        let added: Vec<_> =
            keys::shard_numbers(shards).filter(|shard| !self.positions.contains_key(shard)).collect();
        if added.is_empty() {
            return Ok(Shards::NONE);
        }
        let mut read_ends = redis::pipe();
        for shard in &added {
            let key = self.client.key_prefix.tail_key(*shard);
            read_ends.cmd("XREVRANGE").arg(key).arg("+").arg("-").arg("COUNT").arg(1);
        }
        let ends: Vec<StreamRangeReply> = read_ends.query_async(&mut self.connection).await?;
        for (shard, end) in added.iter().zip(ends) {
            let position = end.ids.first().and_then(|id| id.id.parse().ok()).unwrap_or_default();
            self.positions.insert(*shard, position);
        }
        Ok(union(added.iter()))
    }

    /// Waits for entries after the positions. Returns early, without entries, when another of the assigned
    /// shards is watched.
    pub(super) async fn read(&self, shards: &mut AssignedShards) -> Result<StreamReadReply, RedisError> {
        let read_shards = union(self.positions.keys());
        let mut read = redis::cmd("XREAD");
        let block_ms = BLOCK_TIMEOUT.as_secs() * 1000;
        read.arg("COUNT").arg(MAX_ENTRIES_PER_READ).arg("BLOCK").arg(block_ms).arg("STREAMS");
        for shard in self.positions.keys() {
            read.arg(self.client.key_prefix.tail_key(*shard));
        }
        for position in self.positions.values() {
            read.arg(position.to_string());
        }
        let mut connection = self.connection.clone();
        let mut reading = pin!(read.query_async(&mut connection));
        tokio::select! {
            reply = &mut reading => return reply,
            () = shards.wait_for_other_than(read_shards) => {}
        }
        tokio::select! {
            reply = &mut reading => reply,
            never = self.unblock() => match never {},
        }
    }

    /// Makes Redis end the blocked XREAD. To drop its future would leave the connection blocked. Never needed
    /// on a cluster, where each reader has a single shard.
    async fn unblock(&self) -> Infallible {
        let unblock = redis::cmd("CLIENT").arg("UNBLOCK").arg(self.client_id).to_owned();
        loop {
            // If it fails, the XREAD still ends after BLOCK_TIMEOUT.
            let _ = self.client.query::<i64>(&unblock).await;
            sleep(UNBLOCK_INTERVAL).await;
        }
    }

    /// Decodes the entries and advances the positions.
    pub(super) fn decode_reply(&mut self, reply: StreamReadReply) -> Vec<TailItem> {
        let shards_by_key: HashMap<_, _> =
            self.positions.keys().map(|shard| (self.client.key_prefix.tail_key(*shard), *shard)).collect();
        let mut items = Vec::new();
        for stream in reply.keys {
            let Some(shard) = shards_by_key.get(&stream.key) else { continue };
            items.extend(stream.ids.iter().map(|id| self.decode_item(*shard, id)));
        }
        items
    }

    /// An entry that cannot be decoded, or that does not follow the one before, causes a resync of the shard.
    fn decode_item(&mut self, shard: u16, id: &StreamId) -> TailItem {
        let resync = TailItem::Resync(Shards(1 << shard));
        let Ok(position) = id.id.parse() else { return resync };
        let previous = self.positions.insert(shard, position).unwrap_or_default();
        if !position.follows(previous) {
            return resync;
        }
        match codec::decode_tail_entry(id) {
            Ok(entry) => TailItem::Appended(entry.into()),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(error, id = id.id, shard, "failed to decode an entry of a shard's tail");
                resync
            }
        }
    }
}

fn union<'a>(shards: impl Iterator<Item = &'a u16>) -> Shards {
    Shards(shards.fold(0, |bits, shard| bits | (1 << shard)))
}

impl TailPosition {
    fn follows(self, previous: Self) -> bool {
        let is_first = previous == Self::default();
        self.number == previous.number + 1 && (is_first || self.epoch == previous.epoch)
    }
}

impl FromStr for TailPosition {
    type Err = ParseIntError;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        let (epoch, number) = id.split_once('-').unwrap_or((id, "0"));
        Ok(Self { epoch: epoch.parse()?, number: number.parse()? })
    }
}

impl fmt::Display for TailPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_and_another_tail_epoch_are_detected() {
        for (previous, next, follows) in [
            ("5-1", "5-2", true),
            ("5-1", "5-3", false),
            ("5-1", "6-2", false),
            ("5-1", "6-1", false),
            ("0-0", "6-1", true),
            ("0-0", "6-2", false),
        ] {
            let previous: TailPosition = previous.parse().unwrap();
            let next: TailPosition = next.parse().unwrap();
            assert_eq!(next.follows(previous), follows, "{previous} {next}");
        }
    }
}
