//! What each way of running is told, as a whole.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

use super::{
    Aws, Dev, Doctor, Mistakes, Poll, Serve, Token,
    args::{DevArgs, DoctorArgs, PollArgs, RedriveArgs, ServeArgs, TokenArgs},
    judge::{Judge, optional},
    web::Differing,
};
use crate::{
    auth::{Order, Rights, Scope},
    feed::FeedId,
    http::AllowedOrigins,
};

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

impl Judge {
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

    fn public_url(&mut self, url: &str) -> Option<String> {
        let url = optional(url)?.trim_end_matches('/');
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@'])) {
            self.mistake("PUBLIC_URL", "must be http:// or https:// and a host, without a path");
        }
        Some(url.to_owned())
    }
}
