//! The query of Engine.IO requests.
//!
//! Two readers of one query must not read different values, or a client chooses what each of them believes:
//! with `transport=polling&transport=websocket`, one takes the first and the other the last. The query is
//! parsed once, parameters that occur twice are refused, and everything behind reads a query that is written
//! again from the result.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use socketioxide::socket::Sid;

/// Parameters that are read, of this server and of engineioxide. Others are dropped.
const PARAMETERS: [&str; 7] = ["EIO", "transport", "sid", "b64", "token", "feed", "feeds"];

/// A parsed query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EngineQuery<'a> {
    /// `None` in requests of the oldest clients.
    pub(super) version: Option<EngineVersion>,
    pub(super) transport: Transport,
    /// The session that the request continues.
    pub(super) sid: Option<Sid>,
    /// Whether the client takes binary packets only as base64.
    base64_only: bool,
    /// `token`, `feed` and `feeds`, encoded as in the request.
    handshake: [Option<&'a str>; 3],
}

/// Version of the Engine.IO protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EngineVersion {
    V3,
    V4,
}

/// Transport of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Polling,
    WebSocket,
}

/// The query is not that of an Engine.IO request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    /// Two parameters have the same name.
    #[error("Duplicate parameter {0}")]
    Duplicate(&'static str),
    /// `transport` is missing or unknown.
    #[error("Transport unknown")]
    UnknownTransport,
    /// `sid` is not a session id.
    #[error("Session ID unknown")]
    UnknownSession,
    /// `EIO` is neither 3 nor 4.
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
}

impl<'a> EngineQuery<'a> {
    /// Parses the query of a request.
    pub(super) fn parse(query: &'a str) -> Result<Self, QueryError> {
        let mut values = [None; PARAMETERS.len()];
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name);
            let known = PARAMETERS.iter().zip(&mut values).find(|(known, _)| known.as_bytes() == &*name);
            if let Some((known, found)) = known
                && found.replace(value).is_some()
            {
                return Err(QueryError::Duplicate(known));
            }
        }
        let [version, transport, sid, base64_only, handshake @ ..] = values;
        Ok(Self {
            version: version.map(parse_version).transpose()?,
            transport: parse_transport(transport)?,
            sid: sid.map(parse_sid).transpose()?,
            base64_only: base64_only.is_some_and(|value| matches!(&*decode(value), b"1" | b"true")),
            handshake,
        })
    }

    /// Writes the query, as one of `version`.
    pub(super) fn write(&self, version: EngineVersion) -> String {
        let mut query = format!("EIO={}&transport={}", version.as_str(), self.transport.as_str());
        if let Some(sid) = self.sid {
            query.push_str("&sid=");
            query.push_str(&sid.to_string());
        }
        if self.base64_only {
            query.push_str("&b64=1");
        }
        for (name, value) in PARAMETERS[PARAMETERS.len() - 3..].iter().zip(self.handshake) {
            if let Some(value) = value {
                query.extend(["&", name, "=", value]);
            }
        }
        query
    }
}

impl EngineVersion {
    fn as_str(self) -> &'static str {
        match self {
            Self::V3 => "3",
            Self::V4 => "4",
        }
    }
}

impl Transport {
    fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }
}

/// Decodes a name or a value, form-urlencoded.
pub(super) fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['+', '%']) {
        return text.as_bytes().into();
    }
    percent_decode_str(&text.replace('+', " ")).collect::<Vec<_>>().into()
}

fn parse_version(value: &str) -> Result<EngineVersion, QueryError> {
    match &*decode(value) {
        b"3" => Ok(EngineVersion::V3),
        b"4" => Ok(EngineVersion::V4),
        _ => Err(QueryError::UnsupportedVersion),
    }
}

fn parse_transport(value: Option<&str>) -> Result<Transport, QueryError> {
    match value.map(decode).as_deref() {
        Some(b"polling") => Ok(Transport::Polling),
        Some(b"websocket") => Ok(Transport::WebSocket),
        _ => Err(QueryError::UnknownTransport),
    }
}

fn parse_sid(value: &str) -> Result<Sid, QueryError> {
    let decoded = decode(value);
    let sid = std::str::from_utf8(&decoded).ok().and_then(|sid| sid.parse().ok());
    sid.ok_or(QueryError::UnknownSession)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: &str = "CVKvAB0AhE1fNyE-";

    fn rewrite(query: &str) -> Result<String, QueryError> {
        EngineQuery::parse(query).map(|parsed| parsed.write(parsed.version.unwrap_or(EngineVersion::V3)))
    }

    #[test]
    fn a_query_is_written_again_with_what_is_read_of_it() {
        for (query, written) in [
            ("transport=polling", "EIO=3&transport=polling"),
            ("EIO=4&transport=websocket", "EIO=4&transport=websocket"),
            ("t=abc&transport=polling&EIO=4&j=1&EIOX=3", "EIO=4&transport=polling"),
            ("EIO=4&transport=polling&b64=1", "EIO=4&transport=polling&b64=1"),
            ("EIO=4&transport=polling&b64=no", "EIO=4&transport=polling"),
            ("%45IO=%34&transport=%70olling", "EIO=4&transport=polling"),
            (
                "feeds=%5B%5D&token=a%26b+c&EIO=4&feed=x&transport=polling",
                "EIO=4&transport=polling&token=a%26b+c&feed=x&feeds=%5B%5D",
            ),
            ("EIO=4&transport=polling&token=%26sid%3Dx", "EIO=4&transport=polling&token=%26sid%3Dx"),
        ] {
            assert_eq!(rewrite(query).as_deref(), Ok(written), "{query}");
        }
        let session = format!("EIO=4&transport=polling&sid={SID}");
        assert_eq!(rewrite(&format!("sid={SID}&EIO=4&transport=polling&tag=1&tag=2")), Ok(session));
    }

    #[test]
    fn a_parameter_that_occurs_twice_is_refused_however_it_is_encoded() {
        for (name, query) in [
            ("transport", "EIO=4&transport=polling&transport=websocket"),
            ("transport", "EIO=4&transport=polling&transport=polling"),
            ("transport", "EIO=4&transport=polling&%74ransport=websocket"),
            ("transport", "EIO=4&%74ransport=polling&tr%61nsport=websocket"),
            ("transport", "EIO=4&transport=polling&transport"),
            ("EIO", "EIO=4&transport=polling&EIO=3"),
            ("EIO", "EIO=4&transport=polling&%45%49%4f=3"),
            ("sid", "EIO=4&transport=polling&sid=CVKvAB0AhE1fNyE-&s%69d=AVKvAB0AhE1fNyE-"),
            ("b64", "EIO=4&transport=polling&b64=1&b64=0"),
            ("token", "EIO=4&transport=polling&token=a&token=b"),
            ("feed", "EIO=4&transport=polling&feed=a&feed=b"),
            ("feeds", "EIO=4&transport=polling&feeds=%5B%5D&feeds=%5B%5D"),
        ] {
            assert_eq!(EngineQuery::parse(query), Err(QueryError::Duplicate(name)), "{query}");
        }
    }

    #[test]
    fn a_value_that_is_not_known_is_refused() {
        for (query, error) in [
            ("", QueryError::UnknownTransport),
            ("EIO=4", QueryError::UnknownTransport),
            ("EIO=4&transport=", QueryError::UnknownTransport),
            ("EIO=4&transport=Polling", QueryError::UnknownTransport),
            ("EIO=4&transport=polling%00", QueryError::UnknownTransport),
            ("EIO=5&transport=polling", QueryError::UnsupportedVersion),
            ("EIO=&transport=polling", QueryError::UnsupportedVersion),
            ("EIO&transport=polling", QueryError::UnsupportedVersion),
            ("EIO=4&transport=polling&sid=", QueryError::UnknownSession),
            ("EIO=4&transport=polling&sid=none", QueryError::UnknownSession),
            ("EIO=4&transport=polling&sid=%FF", QueryError::UnknownSession),
        ] {
            assert_eq!(EngineQuery::parse(query), Err(error), "{query}");
        }
    }
}
