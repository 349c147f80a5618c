//! The requests of one connection, in the order in which they were sent.
//!
//! socketioxide runs a task for each message; tasks overtake each other. So messages are read where
//! they arrive, put in a mailbox, and dealt with one after the other, by a task that lasts for as long as
//! there are any: nearly all connections only listen, and a task that waits holds its memory.

use std::{
    collections::VecDeque,
    marker::PhantomData,
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::Value;
use socketioxide::{
    extract::{Event, TryData},
    handler::{FromMessageParts, MessageHandler, Value as RawValue},
    socket::Socket,
};
use tokio::task::{AbortHandle, coop::consume_budget};
use tokio_util::task::TaskTracker;

use super::{
    SocketRef,
    adapter::Adapter,
    connection::{Admitted, Connection},
    request::{Letter, Reply, Request},
    transport,
};

/// Requests that may wait. Who sends more without waiting for answers is cut off.
const CAPACITY: usize = 1024;

/// The letters of one connection, and the connection while nobody deals with them.
pub(super) struct Mailbox {
    tasks: TaskTracker,
    inside: Mutex<Inside>,
}

struct Inside {
    letters: VecDeque<Box<Letter>>,
    stage: Stage,
}

enum Stage {
    /// The client has not been told yet that it is connected. It may never be, without a word to us: so
    /// nothing here may hold its socket, which holds this.
    Admitted(Box<Admitted>),
    /// Nothing is to be done.
    Idle(Box<Connection>),
    /// A task has the connection and deals with letters.
    Busy(AbortHandle),
    Ended,
}

/// Takes every message of one socket.
struct Inbox(Arc<Mailbox>);

impl Mailbox {
    /// Opens the mailbox of `socket`, whose first request is `first`.
    pub(super) fn open(socket: &SocketRef, tasks: TaskTracker, admitted: Admitted, first: Request) {
        let letters = VecDeque::from([Box::new(Letter::unasked(first))]);
        let inside = Mutex::new(Inside { letters, stage: Stage::Admitted(Box::new(admitted)) });
        let mailbox = Arc::new(Self { tasks, inside });
        socket.on_fallback(Inbox(mailbox.clone()));
        socket.extensions.insert(mailbox);
    }

    pub(super) fn of(socket: &SocketRef) -> Option<Arc<Self>> {
        socket.extensions.get()
    }

    /// From here on letters are dealt with. False if it has ended before.
    pub(super) fn begin(self: &Arc<Self>, socket: SocketRef) -> bool {
        let mut inside = self.inside();
        let Stage::Admitted(admitted) = inside.replace(Stage::Ended) else { return false };
        inside.stage = Stage::Idle(Box::new(Connection::new(socket, *admitted)));
        self.see_to(&mut inside);
        true
    }

    /// Puts in what is more urgent than what waits.
    pub(super) fn put_first(self: &Arc<Self>, letter: Letter) {
        let mut inside = self.inside();
        inside.letters.push_front(Box::new(letter));
        self.see_to(&mut inside);
    }

    /// Puts a letter in, if there is room.
    fn put(self: &Arc<Self>, letter: Letter) -> bool {
        let mut inside = self.inside();
        let room = inside.letters.len() < CAPACITY;
        if room {
            inside.letters.push_back(Box::new(letter));
            self.see_to(&mut inside);
        }
        room
    }

    /// Has what waits dealt with, if nobody does.
    fn see_to(self: &Arc<Self>, inside: &mut Inside) {
        match inside.replace(Stage::Ended) {
            Stage::Idle(connection) => {
                let task = self.tasks.spawn(self.clone().deal(connection));
                inside.stage = Stage::Busy(task.abort_handle());
            }
            Stage::Ended => inside.letters.clear(),
            stage => inside.stage = stage,
        }
    }

    async fn deal(self: Arc<Self>, connection: Box<Connection>) {
        let mut at_hand = self.next(connection);
        while let Some((mut connection, letter)) = at_hand {
            // Others want to go on, too, even if nothing here has to be waited for.
            consume_budget().await;
            connection.deal_with(*letter).await;
            at_hand = self.next(connection);
        }
    }

    /// The next letter. When there is none, the connection is laid back.
    fn next(&self, connection: Box<Connection>) -> Option<(Box<Connection>, Box<Letter>)> {
        let mut inside = self.inside();
        if let Some(letter) = inside.letters.pop_front() {
            return Some((connection, letter));
        }
        if let Stage::Busy(_) = inside.stage {
            inside.stage = Stage::Idle(connection);
        }
        None
    }

    /// Ends the connection, whatever it is doing: its place and those in its feeds are free. Whether it had
    /// begun.
    pub(super) fn end(&self) -> bool {
        let mut inside = self.inside();
        let (stage, letters) = (inside.replace(Stage::Ended), mem::take(&mut inside.letters));
        drop(inside);
        drop(letters);
        if let Stage::Busy(task) = &stage {
            task.abort();
        }
        !matches!(stage, Stage::Admitted(_))
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("no panic while held")
    }
}

impl Inside {
    fn replace(&mut self, stage: Stage) -> Stage {
        mem::replace(&mut self.stage, stage)
    }
}

impl MessageHandler<Adapter, PhantomData<Self>> for Inbox {
    fn call(&self, socket: Arc<Socket<Adapter>>, mut raw: RawValue, ack: Option<i64>) {
        let Ok(Event(event)) = Event::from_message_parts(&socket, &mut raw, &ack) else { return };
        let Ok(TryData(argument)) = TryData::<Value>::from_message_parts(&socket, &mut raw, &ack);
        let request = Request::read(&event, &argument.unwrap_or(Value::Null));
        let reply = Reply::new(ack.map(|ack| (socket.clone(), ack)));
        if !self.0.put(Letter { request, reply }) {
            transport::cut(&socket);
        }
    }
}
