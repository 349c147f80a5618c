//! Positions in a feed's log.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Serialize, Serializer};

/// Identifies one incarnation of a feed's log. Chosen at random whenever a log is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// A random number stored with an entry. It reveals that a log restored from an old snapshot has assigned
/// an offset a second time. 0 before the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tag(pub u32);

/// A position in a feed's log: the client has received every entry up to and including `offset`.
///
/// Clients receive it as an opaque string and send it back to resume; see [`Cursor::parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The epoch of the log that the position belongs to.
    pub epoch: Epoch,
    /// The offset of the last entry received; 0 before the first.
    pub offset: u64,
    /// The tag of that entry.
    pub tag: Tag,
}

/// A string that is not an encoded cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct CursorError;

impl Epoch {
    /// A random epoch, for a new log.
    #[must_use]
    pub fn random() -> Self {
        Self(getrandom::u64().expect("the system has randomness"))
    }
}

impl Tag {
    /// A random tag, for a new entry.
    #[must_use]
    pub fn random() -> Self {
        Self(getrandom::u32().expect("the system has randomness"))
    }
}

impl Cursor {
    /// The position before the first entry.
    #[must_use]
    pub fn start(epoch: Epoch) -> Self {
        Self { epoch, offset: 0, tag: Tag::default() }
    }

    /// Decodes the output of `Display`: 20 bytes (epoch, offset, tag; big endian) in base64url.
    ///
    /// # Errors
    /// When the string has another length or alphabet. Whether the position exists is decided by the log.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let bytes: [u8; 20] = bytes.try_into().map_err(|_| CursorError)?;
        let (epoch, rest) = bytes.split_first_chunk().ok_or(CursorError)?;
        let (offset, rest) = rest.split_first_chunk().ok_or(CursorError)?;
        let tag = rest.first_chunk().ok_or(CursorError)?;
        Ok(Self {
            epoch: Epoch(u64::from_be_bytes(*epoch)),
            offset: u64::from_be_bytes(*offset),
            tag: Tag(u32::from_be_bytes(*tag)),
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_be_bytes());
        bytes[16..].copy_from_slice(&self.tag.0.to_be_bytes());
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_encoded_cursor_parses_to_the_same_cursor(epoch: u64, offset: u64, tag: u32) {
            let cursor = Cursor { epoch: Epoch(epoch), offset, tag: Tag(tag) };
            let text = cursor.to_string();
            prop_assert!(text.is_ascii() && text.len() <= 128);
            prop_assert_eq!(Cursor::parse(&text), Ok(cursor));
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(text: String) {
            let _ = Cursor::parse(&text);
        }
    }
}
