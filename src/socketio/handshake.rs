//! Data of the handshake, in `auth` (Engine.IO 4) or in the query (Engine.IO 3 and 4).

use http::{header, request::Parts};
use secrecy::SecretString;
use serde_json::Value;

use super::{query::decode, request::JoinRequest};
use crate::protocol::{Problem, ProblemKind};

/// A parsed handshake.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    pub(super) token: Option<SecretString>,
    /// Feeds to join right after the connect, or the problem of an invalid one.
    pub(super) feeds: Vec<Result<JoinRequest, Problem>>,
    /// Value of the `Host` header.
    pub(super) host: Option<String>,
}

impl Handshake {
    /// Parses `auth`, the query and the headers, in this order of precedence.
    pub(super) fn parse(parts: &Parts, auth: Option<&Value>) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let token = auth
            .and_then(|auth| auth.get("token"))
            .and_then(Value::as_str)
            .map(str::to_owned)
            .or_else(|| query_parameter(query, "token").map(|token| String::from_utf8_lossy(&token).into()))
            .or_else(|| bearer_token(parts))
            .filter(|token| !token.is_empty())
            .map(SecretString::from);
        let feeds = match auth.and_then(|auth| auth.get("feeds")) {
            Some(feeds) => parse_joins(feeds),
            None => parse_query_feeds(query),
        };
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        Self { token, feeds, host }
    }
}

fn bearer_token(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn parse_query_feeds(query: &str) -> Vec<Result<JoinRequest, Problem>> {
    if let Some(feeds) = query_parameter(query, "feeds") {
        return match serde_json::from_slice(&feeds) {
            Ok(feeds) => parse_joins(&feeds),
            Err(_) => vec![Err(Problem::new(ProblemKind::InvalidParameter, "feeds must be a JSON array"))],
        };
    }
    let join = |feed| match String::from_utf8(feed) {
        Ok(feed) => JoinRequest::parse(&Value::String(feed)),
        Err(_) => Err(Problem::new(ProblemKind::InvalidFeed, "feed must be UTF-8")),
    };
    query_parameter(query, "feed").map(join).into_iter().collect()
}

fn parse_joins(feeds: &Value) -> Vec<Result<JoinRequest, Problem>> {
    match feeds {
        Value::Array(feeds) => feeds.iter().map(JoinRequest::parse).collect(),
        Value::Null => Vec::new(),
        _ => vec![Err(Problem::new(ProblemKind::InvalidParameter, "feeds must be an array"))],
    }
}

/// Decoded bytes of the parameter `name`. `EngineQuery` has made sure that there is only one.
fn query_parameter(query: &str, name: &str) -> Option<Vec<u8>> {
    let value = query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    })?;
    Some(decode(value).into_owned())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    fn parts(query: &str) -> Parts {
        http::Request::get(format!("/socket.io/?EIO=4{query}"))
            .header("authorization", "Bearer from-header")
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    fn feed_names(handshake: &Handshake) -> Vec<&str> {
        handshake.feeds.iter().map(|join| join.as_ref().unwrap().feed.as_str()).collect()
    }

    #[test]
    fn auth_takes_precedence_over_the_query_and_the_query_over_the_header() {
        let auth = json!({"token": "from-auth", "feeds": ["a", {"feed": "b", "cursor": "c"}]});
        for (query, auth, token, feeds) in [
            ("&token=from-query&feed=q", Some(&auth), "from-auth", vec!["a", "b"]),
            ("&token=from-query&feed=a%20b+c", Some(&json!({})), "from-query", vec!["a b c"]),
            ("&feeds=%5B%22a%22%5D", None, "from-header", vec!["a"]),
        ] {
            let handshake = Handshake::parse(&parts(query), auth);
            assert_eq!(handshake.token.as_ref().unwrap().expose_secret(), token, "{query}");
            assert_eq!(feed_names(&handshake), feeds, "{query}");
        }
    }

    #[test]
    fn an_invalid_feed_is_refused_with_its_name() {
        for (query, kind, feed) in [
            ("&feeds=nonsense", ProblemKind::InvalidParameter, None),
            ("&feeds=%5B%22%FF%22%5D", ProblemKind::InvalidParameter, None),
            ("&feeds=%5B%22.hidden%22%5D", ProblemKind::InvalidFeed, Some(".hidden")),
            ("&feed=.hidden", ProblemKind::InvalidFeed, Some(".hidden")),
            ("&feed=%FF", ProblemKind::InvalidFeed, None),
        ] {
            let handshake = Handshake::parse(&parts(query), None);
            let problem = handshake.feeds[0].as_ref().unwrap_err();
            assert_eq!((problem.kind, problem.feed.as_deref()), (kind, feed), "{query}");
        }
    }

    #[test]
    fn a_token_that_is_not_utf_8_is_not_treated_as_missing() {
        assert!(Handshake::parse(&parts("&token=%FF"), None).token.unwrap().expose_secret() != "from-header");
    }
}
