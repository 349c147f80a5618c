//! What a client asks for, and the way to answer it.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;
use socketioxide::{
    extract::AckSender,
    handler::{FromMessageParts, Value as RawValue},
    socket::Socket,
};

use super::adapter::Adapter;
use crate::{
    auth::{AuthError, MAX_TOKEN_BYTES},
    feed::{Cursor, FeedId},
    wire::{Problem, ProblemKind},
};

/// A request and the way to answer it.
pub(super) struct Letter {
    pub(super) request: Request,
    pub(super) reply: Reply,
}

/// What is to be done: what the client asks for, or what its handshake and its token bring about.
#[derive(Debug)]
pub(super) enum Request {
    /// The feeds of the handshake.
    Handshake(Vec<Result<Join, Problem>>),
    Join(Result<Join, Problem>),
    Leave(Result<FeedId, Problem>),
    Authenticate(Result<SecretString, Problem>),
    UploadNotification(Result<FeedId, Problem>),
    Unknown(String),
    /// The token that ends then is about to.
    TokenExpires(Timestamp),
    TokenExpired(Timestamp),
}

/// The argument of `join`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Join {
    pub(super) feed: FeedId,
    /// Where to go on. One that was forged leads as far as none.
    pub(super) cursor: Option<Cursor>,
}

/// Answers one request, by its callback where it has one.
pub(super) struct Reply(Option<(Arc<Socket<Adapter>>, i64)>);

impl Letter {
    /// A request that nobody waits for.
    pub(super) fn unasked(request: Request) -> Self {
        Self { request, reply: Reply::new(None) }
    }
}

impl Reply {
    pub(super) fn new(callback: Option<(Arc<Socket<Adapter>>, i64)>) -> Self {
        Self(callback)
    }

    /// Whether the client waits for an answer.
    pub(super) fn is_awaited(&self) -> bool {
        self.0.is_some()
    }

    /// A sender for the answer: a new one for each try, since a failed try uses it up.
    pub(super) fn sender(&self) -> Option<AckSender<Adapter>> {
        let (socket, ack) = self.0.as_ref()?;
        let Ok(sender) =
            AckSender::from_message_parts(socket, &mut RawValue::Str("".into(), None), &Some(*ack));
        Some(sender)
    }
}

impl Request {
    pub(super) fn read(event: &str, argument: &Value) -> Self {
        match event {
            "join" => Self::Join(Join::read(argument)),
            "leave" => Self::Leave(Join::read(argument).map(|join| join.feed)),
            "authenticate" => Self::Authenticate(token(argument)),
            "uploadNotification" => Self::UploadNotification(Join::read(argument).map(|join| join.feed)),
            _ => Self::Unknown(event.chars().take(64).collect()),
        }
    }
}

impl Join {
    /// Reads `"summer"` or `{"feed":"summer","cursor":"…"}`.
    pub(super) fn read(argument: &Value) -> Result<Self, Problem> {
        let (feed, cursor) = match argument {
            Value::String(feed) => (Some(feed.as_str()), None),
            Value::Object(fields) => (fields.get("feed").and_then(Value::as_str), fields.get("cursor")),
            _ => (None, None),
        };
        let feed = feed.ok_or_else(|| {
            Problem::new(ProblemKind::InvalidFeed, "feed must be given, as a string or as {\"feed\": \"…\"}")
        })?;
        Self::parse(feed, cursor).map_err(|problem| problem.about(feed))
    }

    fn parse(feed: &str, cursor: Option<&Value>) -> Result<Self, Problem> {
        let cursor = match cursor {
            None | Some(Value::Null) => None,
            Some(Value::String(cursor)) => Cursor::parse(cursor).ok(),
            Some(_) => return Err(Problem::new(ProblemKind::InvalidParameter, "cursor must be a string")),
        };
        Ok(Self { feed: FeedId::parse(feed)?, cursor })
    }
}

/// Reads `{"token":"…"}`. A token that is too long is not kept while it waits.
fn token(argument: &Value) -> Result<SecretString, Problem> {
    match argument.get("token").and_then(Value::as_str) {
        Some(token) if token.len() > MAX_TOKEN_BYTES => Err(AuthError::Invalid.into()),
        Some(token) => Ok(token.into()),
        None => {
            let detail = "token must be a string in {\"token\": \"…\"}";
            Err(Problem::new(ProblemKind::InvalidParameter, detail))
        }
    }
}
