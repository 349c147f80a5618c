//! Settings of the web server: HTTP and Socket.IO.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use clap::Args;
use secrecy::SecretString;

use super::{
    auth::{AuthArgs, parse_secret},
    limits::LimitArgs,
    rules,
    setting::{Setting, boolean, integer, parsed, seconds, text},
    validate::Validator,
};
use crate::{
    auth::AuthSettings,
    http::{AllowedOrigins, UploadRules},
    limit::LimitSettings,
    socketio::ConnectionLimits,
};

/// S3's limit on the size of one PUT.
const MAX_PUT_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// Settings of the web server with the same default in `dev` and `serve`.
#[derive(Debug, Args)]
pub(super) struct WebArgs {
    #[command(flatten)]
    auth: AuthArgs,
    /// Secret that seals the names of uploads, at least 32 bytes, the same in all processes; if unset,
    /// AUTH_JWT_SECRET, or else a permanent AWS secret key
    #[arg(long, env = "UPLOAD_NAME_SECRET", hide_env_values = true)]
    #[arg(value_name = "SECRET", value_parser = parsed(parse_secret))]
    upload_name_secret: Option<Setting<SecretString>>,
    /// Maximum size of a photo
    #[arg(long, env = "UPLOAD_MAX_BYTES", default_value = "52428800")]
    #[arg(value_name = "BYTES", value_parser = integer::<u64>(1..=MAX_PUT_BYTES))]
    upload_max_bytes: Setting<u64>,
    /// Maximum number of feeds that one connection may join
    #[arg(long, env = "MAX_FEEDS_PER_CONNECTION", default_value = "100")]
    #[arg(value_name = "NUMBER", value_parser = integer::<usize>(1..=10_000))]
    max_feeds_per_connection: Setting<usize>,
    /// Maximum size of a Socket.IO message from a client; if unset, the size of a handshake with a token of
    /// 8 KiB and MAX_FEEDS_PER_CONNECTION feeds: 41216 for 100
    #[arg(long, env = "MAX_MESSAGE_BYTES")]
    #[arg(value_name = "BYTES", value_parser = integer::<usize>(1024..=16_777_216))]
    max_message_bytes: Option<Setting<usize>>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Time within which the body of a request must arrive; its head must arrive within 10 seconds, or within
    /// this time if it is shorter
    #[arg(long, env = "REQUEST_TIMEOUT_SECS", default_value = "30")]
    #[arg(value_name = "SECONDS", value_parser = seconds(1..=3600))]
    request_timeout_secs: Setting<Duration>,
    /// Time after which a connection without a request is closed; longer than the idle timeout of the load
    /// balancer in front, which could otherwise send a request on a connection that is closing
    #[arg(long, env = "KEEP_ALIVE_SECS", default_value = "120")]
    #[arg(value_name = "SECONDS", value_parser = seconds(1..=3600))]
    keep_alive_secs: Setting<Duration>,
    /// Time after which a connection that accepts no events is closed; the client recovers by its cursor
    #[arg(long, env = "SLOW_CLIENT_SECS", default_value = "30")]
    #[arg(value_name = "SECONDS", value_parser = seconds(1..=3600))]
    slow_client_secs: Setting<Duration>,
    /// Whether all clients receive an event for each connection and disconnection, for apps that expect it
    #[arg(long, env = "ANNOUNCE_CONNECTIONS", default_value = "false")]
    #[arg(value_name = "BOOLEAN", value_parser = boolean())]
    announce_connections: Setting<bool>,
    /// Bearer token that /metrics and the details of /readyz require; if unset, both are public
    #[arg(long, env = "METRICS_TOKEN", hide_env_values = true)]
    #[arg(value_name = "TOKEN", value_parser = text::<SecretString>())]
    metrics_token: Option<Setting<SecretString>>,
}

/// Values of the settings whose defaults differ between `dev` and `serve`.
pub(super) struct PerCommandValues {
    /// `None` if invalid.
    pub(super) ip: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) auth: bool,
    pub(super) origins: AllowedOrigins,
    pub(super) rate_limits: bool,
}

/// Configuration of the web server: HTTP and Socket.IO.
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
    /// Whether all clients receive an event for each connection and disconnection.
    pub announce_connections: bool,
}

impl WebArgs {
    pub(super) fn validate(
        self,
        per_command: PerCommandValues,
        content_types: Vec<String>,
        validator: &mut Validator,
    ) -> WebConfig {
        if per_command.auth {
            rules::check_key_sources(&self.auth, validator);
        }
        // An invalid address is replaced by a placeholder, like every invalid value.
        let ip = per_command.ip.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let feeds_per_connection = validator.value(self.max_feeds_per_connection);
        let max_message_bytes = validator.optional(self.max_message_bytes);
        WebConfig {
            address: SocketAddr::new(ip, per_command.port),
            auth: self.auth.validate(per_command.auth, validator),
            origins: per_command.origins,
            upload_name_secret: validator.optional(self.upload_name_secret),
            uploads: UploadRules {
                max_bytes: validator.value(self.upload_max_bytes),
                content_types,
                record_uploader: true,
            },
            socketio: ConnectionLimits {
                feeds_per_connection,
                request_timeout: validator.value(self.request_timeout_secs),
                stall_timeout: validator.value(self.slow_client_secs),
                max_message_bytes: max_message_bytes
                    .unwrap_or_else(|| ConnectionLimits::max_handshake_bytes(feeds_per_connection)),
            },
            keep_alive: validator.value(self.keep_alive_secs),
            limits: self.limits.validate(per_command.rate_limits, validator),
            metrics_token: validator.optional(self.metrics_token),
            announce_connections: validator.value(self.announce_connections),
        }
    }
}

pub(super) fn parse_ip(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "must be an IP address, for example 127.0.0.1 or 0.0.0.0")
}

pub(super) fn parse_origins(text: &str) -> Result<AllowedOrigins, String> {
    text.parse().map_err(|error| format!("is invalid: {error}"))
}
