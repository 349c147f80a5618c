//! Object keys: `{prefix}{feed}/{name}`.

use std::{fmt, sync::Arc};

use super::{FeedId, FeedIdError};

/// The limit of S3 for a key, in bytes of UTF-8.
const MAX_BYTES: usize = 1024;

/// The common prefix of all keys of a deployment: empty, or ending in `/`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPrefix(Arc<str>);

/// Why a string is not a valid key prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyPrefixError {
    /// The prefix does not end in a slash: `a` would match the keys of `ab`, too.
    #[error("must be empty or end in '/'")]
    MissingTrailingSlash,
    /// A segment is empty, `.` or `..`: URL normalization would change the key.
    #[error("must not have an empty, '.' or '..' segment")]
    InvalidSegment,
    /// The prefix leaves too few of the 1,024 bytes of a key for the feed and the name.
    #[error("must have at most 512 bytes")]
    TooLong,
}

/// The object key of a photo, split into prefix, feed and name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    full: Arc<str>,
    feed: FeedId,
    name_start: usize,
}

/// Why a string is not the key of a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is outside the prefix of this deployment.
    #[error("key does not begin with the prefix of this deployment")]
    OtherPrefix,
    /// There is no `/` after the feed.
    #[error("key has no '/' between feed and name")]
    MissingName,
    /// The part before the first `/` is not a valid feed ID.
    #[error(transparent)]
    Feed(#[from] FeedIdError),
    /// A segment of the name is empty (also after a trailing slash), `.` or `..`.
    #[error("name must not have an empty, '.' or '..' segment")]
    InvalidSegment,
    /// The key is longer than S3 allows.
    #[error("key must have at most {MAX_BYTES} bytes, this one has {0}")]
    TooLong(usize),
}

impl KeyPrefix {
    /// Validates a key prefix.
    ///
    /// # Errors
    /// The rule that `text` violates.
    pub fn parse(text: &str) -> Result<Self, KeyPrefixError> {
        match text.strip_suffix('/') {
            None if text.is_empty() => Ok(Self::default()),
            None => Err(KeyPrefixError::MissingTrailingSlash),
            Some(_) if text.len() > 512 => Err(KeyPrefixError::TooLong),
            Some(body) if body.split('/').any(is_invalid_segment) => Err(KeyPrefixError::InvalidSegment),
            Some(_) => Ok(Self(text.into())),
        }
    }

    /// The prefix as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The common prefix of the keys of `feed`.
    #[must_use]
    pub fn feed_prefix(&self, feed: &FeedId) -> String {
        format!("{}{feed}/", self.0)
    }
}

impl ObjectKey {
    /// Builds the key of `name` in `feed`.
    ///
    /// # Errors
    /// When the name is invalid or the key is too long.
    pub fn build(prefix: &KeyPrefix, feed: &FeedId, name: &str) -> Result<Self, KeyError> {
        if name.split('/').any(is_invalid_segment) {
            return Err(KeyError::InvalidSegment);
        }
        let full = format!("{}{feed}/{name}", prefix.0);
        if full.len() > MAX_BYTES {
            return Err(KeyError::TooLong(full.len()));
        }
        Ok(Self { name_start: full.len() - name.len(), full: full.into(), feed: feed.clone() })
    }

    /// Splits a key. The key is used verbatim: nothing is decoded.
    ///
    /// # Errors
    /// When it is not the key of a photo of this deployment.
    pub fn parse(prefix: &KeyPrefix, key: &str) -> Result<Self, KeyError> {
        let rest = key.strip_prefix(&*prefix.0).ok_or(KeyError::OtherPrefix)?;
        let (feed, name) = rest.split_once('/').ok_or(KeyError::MissingName)?;
        Self::build(prefix, &FeedId::parse(feed)?, name)
    }

    /// The whole key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// The feed that the photo is in.
    #[must_use]
    pub fn feed(&self) -> &FeedId {
        &self.feed
    }

    /// The part before the feed.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.full[..self.name_start - self.feed.as_str().len() - 1]
    }

    /// The part after the feed and its slash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.full[self.name_start..]
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.full)
    }
}

fn is_invalid_segment(segment: &str) -> bool {
    matches!(segment, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::support::object_key;

    #[test]
    fn keys_that_are_not_of_a_photo_are_rejected() {
        let prefix = KeyPrefix::parse("app/").unwrap();
        for (key, expected) in [
            ("other/summer/a.jpg", KeyError::OtherPrefix),
            ("app/summer", KeyError::MissingName),
            ("app/summer/", KeyError::InvalidSegment),
            ("app/summer/a/", KeyError::InvalidSegment),
            ("app/summer//a", KeyError::InvalidSegment),
            ("app/summer/../a", KeyError::InvalidSegment),
            ("app/summer/./a", KeyError::InvalidSegment),
            ("app//a.jpg", KeyError::Feed(FeedIdError::Empty)),
            ("app/.photoshare/quarantine/a", KeyError::Feed(FeedIdError::LeadingDot)),
        ] {
            assert_eq!(ObjectKey::parse(&prefix, key), Err(expected), "{key}");
        }
        let long = format!("app/summer/{}", "x".repeat(1014));
        assert_eq!(ObjectKey::parse(&prefix, &long), Err(KeyError::TooLong(1025)));
    }

    #[test]
    fn a_name_may_contain_slashes() {
        let key = object_key("summer/2026/a.jpg");
        assert_eq!((key.feed().as_str(), key.name()), ("summer", "2026/a.jpg"));
    }

    #[test]
    fn prefixes_end_in_a_slash() {
        for valid in ["", "app/", "a/b/"] {
            assert!(KeyPrefix::parse(valid).is_ok(), "{valid}");
        }
        for invalid in ["app", "/", "a//", "../", "/a/"] {
            assert!(KeyPrefix::parse(invalid).is_err(), "{invalid}");
        }
    }

    proptest! {
        #[test]
        fn a_built_key_parses_to_the_same_key(feed in "[^/\\p{Cc}.*][^/\\p{Cc}]{0,12}", name in "[^/.]{1,40}(/[^/.]{1,20})?") {
            let prefix = KeyPrefix::parse("p/").unwrap();
            let feed = FeedId::parse(&feed).unwrap();
            let key = ObjectKey::build(&prefix, &feed, &name).unwrap();
            prop_assert_eq!(ObjectKey::parse(&prefix, key.as_str()), Ok(key.clone()));
            prop_assert_eq!((key.prefix(), key.name()), ("p/", name.as_str()));
        }
    }
}
