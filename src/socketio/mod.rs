//! Socket.IO: handshake, requests and events of a connection.
//!
//! socketioxide implements the protocol. This module adds what it does not guarantee: the requests of a
//! connection are handled in order (one mailbox per connection), no event is dropped because a queue is full
//! (the hub delivers again what was not accepted), and a stalled connection ends (its transport is aborted
//! from outside).
//!
//! ```text
//! HTTP ──► service ──► socketioxide ──► server: admit the handshake, open a mailbox
//!             │                            │
//!             ▼                            ▼
//!          upgrade        messages ──► mailbox ──► connection ──► Hub::watch, subscribe
//!             │                                        │                  │
//!             ▼                                        ▼                  ▼
//!          sessions ◄── transport ◄────────── socket_subscriber ◄── entries of a feed
//!                                                      │
//!                                                      └──► adapter ──► socketioxide
//! ```
//!
//! Most clients open a session by polling and upgrade it to WebSocket:
//!
//! ```text
//! GET  polling            ► open packet with the session id
//! POST polling "40{…}"    ► connect to the namespace; events are sent in poll responses
//! GET  websocket, sid     ► held back until a poll finds the queue empty; no packet is sent from here on
//!                         ◄ 101 Switching Protocols
//! WS   "2probe"           ► WS "3probe"; the pending poll is released
//! WS   "5"                ► packets are sent over the WebSocket
//! ```
//!
//! `upgrade.rs` explains why the WebSocket request is held back.

mod adapter;
mod connection;
mod context;
mod handshake;
mod mailbox;
mod poll_tracker;
mod query;
mod request;
mod server;
mod service;
mod session_closer;
mod sessions;
mod socket_subscriber;
mod transport;
mod upgrade;
mod websocket_handshake;

pub use adapter::Adapter;
pub use context::{ConnectionContext, ConnectionLimits};
pub use server::SocketIoServer;
pub use service::EngineIoService;
