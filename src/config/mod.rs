//! Configuration: flags and environment variables, judged as a whole before anything is bound.

mod args;
mod commands;
mod judge;
mod shared;
mod web;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::{
    auth::{Order, Settings as AuthSettings},
    bucket::Lives,
    feed::KeyPrefix,
    http::{AllowedOrigins, UploadRules},
    ingest::InspectorRules,
    limit::Settings as RateSettings,
    log::{RedisSettings, Retention},
    socketio::Limits,
};

pub use args::{Cli, Command, DevArgs, DoctorArgs, PollArgs, RedriveArgs, ServeArgs, TokenArgs};
pub use commands::redrive;
pub use judge::{Mistake, Mistakes};

/// What every way of running shares.
#[derive(Debug)]
pub struct Common {
    /// How logs are written.
    pub log_format: LogFormat,
    /// How much the feed log keeps.
    pub retention: Retention,
    /// How long signed URLs live.
    pub lives: Lives,
    /// The most loops that receive from the queue.
    pub poller_max_loops: usize,
    /// Where the log is; in memory, where it is nowhere else.
    pub redis: Option<RedisSettings>,
    /// Media types that may be uploaded, in lower case.
    pub content_types: Vec<String>,
    /// How uploads are looked at before they are announced, if they are.
    pub inspector: Option<InspectorRules>,
}

/// What the web side needs.
#[derive(Debug)]
pub struct Web {
    /// Where to listen.
    pub address: SocketAddr,
    /// Who gets in.
    pub auth: AuthSettings,
    /// Who may call from other origins.
    pub origins: AllowedOrigins,
    /// What the names of uploads are sealed with, where it is said.
    pub name_secret: Option<SecretString>,
    /// What may be uploaded.
    pub uploads: UploadRules,
    /// Limits of each connection.
    pub limits: Limits,
    /// How often somebody may ask, and how many may be connected.
    pub rates: RateSettings,
    /// Who may read the metrics.
    pub metrics_token: Option<SecretString>,
    /// Whether old clients are told of each other.
    pub announce_connections: bool,
}

/// Where the photos and their events are, on AWS.
#[derive(Debug)]
pub struct Aws {
    /// The bucket's name.
    pub bucket: String,
    /// What every key begins with.
    pub prefix: KeyPrefix,
    /// The queue that the bucket's events go to.
    pub queue_url: String,
    /// The region, where it is said here.
    pub region: Option<String>,
}

/// `photoshare dev`
#[derive(Debug)]
pub struct Dev {
    /// What every way of running shares.
    pub common: Common,
    /// The web side.
    pub web: Web,
    /// Where photos are kept.
    pub data_dir: PathBuf,
    /// How others reach this process, where that differs from the `Host` they send.
    pub public_url: Option<String>,
}

/// `photoshare serve`
#[derive(Debug)]
pub struct Serve {
    /// What every way of running shares.
    pub common: Common,
    /// The web side.
    pub web: Web,
    /// Bucket and queue.
    pub aws: Aws,
    /// Whether the page is served.
    pub demo_page: bool,
    /// Whether this process receives from the queue.
    pub poller: bool,
}

/// `photoshare poll`
#[derive(Debug)]
pub struct Poll {
    /// What every way of running shares.
    pub common: Common,
    /// Bucket and queue.
    pub aws: Aws,
}

/// `photoshare doctor`
#[derive(Debug)]
pub struct Doctor {
    /// Bucket and queue.
    pub aws: Aws,
    /// Where the log is, if it is not in memory.
    pub redis: Option<RedisSettings>,
    /// Origins whose pages upload, as they were written.
    pub origins: Vec<String>,
    /// How long to wait for the event of the doctor's own object.
    pub wait: Duration,
}

/// `photoshare token`
#[derive(Debug)]
pub struct Token {
    /// What it is signed with.
    pub secret: SecretString,
    /// What it says.
    pub order: Order,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// From SIGTERM to the exit, at most 20 s; Heroku kills after 30.
pub const SHUTDOWN: Duration = Duration::from_secs(18);
