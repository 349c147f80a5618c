//! The command line. Values are taken as texts here and judged together afterwards, so that every
//! mistake is named at once.

#![expect(clippy::doc_markdown, rustdoc::bare_urls, reason = "these comments are the help text")]

use clap::{Args, Parser, Subcommand};

/// Tells everyone who watches a photo feed, the moment S3 says that a photo is there.
#[derive(Debug, Parser)]
#[command(name = "photoshare", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The ways to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything in one process, with no account and no other program
    Dev(DevArgs),
    /// The web side and the poller, against AWS
    Serve(ServeArgs),
    /// The poller alone, against AWS; needs REDIS_URL
    Poll(PollArgs),
    /// Prints a token for trying things, signed with AUTH_JWT_SECRET
    Token(TokenArgs),
    /// Looks at bucket, queue, the way between them and Redis, and says how to mend what is wrong
    #[command(
        after_help = "Exit code: 0 all is well, 1 a warning, 2 a failure, 64 a wrong command line, 78 a wrong configuration"
    )]
    Doctor(DoctorArgs),
    /// Moves the messages of the dead-letter queue back into the queue
    Redrive(RedriveArgs),
}

/// `photoshare doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Say it as JSON
    #[arg(long)]
    pub json: bool,
    /// Seconds to wait for the event of the doctor's own object; S3 may take a minute
    #[arg(long, env = "DOCTOR_WAIT_SECS", default_value = "60")]
    pub(super) wait_secs: String,
    /// Origins whose pages upload, as the server has them
    #[arg(long, env = "ALLOWED_ORIGINS", default_value = "")]
    pub(super) allowed_origins: String,
    #[command(flatten)]
    pub(super) aws: AwsArgs,
    #[command(flatten)]
    pub(super) redis: RedisArgs,
}

/// `photoshare redrive`
#[derive(Debug, Args)]
pub struct RedriveArgs {
    /// Move nothing, say of each message why it was given up
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub(super) aws: AwsArgs,
}

/// `photoshare dev`
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Address to listen on
    #[arg(long, env = "BIND_ADDR", default_value = "127.0.0.1")]
    pub(super) bind_addr: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "PORT", default_value = "3000")]
    pub(super) port: String,
    /// Folder for the photos
    #[arg(long, env = "DATA_DIR", default_value = ".photoshare")]
    pub(super) data_dir: String,
    /// How others reach this process (http://host:port); by default, by the Host they send
    #[arg(long, env = "PUBLIC_URL", default_value = "")]
    pub(super) public_url: String,
    /// "off" lets everybody do everything; "on" needs a key source
    #[arg(long, env = "AUTH", default_value = "off")]
    pub(super) auth: String,
    /// Origins whose pages may call: https://app.example.com, https://*.example.com, *
    #[arg(long, env = "ALLOWED_ORIGINS", default_value = "*")]
    pub(super) allowed_origins: String,
    /// "on" limits how often somebody may ask: the settings named …_PER_MINUTE, …_PER_SECOND and …_BURST
    #[arg(long, env = "RATE_LIMITS", default_value = "off")]
    pub(super) rate_limits: String,
    /// json or pretty
    #[arg(long, env = "LOG_FORMAT", default_value = "pretty")]
    pub(super) log_format: String,
    #[command(flatten)]
    pub(super) web: WebArgs,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// `photoshare serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on
    #[arg(long, env = "BIND_ADDR", default_value = "0.0.0.0")]
    pub(super) bind_addr: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "PORT", default_value = "")]
    pub(super) port: String,
    /// "off" lets everybody do everything; "on" needs a key source
    #[arg(long, env = "AUTH", default_value = "on")]
    pub(super) auth: String,
    /// Origins whose pages may call: https://app.example.com, https://*.example.com, *
    #[arg(long, env = "ALLOWED_ORIGINS", default_value = "")]
    pub(super) allowed_origins: String,
    /// Serve the demo page at /
    #[arg(long, env = "DEMO_PAGE", default_value = "false")]
    pub(super) demo_page: String,
    /// Leave the queue to `photoshare poll`; needs REDIS_URL
    #[arg(long)]
    pub(super) no_poller: bool,
    /// "on" limits how often somebody may ask: the settings named …_PER_MINUTE, …_PER_SECOND and …_BURST
    #[arg(long, env = "RATE_LIMITS", default_value = "on")]
    pub(super) rate_limits: String,
    /// json or pretty
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub(super) log_format: String,
    #[command(flatten)]
    pub(super) aws: AwsArgs,
    #[command(flatten)]
    pub(super) web: WebArgs,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// `photoshare poll`
#[derive(Debug, Args)]
pub struct PollArgs {
    /// json or pretty
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub(super) log_format: String,
    #[command(flatten)]
    pub(super) aws: AwsArgs,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// `photoshare token`
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Feed that the token is for; * is every feed. May be repeated
    #[arg(long, required = true)]
    pub(super) feed: Vec<String>,
    /// What its bearer may do there: view, upload, delete
    #[arg(long, default_value = "view")]
    pub(super) can: String,
    /// How long it lives: 90s, 15m, 1h, 7d
    #[arg(long, default_value = "1h")]
    pub(super) expires: String,
    /// Who it is for
    #[arg(long, default_value = "")]
    pub(super) subject: String,
    #[command(flatten)]
    pub(super) keys: TokenKeyArgs,
}

#[derive(Debug, Args)]
pub(super) struct AwsArgs {
    /// Bucket that holds the photos
    #[arg(long, env = "S3_BUCKET", default_value = "")]
    pub(super) s3_bucket: String,
    /// What every key begins with: empty, or ending in /
    #[arg(long, env = "S3_KEY_PREFIX", default_value = "")]
    pub(super) s3_key_prefix: String,
    /// Queue that the bucket's events go to
    #[arg(long, env = "SQS_QUEUE_URL", default_value = "")]
    pub(super) sqs_queue_url: String,
    /// Region of bucket and queue; by default, as the AWS profile says
    #[arg(long, env = "AWS_REGION", default_value = "")]
    pub(super) aws_region: String,
}

#[derive(Debug, Args)]
pub(super) struct WebArgs {
    #[command(flatten)]
    pub(super) tokens: TokenKeyArgs,
    /// Address of the JWKS whose keys sign tokens (RS256, ES256, EdDSA): https://…
    #[arg(long, env = "AUTH_JWKS_URL", default_value = "")]
    pub(super) auth_jwks_url: String,
    /// What those without a token may do: view, upload, delete
    #[arg(long, env = "AUTH_ANONYMOUS", default_value = "")]
    pub(super) auth_anonymous: String,
    /// Secret that the names of uploads are sealed with, the same in all processes, at least 32 bytes; by
    /// default AUTH_JWT_SECRET, else the AWS secret key, where that is a lasting one
    #[arg(
        long,
        env = "UPLOAD_NAME_SECRET",
        default_value = "",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub(super) upload_name_secret: String,
    /// Largest photo, in bytes
    #[arg(long, env = "UPLOAD_MAX_BYTES", default_value = "52428800")]
    pub(super) upload_max_bytes: String,
    /// Feeds that one connection may be in
    #[arg(long, env = "MAX_FEEDS_PER_CONNECTION", default_value = "100")]
    pub(super) max_feeds_per_connection: String,
    /// Longest Socket.IO message that a client may send, in bytes; by default, what a handshake with a
    /// token of 8 KiB and MAX_FEEDS_PER_CONNECTION feeds needs: 41216 for 100
    #[arg(long, env = "MAX_MESSAGE_BYTES", default_value = "")]
    pub(super) max_message_bytes: String,
    /// Connections that this process takes
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "50000")]
    pub(super) max_connections: String,
    /// Connections that one address may have; 0 sets no limit. Thousands of phones can share an address
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", default_value = "0")]
    pub(super) max_connections_per_address: String,
    /// Proxies in front of this process that each put whom they heard into X-Forwarded-For; Heroku: 1
    #[arg(long, env = "TRUSTED_PROXY_HOPS", default_value = "0")]
    pub(super) trusted_proxy_hops: String,
    #[command(flatten)]
    pub(super) rates: RateArgs,
    /// Seconds that a connection may take nothing before it is closed (it recovers by its cursor)
    #[arg(long, env = "SLOW_CLIENT_SECS", default_value = "30")]
    pub(super) slow_client_secs: String,
    /// Tell everybody who connects and disconnects, as the old server did
    #[arg(long, env = "ANNOUNCE_CONNECTIONS", default_value = "false")]
    pub(super) announce_connections: String,
    /// Token that /metrics and the parts of /readyz ask for
    #[arg(
        long,
        env = "METRICS_TOKEN",
        default_value = "",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub(super) metrics_token: String,
}

/// A caller is the subject of a token, or else an address.
#[derive(Debug, Args)]
pub(super) struct RateArgs {
    /// Uploads granted to one caller a minute (a batch counts as its files); 0 sets no limit
    #[arg(long, env = "GRANTS_PER_MINUTE", default_value = "6000")]
    pub(super) grants_per_minute: String,
    /// Of those, at once
    #[arg(long, env = "GRANTS_BURST", default_value = "3000")]
    pub(super) grants_burst: String,
    /// Other requests under /v1 of one caller a minute; 0 sets no limit
    #[arg(long, env = "REQUESTS_PER_MINUTE", default_value = "30000")]
    pub(super) requests_per_minute: String,
    /// Of those, at once
    #[arg(long, env = "REQUESTS_BURST", default_value = "10000")]
    pub(super) requests_burst: String,
    /// Joins of one connection a second; 0 sets no limit
    #[arg(long, env = "JOINS_PER_SECOND", default_value = "200")]
    pub(super) joins_per_second: String,
    /// Of those, at once
    #[arg(long, env = "JOINS_BURST", default_value = "1000")]
    pub(super) joins_burst: String,
}

/// What both who checks tokens and who makes them must know.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the names of the settings")]
pub(super) struct TokenKeyArgs {
    /// Secret that tokens are signed with (HS256), at least 32 bytes
    #[arg(
        long,
        env = "AUTH_JWT_SECRET",
        default_value = "",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub(super) auth_jwt_secret: String,
    /// Audience that tokens must be meant for
    #[arg(long, env = "AUTH_AUDIENCE", default_value = "")]
    pub(super) auth_audience: String,
    /// Issuer that tokens must come from
    #[arg(long, env = "AUTH_ISSUER", default_value = "")]
    pub(super) auth_issuer: String,
}

#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// Seconds that a URL shows a photo
    #[arg(long, env = "VIEW_URL_SECS", default_value = "3600")]
    pub(super) view_url_secs: String,
    /// Most seconds that an upload is granted
    #[arg(long, env = "UPLOAD_URL_MAX_SECS", default_value = "604800")]
    pub(super) upload_url_max_secs: String,
    /// Media types that may be uploaded
    #[arg(
        long,
        env = "UPLOAD_CONTENT_TYPES",
        default_value = "image/jpeg,image/png,image/webp,image/gif,image/heic,image/heif,image/avif"
    )]
    pub(super) upload_content_types: String,
    /// Look at uploads before they are announced, and what becomes of those whose real type is not
    /// taken: keep, delete, quarantine; "off" announces without looking
    #[arg(long, env = "INSPECT", default_value = "keep")]
    pub(super) inspect: String,
    /// Looks at the same time
    #[arg(long, env = "INSPECT_CONCURRENCY", default_value = "8")]
    pub(super) inspect_concurrency: String,
    /// Seconds that one may take before the event is left to come again
    #[arg(long, env = "INSPECT_TIMEOUT_SECS", default_value = "10")]
    pub(super) inspect_timeout_secs: String,
    /// Tell everybody who uploaded a photo: the "sub" of the token
    #[arg(long, env = "SHOW_UPLOADER", default_value = "false")]
    pub(super) show_uploader: String,
    /// Events that the log keeps of each feed
    #[arg(long, env = "FEED_LOG_LENGTH", default_value = "1000")]
    pub(super) feed_log_length: String,
    /// Seconds after which a feed that nobody used or watched is forgotten; 600 at most if it never had an event
    #[arg(long, env = "FEED_LOG_TTL_SECS", default_value = "86400")]
    pub(super) feed_log_ttl_secs: String,
    /// Photos of each feed whose latest event is remembered
    #[arg(long, env = "SEEN_LENGTH", default_value = "10000")]
    pub(super) seen_length: String,
    /// Seconds for which it is
    #[arg(long, env = "SEEN_SECS", default_value = "86400")]
    pub(super) seen_secs: String,
    /// Most loops that receive from the queue
    #[arg(long, env = "POLLER_MAX_LOOPS", default_value = "8")]
    pub(super) poller_max_loops: String,
    #[command(flatten)]
    pub(super) redis: RedisArgs,
    /// The dyno's name, as Heroku gives it
    #[arg(long, env = "DYNO", default_value = "", hide = true)]
    pub(super) dyno: String,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the names of the settings")]
pub(super) struct RedisArgs {
    /// Redis or Valkey 7+ that holds the feed log, or a node of its cluster: redis://… or rediss://…; by default, it is in memory
    #[arg(long, env = "REDIS_URL", default_value = "", hide_env_values = true)]
    pub(super) redis_url: String,
    /// Accept any certificate of a rediss:// server, as Heroku's self-signed ones need
    #[arg(long, env = "REDIS_TLS_INSECURE", default_value = "false")]
    pub(super) redis_tls_insecure: String,
    /// What every key in Redis begins with: parts deployments that share one
    #[arg(long, env = "REDIS_KEY_PREFIX", default_value = "photoshare:")]
    pub(super) redis_key_prefix: String,
    /// Replicas that must have an event before its message is deleted
    #[arg(long, env = "REDIS_WAIT_REPLICAS", default_value = "0")]
    pub(super) redis_wait_replicas: String,
    /// Milliseconds that they may take
    #[arg(long, env = "REDIS_WAIT_MS", default_value = "1000")]
    pub(super) redis_wait_ms: String,
}
