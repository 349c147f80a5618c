//! Handlers, one file for each resource.

pub(super) mod demo_page;
pub(super) mod docs;
mod embedded_s3;
pub(super) mod events;
pub(super) mod feeds;
pub(super) mod multipart;
pub(super) mod operations;
pub(super) mod photos;
mod socketio;
pub(super) mod uploads;

pub use embedded_s3::embedded_s3_router;
pub use socketio::socketio_router;
