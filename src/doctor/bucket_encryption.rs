//! Checks the default encryption of new objects.

use super::{bucket::report_unreadable, report::Finding};
use crate::bucket::{Bucket, BucketError};

const CHECK: &str = "bucket-encryption";

enum Encryption {
    /// S3 managed keys (SSE-S3).
    S3,
    /// The AWS managed KMS key, aws/s3.
    AwsManaged,
    /// Another KMS key.
    Key(String),
}

pub(super) async fn check_bucket_encryption(bucket: &Bucket) -> Finding {
    match fetch_encryption(bucket).await {
        Ok(Encryption::S3) => Finding::ok(CHECK, "S3 managed keys"),
        Ok(Encryption::AwsManaged) => Finding::ok(
            CHECK,
            "aws/s3, the AWS managed KMS key: only users of the bucket's own account can use it",
        ),
        Ok(Encryption::Key(key)) => {
            Finding::ok(CHECK, format!("KMS key {key}; the round trip shows whether the server may use it"))
        }
        Err(error) => report_unreadable(CHECK, &error),
    }
}

async fn fetch_encryption(bucket: &Bucket) -> Result<Encryption, BucketError> {
    let call = bucket.client().get_bucket_encryption().bucket(bucket.name()).send().await;
    let response = match call.map_err(|error| bucket.call_error("GetBucketEncryption", &error)) {
        Err(error) if error.has_code("ServerSideEncryptionConfigurationNotFoundError") => {
            return Ok(Encryption::S3);
        }
        response => response?,
    };
    let rules = response
        .server_side_encryption_configuration
        .map(|configuration| configuration.rules)
        .unwrap_or_default();
    let default = rules.into_iter().find_map(|rule| rule.apply_server_side_encryption_by_default);
    Ok(match default {
        Some(default) if default.sse_algorithm.as_str() != "AES256" => {
            Encryption::from_kms_key(default.kms_master_key_id)
        }
        _ => Encryption::S3,
    })
}

impl Encryption {
    /// SSE-KMS without a key ID uses the AWS managed key.
    fn from_kms_key(key: Option<String>) -> Self {
        match key {
            Some(key) if !key.ends_with("alias/aws/s3") => Self::Key(key),
            _ => Self::AwsManaged,
        }
    }
}
