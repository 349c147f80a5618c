//! S3's order of the events of one key.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

/// A hexadecimal string that orders the events of **one key**; of two keys it says nothing.
///
/// Lengths differ (16 and 18 digits are seen, the long ones led by zeros), and so does case. They
/// are ordered in upper case, without leading zeros, the shorter padded with zeros on the right.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sequencer(String);

/// Not a sequencer of S3's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sequencer must be 1 to 64 hexadecimal digits")]
pub struct SequencerError;

impl Sequencer {
    /// Takes what S3 sent.
    ///
    /// # Errors
    /// When it is not hexadecimal.
    pub fn parse(text: &str) -> Result<Self, SequencerError> {
        let hex = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if hex { Ok(Self(text.into())) } else { Err(SequencerError) }
    }

    /// As S3 wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A text that compares, byte by byte, as the sequencer does: upper case, no leading zeros and
    /// no trailing ones (which is the same as padding the shorter on the right).
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

    fn order(a: &str, b: &str) -> Ordering {
        Sequencer::parse(a).unwrap().cmp(&Sequencer::parse(b).unwrap())
    }

    #[test]
    fn trap_7_sequencers_of_16_and_18_digits_and_mixed_case() {
        for (a, b, expected) in [
            ("0055AED6DCD90281E5", "0055AED6DCD90281E6", Ordering::Less),
            ("0055AED6DCD90281E5", "55AED6DCD90281E5", Ordering::Equal),
            ("0055aed6dcd90281e5", "0055AED6DCD90281E5", Ordering::Equal),
            ("55AED6DCD90281E5", "0055AED6DCD90281E6", Ordering::Less),
            ("0061B2C3D4E5F60718", "61B2C3D4E5F607", Ordering::Greater),
            ("61", "6100", Ordering::Equal),
            ("62", "6100", Ordering::Greater),
        ] {
            assert_eq!(order(a, b), expected, "{a} and {b}");
            assert_eq!(order(b, a), expected.reverse(), "{b} and {a}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "xyz", "0x1", " 1", &"1".repeat(65)] {
            assert!(Sequencer::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[0-9a-fA-F]{1,18}", b in "[0-9a-fA-F]{1,18}", c in "[0-9a-fA-F]{1,18}") {
            prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
            if order(&a, &b).is_le() && order(&b, &c).is_le() {
                prop_assert!(order(&a, &c).is_le());
            }
        }
    }
}
