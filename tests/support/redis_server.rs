//! A Redis of one's own, gone with the test; for `tests/valkey.rs` it is a Valkey. `make .venv/.installed`
//! installs both.

#![allow(clippy::unwrap_used)]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use photoshare_server::{
    feed::FeedId,
    log::{RedisAddress, RedisLog, RedisPrefix, RedisSettings, Retention},
};

const REDIS: &str = "redis-server";
const VALKEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/valkey-server");

pub struct RedisServer {
    child: Child,
    folder: PathBuf,
    arguments: Vec<String>,
    pub port: u16,
}

impl RedisServer {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// `arguments` come after those that make it listen in plain.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::start_on(free_port(), arguments).await
    }

    pub async fn start_on(port: u16, arguments: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("photoshare-redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let server = Self { child: Self::launch(port, &folder, &arguments), folder, arguments, port };
        server.until_it_answers().await;
        server
    }

    /// Ends at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// It hangs: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Ends at once and begins with what the last `SAVE` held.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = Self::launch(self.port, &self.folder, &self.arguments);
        self.until_it_answers().await;
    }

    fn launch(port: u16, folder: &Path, arguments: &[String]) -> Child {
        let program = if module_path!().starts_with("valkey::") { VALKEY } else { REDIS };
        Command::new(program)
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--repl-diskless-sync-delay",
                "0",
                "--dir",
            ])
            .arg(folder)
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; `make .venv/.installed` installs it"))
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A log in it, as another process would open it.
    pub fn log(&self, retention: Retention) -> Arc<RedisLog> {
        Arc::new(RedisLog::new(settings(&self.url(), 0), retention).unwrap())
    }

    /// Asks it something by hand.
    pub async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let (word, arguments) = words.split_first().expect("a command");
        redis::cmd(word).arg(arguments).query_async(&mut connection).await
    }

    /// Brings everything of `feed` so much nearer to its expiry.
    pub async fn age(&self, feed: &FeedId, by: Duration) {
        let age = "for _, key in ipairs(redis.call('KEYS', '*:' .. ARGV[1])) do \
                   redis.call('PEXPIRE', key, redis.call('PTTL', key) - ARGV[2]) end";
        let by = by.as_millis().to_string();
        self.ask::<()>(&["EVAL", age, "0", feed.as_str(), &by]).await.unwrap();
    }

    async fn until_it_answers(&self) {
        let answers = async {
            while self.ask::<()>(&["PING"]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), answers).await.expect("the server answers");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub fn settings(url: &str, wait_replicas: usize) -> RedisSettings {
    RedisSettings {
        address: RedisAddress::parse(url, false).unwrap(),
        prefix: RedisPrefix::parse("test:").unwrap(),
        wait_replicas,
        wait: Duration::from_millis(50),
    }
}

/// Waits until so many connections read tails at `server`.
pub async fn until_readers(server: &RedisServer, wanted: usize) {
    let counted = async {
        loop {
            let clients: String = server.ask(&["CLIENT", "LIST"]).await.unwrap();
            if clients.matches(" cmd=xread ").count() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counted).await.expect("readers come and go");
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
