//! Checks the bucket: its existence, the access to it, its region.

use super::{remediation, report::Finding};
use crate::bucket::{Bucket, BucketError};

const CHECK: &str = "bucket";

pub(super) async fn check_bucket(
    bucket: &Bucket,
    first_error: Option<&BucketError>,
    region: &str,
) -> Finding {
    let name = bucket.name();
    match first_error {
        Some(error) if is_wrong_region(error) => {
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
    match fetch_region(bucket).await {
        Ok(actual) if actual != region => {
            let found = format!("{name} is in {actual}, the configured region is {region}");
            Finding::failure(CHECK, found, format!("AWS_REGION={actual}"))
        }
        Ok(actual) => Finding::ok(CHECK, format!("{name} in {actual} responds")),
        Err(error) => report_unreadable(CHECK, &error),
    }
}

async fn fetch_region(bucket: &Bucket) -> Result<String, BucketError> {
    let call = bucket.client().get_bucket_location().bucket(bucket.name()).send().await;
    let response = call.map_err(|error| bucket.call_error("GetBucketLocation", &error))?;
    // GetBucketLocation returns nothing for us-east-1, and the old name for some buckets in eu-west-1.
    Ok(match response.location_constraint.as_ref().map_or("", |region| region.as_str()) {
        "" => "us-east-1".to_owned(),
        "EU" => "eu-west-1".to_owned(),
        region => region.to_owned(),
    })
}

fn is_wrong_region(error: &BucketError) -> bool {
    error.has_code("PermanentRedirect") || error.has_code("AuthorizationHeaderMalformed")
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
