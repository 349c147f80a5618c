//! `photoshare doctor`: checks every part of a live deployment, and reports how to fix what fails.
//!
//! The doctor stores one object and one key in Redis, and deletes both; it changes nothing else. It can run
//! beside a server: a running server acknowledges the doctor's object when the event arrives, so that the
//! doctor takes no message from it. Only without an acknowledgement does the doctor receive from the queue
//! itself, each message once; it releases the messages that are not its own.

mod bucket;
mod bucket_encryption;
mod clock;
mod cors;
mod credentials;
mod lifecycle;
mod log;
mod notification;
mod notification_config;
mod policy;
mod queue;
mod redis_probe;
mod remediation;
mod report;
mod round_trip;

use std::time::Duration;

use aws_config::SdkConfig;

use crate::{
    bucket::{Bucket, UrlTtls},
    feed::KeyPrefix,
    log::RedisSettings,
    queue::SqsQueue,
};
use notification::EventRoute;
pub use redis_probe::{RedisHealth, RedisProbeError, probe_redis};
use report::format_with_sources;
pub use report::{Finding, Level, Report};

/// The checks without which no event arrives.
const REQUIRED_FOR_EVENTS: [&str; 7] =
    ["credentials", "clock", "bucket", "notification", "queue", "queue-policy", queue::ENCRYPTION];

/// The deployment to check.
#[derive(Debug)]
pub struct Deployment {
    /// Name of the bucket.
    pub bucket: String,
    /// Prefix of every key in the bucket.
    pub prefix: KeyPrefix,
    /// URL of the queue that receives the bucket's events.
    pub queue_url: String,
    /// Origins whose pages upload.
    pub origins: Vec<String>,
    /// The Redis that stores the feed log; `None` for an in-memory log.
    pub redis: Option<RedisSettings>,
    /// How long to wait for the event of the doctor's object.
    pub event_timeout: Duration,
}

/// Runs all checks.
pub async fn check_deployment(sdk: &SdkConfig, deployment: &Deployment) -> Report {
    let mut checks = log::check_redis(deployment.redis.as_ref()).await;
    let url_ttls = UrlTtls { view: Duration::from_hours(1), upload_max: Duration::from_hours(1) };
    match Bucket::connect(sdk, &deployment.bucket, deployment.prefix.clone(), url_ttls).await {
        Ok(bucket) => checks.extend(check_aws(sdk, deployment, &bucket).await),
        Err(error) => {
            let fix = format!("{}, and AWS_REGION to their region", remediation::create_access_key());
            checks.push(Finding::failure("credentials", format_with_sources(&error), fix));
        }
    }
    Report { checks }
}

async fn check_aws(sdk: &SdkConfig, deployment: &Deployment, bucket: &Bucket) -> Vec<Finding> {
    let first_error = bucket.check_access().await.err();
    let credentials = credentials::check_credentials(first_error.as_ref());
    let refused = credentials.level == Level::Failure;
    let mut checks = vec![credentials, clock::check_clock(bucket.url().origin.as_ref()).await];
    if refused {
        checks.extend(
            ["bucket", "queue", "round-trip"]
                .map(|check| Finding::warning(check, "not checked", "fix the credentials first")),
        );
        return checks;
    }
    let region = sdk.region().map(ToString::to_string).unwrap_or_default();
    checks.push(bucket::check_bucket(bucket, first_error.as_ref(), &region).await);
    let sqs = SqsQueue::new(sdk, deployment.queue_url.clone(), Duration::from_secs(20));
    checks.extend(check_events(bucket, &sqs).await);
    checks.push(bucket_encryption::check_bucket_encryption(bucket).await);
    checks.push(cors::check_cors(bucket, &deployment.origins).await);
    checks.push(lifecycle::check_lifecycle(bucket).await);
    check_round_trip(bucket, &sqs, deployment.event_timeout, checks).await
}

/// Checks the route of events from the bucket to the queue.
async fn check_events(bucket: &Bucket, sqs: &SqsQueue) -> Vec<Finding> {
    let attributes = sqs.fetch_attributes().await;
    let notification = notification_config::fetch_notification_config(bucket).await;
    let queue_arn = attributes.as_ref().map_or("", |attributes| attributes.text("QueueArn"));
    let prefix = bucket.prefix().as_str();
    let route = notification
        .as_ref()
        .map_or(EventRoute::None, |notification| EventRoute::find(notification, queue_arn, prefix));
    let mut checks = vec![notification::check_notification(&notification, &route, queue_arn, prefix)];
    match &attributes {
        Ok(attributes) => checks.extend(queue::check_queue(sqs, attributes, bucket.name(), &route).await),
        Err(error) => checks.push(queue::report_unreachable(error)),
    }
    checks
}

/// Adds the round trip to `checks`. An event that arrives resolves a warning about the queue's encryption
/// key.
async fn check_round_trip(
    bucket: &Bucket,
    sqs: &SqsQueue,
    event_timeout: Duration,
    mut checks: Vec<Finding>,
) -> Vec<Finding> {
    let is_blocking =
        |check: &Finding| check.level == Level::Failure && REQUIRED_FOR_EVENTS.contains(&check.check);
    let blocked = checks.iter().any(is_blocking);
    let round_trip = round_trip::check_round_trip(bucket, sqs, event_timeout, blocked).await;
    if round_trip.level == Level::Ok {
        let is_unresolved =
            |check: &&mut Finding| check.check == queue::ENCRYPTION && check.level == Level::Warning;
        for check in checks.iter_mut().filter(is_unresolved) {
            check.resolve();
        }
    }
    checks.push(round_trip);
    checks
}
