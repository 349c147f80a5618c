//! Tells everyone who watches a photo feed, the moment S3 says that a photo is there.
//!
//! ```text
//!  phone ──POST /v1/feeds/summer/uploads──► http ► bucket ──presigned URL──► phone ──PUT──► S3 bucket
//!                                                                                              │ event
//!  Socket.IO room "summer" ◄─ socketio ◄┐                                                      ▼
//!  SSE stream               ◄─ http/sse ◄┴ hub ◄─ feed log ◄─ ingest ◄─ events ◄─ queue ◄─── SQS queue
//! ```
//!
//! The bucket is the truth: a photo exists when S3 says so, never because a client says so. The feed log
//! is the order in which that truth is told. Everything after the log is delivery.
//!
//! | term | meaning |
//! | --- | --- |
//! | feed | a stream of photos that people watch together; a Socket.IO room; a key prefix |
//! | object event | one record of an S3 event notification, decoded |
//! | feed event | what the log holds and clients see: `imageUploaded` or `imageRemoved` |
//! | feed log | per feed, feed events with offsets 1, 2, 3 … without gaps, in one epoch; each with a tag |
//! | cursor | epoch, offset and tag as one opaque text |
//! | hub | one process's fan-out: its local subscribers of each feed |
//! | disposition | what becomes of a queue message: deleted, or delivered again |
//!
//! `ARCHITECTURE.md` has the invariants, and says where to change what.

pub mod app;
pub mod auth;
pub mod bucket;
pub mod cli;
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
pub mod queue;
pub mod redrive;
pub mod socketio;
pub mod telemetry;
pub mod wire;
