//! The sequencer of S3 events, which orders the events of one key.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

/// A hexadecimal string that orders the events of **one key**. Sequencers of different keys are not
/// comparable.
///
/// Length and case vary: S3 sends 16 digits, or 18 digits with leading zeros. The comparison therefore
/// ignores case and leading zeros, and pads the shorter string with zeros on the right.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sequencer(String);

/// A string that is not a sequencer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sequencer must be 1 to 64 hexadecimal digits")]
pub struct SequencerError;

impl Sequencer {
    /// Validates a sequencer.
    ///
    /// # Errors
    /// When `text` is not 1 to 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, SequencerError> {
        let is_valid = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if is_valid { Ok(Self(text.into())) } else { Err(SequencerError) }
    }

    /// The sequencer verbatim, as S3 sent it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A string whose byte order is the order of sequencers: upper case, without leading and trailing
    /// zeros. Trimming trailing zeros is equivalent to padding the shorter string on the right.
    #[must_use]
    pub fn sort_key(&self) -> String {
        self.0.trim_matches('0').to_ascii_uppercase()
    }
}

impl Ord for Sequencer {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sort_key().cmp(&other.sort_key())
    }
}

impl PartialOrd for Sequencer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Sequencer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Sequencer {}

impl TryFrom<String> for Sequencer {
    type Error = SequencerError;
    fn try_from(text: String) -> Result<Self, SequencerError> {
        Self::parse(&text)
    }
}

impl From<Sequencer> for String {
    fn from(sequencer: Sequencer) -> Self {
        sequencer.0
    }
}

impl fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compare(a: &str, b: &str) -> Ordering {
        Sequencer::parse(a).unwrap().cmp(&Sequencer::parse(b).unwrap())
    }

    #[test]
    fn sequencers_of_16_and_18_digits_and_mixed_case_are_ordered() {
        for (a, b, expected) in [
            ("0055AED6DCD90281E5", "0055AED6DCD90281E6", Ordering::Less),
            ("0055AED6DCD90281E5", "55AED6DCD90281E5", Ordering::Equal),
            ("0055aed6dcd90281e5", "0055AED6DCD90281E5", Ordering::Equal),
            ("55AED6DCD90281E5", "0055AED6DCD90281E6", Ordering::Less),
            ("0061B2C3D4E5F60718", "61B2C3D4E5F607", Ordering::Greater),
            ("61", "6100", Ordering::Equal),
            ("62", "6100", Ordering::Greater),
        ] {
            assert_eq!(compare(a, b), expected, "{a} and {b}");
            assert_eq!(compare(b, a), expected.reverse(), "{b} and {a}");
        }
    }

    #[test]
    fn other_strings_are_rejected() {
        for invalid in ["", "xyz", "0x1", " 1", &"1".repeat(65)] {
            assert!(Sequencer::parse(invalid).is_err(), "{invalid:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[0-9a-fA-F]{1,18}", b in "[0-9a-fA-F]{1,18}", c in "[0-9a-fA-F]{1,18}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
