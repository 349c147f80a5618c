//! Configuration: flags and environment variables, validated together before the process opens a port or a
//! connection.

mod args;
mod commands;
mod common;
mod validate;
mod web;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::{
    auth::{AuthSettings, TokenSpec},
    bucket::UrlTtls,
    feed::KeyPrefix,
    http::{AllowedOrigins, UploadRules},
    ingest::InspectorConfig,
    limit::LimitSettings,
    log::{RedisSettings, Retention},
    socketio::ConnectionLimits,
};

pub use args::{Cli, Command, DevArgs, DoctorArgs, PollArgs, RedriveArgs, ServeArgs, TokenArgs};
pub use commands::validate_redrive;
pub use validate::{ConfigError, ConfigErrors};

/// Settings that `dev`, `serve` and `poll` share.
#[derive(Debug)]
pub struct CommonConfig {
    /// Format of log lines.
    pub log_format: LogFormat,
    /// How much the feed log keeps, and for how long.
    pub retention: Retention,
    /// TTLs of signed URLs.
    pub url_ttls: UrlTtls,
    /// Maximum number of loops that receive from the queue.
    pub poller_max_loops: usize,
    /// The Redis that stores the feed log; `None` keeps the log in memory.
    pub redis: Option<RedisSettings>,
    /// Media types that may be uploaded, in lower case.
    pub content_types: Vec<String>,
    /// How uploads are inspected before they are announced; `None` announces them without inspection.
    pub inspector: Option<InspectorConfig>,
}

/// Settings of the web side: HTTP and Socket.IO.
#[derive(Debug)]
pub struct WebConfig {
    /// Address to listen on.
    pub address: SocketAddr,
    /// How tokens are verified.
    pub auth: AuthSettings,
    /// Origins whose pages may send requests.
    pub origins: AllowedOrigins,
    /// Secret that seals the names of uploads, if configured.
    pub upload_name_secret: Option<SecretString>,
    /// Limits on the size and type of uploads.
    pub uploads: UploadRules,
    /// Limits of one Socket.IO connection.
    pub socketio: ConnectionLimits,
    /// Time after which a connection without a request is closed.
    pub keep_alive: Duration,
    /// Rate limits and connection limits.
    pub limits: LimitSettings,
    /// Bearer token that grants access to the metrics.
    pub metrics_token: Option<SecretString>,
    /// Whether old clients receive an event for each connection and disconnection.
    pub announce_connections: bool,
}

/// The bucket and queue on AWS.
#[derive(Debug)]
pub struct AwsConfig {
    /// Name of the bucket.
    pub bucket: String,
    /// Prefix of every key in the bucket.
    pub prefix: KeyPrefix,
    /// URL of the queue that receives the bucket's events.
    pub queue_url: String,
    /// Region of bucket and queue; `None` uses the SDK's default chain.
    pub region: Option<String>,
}

/// Configuration of `photoshare dev`.
#[derive(Debug)]
pub struct DevConfig {
    /// Settings shared with the other commands.
    pub common: CommonConfig,
    /// The web side.
    pub web: WebConfig,
    /// Folder that stores the photos.
    pub data_dir: PathBuf,
    /// Origin in signed URLs; `None` uses the `Host` header of each request.
    pub public_url: Option<String>,
}

/// Configuration of `photoshare serve`.
#[derive(Debug)]
pub struct ServeConfig {
    /// Settings shared with the other commands.
    pub common: CommonConfig,
    /// The web side.
    pub web: WebConfig,
    /// Bucket and queue.
    pub aws: AwsConfig,
    /// Whether `/` serves the demo page.
    pub demo_page: bool,
    /// Whether this process receives from the queue.
    pub poller: bool,
}

/// Configuration of `photoshare poll`.
#[derive(Debug)]
pub struct PollConfig {
    /// Settings shared with the other commands.
    pub common: CommonConfig,
    /// Bucket and queue.
    pub aws: AwsConfig,
}

/// Configuration of `photoshare doctor`.
#[derive(Debug)]
pub struct DoctorConfig {
    /// Bucket and queue.
    pub aws: AwsConfig,
    /// The Redis that stores the feed log, if any.
    pub redis: Option<RedisSettings>,
    /// Origins whose pages upload, verbatim.
    pub origins: Vec<String>,
    /// How long to wait for the event of the doctor's test object.
    pub event_timeout: Duration,
}

/// Configuration of `photoshare token`.
#[derive(Debug)]
pub struct TokenConfig {
    /// Secret that signs the token.
    pub secret: SecretString,
    /// Claims of the token.
    pub spec: TokenSpec,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Lines for a terminal.
    Pretty,
}

/// Maximum time from SIGTERM to the exit. Heroku sends SIGKILL after 30 seconds.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(18);
