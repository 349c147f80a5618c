//! The feed log that several processes share, in Redis or Valkey 7 or later.
//!
//! All keys begin with `REDIS_KEY_PREFIX` and the shard as hash tag: `photoshare:{s09}:…`.
//!
//! | key                | type       | content                                                                                  |
//! | ------------------ | ---------- | ---------------------------------------------------------------------------------------- |
//! | `…meta:<feed>`     | hash       | `epoch`, `offset`, `tag`: the end; `since`, `life`, `whole`: see below                   |
//! | `…feed:<feed>`     | stream     | the entries: id `<offset>-0`; `t` tag, `p` previous tag, `e` event (JSON)                |
//! | `…seen:<feed>`     | hash       | object key → `<sequencer> <time>` of its latest event                                    |
//! | `…times:<feed>`    | sorted set | object key, by the time at which `seen` recorded it                                      |
//! | `…tail`            | stream     | the appends of a shard: id `<tail epoch>-<number>`; `t`, `p`, `e`, `o` offset, `l` epoch |
//! | `…watchers:<feed>` | hash       | process id → `<watchers> <Unix time>`                                                    |
//! | `…probe`           | string     | empty; written to check that the shard accepts writes                                    |
//! | `…trial:<id>`      | stream     | written and deleted by `photoshare doctor`                                               |
//!
//! `since`: events from before this time may be missing from `seen`. `life`: the run id of the server at the
//! last append; `whole`: when it changed last. After a change, the server may lack the latest writes.
//!
//! Times are microseconds where no unit is given. Every key expires. Each append, read and renewal is one
//! script on one cluster slot, so it is atomic.
//!
//! Nothing depends on what a connection received before it broke: a reader that reconnects reads from the
//! position that it holds. That is why pub/sub, which keeps nothing, is not used.

mod assigned_shards;
mod client;
mod codec;
mod connection;
mod feed_scripts;
mod keys;
mod presence;
mod redis_log;
mod replication;
mod script;
mod settings;
mod shared_connection;
mod tail_reader;
mod tail_readers;
mod topology;

pub use keys::{RedisKeyPrefix, RedisKeyPrefixError};
pub use redis_log::RedisLog;
pub(crate) use script::Script;
pub use settings::{RedisAddress, RedisAddressError, RedisSettings};
