//! Checks this machine's clock against the `Date` header of S3's responses.

use std::time::Duration;

use jiff::Timestamp;

use super::report::{Finding, format_with_sources};

const CHECK: &str = "clock";
/// S3 refuses requests whose signing time differs from its own by more than 15 minutes.
const MAX_SKEW_SECS: i64 = 900;
const WARNING_SKEW_SECS: i64 = 60;
const FIX: &str = "set this machine's clock: timedatectl set-ntp true";

pub(super) async fn check_clock(origin: &str) -> Finding {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
    let Ok(client) = client else {
        return Finding::warning(CHECK, "failed to create an HTTP client", "run the doctor again");
    };
    let date = match client.head(origin).send().await {
        Ok(response) => response.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned),
        Err(error) => {
            let found = format!("{origin} does not respond: {}", format_with_sources(&error.without_url()));
            return Finding::failure(CHECK, found, "let this machine reach S3, or correct AWS_REGION");
        }
    };
    let Some(server_time) = date.and_then(|date| jiff::fmt::rfc2822::parse(&date).ok()) else {
        let found = format!("the response of {origin} has no valid Date header");
        return Finding::warning(CHECK, found, "compare the time by hand: date -u");
    };
    check_skew((Timestamp::now().as_second() - server_time.timestamp().as_second()).abs())
}

fn check_skew(skew_secs: i64) -> Finding {
    let found = format!("differs from S3's by {skew_secs} s");
    match skew_secs {
        0..WARNING_SKEW_SECS => Finding::ok(CHECK, found),
        WARNING_SKEW_SECS..MAX_SKEW_SECS => Finding::warning(CHECK, found, FIX),
        _ => Finding::failure(CHECK, format!("{found}: requests signed here are refused"), FIX),
    }
}
