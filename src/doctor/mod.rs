//! `photoshare doctor`: looks at every part of a deployment, live, and says how to mend it.
//!
//! It changes nothing but an object of its own, which it removes again. It may run beside a server: that
//! server answers the doctor's object when its event arrives, so that the doctor takes no message away
//! from it. Only when nobody answers does the doctor receive from the queue itself, each message once; what is not
//! a doctor's it gives back when it has looked.

mod bucket;
mod queue;
mod report;
mod round_trip;

use std::time::Duration;

use aws_config::SdkConfig;
use jiff::Timestamp;

use crate::{
    bucket::{Bucket, Lives, Notification},
    feed::KeyPrefix,
    queue::SqsQueue,
};
pub use report::{Finding, Level, Report};

/// S3 refuses what was signed more than 15 minutes away from its own time.
const SKEW_REFUSED: i64 = 900;
const SKEW_ODD: i64 = 60;

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
    /// How long to wait for the event of the doctor's own object.
    pub wait: Duration,
}

/// Looks at everything.
pub async fn examine(sdk: &SdkConfig, subject: &Subject) -> Report {
    let mut report = Report::default();
    let lives = Lives { view: Duration::from_hours(1), upload_max: Duration::from_hours(1) };
    let bucket = match Bucket::connect(sdk, &subject.bucket, subject.prefix.clone(), lives).await {
        Ok(bucket) => bucket,
        Err(error) => {
            report.checks.push(Finding::failure("credentials", with_sources(&error), CREDENTIALS));
            return report;
        }
    };
    let sqs = SqsQueue::new(sdk, subject.queue_url.clone(), Duration::from_secs(20));
    report.checks.push(Finding::ok("credentials", "there are some, and a region"));
    report.checks.push(clock(bucket.base().origin.as_ref()).await);
    let region = sdk.region().map(ToString::to_string).unwrap_or_default();
    report.checks.push(bucket::reachable(&bucket, &region).await);
    let settings = sqs.settings().await;
    let notification = bucket.notification().await;
    let queue_arn = settings.as_ref().map_or("", |settings| settings.text("QueueArn"));
    report.checks.push(bucket::notification(&bucket, &notification, queue_arn));
    let by = notification.unwrap_or_default();
    match &settings {
        Ok(settings) => report.checks.extend(queue::examine(&sqs, settings, &subject.bucket, &by).await),
        Err(error) => report.checks.push(queue::unreachable(error)),
    }
    report.checks.push(bucket::encryption(&bucket).await);
    report.checks.push(bucket::cors(&bucket, &subject.origins).await);
    report.checks.push(bucket::lifecycle(&bucket).await);
    let hopeless = report.worst() == Level::Failure;
    report.checks.push(round_trip::travel(&bucket, &sqs, subject.wait, hopeless).await);
    report
}

const CREDENTIALS: &str = "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION \
     (aws iam create-access-key --user-name <output UserName of infra/access.yaml>)";

/// By the time that the bucket's own answers carry.
async fn clock(origin: &str) -> Finding {
    const CHECK: &str = "clock";
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
    let Ok(client) = client else { return Finding::warning(CHECK, "no HTTP client", "run it again") };
    let date = match client.head(origin).send().await {
        Ok(response) => response.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned),
        Err(error) => {
            let found = format!("{origin} does not answer: {}", with_sources(&error.without_url()));
            return Finding::failure(CHECK, found, "let this machine reach S3, or mend AWS_REGION");
        }
    };
    let then = date.and_then(|date| jiff::fmt::rfc2822::parse(&date).ok());
    let Some(then) = then else {
        return Finding::warning(
            CHECK,
            format!("{origin} does not say what time it is"),
            "compare it by hand",
        );
    };
    let skew = (Timestamp::now().as_second() - then.timestamp().as_second()).abs();
    let found = format!("{skew} s away from S3's");
    match skew {
        0..SKEW_ODD => Finding::ok(CHECK, found),
        SKEW_ODD..SKEW_REFUSED => Finding::warning(CHECK, found, CLOCK),
        _ => Finding::failure(CHECK, format!("{found}: what is signed here is refused"), CLOCK),
    }
}

const CLOCK: &str = "set this machine's clock: timedatectl set-ntp true";

/// An error and what lies below it.
fn with_sources(error: &dyn std::error::Error) -> String {
    let layers = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    layers.collect::<Vec<_>>().join(": ")
}
