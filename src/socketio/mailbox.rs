//! The requests of one connection, handled in the order in which they arrive.
//!
//! socketioxide runs the handler of each message as a task of its own. These tasks overtake each other, so
//! that `join` and `leave` could end joined. Here messages are parsed where they arrive and queued in a
//! mailbox. One task per connection handles them, and runs only while there are any: most connections only
//! listen, and each waiting task would hold memory (2 KiB for a task and its channel).
//!
//! ```text
//! Admitted ──start──► Idle ──request──► Busy ──queue empty──► Idle
//!     │                 │                 │
//!     └─────────────────┴──────close──────┴────► Ended
//! ```

use std::{
    collections::VecDeque,
    marker::PhantomData,
    mem,
    sync::{Arc, Mutex, MutexGuard, Weak},
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
    adapter::{Adapter, SocketRef},
    connection::{AdmittedClient, SocketConnection},
    request::{QueuedRequest, Reply, Request, UrgentQueue},
    transport,
};

/// Requests that a mailbox holds. A client that sends more without waiting for replies is disconnected.
const CAPACITY: usize = 1024;

/// The queued requests of one connection, and the connection itself while no task uses it.
pub(super) struct Mailbox {
    tasks: TaskTracker,
    inner: Mutex<Inner>,
}

struct Inner {
    requests: VecDeque<Box<QueuedRequest>>,
    state: MailboxState,
}

enum MailboxState {
    /// The client has not received the connect packet yet. The session may close before that without a
    /// disconnect handler, so nothing in here may hold the socket, which holds this mailbox.
    Admitted(Box<AdmittedClient>),
    /// No request is queued.
    Idle(Box<SocketConnection>),
    /// A task owns the connection and handles requests.
    Busy(AbortHandle),
    Ended,
}

/// Queues every message of one socket in its mailbox.
struct MailboxHandler(Arc<Mailbox>);

impl Mailbox {
    /// Opens the mailbox of `socket`. Its first request is `first`.
    pub(super) fn open(socket: &SocketRef, tasks: TaskTracker, client: AdmittedClient, first: Request) {
        let requests = VecDeque::from([Box::new(QueuedRequest::without_reply(first))]);
        let inner = Mutex::new(Inner { requests, state: MailboxState::Admitted(Box::new(client)) });
        let mailbox = Arc::new(Self { tasks, inner });
        socket.on_fallback(MailboxHandler(mailbox.clone()));
        socket.extensions.insert(mailbox);
    }

    /// The mailbox of `socket`, if it was admitted.
    pub(super) fn of_socket(socket: &SocketRef) -> Option<Arc<Self>> {
        socket.extensions.get()
    }

    /// Starts to handle requests. False if the mailbox is closed already.
    pub(super) fn start(self: &Arc<Self>, socket: SocketRef) -> bool {
        let mut inner = self.lock_inner();
        let MailboxState::Admitted(client) = inner.replace_state(MailboxState::Ended) else { return false };
        let queue: Weak<Self> = Arc::downgrade(self);
        inner.state = MailboxState::Idle(Box::new(SocketConnection::new(socket, *client, queue)));
        self.schedule(&mut inner);
        true
    }

    /// Queues a request of the client, if there is room.
    fn push(self: &Arc<Self>, request: QueuedRequest) -> bool {
        let mut inner = self.lock_inner();
        let has_room = inner.requests.len() < CAPACITY;
        if has_room {
            inner.requests.push_back(Box::new(request));
            self.schedule(&mut inner);
        }
        has_room
    }

    /// Spawns the task that handles the queued requests, if none is running.
    fn schedule(self: &Arc<Self>, inner: &mut Inner) {
        match inner.replace_state(MailboxState::Ended) {
            MailboxState::Idle(connection) => {
                let task = self.tasks.spawn(self.clone().process_requests(connection));
                inner.state = MailboxState::Busy(task.abort_handle());
            }
            MailboxState::Ended => inner.requests.clear(),
            state => inner.state = state,
        }
    }

    async fn process_requests(self: Arc<Self>, connection: Box<SocketConnection>) {
        let mut next = self.next_request(connection);
        while let Some((mut connection, request)) = next {
            // Lets other connections run even if no request of this one ever waits.
            consume_budget().await;
            if connection.handle(*request).await.is_break() {
                self.close();
            }
            next = self.next_request(connection);
        }
    }

    /// Takes the next request. If there is none, puts the connection back.
    fn next_request(
        &self,
        connection: Box<SocketConnection>,
    ) -> Option<(Box<SocketConnection>, Box<QueuedRequest>)> {
        let mut inner = self.lock_inner();
        if let Some(request) = inner.requests.pop_front() {
            return Some((connection, request));
        }
        if let MailboxState::Busy(_) = inner.state {
            inner.state = MailboxState::Idle(connection);
        }
        None
    }

    /// Closes the mailbox and drops the connection, with its subscriptions and its connection permit,
    /// whatever it is doing. Returns whether the connection had started.
    pub(super) fn close(&self) -> bool {
        let mut inner = self.lock_inner();
        let (state, requests) = (inner.replace_state(MailboxState::Ended), mem::take(&mut inner.requests));
        drop(inner);
        drop(requests);
        if let MailboxState::Busy(task) = &state {
            task.abort();
        }
        !matches!(state, MailboxState::Admitted(_))
    }

    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while held")
    }
}

impl Inner {
    fn replace_state(&mut self, state: MailboxState) -> MailboxState {
        mem::replace(&mut self.state, state)
    }
}

impl UrgentQueue for Mailbox {
    fn push_urgent(self: Arc<Self>, request: Request) {
        let mut inner = self.lock_inner();
        inner.requests.push_front(Box::new(QueuedRequest::without_reply(request)));
        self.schedule(&mut inner);
    }
}

impl MessageHandler<Adapter, PhantomData<Self>> for MailboxHandler {
    fn call(&self, socket: Arc<Socket<Adapter>>, mut raw: RawValue, ack: Option<i64>) {
        let Ok(Event(event)) = Event::from_message_parts(&socket, &mut raw, &ack) else { return };
        let Ok(TryData(argument)) = TryData::<Value>::from_message_parts(&socket, &mut raw, &ack);
        let request = Request::parse(&event, &argument.unwrap_or(Value::Null));
        let reply = Reply::new(ack.map(|ack| (socket.clone(), ack)));
        if !self.0.push(QueuedRequest { request, reply }) {
            transport::abort(&socket);
        }
    }
}
