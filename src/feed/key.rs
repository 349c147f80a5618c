//! Object keys: `{prefix}{feed}/{name}`.

use std::{fmt, sync::Arc};

use super::{FeedId, FeedIdError};

/// S3's own limit on a key, in bytes of UTF-8.
const MAX_BYTES: usize = 1024;

/// What every key of this deployment begins with: empty, or ending in `/`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPrefix(Arc<str>);

/// Why a string can't be the prefix of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyPrefixError {
    /// Without the slash, `a` would also hold the keys of `ab`.
    #[error("must be empty or end in '/'")]
    NoSlash,
    /// Empty, `.` and `..` segments don't survive the way through URLs.
    #[error("must not have an empty, '.' or '..' segment")]
    Segment,
    /// Little of a key's 1,024 bytes would be left for the feed and the name.
    #[error("must have at most 512 bytes")]
    TooLong,
}

/// The key of a photo, parted into feed and name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    full: Arc<str>,
    feed: FeedId,
    name_at: usize,
}

/// Why a string is no key of a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Some other part of the bucket.
    #[error("key does not begin with the prefix of this deployment")]
    OtherPrefix,
    /// No `/` after the feed.
    #[error("key has no feed and name")]
    NoName,
    /// The part that should be a feed is none.
    #[error(transparent)]
    Feed(#[from] FeedIdError),
    /// An empty, `.` or `..` segment, a trailing slash among them.
    #[error("name must not have an empty, '.' or '..' segment")]
    Segment,
    /// Longer than S3 allows.
    #[error("key must have at most {MAX_BYTES} bytes, this one has {0}")]
    TooLong(usize),
}

impl KeyPrefix {
    /// Judges `text` as a prefix.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, KeyPrefixError> {
        match text.strip_suffix('/') {
            None if text.is_empty() => Ok(Self::default()),
            None => Err(KeyPrefixError::NoSlash),
            Some(_) if text.len() > 512 => Err(KeyPrefixError::TooLong),
            Some(body) if body.split('/').any(is_bad_segment) => Err(KeyPrefixError::Segment),
            Some(_) => Ok(Self(text.into())),
        }
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the keys of `feed` begin with.
    #[must_use]
    pub fn of_feed(&self, feed: &FeedId) -> String {
        format!("{}{feed}/", self.0)
    }
}

impl ObjectKey {
    /// The key of `name` in `feed`.
    ///
    /// # Errors
    /// When the name or the length can't be a photo's.
    pub fn build(prefix: &KeyPrefix, feed: &FeedId, name: &str) -> Result<Self, KeyError> {
        if name.split('/').any(is_bad_segment) {
            return Err(KeyError::Segment);
        }
        let full = format!("{}{feed}/{name}", prefix.0);
        if full.len() > MAX_BYTES {
            return Err(KeyError::TooLong(full.len()));
        }
        Ok(Self { name_at: full.len() - name.len(), full: full.into(), feed: feed.clone() })
    }

    /// Parts a key that S3 named. The key is taken as it is, nothing is decoded.
    ///
    /// # Errors
    /// When it is none that this deployment announces.
    pub fn parse(prefix: &KeyPrefix, key: &str) -> Result<Self, KeyError> {
        let rest = key.strip_prefix(&*prefix.0).ok_or(KeyError::OtherPrefix)?;
        let (feed, name) = rest.split_once('/').ok_or(KeyError::NoName)?;
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

    /// Everything before the feed.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.full[..self.name_at - self.feed.as_str().len() - 1]
    }

    /// Everything after the feed's slash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.full[self.name_at..]
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

fn is_bad_segment(segment: &str) -> bool {
    matches!(segment, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_outside_the_rules_are_refused() {
        let prefix = KeyPrefix::parse("app/").unwrap();
        for (key, why) in [
            ("other/summer/a.jpg", KeyError::OtherPrefix),
            ("app/summer", KeyError::NoName),
            ("app/summer/", KeyError::Segment),
            ("app/summer/a/", KeyError::Segment),
            ("app/summer//a", KeyError::Segment),
            ("app/summer/../a", KeyError::Segment),
            ("app/summer/./a", KeyError::Segment),
            ("app//a.jpg", KeyError::Feed(FeedIdError::Empty)),
            ("app/.photoshare/quarantine/a", KeyError::Feed(FeedIdError::Dot)),
        ] {
            assert_eq!(ObjectKey::parse(&prefix, key), Err(why), "{key}");
        }
        let long = format!("app/summer/{}", "x".repeat(1014));
        assert_eq!(ObjectKey::parse(&prefix, &long), Err(KeyError::TooLong(1025)));
    }

    #[test]
    fn a_name_may_hold_slashes() {
        let key = ObjectKey::parse(&KeyPrefix::default(), "summer/2026/a.jpg").unwrap();
        assert_eq!((key.feed().as_str(), key.name()), ("summer", "2026/a.jpg"));
    }

    #[test]
    fn prefixes_end_in_a_slash() {
        for good in ["", "app/", "a/b/"] {
            assert!(KeyPrefix::parse(good).is_ok(), "{good}");
        }
        for bad in ["app", "/", "a//", "../", "/a/"] {
            assert!(KeyPrefix::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_built_parses_to_the_same(feed in "[^/\\p{Cc}.*][^/\\p{Cc}]{0,12}", name in "[^/.]{1,40}(/[^/.]{1,20})?") {
            let prefix = KeyPrefix::parse("p/").unwrap();
            let feed = FeedId::parse(&feed).unwrap();
            let key = ObjectKey::build(&prefix, &feed, &name).unwrap();
            prop_assert_eq!(ObjectKey::parse(&prefix, key.as_str()), Ok(key.clone()));
            prop_assert_eq!((key.prefix(), key.name()), ("p/", name.as_str()));
        }
    }
}
