//! What a client says when it connects: in `auth` (Engine.IO 4) or in the query (3 and 4).

use http::{header, request::Parts};
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use serde_json::Value;

use super::request::Join;
use crate::wire::{Problem, ProblemKind};

/// A handshake, read.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    pub(super) token: Option<SecretString>,
    /// Feeds to be joined right after the connection is made, or why one can't be.
    pub(super) feeds: Vec<Result<Join, Problem>>,
    /// The host that the client spoke to.
    pub(super) host: Option<String>,
}

impl Handshake {
    /// Reads `auth`, the query and the headers. `auth` wins.
    pub(super) fn read(parts: &Parts, auth: Option<&Value>) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let token = auth
            .and_then(|auth| auth.get("token"))
            .and_then(Value::as_str)
            .map(str::to_owned)
            .or_else(|| parameter(query, "token").map(|token| String::from_utf8_lossy(&token).into()))
            .or_else(|| bearer(parts))
            .filter(|token| !token.is_empty())
            .map(SecretString::from);
        let feeds = match auth.and_then(|auth| auth.get("feeds")) {
            Some(feeds) => joins(feeds),
            None => feeds_of_query(query),
        };
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        Self { token, feeds, host }
    }
}

fn bearer(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn feeds_of_query(query: &str) -> Vec<Result<Join, Problem>> {
    if let Some(feeds) = parameter(query, "feeds") {
        return match serde_json::from_slice(&feeds) {
            Ok(feeds) => joins(&feeds),
            Err(_) => vec![Err(Problem::new(ProblemKind::InvalidParameter, "feeds must be a JSON array"))],
        };
    }
    let join = |feed| match String::from_utf8(feed) {
        Ok(feed) => Join::read(&Value::String(feed)),
        Err(_) => Err(Problem::new(ProblemKind::InvalidFeed, "feed must be UTF-8")),
    };
    parameter(query, "feed").map(join).into_iter().collect()
}

fn joins(feeds: &Value) -> Vec<Result<Join, Problem>> {
    match feeds {
        Value::Array(feeds) => feeds.iter().map(Join::read).collect(),
        Value::Null => Vec::new(),
        _ => vec![Err(Problem::new(ProblemKind::InvalidParameter, "feeds must be an array"))],
    }
}

/// The bytes of the first parameter of that name, form style.
fn parameter(query: &str, name: &str) -> Option<Vec<u8>> {
    let value = query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    })?;
    Some(percent_decode_str(&value.replace('+', " ")).collect())
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

    fn names(handshake: &Handshake) -> Vec<&str> {
        handshake.feeds.iter().map(|join| join.as_ref().unwrap().feed.as_str()).collect()
    }

    #[test]
    fn auth_wins_over_the_query_and_that_over_the_header() {
        let auth = json!({"token": "from-auth", "feeds": ["a", {"feed": "b", "cursor": "c"}]});
        for (query, auth, token, feeds) in [
            ("&token=from-query&feed=q", Some(&auth), "from-auth", vec!["a", "b"]),
            ("&token=from-query&feed=a%20b+c", Some(&json!({})), "from-query", vec!["a b c"]),
            ("&feeds=%5B%22a%22%5D", None, "from-header", vec!["a"]),
        ] {
            let read = Handshake::read(&parts(query), auth);
            assert_eq!(read.token.as_ref().unwrap().expose_secret(), token, "{query}");
            assert_eq!(names(&read), feeds, "{query}");
        }
    }

    #[test]
    fn feeds_of_a_wrong_shape_are_refused_by_name() {
        for (query, kind, feed) in [
            ("&feeds=nonsense", ProblemKind::InvalidParameter, None),
            ("&feeds=%5B%22%FF%22%5D", ProblemKind::InvalidParameter, None),
            ("&feeds=%5B%22.hidden%22%5D", ProblemKind::InvalidFeed, Some(".hidden")),
            ("&feed=.hidden", ProblemKind::InvalidFeed, Some(".hidden")),
            ("&feed=%FF", ProblemKind::InvalidFeed, None),
        ] {
            let read = Handshake::read(&parts(query), None);
            let problem = read.feeds[0].as_ref().unwrap_err();
            assert_eq!((problem.kind, problem.feed.as_deref()), (kind, feed), "{query}");
        }
    }

    #[test]
    fn a_token_that_is_no_text_is_not_taken_for_none() {
        assert!(Handshake::read(&parts("&token=%FF"), None).token.unwrap().expose_secret() != "from-header");
    }
}
