//! What the web side is told: where to listen, who gets in, and how much of everything.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use secrecy::SecretString;

use super::{
    Common, Web,
    args::WebArgs,
    judge::{Judge, optional},
};
use crate::{
    auth::{JwksUrl, KeySources, Rights, Settings},
    http::{AllowedOrigins, UploadRules},
    limit::{self, Rate},
    socketio::Limits,
};

/// S3 takes no more in one PUT.
const MAX_PUT: u64 = 5 * 1024 * 1024 * 1024;

/// What the web side takes from arguments whose defaults differ between the ways of running.
pub(super) struct Differing<'a> {
    pub(super) bind_addr: &'a str,
    pub(super) port: &'a str,
    pub(super) auth: &'a str,
    pub(super) allowed_origins: &'a str,
    pub(super) rate_limits: &'a str,
}

impl Judge {
    pub(super) fn web(&mut self, args: &WebArgs, common: &Common, differing: &Differing<'_>) -> Web {
        Web {
            address: self.address(differing.bind_addr, differing.port),
            auth: self.auth(args, differing.auth),
            origins: self.parsed::<AllowedOrigins>("ALLOWED_ORIGINS", differing.allowed_origins),
            name_secret: self.secret("UPLOAD_NAME_SECRET", &args.upload_name_secret),
            uploads: UploadRules {
                max_bytes: self.whole("UPLOAD_MAX_BYTES", &args.upload_max_bytes, 1..=MAX_PUT),
                content_types: common.content_types.clone(),
                record_uploader: true,
            },
            limits: self.limits(args),
            rates: self.rates(args, differing.rate_limits),
            metrics_token: optional(&args.metrics_token).map(SecretString::from),
            announce_connections: self.flag("ANNOUNCE_CONNECTIONS", &args.announce_connections),
        }
    }

    fn limits(&mut self, args: &WebArgs) -> Limits {
        let feeds = self.count("MAX_FEEDS_PER_CONNECTION", &args.max_feeds_per_connection, 1..=10_000);
        Limits {
            feeds_per_connection: feeds,
            patience: self.seconds("SLOW_CLIENT_SECS", &args.slow_client_secs, 1..=3600),
            message: match optional(&args.max_message_bytes) {
                Some(bytes) => self.count("MAX_MESSAGE_BYTES", bytes, 1024..=16_777_216),
                None => Limits::longest_handshake(feeds),
            },
        }
    }

    fn rates(&mut self, args: &WebArgs, rate_limits: &str) -> limit::Settings {
        if !matches!(rate_limits, "on" | "off") {
            self.mistake("RATE_LIMITS", "must be on or off");
        }
        let WebArgs { max_connections_per_address: per_address, trusted_proxy_hops: hops, rates, .. } = args;
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        let grants = self.rate(
            ("GRANTS_PER_MINUTE", &rates.grants_per_minute),
            ("GRANTS_BURST", &rates.grants_burst),
            minute,
        );
        let requests = self.rate(
            ("REQUESTS_PER_MINUTE", &rates.requests_per_minute),
            ("REQUESTS_BURST", &rates.requests_burst),
            minute,
        );
        let joins = self.rate(
            ("JOINS_PER_SECOND", &rates.joins_per_second),
            ("JOINS_BURST", &rates.joins_burst),
            second,
        );
        let where_on = |rate: Option<Rate>| rate.filter(|_| rate_limits == "on");
        limit::Settings {
            grants: where_on(grants),
            requests: where_on(requests),
            joins: where_on(joins),
            connections: self.count("MAX_CONNECTIONS", &args.max_connections, 1..=1_000_000),
            connections_per_address: NonZeroUsize::new(self.count(
                "MAX_CONNECTIONS_PER_ADDRESS",
                per_address,
                0..=1_000_000,
            )),
            trusted_proxy_hops: self.count("TRUSTED_PROXY_HOPS", hops, 0..=16),
        }
    }

    fn rate(
        &mut self,
        (count_name, count): (&'static str, &str),
        (burst_name, burst): (&'static str, &str),
        period: Duration,
    ) -> Option<Rate> {
        let count = self.whole(count_name, count, 0..=1_000_000);
        let burst = self.whole(burst_name, burst, 1..=1_000_000);
        let [count, burst] = [count, burst].map(|n| u32::try_from(n).ok().and_then(NonZeroU32::new));
        Some(Rate::new(count?, period, burst?))
    }

    fn auth(&mut self, args: &WebArgs, auth: &str) -> Settings {
        let anonymous = self.parsed::<Rights>("AUTH_ANONYMOUS", &args.auth_anonymous);
        let keys = match auth {
            "off" => None,
            "on" => Some(self.key_sources(args)),
            _ => {
                self.mistake("AUTH", "must be on or off");
                None
            }
        };
        Settings {
            keys,
            anonymous,
            audience: optional(&args.tokens.auth_audience).map(str::to_owned),
            issuer: optional(&args.tokens.auth_issuer).map(str::to_owned),
        }
    }

    fn key_sources(&mut self, args: &WebArgs) -> KeySources {
        let secret = self.secret("AUTH_JWT_SECRET", &args.tokens.auth_jwt_secret);
        let url = optional(&args.auth_jwks_url);
        if secret.is_none() && url.is_none() {
            self.mistake(
                "AUTH_JWT_SECRET",
                "or AUTH_JWKS_URL must be set; only AUTH=off starts without, and lets everybody do everything",
            );
        }
        let jwks = url.and_then(|url| {
            let read = url.parse::<JwksUrl>();
            read.map_err(|error| self.mistake("AUTH_JWKS_URL", error.to_string())).ok()
        });
        KeySources { secret, jwks }
    }

    fn address(&mut self, bind_addr: &str, port: &str) -> SocketAddr {
        let port = port.parse().unwrap_or_else(|_| {
            self.mistake("PORT", "must be 0 to 65535");
            0
        });
        let ip = bind_addr.parse().unwrap_or_else(|_| {
            self.mistake("BIND_ADDR", "must be an IP address, 127.0.0.1 or 0.0.0.0 for example");
            [127, 0, 0, 1].into()
        });
        SocketAddr::new(ip, port)
    }
}
