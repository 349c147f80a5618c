//! `photoshare token`.

use std::time::Duration;

use clap::Args;
use jiff::{Span, SpanRelativeTo};
use secrecy::SecretString;

use super::{
    auth::{TokenKeyArgs, parse_rights},
    error::ConfigErrors,
    setting::{Setting, parsed},
    validate::Validator,
};
use crate::{
    auth::{Rights, Scope, TokenSpec},
    feed::FeedId,
};

/// Arguments of `photoshare token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Feed that the token grants rights on; * for every feed. May be repeated
    #[arg(long, required = true, value_parser = parsed(parse_scope))]
    feed: Vec<Setting<Scope>>,
    /// Rights that the token grants, comma-separated: view, upload, delete
    #[arg(long, default_value = "view")]
    #[arg(value_name = "RIGHTS", value_parser = parsed(parse_granted_rights))]
    can: Setting<Rights>,
    /// Time until the token expires: 90s, 15m, 1h, 7d
    #[arg(long, default_value = "1h")]
    #[arg(value_name = "DURATION", value_parser = parsed(parse_ttl))]
    expires: Setting<Duration>,
    /// Subject of the token (claim "sub"); if unset, none
    #[arg(long)]
    subject: Option<String>,
    #[command(flatten)]
    keys: TokenKeyArgs,
}

/// Configuration of `photoshare token`.
#[derive(Debug)]
pub struct TokenConfig {
    /// Secret that signs the token.
    pub secret: SecretString,
    /// Claims of the token.
    pub spec: TokenSpec,
}

impl TokenConfig {
    /// Validates the arguments of `photoshare token`.
    ///
    /// # Errors
    /// Lists every invalid setting.
    pub fn validate(args: TokenArgs) -> Result<Self, ConfigErrors> {
        let mut validator = Validator::default();
        let config = Self {
            secret: validator.required(
                "AUTH_JWT_SECRET",
                args.keys.auth_jwt_secret,
                "must be set: it signs the token",
            ),
            spec: TokenSpec {
                subject: args.subject.filter(|subject| !subject.is_empty()),
                scopes: args.feed.into_iter().filter_map(|feed| validator.optional(Some(feed))).collect(),
                rights: validator.value(args.can),
                ttl: validator.value(args.expires),
                audience: validator.optional(args.keys.auth_audience),
                issuer: validator.optional(args.keys.auth_issuer),
            },
        };
        validator.finish(config)
    }
}

fn parse_scope(feed: &str) -> Result<Scope, String> {
    match feed {
        "*" => Ok(Scope::AllFeeds),
        feed => FeedId::parse(feed).map(Scope::Feed).map_err(|error| format!("is invalid: {error}")),
    }
}

fn parse_granted_rights(text: &str) -> Result<Rights, String> {
    let rights = parse_rights(text)?;
    if rights.is_empty() {
        return Err("must name at least one right: view, upload, delete".into());
    }
    Ok(rights)
}

fn parse_ttl(text: &str) -> Result<Duration, &'static str> {
    let days = SpanRelativeTo::days_are_24_hours();
    let span = text.parse::<Span>().and_then(|span| span.to_duration(days));
    let ttl = span.ok().and_then(|ttl| Duration::try_from(ttl).ok());
    ttl.filter(|ttl| *ttl >= Duration::from_secs(1))
        .ok_or("must be a duration of at least one second: 90s, 15m, 1h, 7d")
}
