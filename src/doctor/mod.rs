//! `photoshare doctor`: looks at every part of a deployment, live, and says how to mend it.
//!
//! It changes nothing but an object and a key in Redis of its own, which it removes again. It may run
//! beside a server: that server answers the doctor's object when its event arrives, so that the doctor
//! takes no message away from it. Only when nobody answers does the doctor receive from the queue itself,
//! each message once; what is not a doctor's it gives back when it has looked.

mod bucket;
mod clock;
mod cors;
mod log;
mod mend;
mod notification;
mod policy;
mod queue;
mod report;
mod round_trip;

use std::time::Duration;

use aws_config::SdkConfig;

use crate::{
    bucket::{Bucket, Lives},
    feed::KeyPrefix,
    log::RedisSettings,
    queue::SqsQueue,
};
use notification::Way;
pub use report::{Finding, Level, Report};

/// Where one of these failed, no event arrives.
const ON_THE_WAY: [&str; 7] =
    ["credentials", "clock", "bucket", "notification", "queue", "queue-policy", queue::ENCRYPTION];

/// The deployment that is looked at.
#[derive(Debug)]
pub struct Subject {
    /// The bucket's name.
    pub bucket: String,
    /// What every key begins with.
    pub prefix: KeyPrefix,
    /// The queue that the bucket's events go to.
    pub queue_url: String,
    /// Origins whose pages upload, as configured.
    pub origins: Vec<String>,
    /// Where the log is, if it is not in memory.
    pub redis: Option<RedisSettings>,
    /// How long to wait for the event of the doctor's own object.
    pub wait: Duration,
}

/// Looks at everything.
pub async fn examine(sdk: &SdkConfig, subject: &Subject) -> Report {
    let mut checks = log::examine(subject.redis.as_ref()).await;
    let lives = Lives { view: Duration::from_hours(1), upload_max: Duration::from_hours(1) };
    match Bucket::connect(sdk, &subject.bucket, subject.prefix.clone(), lives).await {
        Ok(bucket) => checks.extend(examine_aws(sdk, subject, &bucket).await),
        Err(error) => {
            let mend = format!("{}, and AWS_REGION to theirs", mend::new_key());
            checks.push(Finding::failure("credentials", with_sources(&error), mend));
        }
    }
    Report { checks }
}

async fn examine_aws(sdk: &SdkConfig, subject: &Subject, bucket: &Bucket) -> Vec<Finding> {
    let first_call = bucket.ping().await.err();
    let credentials = bucket::credentials(first_call.as_ref());
    let refused = credentials.level == Level::Failure;
    let mut checks = vec![credentials, clock::examine(bucket.base().origin.as_ref()).await];
    if refused {
        checks.extend(["bucket", "queue", "round-trip"].map(|check| {
            Finding::warning(check, "could not be looked at", "mend what is said of the credentials first")
        }));
        return checks;
    }
    let region = sdk.region().map(ToString::to_string).unwrap_or_default();
    checks.push(bucket::reachable(bucket, first_call.as_ref(), &region).await);
    let sqs = SqsQueue::new(sdk, subject.queue_url.clone(), Duration::from_secs(20));
    checks.extend(examine_events(bucket, &sqs).await);
    checks.push(bucket::encryption(bucket).await);
    checks.push(cors::examine(&bucket.cors().await, &subject.origins));
    checks.push(bucket::lifecycle(bucket).await);
    travel(bucket, &sqs, subject.wait, checks).await
}

/// The way from the bucket to the queue.
async fn examine_events(bucket: &Bucket, sqs: &SqsQueue) -> Vec<Finding> {
    let settings = sqs.settings().await;
    let said = bucket.notification().await;
    let queue = settings.as_ref().map_or("", |settings| settings.text("QueueArn"));
    let prefix = bucket.prefix().as_str();
    let way = said.as_ref().map_or(Way::None, |said| Way::find(said, queue, prefix));
    let mut checks = vec![notification::examine(&said, &way, queue, prefix)];
    match &settings {
        Ok(settings) => checks.extend(queue::examine(sqs, settings, bucket.name(), &way).await),
        Err(error) => checks.push(queue::unreachable(error)),
    }
    checks
}

async fn travel(bucket: &Bucket, sqs: &SqsQueue, wait: Duration, mut checks: Vec<Finding>) -> Vec<Finding> {
    let fails = |check: &Finding| check.level == Level::Failure && ON_THE_WAY.contains(&check.check);
    let hopeless = checks.iter().any(fails);
    let travelled = round_trip::travel(bucket, sqs, wait, hopeless).await;
    if travelled.level == Level::Ok {
        let unsettled =
            |check: &&mut Finding| check.check == queue::ENCRYPTION && check.level == Level::Warning;
        for check in checks.iter_mut().filter(unsettled) {
            check.settle();
        }
    }
    checks.push(travelled);
    checks
}

/// An error and what lies below it; some errors repeat what lies below them.
fn with_sources(error: &dyn std::error::Error) -> String {
    let layers = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut layers: Vec<_> = layers.collect();
    layers.dedup();
    layers.join(": ")
}
