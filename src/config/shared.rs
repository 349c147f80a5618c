//! What several ways of running are told: the log, signed URLs, looks at uploads, and where AWS is.

use std::time::Duration;

use super::{
    Aws, Common, LogFormat,
    args::{AwsArgs, CommonArgs, RedisArgs},
    judge::{Judge, optional},
};
use crate::{
    bucket::Lives,
    feed::KeyPrefix,
    ingest::{InspectorRules, Unwelcome},
    log::{RedisAddress, RedisPrefix, RedisSettings, Retention},
};

const WEEK: u64 = 7 * 24 * 3600;

impl Judge {
    pub(super) fn common(&mut self, args: &CommonArgs, log_format: &str) -> Common {
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

    pub(super) fn redis(&mut self, args: &RedisArgs) -> Option<RedisSettings> {
        let any_certificate = self.flag("REDIS_TLS_INSECURE", &args.redis_tls_insecure);
        let wait_replicas = self.count("REDIS_WAIT_REPLICAS", &args.redis_wait_replicas, 0..=10);
        let wait = Duration::from_millis(self.whole("REDIS_WAIT_MS", &args.redis_wait_ms, 1..=2000));
        let prefix = RedisPrefix::parse(&args.redis_key_prefix);
        let prefix = prefix.map_err(|error| self.mistake("REDIS_KEY_PREFIX", error.to_string())).ok();
        let address = RedisAddress::parse(optional(&args.redis_url)?, any_certificate);
        let address = address.map_err(|error| self.mistake("REDIS_URL", error.to_string())).ok();
        Some(RedisSettings { address: address?, prefix: prefix?, wait_replicas, wait })
    }

    pub(super) fn inspector(
        &mut self,
        args: &CommonArgs,
        content_types: Vec<String>,
    ) -> Option<InspectorRules> {
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

    pub(super) fn aws(&mut self, args: &AwsArgs) -> Aws {
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

    pub(super) fn require_redis(&mut self, args: &CommonArgs, must: &'static str) {
        self.require("REDIS_URL", &args.redis.redis_url, must);
    }
}
