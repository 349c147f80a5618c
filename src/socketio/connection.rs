//! One connection: deals with its requests, one after the other, until it ends.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::json;
use socketioxide::extract::SocketRef;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    mailbox::{Join, Letter, Reply, Request},
    outgoing::{Outgoing, refused},
    transport,
};
use crate::{
    auth::{Access, LEEWAY, Right},
    bucket::Base,
    feed::{Cursor, FeedId},
    hub::{Refused, Subscription, Watching},
    limit::{JoinRate, Place},
    log::Read,
    wire::{JOIN_EVENTS, JoinAnswer, Problem, ProblemKind},
};

/// A full queue is tried again after this.
const RETRY: Duration = Duration::from_millis(10);
/// What the events in one connection's join answers may have in bytes, all together. An answer is one
/// packet, whatever it holds, so a queue of them would have no other limit; events that are told one by
/// one have.
const ANSWERED: usize = 1024 * 1024;
/// How long before the token's end the client is told.
const WARNING: Duration = Duration::from_mins(1);

/// What a connection begins with; handed over from the handshake.
#[derive(Clone)]
pub(super) struct Start(Arc<Mutex<Option<Beginning>>>);

pub(super) struct Beginning {
    pub(super) access: Access,
    pub(super) base: Base,
    pub(super) mailbox: mpsc::Receiver<Box<Letter>>,
    pub(super) feeds: Vec<Result<Join, Problem>>,
    pub(super) place: Place,
    /// Ends it.
    pub(super) closed: CancellationToken,
}

impl Start {
    pub(super) fn new(beginning: Beginning) -> Self {
        Self(Arc::new(Mutex::new(Some(beginning))))
    }

    pub(super) fn take(&self) -> Option<Beginning> {
        self.0.lock().expect("no panic while held").take()
    }
}

/// Runs one connection until it is closed. Owns its place among the connections and in every feed.
pub(super) async fn run(context: Arc<Context>, socket: SocketRef, beginning: Beginning) {
    let Beginning { access, base, mut mailbox, feeds, place: _place, closed } = beginning;
    let outgoing = Arc::new(Outgoing { socket, showcase: context.showcase.clone(), base });
    let join_rate = context.limiter.joins();
    let mut connection = Connection {
        context,
        outgoing,
        access,
        joined: HashMap::new(),
        join_rate,
        answerable: ANSWERED,
        warned: false,
    };
    let live = async {
        // Boxed, as is every request below: a task is as large as the largest thing it ever does, and
        // most connections do nothing but wait.
        Box::pin(connection.join_all(feeds)).await;
        loop {
            tokio::select! {
                letter = mailbox.recv() => match letter {
                    Some(letter) => Box::pin(connection.deal_with(*letter)).await,
                    None => return,
                },
                () = until(connection.warning_at()) => Box::pin(connection.warn()).await,
                () = until(connection.end_at()) => return connection.end(),
            }
        }
    };
    closed.run_until_cancelled(live).await;
}

struct Connection {
    context: Arc<Context>,
    outgoing: Arc<Outgoing>,
    access: Access,
    joined: HashMap<FeedId, Subscription>,
    join_rate: JoinRate,
    /// What is left of [`ANSWERED`].
    answerable: usize,
    warned: bool,
}

/// An answer that was put together, and where the feed goes on once it has been sent.
struct Joined {
    answer: JoinAnswer,
    place: FeedPlace,
}

enum FeedPlace {
    /// From the answer's position on.
    New(Watching),
    /// From where it was: what had not been told yet is still to come.
    Kept(Subscription),
}

impl Connection {
    async fn join_all(&mut self, feeds: Vec<Result<Join, Problem>>) {
        let free = self.context.limits.feeds_per_connection;
        for (number, join) in feeds.into_iter().enumerate() {
            // As many as a connection may be in come at once with every reconnect; more count as they
            // would later.
            let answer = if number < free { self.join(join).await } else { self.counted_join(join).await };
            self.joined_unasked(answer).await;
        }
    }

    async fn counted_join(&mut self, join: Result<Join, Problem>) -> Result<Joined, Problem> {
        match (self.join_rate.join(), join) {
            (Ok(()), join) => self.join(join).await,
            (Err(too_many), Ok(join)) => Err(Problem::from(too_many).about(join.feed.as_str())),
            (Err(too_many), Err(_)) => Err(too_many.into()),
        }
    }

    async fn deal_with(&mut self, Letter { request, reply }: Letter) {
        match request {
            Request::Join(join) => {
                let answer = self.counted_join(join).await;
                if reply.is_awaited() {
                    self.answer_join(&reply, answer).await;
                } else {
                    self.joined_unasked(answer).await;
                }
            }
            Request::Leave(feed) => {
                let answer = feed.map(|feed| {
                    self.joined.remove(&feed);
                    json!({ "feed": feed })
                });
                self.answer(&reply, answer).await;
            }
            Request::Authenticate(token) => {
                let answer = self.authenticate(token).await;
                self.answer(&reply, answer).await;
            }
            Request::UploadNotification(feed) => self.answer(&reply, feed.map(|_| json!({}))).await,
            Request::Unknown(event) => {
                let problem =
                    Problem::new(ProblemKind::UnknownEvent, format!("the server knows no event {event:?}"));
                self.answer(&reply, Err::<(), _>(problem)).await;
            }
        }
    }

    /// Puts the answer to a join together. Nothing of the feed is told until it has been sent.
    async fn join(&mut self, join: Result<Join, Problem>) -> Result<Joined, Problem> {
        let Join { feed, cursor } = join?;
        self.join_feed(&feed, cursor).await.map_err(|problem| problem.about(feed.as_str()))
    }

    async fn join_feed(&mut self, feed: &FeedId, cursor: Option<Cursor>) -> Result<Joined, Problem> {
        self.access.check(feed, Right::View)?;
        let limit = self.context.limits.feeds_per_connection;
        if !self.joined.contains_key(feed) && self.joined.len() >= limit {
            let detail = format!("a connection may be in at most {limit} feeds");
            return Err(Problem::new(ProblemKind::TooManyFeeds, detail));
        }
        // A join that fails leaves everything as it was.
        let before = self.joined.remove(feed).inspect(Subscription::pause);
        let watching = self.context.hub.watch(feed);
        match (self.recover(feed.clone(), cursor).await, before) {
            (Ok(answer), Some(before)) if !answer.recovered => {
                Ok(Joined { answer, place: FeedPlace::Kept(before) })
            }
            (Ok(answer), _) => Ok(Joined { answer, place: FeedPlace::New(watching) }),
            (Err(problem), before) => {
                self.joined.extend(before.inspect(Subscription::resume).map(|before| (feed.clone(), before)));
                Err(problem)
            }
        }
    }

    async fn recover(&mut self, feed: FeedId, cursor: Option<Cursor>) -> Result<JoinAnswer, Problem> {
        let log = self.context.hub.log();
        let Some(mut cursor) = cursor else {
            let end = log.end(&feed).await?;
            return Ok(JoinAnswer::anew(feed, end));
        };
        match log.read_after(&feed, cursor, JOIN_EVENTS).await? {
            Read::Lost(end) => Ok(JoinAnswer::anew(feed, end)),
            Read::Entries(entries) => {
                let (mut events, now) = (Vec::new(), Timestamp::now());
                for entry in entries {
                    let shown = self.outgoing.showcase.show(&entry, &self.outgoing.base, now);
                    let Some(left) = self.answerable.checked_sub(shown.data.get().len()) else { break };
                    self.answerable = left;
                    cursor = entry.cursor;
                    events.push(shown.into());
                }
                Ok(JoinAnswer { feed, recovered: true, cursor, events })
            }
        }
    }

    async fn answer_join(&mut self, reply: &Reply, answer: Result<Joined, Problem>) {
        match answer {
            Ok(joined) => {
                if self.reply(reply, &joined.answer).await.is_ok() {
                    self.go_live(joined);
                }
            }
            Err(problem) => self.answer(reply, Err::<(), _>(problem)).await,
        }
    }

    /// Answers a join that nobody waits for: of the handshake, or without a callback.
    async fn joined_unasked(&mut self, answer: Result<Joined, Problem>) {
        match answer {
            Ok(joined) => {
                if self.emit("joined", &joined.answer).await.is_ok() {
                    self.go_live(joined);
                }
            }
            Err(problem) => self.say(&problem).await,
        }
    }

    fn go_live(&mut self, Joined { answer, place }: Joined) {
        let subscription = match place {
            FeedPlace::New(watching) => watching.subscribe(answer.cursor, self.outgoing.clone()),
            FeedPlace::Kept(subscription) => {
                subscription.resume();
                subscription
            }
        };
        self.joined.insert(answer.feed, subscription);
    }

    async fn authenticate(
        &mut self,
        token: Result<SecretString, Problem>,
    ) -> Result<serde_json::Value, Problem> {
        let token = token?;
        self.access = self.context.gate.admit(Some(token.expose_secret())).await?;
        self.warned = false;
        // All of them before anything is said: the client may be slow to hear it.
        let lost = self.joined.extract_if(|feed, _| self.access.check(feed, Right::View).is_err());
        for feed in lost.map(|(feed, _)| feed).collect::<Vec<_>>() {
            let left = json!({ "feed": feed, "reason": "the new token has no right 'view' on this feed" });
            let _ = self.emit("left", &left).await;
        }
        Ok(self.access.expires_at.map_or_else(|| json!({}), |end| json!({ "expiresAt": end })))
    }

    fn warning_at(&self) -> Option<Timestamp> {
        self.access.expires_at.filter(|_| !self.warned).and_then(|end| end.checked_sub(WARNING).ok())
    }

    fn end_at(&self) -> Option<Timestamp> {
        self.access.expires_at.and_then(|end| end.checked_add(LEEWAY).ok())
    }

    async fn warn(&mut self) {
        self.warned = true;
        let _ = self.emit("tokenExpiring", &json!({ "expiresAt": self.access.expires_at })).await;
    }

    /// Ends what the token no longer covers, by a Socket.IO disconnect: coming back with the same
    /// token would help nobody.
    fn end(&mut self) {
        let socket = self.outgoing.socket.clone();
        if socket.clone().disconnect().is_err() {
            transport::cut(&socket);
        } else {
            transport::cut_after(socket, super::FAREWELL);
        }
    }

    async fn answer<T: Serialize>(&self, reply: &Reply, answer: Result<T, Problem>) {
        let _ = match answer {
            Ok(answer) => self.reply(reply, &answer).await,
            // Who waits knows which feed it is about, and may tell answers to a join by their feed.
            Err(problem) if reply.is_awaited() => self.reply(reply, &Problem { feed: None, ..problem }).await,
            Err(problem) => return self.say(&problem).await,
        };
    }

    async fn say(&self, problem: &Problem) {
        let _ = self.emit("problem", problem).await;
    }

    /// Sends by the request's callback, waiting for room.
    async fn reply<T: Serialize>(&self, reply: &Reply, answer: &T) -> Result<(), Refused> {
        let encoded = serde_json::value::to_raw_value(answer).map_err(|_| Refused::Gone)?;
        self.when_there_is_room(|| reply.sender().send(&*encoded).map_err(|error| refused(&error))).await
    }

    /// Sends an event, waiting for room.
    async fn emit<T: Serialize>(&self, event: &str, data: &T) -> Result<(), Refused> {
        let encoded = serde_json::value::to_raw_value(data).map_err(|_| Refused::Gone)?;
        self.when_there_is_room(|| self.outgoing.emit(event, &*encoded)).await
    }

    async fn when_there_is_room(&self, mut send: impl FnMut() -> Result<(), Refused>) -> Result<(), Refused> {
        let give_up = tokio::time::Instant::now() + self.context.limits.patience;
        loop {
            match send() {
                Err(Refused::Full) if tokio::time::Instant::now() >= give_up => {
                    transport::cut(&self.outgoing.socket);
                    return Err(Refused::Gone);
                }
                Err(Refused::Full) => sleep(RETRY).await,
                done => return done,
            }
        }
    }
}

/// Waits for a moment; for ever, where there is none.
async fn until(moment: Option<Timestamp>) {
    let Some(moment) = moment else { return pending().await };
    let wait = Duration::try_from(moment.duration_since(Timestamp::now())).unwrap_or_default();
    sleep(wait).await;
}
