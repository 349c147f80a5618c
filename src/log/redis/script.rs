//! Calls of the scripts.

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, ToRedisArgs, aio::ConnectionLike};

/// A script, which a server keeps once it was given it.
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

/// A script with what it is called with.
pub(super) struct Call<'a> {
    script: &'a Script,
    /// How many keys, the keys, and the rest.
    arguments: Vec<Vec<u8>>,
}

impl Script {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }

    /// A call about `keys`, which lie in one slot.
    pub(super) fn call(&self, keys: &[String]) -> Call<'_> {
        let mut call = Call { script: self, arguments: Vec::new() };
        call.arg(keys.len()).arg(keys);
        call
    }
}

impl Call<'_> {
    pub(super) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }

    /// Calls the script by its hash, and by its text where it is not known yet. Both go to the server of the
    /// keys alone: the crate's own calls load an unknown script at every master of a cluster, and fail with
    /// any that is silent.
    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        to: &mut impl ConnectionLike,
    ) -> Result<T, RedisError> {
        match self.command("EVALSHA", &self.script.hash).query_async(to).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", self.script.text).query_async(to).await
            }
            answer => answer,
        }
    }

    fn command(&self, word: &str, script: &str) -> Cmd {
        redis::cmd(word).arg(script).arg(&self.arguments).to_owned()
    }
}
