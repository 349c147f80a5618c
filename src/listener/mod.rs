//! Accepts TCP connections and serves HTTP on them, within limits of number and time.
//!
//! ```text
//!            accept ──► capacity ──► slot free ──► router            WebSockets, API
//!               │                └─► all taken ──► overload router   /healthz, /readyz; 503 for the rest
//!               ▼
//!            stream ──► connection (hyper) ──► router
//!               │            │
//!               └─► request_timer ◄─┘   head and idle timeouts, by whether a request is in flight
//! ```
//!
//! A connection can be aborted from outside. While a peer does not read, a write to it stays pending, out of
//! reach of the timeouts of the protocols above. Aborting the stream fails the pending read and write, and so
//! ends everything above it.

mod accept;
mod capacity;
mod connection;
mod descriptors;
mod peer;
mod request_timer;
mod stream;

pub use accept::{Listener, ListenerSettings};
pub use descriptors::{max_connections, raise_descriptor_limit};
pub use peer::Peer;
