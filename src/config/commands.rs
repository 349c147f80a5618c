//! Validates the arguments of each command.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

use super::{
    AwsConfig, ConfigErrors, DevConfig, DoctorConfig, PollConfig, ServeConfig, TokenConfig,
    args::{DevArgs, DoctorArgs, PollArgs, RedriveArgs, ServeArgs, TokenArgs},
    validate::{Validator, non_empty},
    web::PerCommandArgs,
};
use crate::{
    auth::{Rights, Scope, TokenSpec},
    feed::FeedId,
    http::AllowedOrigins,
};

impl DevConfig {
    /// Validates the arguments of `photoshare dev`.
    ///
    /// # Errors
    /// Lists every invalid setting.
    pub fn validate(args: &DevArgs) -> Result<Self, ConfigErrors> {
        let mut validator = Validator::default();
        let common = validator.validate_common(&args.common, &args.log_format);
        let dev = Self {
            web: validator.validate_web(
                &args.web,
                &common,
                &PerCommandArgs {
                    bind_addr: &args.bind_addr,
                    port: &args.port,
                    auth: &args.auth,
                    allowed_origins: &args.allowed_origins,
                    rate_limits: &args.rate_limits,
                },
            ),
            common,
            data_dir: args.data_dir.clone().into(),
            public_url: validator.validate_public_url(&args.public_url),
        };
        validator.finish(dev)
    }
}

impl ServeConfig {
    /// Validates the arguments of `photoshare serve`.
    ///
    /// # Errors
    /// Lists every invalid setting.
    pub fn validate(args: &ServeArgs) -> Result<Self, ConfigErrors> {
        let mut validator = Validator::default();
        validator.require_value("PORT", &args.port, "must be set: the port to listen on");
        if args.no_poller {
            validator.require_redis(
                &args.common,
                "must be set with --no-poller: Redis connects the web processes and the poller",
            );
        }
        let dyno = &args.common.dyno;
        if !dyno.is_empty() && dyno != "web.1" {
            validator.require_redis(
                &args.common,
                "must be set on every dyno but web.1: a second in-memory log would split the feeds",
            );
        }
        let port = if args.port.is_empty() { "0" } else { &args.port };
        let common = validator.validate_common(&args.common, &args.log_format);
        let serve = Self {
            web: validator.validate_web(
                &args.web,
                &common,
                &PerCommandArgs {
                    bind_addr: &args.bind_addr,
                    port,
                    auth: &args.auth,
                    allowed_origins: &args.allowed_origins,
                    rate_limits: &args.rate_limits,
                },
            ),
            common,
            aws: validator.validate_aws(&args.aws),
            demo_page: validator.parse_bool("DEMO_PAGE", &args.demo_page),
            poller: !args.no_poller,
        };
        validator.finish(serve)
    }
}

impl PollConfig {
    /// Validates the arguments of `photoshare poll`.
    ///
    /// # Errors
    /// Lists every invalid setting.
    pub fn validate(args: &PollArgs) -> Result<Self, ConfigErrors> {
        let mut validator = Validator::default();
        validator.require_redis(
            &args.common,
            "must be set for poll: Redis connects the poller and the web processes",
        );
        let poll = Self {
            common: validator.validate_common(&args.common, &args.log_format),
            aws: validator.validate_aws(&args.aws),
        };
        validator.finish(poll)
    }
}

impl TokenConfig {
    /// Validates the arguments of `photoshare token`.
    ///
    /// # Errors
    /// Lists every invalid setting.
    pub fn validate(args: &TokenArgs) -> Result<Self, ConfigErrors> {
        let mut validator = Validator::default();
        let secret = &args.keys.auth_jwt_secret;
        validator.require_value("AUTH_JWT_SECRET", secret, "must be set: it signs the token");
        let secret = validator.validate_secret("AUTH_JWT_SECRET", secret).unwrap_or_default();
        let spec = validator.validate_token_spec(args);
        validator.finish(Self { secret, spec })
    }
}

impl DoctorConfig {
    /// Validates the arguments of `photoshare doctor`.
    ///
    /// # Errors
    /// Lists every invalid setting.
    pub fn validate(args: &DoctorArgs) -> Result<Self, ConfigErrors> {
        let mut validator = Validator::default();
        validator.parse_value::<AllowedOrigins>("ALLOWED_ORIGINS", &args.allowed_origins);
        let origins = args.allowed_origins.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let doctor = Self {
            aws: validator.validate_aws(&args.aws),
            redis: validator.validate_redis(&args.redis),
            origins: origins.map(str::to_owned).collect(),
            event_timeout: validator.parse_seconds("DOCTOR_WAIT_SECS", &args.wait_secs, 1..=3600),
        };
        validator.finish(doctor)
    }
}

/// Validates the arguments of `photoshare redrive`.
///
/// # Errors
/// Lists every invalid setting.
pub fn validate_redrive(args: &RedriveArgs) -> Result<AwsConfig, ConfigErrors> {
    let mut validator = Validator::default();
    let aws = validator.validate_aws(&args.aws);
    validator.finish(aws)
}

impl Validator {
    fn validate_token_spec(&mut self, args: &TokenArgs) -> TokenSpec {
        let rights = self.parse_value::<Rights>("--can", &args.can);
        if rights.is_empty() {
            self.add_error("--can", "must name at least one right: view, upload, delete");
        }
        TokenSpec {
            subject: non_empty(&args.subject).map(str::to_owned),
            scopes: args.feed.iter().filter_map(|feed| self.parse_scope(feed)).collect(),
            rights,
            ttl: self.parse_token_ttl(&args.expires),
            audience: non_empty(&args.keys.auth_audience).map(str::to_owned),
            issuer: non_empty(&args.keys.auth_issuer).map(str::to_owned),
        }
    }

    fn parse_scope(&mut self, feed: &str) -> Option<Scope> {
        match feed {
            "*" => Some(Scope::AllFeeds),
            feed => {
                let feed = FeedId::parse(feed);
                feed.map_err(|error| self.add_error("--feed", error.to_string())).ok().map(Scope::Feed)
            }
        }
    }

    fn parse_token_ttl(&mut self, text: &str) -> Duration {
        let days = SpanRelativeTo::days_are_24_hours();
        let span = text.parse::<Span>().and_then(|span| span.to_duration(days));
        let ttl = span.ok().and_then(|ttl| Duration::try_from(ttl).ok());
        ttl.filter(|ttl| *ttl >= Duration::from_secs(1)).unwrap_or_else(|| {
            self.add_error("--expires", "must be a duration of at least one second: 90s, 15m, 1h, 7d");
            Duration::ZERO
        })
    }

    fn validate_public_url(&mut self, url: &str) -> Option<String> {
        let url = non_empty(url)?.trim_end_matches('/');
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@'])) {
            self.add_error("PUBLIC_URL", "must be http:// or https:// followed by a host, without a path");
        }
        Some(url.to_owned())
    }
}
