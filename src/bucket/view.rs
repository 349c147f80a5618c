//! URLs that show a photo.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Base, Bucket, SignerError,
    sign::{Request, Signed, path_of},
};
use crate::feed::ObjectKey;

/// Signing times are rounded down to this (for shorter lives, to half the life), so that a photo keeps
/// one URL, and its place in caches.
const ROUNDED_TO: Duration = Duration::from_mins(5);

/// A URL that shows a photo, and its end.
pub type ViewUrl = Signed;

impl Bucket {
    /// The URL of `key` as of `now`, under `base`.
    #[must_use]
    pub fn view_url(&self, base: &Base, key: &ObjectKey, now: Timestamp) -> ViewUrl {
        let request = Request { method: "GET", key: key.as_str(), query: &[], headers: &[] };
        self.signer.sign(base, request, rounded(now, self.lives.view), self.lives.view)
    }

    /// The URL of `key` without a signature: it names the object, and opens nothing.
    #[must_use]
    pub fn plain_url(&self, base: &Base, key: &ObjectKey) -> String {
        format!("{}{}", base.origin, path_of(base, key.as_str()))
    }

    /// The moment from which [`Bucket::view_url`] signs at `now`: while it stays, so do the URLs.
    #[must_use]
    pub fn view_period(&self, now: Timestamp) -> i64 {
        rounded(now, self.lives.view).as_second()
    }

    /// Makes sure that URLs can be signed for a while.
    ///
    /// # Errors
    /// When there are no credentials left.
    pub async fn refresh(&self) -> Result<(), SignerError> {
        self.signer.refresh(Timestamp::now()).await
    }
}

fn rounded(now: Timestamp, life: Duration) -> Timestamp {
    let step = i64::try_from(ROUNDED_TO.min(life / 2).as_secs()).unwrap_or(1).max(1);
    let second = now.as_second();
    Timestamp::from_second(second - second.rem_euclid(step)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_times_are_rounded_down_to_five_minutes() {
        let at = "2026-11-22T18:44:59.9Z".parse().unwrap();
        assert_eq!(rounded(at, Duration::from_hours(1)).to_string(), "2026-11-22T18:40:00Z");
        assert_eq!(rounded(at, Duration::from_secs(2)).to_string(), "2026-11-22T18:44:59Z");
    }
}
