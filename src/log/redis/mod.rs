//! The feed log that several processes share, in Redis or Valkey 7 or later.
//!
//! All keys begin with `REDIS_KEY_PREFIX` and the shard as hash tag: `photoshare:{s09}:…`.
//!
//! | key                 | type       | content                                                                  |
//! | ------------------- | ---------- | ------------------------------------------------------------------------ |
//! | `…meta:<feed>`      | hash       | `epoch`, `offset` and `tag`: the end of the feed; `since`: events from before may be missing from `seen`; `life`: run id of the server; `whole`: when that changed last |
//! | `…feed:<feed>`      | stream     | id `<offset>-0`; `t` tag, `p` tag of the entry before, `e` event as JSON   |
//! | `…seen:<feed>`      | hash       | object key → `<sequencer> <time>` of its latest event                    |
//! | `…times:<feed>`     | sorted set | object key, by the time at which `seen` recorded it                      |
//! | `…tail`             | stream     | the appends to all feeds of the shard; id `<tail epoch>-<number>`; `t`, `p`, `e` as above, `o` offset, `l` epoch |
//! | `…watchers:<feed>`  | hash       | process id → `<watchers> <Unix time>`                                    |
//! | `…probe`            | string     | empty; written to check that the shard accepts writes                    |
//! | `…trial:<id>`       | stream     | written and deleted by `photoshare doctor`                               |
//!
//! Times are microseconds where no unit is given. Every key expires. Each operation on a feed is one script on
//! one cluster slot, so it is atomic.
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
mod probe;
mod redis_log;
mod replication;
mod script;
mod settings;
mod shared_connection;
mod tail_reader;
mod tail_readers;
mod topology;

pub use keys::{RedisKeyPrefix, RedisKeyPrefixError};
pub use probe::{RedisHealth, RedisProbeError};
pub use redis_log::RedisLog;
pub use settings::{RedisAddress, RedisAddressError, RedisSettings};
