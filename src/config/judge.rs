//! Judges the configuration as a whole.

use std::{
    fmt,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use jiff::{Span, SpanRelativeTo};
use secrecy::SecretString;

use super::{
    Aws, Common, Dev, Doctor, LogFormat, Poll, Serve, Token, Web,
    args::{
        AwsArgs, CommonArgs, DevArgs, DoctorArgs, PollArgs, RedisArgs, RedriveArgs, ServeArgs, TokenArgs,
        WebArgs,
    },
};
use crate::{
    auth::{JwksUrl, KeySources, Order, Rights, Scope, Settings},
    bucket::Lives,
    feed::{FeedId, KeyPrefix},
    http::{AllowedOrigins, UploadRules},
    ingest::{InspectorRules, Unwelcome},
    limit::{self, Rate},
    log::{RedisAddress, RedisPrefix, RedisSettings, Retention},
    socketio::Limits,
};

const MIN_SECRET: usize = 32;
const WEEK: u64 = 7 * 24 * 3600;
/// S3 takes no more in one PUT.
const MAX_PUT: u64 = 5 * 1024 * 1024 * 1024;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The variable.
    pub name: &'static str,
    /// What it must be.
    pub must: String,
}

/// All that is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not right:")?;
        for Mistake { name, must } in &self.0 {
            write!(f, "\n  {name} {must}")?;
        }
        Ok(())
    }
}

impl Dev {
    /// Judges the arguments of `photoshare dev`.
    ///
    /// # Errors
    /// Names every mistake.
    pub fn judge(args: &DevArgs) -> Result<Self, Mistakes> {
        let mut judge = Judge::default();
        let common = judge.common(&args.common, &args.log_format);
        let dev = Self {
            web: judge.web(
                &args.web,
                &common,
                &Differing {
                    bind_addr: &args.bind_addr,
                    port: &args.port,
                    auth: &args.auth,
                    allowed_origins: &args.allowed_origins,
                    rate_limits: &args.rate_limits,
                },
            ),
            common,
            data_dir: args.data_dir.clone().into(),
            public_url: judge.public_url(&args.public_url),
        };
        judge.verdict(dev)
    }
}

impl Serve {
    /// Judges the arguments of `photoshare serve`.
    ///
    /// # Errors
    /// Names every mistake.
    pub fn judge(args: &ServeArgs) -> Result<Self, Mistakes> {
        let mut judge = Judge::default();
        judge.require("PORT", &args.port, "must be set: the port to listen on");
        if args.no_poller {
            judge.require_redis(
                &args.common,
                "is needed with --no-poller: the web side and the poller meet there",
            );
        }
        let dyno = &args.common.dyno;
        if !dyno.is_empty() && dyno != "web.1" {
            judge.require_redis(
                &args.common,
                "is needed on every dyno but web.1: a second memory log would split the feeds",
            );
        }
        let port = if args.port.is_empty() { "0" } else { &args.port };
        let common = judge.common(&args.common, &args.log_format);
        let serve = Self {
            web: judge.web(
                &args.web,
                &common,
                &Differing {
                    bind_addr: &args.bind_addr,
                    port,
                    auth: &args.auth,
                    allowed_origins: &args.allowed_origins,
                    rate_limits: &args.rate_limits,
                },
            ),
            common,
            aws: judge.aws(&args.aws),
            demo_page: judge.flag("DEMO_PAGE", &args.demo_page),
            poller: !args.no_poller,
        };
        judge.verdict(serve)
    }
}

impl Poll {
    /// Judges the arguments of `photoshare poll`.
    ///
    /// # Errors
    /// Names every mistake.
    pub fn judge(args: &PollArgs) -> Result<Self, Mistakes> {
        let mut judge = Judge::default();
        judge.require_redis(&args.common, "is needed by poll: the poller and the web side meet there");
        let poll = Self { common: judge.common(&args.common, &args.log_format), aws: judge.aws(&args.aws) };
        judge.verdict(poll)
    }
}

impl Token {
    /// Judges the arguments of `photoshare token`.
    ///
    /// # Errors
    /// Names every mistake.
    pub fn judge(args: &TokenArgs) -> Result<Self, Mistakes> {
        let mut judge = Judge::default();
        judge.require("AUTH_JWT_SECRET", &args.keys.auth_jwt_secret, "must be set: it signs the token");
        let secret = judge.secret("AUTH_JWT_SECRET", &args.keys.auth_jwt_secret).unwrap_or_default();
        let order = judge.order(args);
        judge.verdict(Self { secret, order })
    }
}

impl Doctor {
    /// Judges the arguments of `photoshare doctor`.
    ///
    /// # Errors
    /// Names every mistake.
    pub fn judge(args: &DoctorArgs) -> Result<Self, Mistakes> {
        let mut judge = Judge::default();
        judge.parsed::<AllowedOrigins>("ALLOWED_ORIGINS", &args.allowed_origins);
        let origins = args.allowed_origins.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let doctor = Self {
            aws: judge.aws(&args.aws),
            redis: judge.redis(&args.redis),
            origins: origins.map(str::to_owned).collect(),
            wait: judge.seconds("DOCTOR_WAIT_SECS", &args.wait_secs, 1..=3600),
        };
        judge.verdict(doctor)
    }
}

/// Judges the arguments of `photoshare redrive`.
///
/// # Errors
/// Names every mistake.
pub fn redrive(args: &RedriveArgs) -> Result<Aws, Mistakes> {
    let mut judge = Judge::default();
    let aws = judge.aws(&args.aws);
    judge.verdict(aws)
}

#[derive(Default)]
struct Judge(Mistakes);

/// What the web side takes from arguments whose defaults differ between the ways of running.
struct Differing<'a> {
    bind_addr: &'a str,
    port: &'a str,
    auth: &'a str,
    allowed_origins: &'a str,
    rate_limits: &'a str,
}

impl Judge {
    fn verdict<T>(self, good: T) -> Result<T, Mistakes> {
        if self.0.0.is_empty() { Ok(good) } else { Err(self.0) }
    }

    fn mistake(&mut self, name: &'static str, must: impl Into<String>) {
        self.0.0.push(Mistake { name, must: must.into() });
    }

    fn common(&mut self, args: &CommonArgs, log_format: &str) -> Common {
        let log_format = match log_format {
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
            _ => {
                self.mistake("LOG_FORMAT", "must be json or pretty");
                LogFormat::Json
            }
        };
        let content_types = self.content_types(&args.upload_content_types);
        Common {
            log_format,
            retention: Retention {
                entries: self.count("FEED_LOG_LENGTH", &args.feed_log_length, 1..=100_000),
                seen: self.count("SEEN_LENGTH", &args.seen_length, 1..=1_000_000),
                seen_for: self.seconds("SEEN_SECS", &args.seen_secs, 60..=30 * 24 * 3600),
                idle: self.seconds("FEED_LOG_TTL_SECS", &args.feed_log_ttl_secs, 60..=30 * 24 * 3600),
            },
            lives: Lives {
                view: self.seconds("VIEW_URL_SECS", &args.view_url_secs, 1..=WEEK),
                upload_max: self.seconds("UPLOAD_URL_MAX_SECS", &args.upload_url_max_secs, 1..=WEEK),
            },
            poller_max_loops: self.count("POLLER_MAX_LOOPS", &args.poller_max_loops, 1..=64),
            redis: self.redis(&args.redis),
            inspector: self.inspector(args, content_types.clone()),
            content_types,
        }
    }

    fn redis(&mut self, args: &RedisArgs) -> Option<RedisSettings> {
        let any_certificate = self.flag("REDIS_TLS_INSECURE", &args.redis_tls_insecure);
        let wait_replicas = self.count("REDIS_WAIT_REPLICAS", &args.redis_wait_replicas, 0..=10);
        let wait = Duration::from_millis(self.whole("REDIS_WAIT_MS", &args.redis_wait_ms, 1..=2000));
        let prefix = RedisPrefix::parse(&args.redis_key_prefix);
        let prefix = prefix.map_err(|error| self.mistake("REDIS_KEY_PREFIX", error.to_string())).ok();
        let address = RedisAddress::parse(optional(&args.redis_url)?, any_certificate);
        let address = address.map_err(|error| self.mistake("REDIS_URL", error.to_string())).ok();
        Some(RedisSettings { address: address?, prefix: prefix?, wait_replicas, wait })
    }

    fn inspector(&mut self, args: &CommonArgs, content_types: Vec<String>) -> Option<InspectorRules> {
        let unwelcome = match &*args.inspect {
            "keep" => Some(Unwelcome::Keep),
            "delete" => Some(Unwelcome::Delete),
            "quarantine" => Some(Unwelcome::Quarantine),
            "off" => None,
            _ => {
                self.mistake("INSPECT", "must be keep, delete, quarantine or off");
                None
            }
        };
        let concurrency = self.count("INSPECT_CONCURRENCY", &args.inspect_concurrency, 1..=256);
        let time_out = self.seconds("INSPECT_TIMEOUT_SECS", &args.inspect_timeout_secs, 1..=60);
        let show_uploader = self.flag("SHOW_UPLOADER", &args.show_uploader);
        unwelcome.map(|unwelcome| InspectorRules {
            content_types,
            unwelcome,
            concurrency,
            time_out,
            show_uploader,
        })
    }

    fn web(&mut self, args: &WebArgs, common: &Common, differing: &Differing<'_>) -> Web {
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

    fn secret(&mut self, name: &'static str, secret: &str) -> Option<SecretString> {
        let secret = optional(secret)?;
        if secret.len() < MIN_SECRET {
            let must = format!("must have at least {MIN_SECRET} bytes, this one has {}", secret.len());
            self.mistake(name, must);
        }
        Some(secret.into())
    }

    fn order(&mut self, args: &TokenArgs) -> Order {
        let rights = self.parsed::<Rights>("--can", &args.can);
        if rights.is_empty() {
            self.mistake("--can", "must name a right: view, upload, delete");
        }
        Order {
            subject: optional(&args.subject).map(str::to_owned),
            scopes: args.feed.iter().filter_map(|feed| self.scope(feed)).collect(),
            rights,
            life: self.life(&args.expires),
            audience: optional(&args.keys.auth_audience).map(str::to_owned),
            issuer: optional(&args.keys.auth_issuer).map(str::to_owned),
        }
    }

    fn scope(&mut self, feed: &str) -> Option<Scope> {
        match feed {
            "*" => Some(Scope::Everywhere),
            feed => {
                let read = FeedId::parse(feed);
                read.map_err(|error| self.mistake("--feed", error.to_string())).ok().map(Scope::Feed)
            }
        }
    }

    fn life(&mut self, text: &str) -> Duration {
        let days = SpanRelativeTo::days_are_24_hours();
        let span = text.parse::<Span>().and_then(|span| span.to_duration(days));
        let life = span.ok().and_then(|life| Duration::try_from(life).ok());
        life.filter(|life| *life >= Duration::from_secs(1)).unwrap_or_else(|| {
            self.mistake("--expires", "must be a time of at least a second: 90s, 15m, 1h, 7d");
            Duration::ZERO
        })
    }

    fn aws(&mut self, args: &AwsArgs) -> Aws {
        self.require("S3_BUCKET", &args.s3_bucket, "must be set: the bucket that holds the photos");
        self.require(
            "SQS_QUEUE_URL",
            &args.sqs_queue_url,
            "must be set: the queue that the bucket's events go to",
        );
        if !args.sqs_queue_url.is_empty() && !args.sqs_queue_url.contains("://") {
            self.mistake(
                "SQS_QUEUE_URL",
                "must be a URL (https://sqs.<region>.amazonaws.com/<account>/<name>)",
            );
        }
        let prefix = KeyPrefix::parse(&args.s3_key_prefix).unwrap_or_else(|error| {
            self.mistake("S3_KEY_PREFIX", error.to_string());
            KeyPrefix::default()
        });
        Aws {
            bucket: args.s3_bucket.clone(),
            prefix,
            queue_url: args.sqs_queue_url.clone(),
            region: optional(&args.aws_region).map(str::to_owned),
        }
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

    fn public_url(&mut self, url: &str) -> Option<String> {
        let url = optional(url)?.trim_end_matches('/');
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@'])) {
            self.mistake("PUBLIC_URL", "must be http:// or https:// and a host, without a path");
        }
        Some(url.to_owned())
    }

    fn content_types(&mut self, list: &str) -> Vec<String> {
        let types: Vec<String> = list
            .split(',')
            .map(|kind| kind.trim().to_ascii_lowercase())
            .filter(|kind| !kind.is_empty())
            .collect();
        let shape = |kind: &String| kind.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        if types.is_empty() || !types.iter().all(shape) {
            self.mistake("UPLOAD_CONTENT_TYPES", "must be a list of media types: image/jpeg,image/png");
        }
        if types.iter().any(|kind| kind == "image/svg+xml") {
            self.mistake("UPLOAD_CONTENT_TYPES", "must not hold image/svg+xml: such a file can run scripts");
        }
        types
    }

    fn require(&mut self, name: &'static str, value: &str, must: &'static str) {
        if value.is_empty() {
            self.mistake(name, must);
        }
    }

    fn require_redis(&mut self, args: &CommonArgs, must: &'static str) {
        self.require("REDIS_URL", &args.redis.redis_url, must);
    }

    fn flag(&mut self, name: &'static str, text: &str) -> bool {
        match text {
            "true" | "1" => true,
            "false" | "0" | "" => false,
            _ => {
                self.mistake(name, "must be true or false");
                false
            }
        }
    }

    fn whole(&mut self, name: &'static str, text: &str, range: RangeInclusive<u64>) -> u64 {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.unwrap_or_else(|| {
            self.mistake(name, format!("must be a whole number, {} to {}", range.start(), range.end()));
            *range.start()
        })
    }

    fn count(&mut self, name: &'static str, text: &str, range: RangeInclusive<u64>) -> usize {
        usize::try_from(self.whole(name, text, range)).unwrap_or(usize::MAX)
    }

    fn seconds(&mut self, name: &'static str, text: &str, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.whole(name, text, range))
    }

    fn parsed<T: FromStr<Err: fmt::Display> + Default>(&mut self, name: &'static str, text: &str) -> T {
        text.parse().unwrap_or_else(|error: T::Err| {
            self.mistake(name, format!("is wrong: {error}"));
            T::default()
        })
    }
}

/// An empty value counts as none.
fn optional(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
