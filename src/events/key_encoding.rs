//! The form-style encoding of keys in S3 notifications: space is `+`, `/` stays.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What S3 leaves as it is: letters, digits and these.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b' ');

/// The bytes behind the escapes are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its escapes do not decode to UTF-8")]
pub struct KeyEncodingError;

/// Decodes a key as S3 writes it in `Records`. Once: a literal `%2F` in a key stays.
///
/// # Errors
/// When the bytes are not UTF-8.
pub fn decode_key(encoded: &str) -> Result<String, KeyEncodingError> {
    let spaced = encoded.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned).map_err(|_| KeyEncodingError)
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
    fn trap_2_plus_is_a_space_and_2b_is_a_plus() {
        assert_eq!(decode_key("a+b%2Bc%40d%C3%A9.jpg").unwrap(), "a b+c@dé.jpg");
        assert_eq!(encode_key("a b+c@dé.jpg"), "a+b%2Bc%40d%C3%A9.jpg");
    }

    #[test]
    fn trap_3_a_literal_escape_in_a_key_is_decoded_once() {
        assert_eq!(decode_key("summer/a%252Fb.jpg").unwrap(), "summer/a%2Fb.jpg");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(decode_key("summer/%FF.jpg"), Err(KeyEncodingError));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(key: String) {
            prop_assert_eq!(decode_key(&encode_key(&key)), Ok(key));
        }
    }
}
