//! Where signed URLs point.

use crate::bucket::Base;

/// Where signed URLs point.
#[derive(Debug, Clone)]
pub enum UrlBase {
    /// To the one place where the bucket is.
    Fixed(Base),
    /// To the host that the receiver spoke to: the bucket is in this process.
    OwnHost(Base),
}

impl UrlBase {
    /// The base for one who sent `host` in a request.
    #[must_use]
    pub fn for_host(&self, host: Option<&str>) -> Base {
        match (self, host) {
            (Self::OwnHost(base), Some(host)) if is_host(host) => base.at(&format!("http://{host}")),
            (Self::OwnHost(base) | Self::Fixed(base), _) => base.clone(),
        }
    }
}

/// Whether `host` is of the characters of a host and port: it goes into URLs.
fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'))
}
