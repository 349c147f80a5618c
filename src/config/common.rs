//! Settings that several commands share: the feed log, signed URLs, inspection of uploads, and AWS.

use std::time::Duration;

use super::{
    AwsConfig, CommonConfig, LogFormat,
    args::{AwsArgs, CommonArgs, RedisArgs},
    validate::{Validator, non_empty},
};
use crate::{
    bucket::UrlTtls,
    feed::KeyPrefix,
    ingest::{InspectorConfig, RejectAction},
    log::{RedisAddress, RedisKeyPrefix, RedisSettings, Retention},
};

const WEEK_SECS: u64 = 7 * 24 * 3600;
const MONTH_SECS: u64 = 30 * 24 * 3600;

impl Validator {
    pub(super) fn validate_common(&mut self, args: &CommonArgs, log_format: &str) -> CommonConfig {
        let content_types = self.parse_content_types(&args.upload_content_types);
        CommonConfig {
            log_format: self.parse_log_format(log_format),
            retention: Retention {
                max_entries: self.parse_usize("FEED_LOG_LENGTH", &args.feed_log_length, 1..=100_000),
                max_seen_keys: self.parse_usize("SEEN_LENGTH", &args.seen_length, 1..=1_000_000),
                seen_ttl: self.parse_seconds("SEEN_SECS", &args.seen_secs, 60..=MONTH_SECS),
                idle_ttl: self.parse_seconds("FEED_LOG_TTL_SECS", &args.feed_log_ttl_secs, 60..=MONTH_SECS),
            },
            url_ttls: UrlTtls {
                view: self.parse_seconds("VIEW_URL_SECS", &args.view_url_secs, 1..=WEEK_SECS),
                upload_max: self.parse_seconds(
                    "UPLOAD_URL_MAX_SECS",
                    &args.upload_url_max_secs,
                    1..=WEEK_SECS,
                ),
            },
            poller_max_loops: self.parse_usize("POLLER_MAX_LOOPS", &args.poller_max_loops, 1..=64),
            redis: self.validate_redis(&args.redis),
            inspector: self.validate_inspector(args, content_types.clone()),
            content_types,
        }
    }

    fn parse_log_format(&mut self, text: &str) -> LogFormat {
        match text {
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
            _ => {
                self.add_error("LOG_FORMAT", "must be json or pretty");
                LogFormat::Json
            }
        }
    }

    pub(super) fn validate_redis(&mut self, args: &RedisArgs) -> Option<RedisSettings> {
        let any_certificate = self.parse_bool("REDIS_TLS_INSECURE", &args.redis_tls_insecure);
        let wait_replicas = self.parse_usize("REDIS_WAIT_REPLICAS", &args.redis_wait_replicas, 0..=10);
        let wait_timeout =
            Duration::from_millis(self.parse_u64("REDIS_WAIT_MS", &args.redis_wait_ms, 1..=2000));
        let prefix = RedisKeyPrefix::parse(&args.redis_key_prefix);
        let prefix = prefix.map_err(|error| self.add_error("REDIS_KEY_PREFIX", error.to_string())).ok();
        let address = RedisAddress::parse(non_empty(&args.redis_url)?, any_certificate);
        let address = address.map_err(|error| self.add_error("REDIS_URL", error.to_string())).ok();
        Some(RedisSettings { address: address?, key_prefix: prefix?, wait_replicas, wait_timeout })
    }

    fn validate_inspector(
        &mut self,
        args: &CommonArgs,
        content_types: Vec<String>,
    ) -> Option<InspectorConfig> {
        let reject_action = match &*args.inspect {
            "keep" => Some(RejectAction::Keep),
            "delete" => Some(RejectAction::Delete),
            "quarantine" => Some(RejectAction::Quarantine),
            "off" => None,
            _ => {
                self.add_error("INSPECT", "must be keep, delete, quarantine or off");
                None
            }
        };
        let concurrency = self.parse_usize("INSPECT_CONCURRENCY", &args.inspect_concurrency, 1..=256);
        let timeout = self.parse_seconds("INSPECT_TIMEOUT_SECS", &args.inspect_timeout_secs, 1..=60);
        let show_uploader = self.parse_bool("SHOW_UPLOADER", &args.show_uploader);
        reject_action.map(|reject_action| InspectorConfig {
            content_types,
            reject_action,
            concurrency,
            timeout,
            show_uploader,
        })
    }

    pub(super) fn validate_aws(&mut self, args: &AwsArgs) -> AwsConfig {
        self.require_value("S3_BUCKET", &args.s3_bucket, "must be set: the bucket that stores the photos");
        self.require_value(
            "SQS_QUEUE_URL",
            &args.sqs_queue_url,
            "must be set: the queue that receives the bucket's events",
        );
        if !args.sqs_queue_url.is_empty() && !args.sqs_queue_url.contains("://") {
            self.add_error(
                "SQS_QUEUE_URL",
                "must be a URL (https://sqs.<region>.amazonaws.com/<account>/<name>)",
            );
        }
        let prefix = KeyPrefix::parse(&args.s3_key_prefix).unwrap_or_else(|error| {
            self.add_error("S3_KEY_PREFIX", error.to_string());
            KeyPrefix::default()
        });
        AwsConfig {
            bucket: args.s3_bucket.clone(),
            prefix,
            queue_url: args.sqs_queue_url.clone(),
            region: non_empty(&args.aws_region).map(str::to_owned),
        }
    }

    fn parse_content_types(&mut self, list: &str) -> Vec<String> {
        let types: Vec<String> = list
            .split(',')
            .map(|media_type| media_type.trim().to_ascii_lowercase())
            .filter(|media_type| !media_type.is_empty())
            .collect();
        let is_well_formed = |media_type: &String| {
            media_type.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())
        };
        if types.is_empty() || !types.iter().all(is_well_formed) {
            self.add_error("UPLOAD_CONTENT_TYPES", "must be a list of media types: image/jpeg,image/png");
        }
        if types.iter().any(|media_type| media_type == "image/svg+xml") {
            self.add_error(
                "UPLOAD_CONTENT_TYPES",
                "must not contain image/svg+xml: an SVG file can run scripts",
            );
        }
        types
    }

    pub(super) fn require_redis(&mut self, args: &CommonArgs, requirement: &'static str) {
        self.require_value("REDIS_URL", &args.redis.redis_url, requirement);
    }
}
