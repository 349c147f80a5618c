//! Checks of the bucket: credentials, region, encryption, lifecycle.

use super::{Finding, remediation};
use crate::bucket::{Bucket, BucketError, Encryption};

/// Whether S3 accepts the credentials. Other errors of the first call are reported by [`check_bucket`].
pub(super) fn check_credentials(first_error: Option<&BucketError>) -> Finding {
    const CHECK: &str = "credentials";
    match first_error {
        Some(error) if error.is_expired_token() => {
            let fix = "get new temporary credentials: aws sso login, or aws sts assume-role, and set \
                 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN";
            Finding::failure(CHECK, format!("the temporary credentials have expired: {error}"), fix)
        }
        Some(error) if error.is_invalid_key() => Finding::failure(
            CHECK,
            format!("S3 rejects the access key: {error}"),
            remediation::create_access_key(),
        ),
        _ => Finding::ok(CHECK, "credentials and a region are configured"),
    }
}

pub(super) async fn check_bucket(
    bucket: &Bucket,
    first_error: Option<&BucketError>,
    region: &str,
) -> Finding {
    const CHECK: &str = "bucket";
    let name = bucket.name();
    match first_error {
        Some(error) if error.is_wrong_region() => {
            let found = format!("{name} is not in {region}, the configured region");
            let fix =
                format!("set AWS_REGION to the output of: aws s3api get-bucket-location --bucket {name}");
            return Finding::failure(CHECK, found, fix);
        }
        Some(error) if error.is_access_denied() => {
            let fix = remediation::deploy_access_stack(&stack_parameters(bucket));
            return Finding::failure(CHECK, error.to_string(), fix);
        }
        Some(error) => {
            let fix = remediation::set_variable_to_output("S3_BUCKET", "BucketName");
            return Finding::failure(CHECK, error.to_string(), fix);
        }
        None => {}
    }
    match bucket.fetch_region().await {
        Ok(actual) if actual != region => {
            let found = format!("{name} is in {actual}, the configured region is {region}");
            Finding::failure(CHECK, found, format!("AWS_REGION={actual}"))
        }
        Ok(actual) => Finding::ok(CHECK, format!("{name} in {actual} responds")),
        Err(error) => report_unreadable(CHECK, &error),
    }
}

pub(super) async fn check_encryption(bucket: &Bucket) -> Finding {
    const CHECK: &str = "bucket-encryption";
    match bucket.fetch_encryption().await {
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

pub(super) async fn check_lifecycle(bucket: &Bucket) -> Finding {
    const CHECK: &str = "lifecycle";
    match bucket.fetch_upload_expiry_days().await {
        Ok(Some(days)) => {
            Finding::ok(CHECK, format!("incomplete multipart uploads are aborted after {days} days"))
        }
        Ok(None) => Finding::warning(
            CHECK,
            "incomplete multipart uploads are never aborted, and their parts are billed",
            format!("{} (its rule abort-abandoned-uploads)", remediation::deploy_photos_stack("")),
        ),
        Err(error) => report_unreadable(CHECK, &error),
    }
}

/// Reports a setting that S3 did not return.
pub(super) fn report_unreadable(check: &'static str, error: &BucketError) -> Finding {
    let found = format!("could not be read: {error}");
    if error.is_access_denied() {
        Finding::warning(check, found, remediation::deploy_access_stack("AllowDoctor=true"))
    } else {
        Finding::warning(check, found, "run the doctor again when the other checks pass")
    }
}

/// The parameters of the access stack that grant the server its permissions in this bucket.
pub(super) fn stack_parameters(bucket: &Bucket) -> String {
    format!("BucketName={} KeyPrefix={}", bucket.name(), bucket.prefix().as_str())
}
