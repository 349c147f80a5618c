//! Feed identifiers.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The maximum length of a feed ID, in bytes of UTF-8.
const MAX_BYTES: usize = 64;

/// The ID of a feed, which is also the prefix of its object keys. Compared byte by byte, without Unicode
/// normalization.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FeedId(Arc<str>);

/// Why a string is not a valid feed ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FeedIdError {
    /// The ID is empty.
    #[error("feed must have at least 1 byte")]
    Empty,
    /// The ID is longer than 64 bytes.
    #[error("feed must have at most {MAX_BYTES} bytes of UTF-8, this one has {0}")]
    TooLong(usize),
    /// The ID contains a slash, which separates the feed from the name in an object key.
    #[error("feed must not contain '/'")]
    Slash,
    /// The ID contains a control character.
    #[error("feed must not contain control characters (U+0000 to U+001F, U+007F to U+009F)")]
    ControlCharacter,
    /// The ID is `*`, which means every feed in a token.
    #[error("feed must not be '*'")]
    Wildcard,
    /// The ID begins with a dot. Such prefixes are reserved for the server.
    #[error("feed must not begin with '.'")]
    LeadingDot,
}

impl FeedId {
    /// Validates a feed ID.
    ///
    /// # Errors
    /// The first rule that `text` violates.
    pub fn parse(text: &str) -> Result<Self, FeedIdError> {
        match text {
            "" => Err(FeedIdError::Empty),
            "*" => Err(FeedIdError::Wildcard),
            _ if text.len() > MAX_BYTES => Err(FeedIdError::TooLong(text.len())),
            _ if text.contains('/') => Err(FeedIdError::Slash),
            _ if text.contains(char::is_control) => Err(FeedIdError::ControlCharacter),
            _ if text.starts_with('.') => Err(FeedIdError::LeadingDot),
            _ => Ok(Self(text.into())),
        }
    }

    /// The ID as a string.
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
    fn feed_ids_are_validated() {
        let long = "é".repeat(32);
        for valid in ["summer", "a b", "Ü", "🏖", "a.b", "a*", "%2F", &long] {
            assert!(FeedId::parse(valid).is_ok(), "{valid:?}");
        }
        let longer = format!("{long}x");
        for (invalid, expected) in [
            ("", FeedIdError::Empty),
            ("*", FeedIdError::Wildcard),
            (longer.as_str(), FeedIdError::TooLong(65)),
            ("a/b", FeedIdError::Slash),
            ("a\0", FeedIdError::ControlCharacter),
            ("a\u{7f}", FeedIdError::ControlCharacter),
            ("a\u{9f}", FeedIdError::ControlCharacter),
            (".hidden", FeedIdError::LeadingDot),
        ] {
            assert_eq!(FeedId::parse(invalid), Err(expected), "{invalid:?}");
        }
    }

    #[test]
    fn feed_ids_are_not_normalized() {
        assert_ne!(FeedId::parse("é"), FeedId::parse("e\u{301}"));
    }
}
