//! The data that clients receive, the same over Socket.IO and HTTP: events, join responses and problems.
//!
//! `docs/protocol.md` is the contract.

mod event;
mod join;
mod problem;
mod url_base;

pub use event::{EncodedEvent, EncoderGuard, EventEncoder, NamedEvent};
pub use join::{JoinResponse, MAX_JOIN_EVENTS};
pub use problem::{Problem, ProblemKind};
pub use url_base::UrlBase;
