//! The requests of one connection, in the order in which they were sent.
//!
//! socketioxide runs a task for each message; tasks overtake each other. So messages are read where
//! they arrive, put in a mailbox, and dealt with by the connection's one task.

use std::{marker::PhantomData, sync::Arc};

use secrecy::SecretString;
use serde_json::Value;
use socketioxide::{
    adapter::LocalAdapter,
    extract::{AckSender, Event, SocketRef, TryData},
    handler::{FromMessageParts, MessageHandler, Value as RawValue},
    socket::Socket,
};
use tokio::sync::mpsc;

use super::transport;
use crate::{
    auth::{AuthError, MAX_TOKEN_BYTES},
    feed::{Cursor, FeedId},
    wire::{Problem, ProblemKind},
};

/// Requests that may wait. Who sends more without waiting for answers is cut off.
const CAPACITY: usize = 1024;

/// A request and the way to answer it.
pub(super) struct Letter {
    pub(super) request: Request,
    pub(super) reply: Reply,
}

/// What a client asks for.
#[derive(Debug)]
pub(super) enum Request {
    Join(Result<Join, Problem>),
    Leave(Result<FeedId, Problem>),
    Authenticate(Result<SecretString, Problem>),
    UploadNotification(Result<FeedId, Problem>),
    Unknown(String),
}

/// The argument of `join`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Join {
    pub(super) feed: FeedId,
    /// Where to go on. One that was forged leads as far as none.
    pub(super) cursor: Option<Cursor>,
}

/// Answers one request, by its callback where it has one.
pub(super) struct Reply {
    socket: Arc<Socket<LocalAdapter>>,
    ack: Option<i64>,
}

/// Takes every message of one socket.
struct Inbox(mpsc::Sender<Box<Letter>>);

/// Opens the mailbox of `socket`. Letters are boxed, since a channel makes room for 32 of what it
/// carries at once: for every connection that never asks anything, too.
pub(super) fn open(socket: &SocketRef) -> mpsc::Receiver<Box<Letter>> {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    socket.on_fallback(Inbox(sender));
    receiver
}

impl MessageHandler<LocalAdapter, PhantomData<Self>> for Inbox {
    fn call(&self, socket: Arc<Socket<LocalAdapter>>, mut raw: RawValue, ack: Option<i64>) {
        let Ok(Event(event)) = Event::from_message_parts(&socket, &mut raw, &ack) else { return };
        let Ok(TryData(argument)) = TryData::<Value>::from_message_parts(&socket, &mut raw, &ack);
        let request = Request::read(&event, &argument.unwrap_or(Value::Null));
        let letter = Box::new(Letter { request, reply: Reply { socket, ack } });
        if let Err(mpsc::error::TrySendError::Full(letter)) = self.0.try_send(letter) {
            transport::cut(&letter.reply.socket);
        }
    }
}

impl Reply {
    /// Whether the client waits for an answer.
    pub(super) fn is_awaited(&self) -> bool {
        self.ack.is_some()
    }

    /// A sender for the answer: a new one for each try, since a failed try uses it up.
    pub(super) fn sender(&self) -> AckSender {
        let Ok(sender) =
            AckSender::from_message_parts(&self.socket, &mut RawValue::Str("".into(), None), &self.ack);
        sender
    }
}

impl Request {
    fn read(event: &str, argument: &Value) -> Self {
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
