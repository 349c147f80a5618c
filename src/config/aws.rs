//! The bucket and the queue on AWS.

use clap::Args;

use super::{
    setting::{Setting, parsed, text},
    validate::Validator,
};
use crate::feed::KeyPrefix;

/// Settings of the bucket and the queue.
#[derive(Debug, Args)]
pub(super) struct AwsArgs {
    /// Name of the S3 bucket that stores the photos
    #[arg(long, env = "S3_BUCKET")]
    #[arg(value_name = "NAME", value_parser = text::<String>())]
    s3_bucket: Option<Setting<String>>,
    /// Prefix of every key in the bucket, ending in /
    #[arg(long, env = "S3_KEY_PREFIX")]
    #[arg(value_name = "PREFIX", value_parser = parsed(KeyPrefix::parse))]
    s3_key_prefix: Option<Setting<KeyPrefix>>,
    /// URL of the SQS queue that receives the bucket's events
    #[arg(long, env = "SQS_QUEUE_URL")]
    #[arg(value_name = "URL", value_parser = parsed(parse_queue_url))]
    sqs_queue_url: Option<Setting<String>>,
    /// AWS region of bucket and queue; if unset, the region of the AWS profile
    #[arg(long, env = "AWS_REGION")]
    #[arg(value_name = "REGION", value_parser = text::<String>())]
    aws_region: Option<Setting<String>>,
}

/// The bucket and queue on AWS.
#[derive(Debug)]
pub struct AwsConfig {
    /// Name of the bucket.
    pub bucket: String,
    /// Prefix of every key in the bucket.
    pub prefix: KeyPrefix,
    /// URL of the queue that receives the bucket's events.
    pub queue_url: String,
    /// Region of bucket and queue; `None` uses the SDK's default chain.
    pub region: Option<String>,
}

impl AwsArgs {
    pub(super) fn validate(self, validator: &mut Validator) -> AwsConfig {
        AwsConfig {
            bucket: validator.required(
                "S3_BUCKET",
                self.s3_bucket,
                "must be set: the bucket that stores the photos",
            ),
            prefix: validator.optional(self.s3_key_prefix).unwrap_or_default(),
            queue_url: validator.required(
                "SQS_QUEUE_URL",
                self.sqs_queue_url,
                "must be set: the queue that receives the bucket's events",
            ),
            region: validator.optional(self.aws_region),
        }
    }
}

fn parse_queue_url(text: &str) -> Result<String, &'static str> {
    let is_url = text.contains("://");
    is_url
        .then(|| text.to_owned())
        .ok_or("must be a URL (https://sqs.<region>.amazonaws.com/<account>/<name>)")
}
