//! The bucket URL that clients reach, which signed URLs begin with.

use crate::bucket::BucketUrl;

/// How the bucket URL for a client is determined.
#[derive(Debug, Clone)]
pub enum UrlBase {
    /// The same URL for all clients.
    Fixed(BucketUrl),
    /// The host that the client sent its request to: the bucket is served by this process.
    RequestHost(BucketUrl),
}

impl UrlBase {
    /// The bucket URL for a client whose request had the `Host` header `host`.
    #[must_use]
    pub fn for_host(&self, host: Option<&str>) -> BucketUrl {
        match (self, host) {
            (Self::RequestHost(base), Some(host)) if is_valid_host(host) => {
                base.with_origin(&format!("http://{host}"))
            }
            (Self::RequestHost(base) | Self::Fixed(base), _) => base.clone(),
        }
    }
}

/// Whether `host` has only characters of a host and port. It comes from a client and goes into URLs.
fn is_valid_host(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'))
}
