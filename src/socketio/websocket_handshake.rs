//! The opening handshake of a WebSocket: <https://www.rfc-editor.org/rfc/rfc6455#section-4.2.1>
//!
//! engineioxide checks only that there is a key, and answers 101 to requests that no WebSocket can follow.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header, request::Parts};

/// The only version of the protocol.
const VERSION: &str = "13";
const KEY_BYTES: usize = 16;

/// Why the request does not open a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandshakeError {
    /// The request does not ask for a WebSocket.
    NoUpgrade,
    /// The request is for another version of the protocol.
    UnsupportedVersion,
    /// The key is missing or malformed, or the request has a body.
    Malformed,
}

impl HandshakeError {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::NoUpgrade | Self::UnsupportedVersion => StatusCode::UPGRADE_REQUIRED,
            Self::Malformed => StatusCode::BAD_REQUEST,
        }
    }

    /// Headers that name what is supported.
    pub(super) fn headers(self) -> HeaderMap {
        let headers = match self {
            Self::Malformed => Vec::new(),
            _ => vec![
                (header::UPGRADE, HeaderValue::from_static("websocket")),
                (header::CONNECTION, HeaderValue::from_static("upgrade")),
                (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION)),
            ],
        };
        headers.into_iter().collect()
    }

    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::NoUpgrade => "The request must have the headers Connection: Upgrade and Upgrade: websocket",
            Self::UnsupportedVersion => "Sec-WebSocket-Version must be 13",
            Self::Malformed => "Sec-WebSocket-Key must be 16 bytes in base64, and the body empty",
        }
    }
}

/// Checks that a request opens a WebSocket.
pub(super) fn check_handshake(request: &Parts, has_body: bool) -> Result<(), HandshakeError> {
    let headers = &request.headers;
    let is_upgrade = has_token(headers, &header::CONNECTION, "upgrade")
        && has_token(headers, &header::UPGRADE, "websocket")
        && request.version == Version::HTTP_11;
    if !is_upgrade {
        return Err(HandshakeError::NoUpgrade);
    }
    if single(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        return Err(HandshakeError::UnsupportedVersion);
    }
    let key = single(headers, &header::SEC_WEBSOCKET_KEY).and_then(|key| BASE64_STANDARD.decode(key).ok());
    if key.is_none_or(|key| key.len() != KEY_BYTES) || has_body {
        return Err(HandshakeError::Malformed);
    }
    Ok(())
}

/// Whether the header, a list of tokens, contains `token`.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that occurs once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn check(headers: &[(&str, &str)], has_body: bool) -> Result<(), HandshakeError> {
        let request = headers
            .iter()
            .fold(http::Request::get("/"), |request, &(name, value)| request.header(name, value));
        check_handshake(&request.body(()).unwrap().into_parts().0, has_body)
    }

    #[test]
    fn a_request_that_no_websocket_can_follow_is_refused() {
        assert_eq!(check(&HEADERS, false), Ok(()));
        assert_eq!(check(&HEADERS, true), Err(HandshakeError::Malformed));
        for (changed, values, error) in [
            ("connection", &["keep-alive"][..], HandshakeError::NoUpgrade),
            ("connection", &[], HandshakeError::NoUpgrade),
            ("upgrade", &["h2c"], HandshakeError::NoUpgrade),
            ("upgrade", &[], HandshakeError::NoUpgrade),
            ("sec-websocket-version", &["8"], HandshakeError::UnsupportedVersion),
            ("sec-websocket-version", &["13", "8"], HandshakeError::UnsupportedVersion),
            ("sec-websocket-version", &[], HandshakeError::UnsupportedVersion),
            ("sec-websocket-key", &["dGhlIHNhbXBsZQ=="], HandshakeError::Malformed),
            ("sec-websocket-key", &["?"], HandshakeError::Malformed),
            ("sec-websocket-key", &[], HandshakeError::Malformed),
        ] {
            let others = HEADERS.into_iter().filter(|(name, _)| *name != changed);
            let headers: Vec<_> = others.chain(values.iter().map(|value| (changed, *value))).collect();
            assert_eq!(check(&headers, false), Err(error), "{changed}: {values:?}");
        }
    }
}
