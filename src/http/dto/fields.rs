//! Field types of request bodies and queries. Each is made by parsing, and its error states the limit; the
//! extractor adds the name of the field.

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// Text of at most `MAX` bytes of UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct BoundedText<const MAX: usize>(String);

/// Seconds until a signed URL expires: 1 to 604,800, seven days, the limit of S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct ExpirySeconds(u64);

/// Base64 of a SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct Sha256Base64(String);

/// The limit of S3, seven days in seconds.
const MAX_EXPIRY_SECS: u64 = 604_800;
const DEFAULT_EXPIRY_SECS: u64 = 3600;

impl<const MAX: usize> BoundedText<MAX> {
    pub(in crate::http) fn into_string(self) -> String {
        self.0
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for BoundedText<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() > MAX {
            let length = text.len();
            return Err(D::Error::custom(format_args!("must be at most {MAX} bytes of UTF-8, got {length}")));
        }
        Ok(Self(text))
    }
}

impl ExpirySeconds {
    pub(in crate::http) fn as_duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl Default for ExpirySeconds {
    fn default() -> Self {
        Self(DEFAULT_EXPIRY_SECS)
    }
}

impl<'de> Deserialize<'de> for ExpirySeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let secs = non_negative_integer(deserializer)?;
        if (1..=MAX_EXPIRY_SECS).contains(&secs) {
            Ok(Self(secs))
        } else {
            Err(D::Error::custom(format_args!("must be 1 to {MAX_EXPIRY_SECS} seconds")))
        }
    }
}

impl Sha256Base64 {
    pub(in crate::http) fn into_string(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for Sha256Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match BASE64_STANDARD.decode(&text) {
            Ok(digest) if digest.len() == 32 => Ok(Self(text)),
            _ => Err(D::Error::custom("must be 32 bytes in base64")),
        }
    }
}

/// An integer of at least 1.
pub(in crate::http) fn positive_integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match non_negative_integer(deserializer)? {
        0 => Err(D::Error::custom("must be at least 1")),
        number => Ok(number),
    }
}

/// [`positive_integer`], or `None` for `null`; to be used with `#[serde(default)]`.
pub(in crate::http) fn optional_positive_integer<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Number(#[serde(deserialize_with = "positive_integer")] u64);

    Ok(Option::<Number>::deserialize(deserializer)?.map(|Number(number)| number))
}

/// JSON has a single number type: `1e12` is the integer `1000000000000`. A number beyond `u64` saturates,
/// which exceeds every limit.
fn non_negative_integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct NonNegativeInteger;

    impl Visitor<'_> for NonNegativeInteger {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a non-negative integer")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "integral and not negative; the cast saturates"
        )]
        fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
            if number >= 0.0 && number.fract() == 0.0 {
                Ok(number as u64)
            } else {
                Err(E::invalid_value(Unexpected::Float(number), &self))
            }
        }
    }

    deserializer.deserialize_any(NonNegativeInteger)
}

/// Parses a number that consists of digits only. `str::parse` would also accept a sign.
pub(in crate::http) fn parse_digits(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
