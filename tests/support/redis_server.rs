//! A Redis server for one test, stopped with it; in `tests/valkey.rs` a Valkey. `make .venv/.installed`
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
    log::{RedisAddress, RedisKeyPrefix, RedisLog, RedisSettings, Retention},
};

use super::wait::wait_until;

const REDIS: &str = "redis-server";
const VALKEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/valkey-server");

pub struct RedisServer {
    process: Child,
    folder: PathBuf,
    options: Vec<String>,
    pub port: u16,
}

impl RedisServer {
    pub async fn start() -> Self {
        Self::start_with_options(&[]).await
    }

    /// `options` follow those for plain TCP.
    pub async fn start_with_options(options: &[&str]) -> Self {
        Self::start_on_port(free_port(), options).await
    }

    pub async fn start_on_port(port: u16, options: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("photoshare-redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let server = Self { process: Self::spawn(port, &folder, &options), folder, options, port };
        server.wait_until_ready().await;
        server
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Suspends the process: connections stay open, but it does not respond.
    pub fn suspend(&self) {
        self.signal("STOP");
    }

    /// Continues a suspended process.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Kills the process and starts it again, with the data of the last `SAVE`.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = Self::spawn(self.port, &self.folder, &self.options);
        self.wait_until_ready().await;
    }

    fn spawn(port: u16, folder: &Path, options: &[String]) -> Child {
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
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; `make .venv/.installed` installs it"))
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A log on this server, with its own connections, like that of another process.
    pub fn open_log(&self, retention: Retention) -> Arc<RedisLog> {
        Arc::new(RedisLog::new(settings(&self.url(), 0), retention).unwrap())
    }

    /// Runs a command, over a connection of its own.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let (name, arguments) = words.split_first().expect("the name of a command");
        redis::cmd(name).arg(arguments).query_async(&mut connection).await
    }

    /// Shortens the TTL of all keys of `feed`, as if time had passed.
    pub async fn shorten_ttl(&self, feed: &FeedId, by: Duration) {
        let script = "for _, key in ipairs(redis.call('KEYS', '*:' .. ARGV[1])) do \
                      redis.call('PEXPIRE', key, redis.call('PTTL', key) - ARGV[2]) end";
        let by_ms = by.as_millis().to_string();
        self.command::<()>(&["EVAL", script, "0", feed.as_str(), &by_ms]).await.unwrap();
    }

    async fn wait_until_ready(&self) {
        wait_until("the server to respond", async || self.command::<()>(&["PING"]).await.is_ok()).await;
    }

    /// Waits until the response to a command contains `text`.
    pub async fn wait_for_response(&self, words: &[&str], text: &str) {
        let what = format!("{text:?} from {words:?}");
        wait_until(&what, async || self.command::<String>(words).await.unwrap().contains(text)).await;
    }

    /// Waits until `count` connections are reading tails.
    pub async fn wait_for_tail_readers(&self, count: usize) {
        let what = format!("{count} connections that read tails");
        wait_until(&what, async || {
            let clients: String = self.command(&["CLIENT", "LIST"]).await.unwrap();
            clients.matches(" cmd=xread ").count() == count
        })
        .await;
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
        key_prefix: RedisKeyPrefix::parse("test:").unwrap(),
        wait_replicas,
        wait_timeout: Duration::from_millis(50),
    }
}

/// A log that requires `wait_replicas` replicas to confirm an append.
pub fn open_log_with_replicas(url: &str, wait_replicas: usize) -> RedisLog {
    RedisLog::new(settings(url, wait_replicas), super::RETENTION).unwrap()
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
