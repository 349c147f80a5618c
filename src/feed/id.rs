//! Feed ids.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest feed id, in bytes of UTF-8.
const MAX_BYTES: usize = 64;

/// The name of a feed: a Socket.IO room and a key prefix. Compared byte by byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FeedId(Arc<str>);

/// Why a string is no feed id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FeedIdError {
    /// Nothing between the slashes.
    #[error("feed must have at least 1 byte")]
    Empty,
    /// Longer than a feed id may be.
    #[error("feed must have at most {MAX_BYTES} bytes of UTF-8, this one has {0}")]
    TooLong(usize),
    /// A slash parts the feed from the name in a key.
    #[error("feed must not contain '/'")]
    Slash,
    /// U+0000–1F and U+007F–9F.
    #[error("feed must not contain control characters (U+0000 to U+001F, U+007F to U+009F)")]
    Control,
    /// `*` stands for every feed in a token.
    #[error("feed must not be '*'")]
    Star,
    /// Dotted names are the server's own.
    #[error("feed must not begin with '.'")]
    Dot,
}

impl FeedId {
    /// Judges `text` by the rules of a feed id.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, FeedIdError> {
        match text {
            "" => Err(FeedIdError::Empty),
            "*" => Err(FeedIdError::Star),
            _ if text.len() > MAX_BYTES => Err(FeedIdError::TooLong(text.len())),
            _ if text.contains('/') => Err(FeedIdError::Slash),
            _ if text.contains(char::is_control) => Err(FeedIdError::Control),
            _ if text.starts_with('.') => Err(FeedIdError::Dot),
            _ => Ok(Self(text.into())),
        }
    }

    /// The id as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FeedId {
    type Error = FeedIdError;
    fn try_from(text: String) -> Result<Self, FeedIdError> {
        Self::parse(&text)
    }
}

impl From<FeedId> for String {
    fn from(feed: FeedId) -> Self {
        feed.0.as_ref().into()
    }
}

impl fmt::Display for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feed_ids_are_judged_by_the_contract() {
        let long = "é".repeat(32);
        for good in ["summer", "a b", "Ü", "🏖", "a.b", "a*", "%2F", &long] {
            assert!(FeedId::parse(good).is_ok(), "{good:?}");
        }
        let longer = format!("{long}x");
        for (bad, why) in [
            ("", FeedIdError::Empty),
            ("*", FeedIdError::Star),
            (longer.as_str(), FeedIdError::TooLong(65)),
            ("a/b", FeedIdError::Slash),
            ("a\0", FeedIdError::Control),
            ("a\u{7f}", FeedIdError::Control),
            ("a\u{9f}", FeedIdError::Control),
            (".hidden", FeedIdError::Dot),
        ] {
            assert_eq!(FeedId::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn feed_ids_are_not_normalised() {
        assert_ne!(FeedId::parse("é"), FeedId::parse("e\u{301}"));
    }
}
