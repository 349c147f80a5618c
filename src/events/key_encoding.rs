//! The URL encoding of keys in S3 notifications: a space is `+`, and `/` is not encoded.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All characters except those that S3 leaves as they are.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b' ');

/// The decoded bytes are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("percent-encoding does not decode to UTF-8")]
pub struct KeyEncodingError;

/// Decodes a key from `Records`, once: a key that contains a literal `%2F` keeps it.
///
/// # Errors
/// When the bytes are not UTF-8.
pub fn decode_key(encoded: &str) -> Result<String, KeyEncodingError> {
    let with_spaces = encoded.replace('+', " ");
    percent_decode_str(&with_spaces).decode_utf8().map(Cow::into_owned).map_err(|_| KeyEncodingError)
}

/// Encodes a key as S3 does.
#[must_use]
pub fn encode_key(key: &str) -> String {
    utf8_percent_encode(key, ENCODED).to_string().replace(' ', "+")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plus_decodes_to_a_space_and_2b_to_a_plus() {
        assert_eq!(decode_key("a+b%2Bc%40d%C3%A9.jpg").unwrap(), "a b+c@dé.jpg");
        assert_eq!(encode_key("a b+c@dé.jpg"), "a+b%2Bc%40d%C3%A9.jpg");
    }

    #[test]
    fn a_key_with_a_literal_escape_is_decoded_once() {
        assert_eq!(decode_key("summer/a%252Fb.jpg").unwrap(), "summer/a%2Fb.jpg");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_rejected() {
        assert_eq!(decode_key("summer/%FF.jpg"), Err(KeyEncodingError));
    }

    proptest! {
        #[test]
        fn an_encoded_key_decodes_to_the_same_key(key: String) {
            prop_assert_eq!(decode_key(&encode_key(&key)), Ok(key));
        }
    }
}
