//! A server for shared photo feeds: phones upload to S3, and every subscriber of a feed receives an event
//! over Socket.IO or SSE as soon as S3 reports the object.
//!
//! ```text
//!  phone ──POST /v1/feeds/summer/uploads──► http ► bucket ──presigned URL──► phone ──PUT──► S3 bucket
//!                                                                                              │ event
//!  Socket.IO room "summer" ◄─ socketio ◄┐                                                      ▼
//!  SSE stream               ◄─ http/sse ◄┴ hub ◄─ feed log ◄─ ingest ◄─ events ◄─ queue ◄─── SQS queue
//! ```
//!
//! S3 is the source of truth: a photo exists once S3 has sent its event, whatever a client reports. The feed
//! log assigns each event an offset, in the order of S3's sequencers. The hub delivers the log's entries to
//! subscribers, and each client recovers the entries that it missed by its cursor.
//!
//! | term | meaning |
//! | --- | --- |
//! | feed | a named stream of photos: a Socket.IO room and a key prefix in the bucket |
//! | object event | one record of an S3 event notification |
//! | feed event | an entry's content as clients receive it: `imageUploaded` or `imageRemoved` |
//! | feed log | an append-only log for each feed: contiguous offsets from 1 within an epoch, a random tag on each entry |
//! | cursor | epoch, offset and tag of an entry as one opaque string |
//! | hub | fan-out to the local subscribers of each feed |
//! | disposition | what happens to a queue message: deleted, left for redelivery, or retried after a delay |
//!
//! `ARCHITECTURE.md` describes the modules and their invariants, and where to make common changes.

pub mod app;
pub mod auth;
pub mod bucket;
pub mod cli;
pub mod client_address;
pub mod config;
pub mod doctor;
pub mod events;
pub mod feed;
pub mod http;
pub mod hub;
pub mod ingest;
pub mod inspect;
pub mod limit;
pub mod listener;
pub mod local;
pub mod log;
pub mod protocol;
pub mod queue;
pub mod redrive;
pub mod socketio;
pub mod telemetry;

/// The name by which `support` refers to this crate, in unit tests as in `tests/`.
#[cfg(test)]
extern crate self as photoshare_server;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
