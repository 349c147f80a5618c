//! Checks whether a lifecycle rule aborts incomplete multipart uploads.

use super::{bucket::report_unreadable, remediation, report::Finding};
use crate::bucket::{Bucket, BucketError};

const CHECK: &str = "lifecycle";

pub(super) async fn check_lifecycle(bucket: &Bucket) -> Finding {
    match fetch_upload_expiry_days(bucket).await {
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

/// Reads after how many days a lifecycle rule aborts incomplete multipart uploads; `None` without a rule.
async fn fetch_upload_expiry_days(bucket: &Bucket) -> Result<Option<i32>, BucketError> {
    let call = bucket.client().get_bucket_lifecycle_configuration().bucket(bucket.name()).send().await;
    let response = match call.map_err(|error| bucket.call_error("GetBucketLifecycleConfiguration", &error)) {
        Err(error) if error.has_code("NoSuchLifecycleConfiguration") => return Ok(None),
        response => response?,
    };
    let rules = response.rules.unwrap_or_default();
    let enabled = rules.iter().filter(|rule| rule.status.as_str() == "Enabled");
    let days = enabled.filter_map(|rule| rule.abort_incomplete_multipart_upload.as_ref());
    Ok(days.filter_map(|abort| abort.days_after_initiation).min())
}
