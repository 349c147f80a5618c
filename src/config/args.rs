//! The command line, parsed by clap. Values stay strings here and are validated together afterwards, so that
//! one run reports every error.

#![expect(clippy::doc_markdown, rustdoc::bare_urls, reason = "these comments are the help text")]

use clap::{Args, Parser, Subcommand};

/// Server for photo feeds: delivers an event to every subscriber as soon as S3 stores a photo
#[derive(Debug, Parser)]
#[command(name = "photoshare", version, arg_required_else_help = true)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process for development, with an embedded S3 and queue
    Dev(DevArgs),
    /// Run the web server and the queue poller, with S3 and SQS
    Serve(ServeArgs),
    /// Run the queue poller only, with S3 and SQS; requires REDIS_URL
    Poll(PollArgs),
    /// Print a token for development, signed with AUTH_JWT_SECRET
    Token(TokenArgs),
    /// Check bucket, queue, event notifications and Redis, and print how to fix what fails
    #[command(
        after_help = "Exit code: 0 all checks passed, 1 a warning, 2 a failure, 64 invalid command line, 78 invalid configuration"
    )]
    Doctor(DoctorArgs),
    /// Move the messages of the dead-letter queue back to the queue
    Redrive(RedriveArgs),
}

/// Arguments of `photoshare doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Timeout for the event of the doctor's test object, in seconds; S3 may take a minute
    #[arg(long, env = "DOCTOR_WAIT_SECS", default_value = "60")]
    pub(super) wait_secs: String,
    /// Origins whose pages upload, comma-separated, as configured for the server
    #[arg(long, env = "ALLOWED_ORIGINS", default_value = "")]
    pub(super) allowed_origins: String,
    #[command(flatten)]
    pub(super) aws: AwsArgs,
    #[command(flatten)]
    pub(super) redis: RedisArgs,
}

/// Arguments of `photoshare redrive`.
#[derive(Debug, Args)]
pub struct RedriveArgs {
    /// Move no message; print for each why it could not be processed
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub(super) aws: AwsArgs,
}

/// Arguments of `photoshare dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// IP address to listen on
    #[arg(long, env = "BIND_ADDR", default_value = "127.0.0.1")]
    pub(super) bind_addr: String,
    /// TCP port to listen on; 0 selects a free port
    #[arg(long, env = "PORT", default_value = "3000")]
    pub(super) port: String,
    /// Directory that stores the photos
    #[arg(long, env = "DATA_DIR", default_value = ".photoshare")]
    pub(super) data_dir: String,
    /// Origin of signed URLs (http://host:port); if empty, the Host header of each request
    #[arg(long, env = "PUBLIC_URL", default_value = "")]
    pub(super) public_url: String,
    /// Token authentication: "on" requires AUTH_JWT_SECRET or AUTH_JWKS_URL, "off" grants every client every
    /// right
    #[arg(long, env = "AUTH", default_value = "off")]
    pub(super) auth: String,
    /// Origins whose pages may send requests, comma-separated: https://app.example.com,
    /// https://*.example.com, *; if empty, only same-origin pages
    #[arg(long, env = "ALLOWED_ORIGINS", default_value = "*")]
    pub(super) allowed_origins: String,
    /// Rate limits: "on" applies GRANTS_PER_MINUTE, REQUESTS_PER_MINUTE and JOINS_PER_SECOND, "off" ignores
    /// them
    #[arg(long, env = "RATE_LIMITS", default_value = "off")]
    pub(super) rate_limits: String,
    /// Format of log lines: json or pretty
    #[arg(long, env = "LOG_FORMAT", default_value = "pretty")]
    pub(super) log_format: String,
    #[command(flatten)]
    pub(super) web: WebArgs,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Arguments of `photoshare serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// IP address to listen on
    #[arg(long, env = "BIND_ADDR", default_value = "0.0.0.0")]
    pub(super) bind_addr: String,
    /// TCP port to listen on; 0 selects a free port
    #[arg(long, env = "PORT", default_value = "")]
    pub(super) port: String,
    /// Token authentication: "on" requires AUTH_JWT_SECRET or AUTH_JWKS_URL, "off" grants every client every
    /// right
    #[arg(long, env = "AUTH", default_value = "on")]
    pub(super) auth: String,
    /// Origins whose pages may send requests, comma-separated: https://app.example.com,
    /// https://*.example.com, *; if empty, only same-origin pages
    #[arg(long, env = "ALLOWED_ORIGINS", default_value = "")]
    pub(super) allowed_origins: String,
    /// Whether to serve the demo page at /: true or false
    #[arg(long, env = "DEMO_PAGE", default_value = "false")]
    pub(super) demo_page: String,
    /// Run without the queue poller, for a deployment that runs `photoshare poll`; requires REDIS_URL
    #[arg(long)]
    pub(super) no_poller: bool,
    /// Rate limits: "on" applies GRANTS_PER_MINUTE, REQUESTS_PER_MINUTE and JOINS_PER_SECOND, "off" ignores
    /// them
    #[arg(long, env = "RATE_LIMITS", default_value = "on")]
    pub(super) rate_limits: String,
    /// Format of log lines: json or pretty
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub(super) log_format: String,
    #[command(flatten)]
    pub(super) aws: AwsArgs,
    #[command(flatten)]
    pub(super) web: WebArgs,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Arguments of `photoshare poll`.
#[derive(Debug, Args)]
pub struct PollArgs {
    /// Format of log lines: json or pretty
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub(super) log_format: String,
    #[command(flatten)]
    pub(super) aws: AwsArgs,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Arguments of `photoshare token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Feed that the token grants rights on; * for every feed. May be repeated
    #[arg(long, required = true)]
    pub(super) feed: Vec<String>,
    /// Rights that the token grants, comma-separated: view, upload, delete
    #[arg(long, default_value = "view")]
    pub(super) can: String,
    /// Time until the token expires: 90s, 15m, 1h, 7d
    #[arg(long, default_value = "1h")]
    pub(super) expires: String,
    /// Subject of the token (claim "sub"); if empty, none
    #[arg(long, default_value = "")]
    pub(super) subject: String,
    #[command(flatten)]
    pub(super) keys: TokenKeyArgs,
}

#[derive(Debug, Args)]
pub(super) struct AwsArgs {
    /// Name of the S3 bucket that stores the photos
    #[arg(long, env = "S3_BUCKET", default_value = "")]
    pub(super) s3_bucket: String,
    /// Prefix of every key in the bucket: empty, or ending in /
    #[arg(long, env = "S3_KEY_PREFIX", default_value = "")]
    pub(super) s3_key_prefix: String,
    /// URL of the SQS queue that receives the bucket's events
    #[arg(long, env = "SQS_QUEUE_URL", default_value = "")]
    pub(super) sqs_queue_url: String,
    /// AWS region of bucket and queue; if empty, the region of the AWS profile
    #[arg(long, env = "AWS_REGION", default_value = "")]
    pub(super) aws_region: String,
}

#[derive(Debug, Args)]
pub(super) struct WebArgs {
    #[command(flatten)]
    pub(super) tokens: TokenKeyArgs,
    /// URL of the JSON Web Key Set that verifies tokens (RS256, ES256, EdDSA): https://…; if empty, only
    /// AUTH_JWT_SECRET verifies tokens
    #[arg(long, env = "AUTH_JWKS_URL", default_value = "")]
    pub(super) auth_jwks_url: String,
    /// Rights of clients without a token, comma-separated: view, upload, delete; if empty, none
    #[arg(long, env = "AUTH_ANONYMOUS", default_value = "")]
    pub(super) auth_anonymous: String,
    /// Secret that seals the names of uploads, at least 32 bytes, the same in all processes; if empty,
    /// AUTH_JWT_SECRET, or else a permanent AWS secret key
    #[arg(
        long,
        env = "UPLOAD_NAME_SECRET",
        default_value = "",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub(super) upload_name_secret: String,
    /// Maximum size of a photo, in bytes
    #[arg(long, env = "UPLOAD_MAX_BYTES", default_value = "52428800")]
    pub(super) upload_max_bytes: String,
    /// Maximum number of feeds that one connection may join
    #[arg(long, env = "MAX_FEEDS_PER_CONNECTION", default_value = "100")]
    pub(super) max_feeds_per_connection: String,
    /// Maximum size of a Socket.IO message from a client, in bytes; if empty, the size of a handshake with a
    /// token of 8 KiB and MAX_FEEDS_PER_CONNECTION feeds: 41216 for 100
    #[arg(long, env = "MAX_MESSAGE_BYTES", default_value = "")]
    pub(super) max_message_bytes: String,
    /// Maximum number of connections of one process
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "50000")]
    pub(super) max_connections: String,
    /// Maximum number of connections from one IP address; 0 for no limit, since thousands of phones can share
    /// an address
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", default_value = "0")]
    pub(super) max_connections_per_address: String,
    /// Number of trusted proxies in front of this process that append to X-Forwarded-For; on Heroku 1
    #[arg(long, env = "TRUSTED_PROXY_HOPS", default_value = "0")]
    pub(super) trusted_proxy_hops: String,
    #[command(flatten)]
    pub(super) rates: RateArgs,
    /// Time within which the body of a request must arrive, in seconds; its head must arrive within 10 s, or
    /// within this time if it is shorter
    #[arg(long, env = "REQUEST_TIMEOUT_SECS", default_value = "30")]
    pub(super) request_timeout_secs: String,
    /// Time after which a connection without a request is closed, in seconds; longer than the idle timeout of
    /// the load balancer in front, which could otherwise send a request on a connection that is closing
    #[arg(long, env = "KEEP_ALIVE_SECS", default_value = "120")]
    pub(super) keep_alive_secs: String,
    /// Time after which a connection that accepts no events is closed, in seconds; the client recovers by its
    /// cursor
    #[arg(long, env = "SLOW_CLIENT_SECS", default_value = "30")]
    pub(super) slow_client_secs: String,
    /// Whether all clients receive an event for each connection and disconnection, as from the old server:
    /// true or false
    #[arg(long, env = "ANNOUNCE_CONNECTIONS", default_value = "false")]
    pub(super) announce_connections: String,
    /// Bearer token that /metrics and the details of /readyz require; if empty, both are public
    #[arg(
        long,
        env = "METRICS_TOKEN",
        default_value = "",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub(super) metrics_token: String,
}

/// Rate limits. A caller is the subject of a token, or else a client address.
#[derive(Debug, Args)]
pub(super) struct RateArgs {
    /// Maximum number of uploads granted to one caller (token subject, else IP address) per minute, counting
    /// each file of a batch; 0 for no limit
    #[arg(long, env = "GRANTS_PER_MINUTE", default_value = "6000")]
    pub(super) grants_per_minute: String,
    /// Burst size for GRANTS_PER_MINUTE, in uploads
    #[arg(long, env = "GRANTS_BURST", default_value = "3000")]
    pub(super) grants_burst: String,
    /// Maximum number of requests under /v1, without upload grants, from one caller (token subject, else IP
    /// address) per minute; 0 for no limit
    #[arg(long, env = "REQUESTS_PER_MINUTE", default_value = "30000")]
    pub(super) requests_per_minute: String,
    /// Burst size for REQUESTS_PER_MINUTE, in requests
    #[arg(long, env = "REQUESTS_BURST", default_value = "10000")]
    pub(super) requests_burst: String,
    /// Maximum number of joins on one connection per second; 0 for no limit
    #[arg(long, env = "JOINS_PER_SECOND", default_value = "200")]
    pub(super) joins_per_second: String,
    /// Burst size for JOINS_PER_SECOND, in joins
    #[arg(long, env = "JOINS_BURST", default_value = "1000")]
    pub(super) joins_burst: String,
}

/// Settings that the server verifies tokens with, and `photoshare token` signs them with.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the names of the settings")]
pub(super) struct TokenKeyArgs {
    /// Secret that signs and verifies tokens (HS256), at least 32 bytes; if empty, only AUTH_JWKS_URL verifies
    /// tokens
    #[arg(
        long,
        env = "AUTH_JWT_SECRET",
        default_value = "",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub(super) auth_jwt_secret: String,
    /// Required audience of tokens (claim "aud"); if empty, not checked
    #[arg(long, env = "AUTH_AUDIENCE", default_value = "")]
    pub(super) auth_audience: String,
    /// Required issuer of tokens (claim "iss"); if empty, not checked
    #[arg(long, env = "AUTH_ISSUER", default_value = "")]
    pub(super) auth_issuer: String,
}

#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// TTL of the signed URLs in events and listings, in seconds
    #[arg(long, env = "VIEW_URL_SECS", default_value = "3600")]
    pub(super) view_url_secs: String,
    /// Maximum TTL of an upload grant, in seconds
    #[arg(long, env = "UPLOAD_URL_MAX_SECS", default_value = "604800")]
    pub(super) upload_url_max_secs: String,
    /// Media types that may be uploaded, comma-separated
    #[arg(
        long,
        env = "UPLOAD_CONTENT_TYPES",
        default_value = "image/jpeg,image/png,image/webp,image/gif,image/heic,image/heif,image/avif"
    )]
    pub(super) upload_content_types: String,
    /// What happens to an upload whose detected type is not in UPLOAD_CONTENT_TYPES: keep, delete or
    /// quarantine (never announced); "off" announces uploads without inspection
    #[arg(long, env = "INSPECT", default_value = "keep")]
    pub(super) inspect: String,
    /// Maximum number of concurrent inspections of uploads
    #[arg(long, env = "INSPECT_CONCURRENCY", default_value = "8")]
    pub(super) inspect_concurrency: String,
    /// Timeout of the inspection of one upload, in seconds; its event is then retried
    #[arg(long, env = "INSPECT_TIMEOUT_SECS", default_value = "10")]
    pub(super) inspect_timeout_secs: String,
    /// Whether events contain the uploader (claim "sub" of the token): true or false
    #[arg(long, env = "SHOW_UPLOADER", default_value = "false")]
    pub(super) show_uploader: String,
    /// Number of events that the log keeps for each feed
    #[arg(long, env = "FEED_LOG_LENGTH", default_value = "1000")]
    pub(super) feed_log_length: String,
    /// Time after which the log of an unused feed without subscribers expires, in seconds; at most 600 for a
    /// feed without events
    #[arg(long, env = "FEED_LOG_TTL_SECS", default_value = "86400")]
    pub(super) feed_log_ttl_secs: String,
    /// Number of photos of each feed whose latest event the log remembers for deduplication
    #[arg(long, env = "SEEN_LENGTH", default_value = "10000")]
    pub(super) seen_length: String,
    /// Time for which the log remembers the latest event of a photo for deduplication, in seconds
    #[arg(long, env = "SEEN_SECS", default_value = "86400")]
    pub(super) seen_secs: String,
    /// Maximum number of concurrent loops that receive from the queue
    #[arg(long, env = "POLLER_MAX_LOOPS", default_value = "8")]
    pub(super) poller_max_loops: String,
    #[command(flatten)]
    pub(super) redis: RedisArgs,
    /// Name of the Heroku dyno, set by Heroku
    #[arg(long, env = "DYNO", default_value = "", hide = true)]
    pub(super) dyno: String,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the names of the settings")]
pub(super) struct RedisArgs {
    /// URL of the Redis or Valkey 7+ server, or of a cluster node, that stores the feed log: redis://… or
    /// rediss://…; if empty, the log is in memory
    #[arg(long, env = "REDIS_URL", default_value = "", hide_env_values = true)]
    pub(super) redis_url: String,
    /// Whether to accept any certificate of a rediss:// server, as Heroku's self-signed ones require: true or
    /// false
    #[arg(long, env = "REDIS_TLS_INSECURE", default_value = "false")]
    pub(super) redis_tls_insecure: String,
    /// Prefix of every key in Redis; separates deployments that share a server
    #[arg(long, env = "REDIS_KEY_PREFIX", default_value = "photoshare:")]
    pub(super) redis_key_prefix: String,
    /// Number of replicas that must confirm an event before its message is deleted from the queue
    #[arg(long, env = "REDIS_WAIT_REPLICAS", default_value = "0")]
    pub(super) redis_wait_replicas: String,
    /// Timeout for the replicas of REDIS_WAIT_REPLICAS to confirm, in milliseconds
    #[arg(long, env = "REDIS_WAIT_MS", default_value = "1000")]
    pub(super) redis_wait_ms: String,
}
