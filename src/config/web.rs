//! Settings of the web side: the listen address, authentication, uploads and limits.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use secrecy::SecretString;

use super::{
    CommonConfig, WebConfig,
    args::WebArgs,
    validate::{Validator, non_empty},
};
use crate::{
    auth::{AuthSettings, JwksUrl, KeySources, Rights},
    http::{AllowedOrigins, UploadRules},
    limit::{LimitSettings, Rate},
    socketio::ConnectionLimits,
};

/// S3's limit on the size of one PUT.
const MAX_PUT_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// Arguments of the web side whose defaults differ between `dev` and `serve`.
pub(super) struct PerCommandArgs<'a> {
    pub(super) bind_addr: &'a str,
    pub(super) port: &'a str,
    pub(super) auth: &'a str,
    pub(super) allowed_origins: &'a str,
    pub(super) rate_limits: &'a str,
}

impl Validator {
    pub(super) fn validate_web(
        &mut self,
        args: &WebArgs,
        common: &CommonConfig,
        per_command: &PerCommandArgs<'_>,
    ) -> WebConfig {
        WebConfig {
            address: self.parse_listen_address(per_command.bind_addr, per_command.port),
            auth: self.validate_auth(args, per_command.auth),
            origins: self.parse_value::<AllowedOrigins>("ALLOWED_ORIGINS", per_command.allowed_origins),
            upload_name_secret: self.validate_secret("UPLOAD_NAME_SECRET", &args.upload_name_secret),
            uploads: UploadRules {
                max_bytes: self.parse_u64("UPLOAD_MAX_BYTES", &args.upload_max_bytes, 1..=MAX_PUT_BYTES),
                content_types: common.content_types.clone(),
                record_uploader: true,
            },
            socketio: self.validate_connection_limits(args),
            keep_alive: self.parse_seconds("KEEP_ALIVE_SECS", &args.keep_alive_secs, 1..=3600),
            limits: self.validate_limits(args, per_command.rate_limits),
            metrics_token: non_empty(&args.metrics_token).map(SecretString::from),
            announce_connections: self.parse_bool("ANNOUNCE_CONNECTIONS", &args.announce_connections),
        }
    }

    fn validate_connection_limits(&mut self, args: &WebArgs) -> ConnectionLimits {
        let feeds = self.parse_usize("MAX_FEEDS_PER_CONNECTION", &args.max_feeds_per_connection, 1..=10_000);
        ConnectionLimits {
            feeds_per_connection: feeds,
            request_timeout: self.parse_seconds("REQUEST_TIMEOUT_SECS", &args.request_timeout_secs, 1..=3600),
            stall_timeout: self.parse_seconds("SLOW_CLIENT_SECS", &args.slow_client_secs, 1..=3600),
            max_message_bytes: match non_empty(&args.max_message_bytes) {
                Some(bytes) => self.parse_usize("MAX_MESSAGE_BYTES", bytes, 1024..=16_777_216),
                None => ConnectionLimits::max_handshake_bytes(feeds),
            },
        }
    }

    fn validate_limits(&mut self, args: &WebArgs, rate_limits: &str) -> LimitSettings {
        if !matches!(rate_limits, "on" | "off") {
            self.add_error("RATE_LIMITS", "must be on or off");
        }
        let WebArgs { max_connections_per_address: per_address, trusted_proxy_hops: hops, rates, .. } = args;
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        let grants = self.parse_rate(
            ("GRANTS_PER_MINUTE", &rates.grants_per_minute),
            ("GRANTS_BURST", &rates.grants_burst),
            minute,
        );
        let requests = self.parse_rate(
            ("REQUESTS_PER_MINUTE", &rates.requests_per_minute),
            ("REQUESTS_BURST", &rates.requests_burst),
            minute,
        );
        let joins = self.parse_rate(
            ("JOINS_PER_SECOND", &rates.joins_per_second),
            ("JOINS_BURST", &rates.joins_burst),
            second,
        );
        let if_enabled = |rate: Option<Rate>| rate.filter(|_| rate_limits == "on");
        LimitSettings {
            grants: if_enabled(grants),
            requests: if_enabled(requests),
            joins: if_enabled(joins),
            connections: self.parse_usize("MAX_CONNECTIONS", &args.max_connections, 1..=1_000_000),
            connections_per_address: NonZeroUsize::new(self.parse_usize(
                "MAX_CONNECTIONS_PER_ADDRESS",
                per_address,
                0..=1_000_000,
            )),
            trusted_proxy_hops: self.parse_usize("TRUSTED_PROXY_HOPS", hops, 0..=16),
        }
    }

    fn parse_rate(
        &mut self,
        (count_name, count): (&'static str, &str),
        (burst_name, burst): (&'static str, &str),
        period: Duration,
    ) -> Option<Rate> {
        let count = self.parse_u64(count_name, count, 0..=1_000_000);
        let burst = self.parse_u64(burst_name, burst, 1..=1_000_000);
        let [count, burst] = [count, burst].map(|n| u32::try_from(n).ok().and_then(NonZeroU32::new));
        Some(Rate::new(count?, period, burst?))
    }

    fn validate_auth(&mut self, args: &WebArgs, auth: &str) -> AuthSettings {
        let anonymous = self.parse_value::<Rights>("AUTH_ANONYMOUS", &args.auth_anonymous);
        let keys = match auth {
            "off" => None,
            "on" => Some(self.validate_key_sources(args)),
            _ => {
                self.add_error("AUTH", "must be on or off");
                None
            }
        };
        AuthSettings {
            keys,
            anonymous,
            audience: non_empty(&args.tokens.auth_audience).map(str::to_owned),
            issuer: non_empty(&args.tokens.auth_issuer).map(str::to_owned),
        }
    }

    fn validate_key_sources(&mut self, args: &WebArgs) -> KeySources {
        let secret = self.validate_secret("AUTH_JWT_SECRET", &args.tokens.auth_jwt_secret);
        let url = non_empty(&args.auth_jwks_url);
        if secret.is_none() && url.is_none() {
            self.add_error(
                "AUTH_JWT_SECRET",
                "or AUTH_JWKS_URL must be set; only AUTH=off starts without a key source, and grants every client every right",
            );
        }
        let jwks = url.and_then(|url| {
            let url = url.parse::<JwksUrl>();
            url.map_err(|error| self.add_error("AUTH_JWKS_URL", error.to_string())).ok()
        });
        KeySources { secret, jwks }
    }

    fn parse_listen_address(&mut self, bind_addr: &str, port: &str) -> SocketAddr {
        let port = port.parse().unwrap_or_else(|_| {
            self.add_error("PORT", "must be an integer from 0 to 65535");
            0
        });
        let ip = bind_addr.parse().unwrap_or_else(|_| {
            self.add_error("BIND_ADDR", "must be an IP address, for example 127.0.0.1 or 0.0.0.0");
            [127, 0, 0, 1].into()
        });
        SocketAddr::new(ip, port)
    }
}
