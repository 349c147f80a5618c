//! What of the bucket matters.

use super::{Finding, mend};
use crate::bucket::{Bucket, BucketError, Encryption};

/// Whether S3 takes our key. What else stood in the way of the first call is said of the bucket.
pub(super) fn credentials(first_call: Option<&BucketError>) -> Finding {
    const CHECK: &str = "credentials";
    match first_call {
        Some(error) if error.is_expired_key() => {
            let mend = "get new temporary ones: aws sso login, or aws sts assume-role, and set \
                 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN";
            Finding::failure(CHECK, format!("these temporary ones are over: {error}"), mend)
        }
        Some(error) if error.is_wrong_key() => {
            Finding::failure(CHECK, format!("S3 does not take them: {error}"), mend::new_key())
        }
        _ => Finding::ok(CHECK, "there are some, and a region"),
    }
}

pub(super) async fn reachable(bucket: &Bucket, first_call: Option<&BucketError>, region: &str) -> Finding {
    const CHECK: &str = "bucket";
    let name = bucket.name();
    match first_call {
        Some(error) if error.is_elsewhere() => {
            let found = format!("{name} is not in {region}, which AWS_REGION says");
            let mend =
                format!("set AWS_REGION to what this says: aws s3api get-bucket-location --bucket {name}");
            return Finding::failure(CHECK, found, mend);
        }
        Some(error) if error.is_refusal() => {
            return Finding::failure(CHECK, error.to_string(), mend::access(&of(bucket)));
        }
        Some(error) => {
            return Finding::failure(
                CHECK,
                error.to_string(),
                mend::set_to_output("S3_BUCKET", "BucketName"),
            );
        }
        None => {}
    }
    match bucket.region().await {
        Ok(there) if there != region => {
            let found = format!("{name} is in {there}, AWS_REGION is {region}");
            Finding::failure(CHECK, found, format!("AWS_REGION={there}"))
        }
        Ok(there) => Finding::ok(CHECK, format!("{name} in {there} answers")),
        Err(error) => unread(CHECK, &error),
    }
}

pub(super) async fn encryption(bucket: &Bucket) -> Finding {
    const CHECK: &str = "bucket-encryption";
    match bucket.encryption().await {
        Ok(Encryption::S3) => Finding::ok(CHECK, "S3's own keys"),
        Ok(Encryption::AwsManaged) => Finding::ok(
            CHECK,
            "aws/s3, the KMS key that AWS manages: only for users of the bucket's own account",
        ),
        Ok(Encryption::Key(key)) => {
            Finding::ok(CHECK, format!("the key {key}; whether it may be used, the round trip tells"))
        }
        Err(error) => unread(CHECK, &error),
    }
}

pub(super) async fn lifecycle(bucket: &Bucket) -> Finding {
    const CHECK: &str = "lifecycle";
    match bucket.sweeps_uploads_after().await {
        Ok(Some(days)) => Finding::ok(CHECK, format!("uploads that were given up go after {days} days")),
        Ok(None) => Finding::warning(
            CHECK,
            "multipart uploads that were given up stay, and are paid for",
            format!("{} (its rule abort-abandoned-uploads)", mend::photos("")),
        ),
        Err(error) => unread(CHECK, &error),
    }
}

pub(super) fn unread(check: &'static str, error: &BucketError) -> Finding {
    let found = format!("can't be told: {error}");
    if error.is_refusal() {
        Finding::warning(check, found, mend::access("AllowDoctor=true"))
    } else {
        Finding::warning(check, found, "run it again when the other lines are ok")
    }
}

/// The parameters by which the server gets its rights in this bucket.
pub(super) fn of(bucket: &Bucket) -> String {
    format!("BucketName={} KeyPrefix={}", bucket.name(), bucket.prefix().as_str())
}
