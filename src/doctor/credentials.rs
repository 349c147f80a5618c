//! Checks the credentials.

use super::{remediation, report::Finding};
use crate::bucket::BucketError;

const CHECK: &str = "credentials";

/// Whether S3 accepts the credentials. Other errors of the first call are reported by the check of the bucket.
pub(super) fn check_credentials(first_error: Option<&BucketError>) -> Finding {
    match first_error {
        Some(error) if is_expired_token(error) => {
            let fix = "get new temporary credentials: aws sso login, or aws sts assume-role, and set \
                 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN";
            Finding::failure(CHECK, format!("the temporary credentials have expired: {error}"), fix)
        }
        Some(error) if is_invalid_key(error) => Finding::failure(
            CHECK,
            format!("S3 rejects the access key: {error}"),
            remediation::create_access_key(),
        ),
        _ => Finding::ok(CHECK, "credentials and a region are configured"),
    }
}

/// Whether S3 rejected temporary credentials because they have expired.
fn is_expired_token(error: &BucketError) -> bool {
    error.has_code("ExpiredToken") || error.has_code("InvalidToken")
}

/// Whether S3 rejected the access key or the signature.
fn is_invalid_key(error: &BucketError) -> bool {
    error.has_code("InvalidAccessKeyId") || error.has_code("SignatureDoesNotMatch")
}
