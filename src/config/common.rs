//! Settings that `dev`, `serve` and `poll` share: the feed log, signed URLs and the inspection of uploads.

use std::time::Duration;

use clap::{Args, builder::TypedValueParser};

use super::{
    redis::RedisArgs,
    setting::{Setting, boolean, choice, integer, parsed, seconds},
    validate::Validator,
};
use crate::{
    bucket::UrlTtls,
    ingest::{InspectorConfig, RejectAction},
    log::{RedisSettings, Retention},
};

const WEEK_SECS: u64 = 7 * 24 * 3600;
const MONTH_SECS: u64 = 30 * 24 * 3600;

/// Settings with the same default in `dev`, `serve` and `poll`.
#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// TTL of the signed URLs in events and listings
    #[arg(long, env = "VIEW_URL_SECS", default_value = "3600")]
    #[arg(value_name = "SECONDS", value_parser = seconds(1..=WEEK_SECS))]
    view_url_secs: Setting<Duration>,
    /// Maximum TTL of an upload grant
    #[arg(long, env = "UPLOAD_URL_MAX_SECS", default_value = "604800")]
    #[arg(value_name = "SECONDS", value_parser = seconds(1..=WEEK_SECS))]
    upload_url_max_secs: Setting<Duration>,
    /// Media types that may be uploaded, comma-separated
    #[arg(
        long,
        env = "UPLOAD_CONTENT_TYPES",
        value_name = "MEDIA_TYPES",
        default_value = "image/jpeg,image/png,image/webp,image/gif,image/heic,image/heif,image/avif",
        value_parser = parsed(parse_content_types)
    )]
    upload_content_types: Setting<Vec<String>>,
    /// What happens to an upload whose detected type is not in UPLOAD_CONTENT_TYPES, and which is therefore
    /// not announced; "off" announces uploads without inspection
    #[arg(
        long,
        env = "INSPECT",
        value_name = "ACTION",
        default_value = "keep",
        value_parser = choice([
            ("keep", Some(RejectAction::Keep)),
            ("delete", Some(RejectAction::Delete)),
            ("quarantine", Some(RejectAction::Quarantine)),
            ("off", None),
        ])
    )]
    inspect: Setting<Option<RejectAction>>,
    /// Maximum number of concurrent inspections of uploads
    #[arg(long, env = "INSPECT_CONCURRENCY", default_value = "8")]
    #[arg(value_name = "NUMBER", value_parser = integer::<usize>(1..=256))]
    inspect_concurrency: Setting<usize>,
    /// Timeout of the inspection of one upload; its event is then retried
    #[arg(long, env = "INSPECT_TIMEOUT_SECS", default_value = "10")]
    #[arg(value_name = "SECONDS", value_parser = seconds(1..=60))]
    inspect_timeout_secs: Setting<Duration>,
    /// Whether events contain the uploader (claim "sub" of the token)
    #[arg(long, env = "SHOW_UPLOADER", default_value = "false")]
    #[arg(value_name = "BOOLEAN", value_parser = boolean())]
    show_uploader: Setting<bool>,
    /// Number of events that the log keeps for each feed
    #[arg(long, env = "FEED_LOG_LENGTH", default_value = "1000")]
    #[arg(value_name = "NUMBER", value_parser = integer::<usize>(1..=100_000))]
    feed_log_length: Setting<usize>,
    /// Time after which the log of an unused feed without subscribers expires; at most 600 seconds for a
    /// feed without events
    #[arg(long, env = "FEED_LOG_TTL_SECS", default_value = "86400")]
    #[arg(value_name = "SECONDS", value_parser = seconds(60..=MONTH_SECS))]
    feed_log_ttl_secs: Setting<Duration>,
    /// Number of photos of each feed whose latest event the log remembers for deduplication
    #[arg(long, env = "SEEN_LENGTH", default_value = "10000")]
    #[arg(value_name = "NUMBER", value_parser = integer::<usize>(1..=1_000_000))]
    seen_length: Setting<usize>,
    /// Time for which the log remembers the latest event of a photo for deduplication
    #[arg(long, env = "SEEN_SECS", default_value = "86400")]
    #[arg(value_name = "SECONDS", value_parser = seconds(60..=MONTH_SECS))]
    seen_secs: Setting<Duration>,
    /// Maximum number of concurrent loops that receive from the queue
    #[arg(long, env = "POLLER_MAX_LOOPS", default_value = "8")]
    #[arg(value_name = "NUMBER", value_parser = integer::<usize>(1..=64))]
    poller_max_loops: Setting<usize>,
    #[command(flatten)]
    pub(super) redis: RedisArgs,
    /// Name of the Heroku dyno, set by Heroku
    #[arg(long, env = "DYNO", hide = true)]
    pub(super) dyno: Option<String>,
}

/// Settings that `dev`, `serve` and `poll` share.
#[derive(Debug)]
pub struct CommonConfig {
    /// Format of log lines.
    pub log_format: LogFormat,
    /// How much the feed log keeps, and for how long.
    pub retention: Retention,
    /// TTLs of signed URLs.
    pub url_ttls: UrlTtls,
    /// Maximum number of loops that receive from the queue.
    pub poller_max_loops: usize,
    /// The Redis that stores the feed log; `None` keeps the log in memory.
    pub redis: Option<RedisSettings>,
    /// Media types that may be uploaded, in lower case.
    pub content_types: Vec<String>,
    /// How uploads are inspected before they are announced; `None` announces them without inspection.
    pub inspector: Option<InspectorConfig>,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// Lines for a terminal.
    Pretty,
}

impl CommonArgs {
    pub(super) fn validate(self, log_format: Setting<LogFormat>, validator: &mut Validator) -> CommonConfig {
        let content_types = validator.value(self.upload_content_types);
        let reject_action = validator.value(self.inspect);
        let concurrency = validator.value(self.inspect_concurrency);
        let timeout = validator.value(self.inspect_timeout_secs);
        let show_uploader = validator.value(self.show_uploader);
        CommonConfig {
            log_format: validator.value(log_format),
            retention: Retention {
                max_entries: validator.value(self.feed_log_length),
                max_seen_keys: validator.value(self.seen_length),
                seen_ttl: validator.value(self.seen_secs),
                idle_ttl: validator.value(self.feed_log_ttl_secs),
            },
            url_ttls: UrlTtls {
                view: validator.value(self.view_url_secs),
                upload_max: validator.value(self.upload_url_max_secs),
            },
            poller_max_loops: validator.value(self.poller_max_loops),
            redis: self.redis.validate(validator),
            inspector: reject_action.map(|reject_action| InspectorConfig {
                content_types: content_types.clone(),
                reject_action,
                concurrency,
                timeout,
                show_uploader,
            }),
            content_types,
        }
    }
}

/// Parses `LOG_FORMAT`.
pub(super) fn log_format() -> impl TypedValueParser<Value = Setting<LogFormat>> {
    choice([("json", LogFormat::Json), ("pretty", LogFormat::Pretty)])
}

fn parse_content_types(list: &str) -> Result<Vec<String>, &'static str> {
    let types = list.split(',').map(|media_type| media_type.trim().to_ascii_lowercase());
    let types: Vec<_> = types.filter(|media_type| !media_type.is_empty()).collect();
    let is_well_formed = |media_type: &String| {
        media_type.split_once('/').is_some_and(|(kind, subtype)| !kind.is_empty() && !subtype.is_empty())
    };
    if types.is_empty() || !types.iter().all(is_well_formed) {
        return Err("must be a list of media types: image/jpeg,image/png");
    }
    if types.iter().any(|media_type| media_type == "image/svg+xml") {
        return Err("must not contain image/svg+xml: an SVG file can run scripts");
    }
    Ok(types)
}
