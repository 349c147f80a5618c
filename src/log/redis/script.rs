//! Calls of Lua scripts by their hash.

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, ToRedisArgs, aio::ConnectionLike};

/// A Lua script. A server caches it under the SHA-1 of its source after the first call.
pub(crate) struct Script {
    source: &'static str,
    sha1: String,
}

/// A script with its keys and arguments.
pub(crate) struct ScriptCall<'a> {
    script: &'a Script,
    /// The number of keys, the keys, and the other arguments.
    arguments: Vec<Vec<u8>>,
}

impl Script {
    pub(crate) fn new(source: &'static str) -> Self {
        Self { source, sha1: redis::Script::new(source).get_hash().to_owned() }
    }

    /// A call with `keys`, which must lie in one slot.
    pub(crate) fn with_keys(&self, keys: &[String]) -> ScriptCall<'_> {
        let mut call = ScriptCall { script: self, arguments: Vec::new() };
        call.arg(keys.len()).arg(keys);
        call
    }
}

impl ScriptCall<'_> {
    pub(super) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }

    /// Calls the script by its hash, and by its source if the server has not cached it. Both commands are
    /// routed by the keys: the redis crate's own `invoke_async` loads an uncached script on every master of
    /// a cluster, and fails if one of them does not respond.
    pub(crate) async fn invoke<T: FromRedisValue>(
        &self,
        connection: &mut impl ConnectionLike,
    ) -> Result<T, RedisError> {
        match self.command("EVALSHA", &self.script.sha1).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", self.script.source).query_async(connection).await
            }
            response => response,
        }
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        redis::cmd(name).arg(script).arg(&self.arguments).to_owned()
    }
}
