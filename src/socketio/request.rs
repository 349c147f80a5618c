//! Requests of a connection, and the reply to a request.

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
    protocol::{Problem, ProblemKind},
};

/// A request and the reply that its client may await.
pub(super) struct QueuedRequest {
    pub(super) request: Request,
    pub(super) reply: Reply,
}

/// A message of the client, or a request that follows from its handshake or its token.
#[derive(Debug)]
pub(super) enum Request {
    /// Joins the feeds of the handshake.
    Handshake(Vec<Result<JoinRequest, Problem>>),
    Join(Result<JoinRequest, Problem>),
    Leave(Result<FeedId, Problem>),
    Authenticate(Result<SecretString, Problem>),
    UploadNotification(Result<FeedId, Problem>),
    Unknown(String),
    /// The token that expires at this time is about to.
    TokenExpiring(Timestamp),
    /// The token that expires at this time has expired.
    TokenExpired(Timestamp),
}

/// Argument of `join`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JoinRequest {
    pub(super) feed: FeedId,
    /// Where to continue. An invalid cursor counts as none: the client starts at the end of the feed.
    pub(super) cursor: Option<Cursor>,
}

/// A queue whose requests a connection's own timer can overtake.
pub(super) trait UrgentQueue: Send + Sync {
    /// Queues `request` ahead of all others.
    fn push_urgent(self: Arc<Self>, request: Request);
}

/// Replies to one request, by its callback (a Socket.IO acknowledgement) if it has one.
pub(super) struct Reply(Option<(Arc<Socket<Adapter>>, i64)>);

impl QueuedRequest {
    pub(super) fn without_reply(request: Request) -> Self {
        Self { request, reply: Reply::new(None) }
    }
}

impl Reply {
    pub(super) fn new(callback: Option<(Arc<Socket<Adapter>>, i64)>) -> Self {
        Self(callback)
    }

    /// Whether the client awaits a reply.
    pub(super) fn has_callback(&self) -> bool {
        self.0.is_some()
    }

    /// Sends the acknowledgement. A new sender for each attempt, since a failed attempt consumes it.
    pub(super) fn ack_sender(&self) -> Option<AckSender<Adapter>> {
        let (socket, ack) = self.0.as_ref()?;
        let Ok(sender) =
            AckSender::from_message_parts(socket, &mut RawValue::Str("".into(), None), &Some(*ack));
        Some(sender)
    }
}

impl Request {
    pub(super) fn parse(event: &str, argument: &Value) -> Self {
        match event {
            "join" => Self::Join(JoinRequest::parse(argument)),
            "leave" => Self::Leave(JoinRequest::parse(argument).map(|join| join.feed)),
            "authenticate" => Self::Authenticate(parse_token(argument)),
            "uploadNotification" => {
                Self::UploadNotification(JoinRequest::parse(argument).map(|join| join.feed))
            }
            _ => Self::Unknown(event.chars().take(64).collect()),
        }
    }
}

impl JoinRequest {
    /// Parses `"summer"` or `{"feed":"summer","cursor":"…"}`.
    pub(super) fn parse(argument: &Value) -> Result<Self, Problem> {
        let (feed, cursor) = match argument {
            Value::String(feed) => (Some(feed.as_str()), None),
            Value::Object(fields) => (fields.get("feed").and_then(Value::as_str), fields.get("cursor")),
            _ => (None, None),
        };
        let feed = feed.ok_or_else(|| {
            Problem::new(ProblemKind::InvalidFeed, "feed must be given, as a string or as {\"feed\": \"…\"}")
        })?;
        Self::parse_fields(feed, cursor).map_err(|problem| problem.with_feed(feed))
    }

    fn parse_fields(feed: &str, cursor: Option<&Value>) -> Result<Self, Problem> {
        let cursor = match cursor {
            None | Some(Value::Null) => None,
            Some(Value::String(cursor)) => Cursor::parse(cursor).ok(),
            Some(_) => return Err(Problem::new(ProblemKind::InvalidParameter, "cursor must be a string")),
        };
        Ok(Self { feed: FeedId::parse(feed)?, cursor })
    }
}

/// Parses `{"token":"…"}`. A token that is too long is refused here, before it takes memory in the queue.
fn parse_token(argument: &Value) -> Result<SecretString, Problem> {
    match argument.get("token").and_then(Value::as_str) {
        Some(token) if token.len() > MAX_TOKEN_BYTES => Err(AuthError::Invalid.into()),
        Some(token) => Ok(token.into()),
        None => {
            let detail = "token must be a string in {\"token\": \"…\"}";
            Err(Problem::new(ProblemKind::InvalidParameter, detail))
        }
    }
}
