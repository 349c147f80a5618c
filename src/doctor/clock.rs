//! This machine's clock, by the time that the bucket's own answers carry.

use std::time::Duration;

use jiff::Timestamp;

use super::{Finding, with_sources};

const CHECK: &str = "clock";
/// S3 refuses what was signed more than 15 minutes away from its own time.
const SKEW_REFUSED: i64 = 900;
const SKEW_ODD: i64 = 60;
const MEND: &str = "set this machine's clock: timedatectl set-ntp true";

pub(super) async fn examine(origin: &str) -> Finding {
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
        let found = format!("{origin} does not say what time it is");
        return Finding::warning(CHECK, found, "compare it by hand: date -u");
    };
    judge((Timestamp::now().as_second() - then.timestamp().as_second()).abs())
}

fn judge(skew: i64) -> Finding {
    let found = format!("{skew} s away from S3's");
    match skew {
        0..SKEW_ODD => Finding::ok(CHECK, found),
        SKEW_ODD..SKEW_REFUSED => Finding::warning(CHECK, found, MEND),
        _ => Finding::failure(CHECK, format!("{found}: what is signed here is refused"), MEND),
    }
}
