//! Signed URLs that show a photo.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Bucket, BucketUrl, SignedUrl, SignerError,
    sign::{PresignRequest, object_path},
};
use crate::feed::ObjectKey;

/// Signing times are rounded down to multiples of this (with a short TTL, of half the TTL). The URL of a
/// photo stays the same in between, and caches can serve it.
const SIGNING_INTERVAL: Duration = Duration::from_mins(5);

impl Bucket {
    /// Signs a GET URL of the object `key` under `bucket_url`, valid for the configured TTL.
    #[must_use]
    pub fn view_url(&self, bucket_url: &BucketUrl, key: &ObjectKey, now: Timestamp) -> SignedUrl {
        let request = PresignRequest { method: "GET", key: key.as_str(), query: &[], headers: &[] };
        self.signer.presign(bucket_url, request, round_down(now, self.url_ttls.view), self.url_ttls.view)
    }

    /// Returns the URL of the object `key` without a signature. It identifies the object and grants no
    /// access.
    #[must_use]
    pub fn unsigned_url(&self, bucket_url: &BucketUrl, key: &ObjectKey) -> String {
        format!("{}{}", bucket_url.origin, object_path(bucket_url, key.as_str()))
    }

    /// Returns the time, in Unix seconds, with which [`Bucket::view_url`] signs at `now`. The URLs change
    /// only when this time does.
    #[must_use]
    pub fn view_signing_time(&self, now: Timestamp) -> i64 {
        round_down(now, self.url_ttls.view).as_second()
    }

    /// Fetches new credentials if the current ones expire soon.
    ///
    /// # Errors
    /// When the provider returns no credentials.
    pub async fn refresh_credentials(&self) -> Result<(), SignerError> {
        self.signer.refresh_credentials(Timestamp::now()).await
    }
}

fn round_down(now: Timestamp, ttl: Duration) -> Timestamp {
    let step = i64::try_from(SIGNING_INTERVAL.min(ttl / 2).as_secs()).unwrap_or(1).max(1);
    let second = now.as_second();
    Timestamp::from_second(second - second.rem_euclid(step)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_times_are_rounded_down_to_five_minutes() {
        let at = "2026-11-22T18:44:59.9Z".parse().unwrap();
        assert_eq!(round_down(at, Duration::from_hours(1)).to_string(), "2026-11-22T18:40:00Z");
        assert_eq!(round_down(at, Duration::from_secs(2)).to_string(), "2026-11-22T18:44:59Z");
    }
}
