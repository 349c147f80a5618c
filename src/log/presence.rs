//! The number of subscribers of a feed, over all processes that share the log.

use std::time::Duration;

use async_trait::async_trait;

use super::{LogError, MemoryLog};
use crate::feed::FeedId;

/// How long the counts that a process reports are valid.
pub const PRESENCE_TTL: Duration = Duration::from_secs(30);

/// Counts the subscribers of feeds in all processes, approximately.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Reports the number of subscribers in this process, for every feed that has any. To be called several
    /// times within [`PRESENCE_TTL`], and with an empty list when the process stops.
    ///
    /// # Errors
    /// When the log is unavailable, for one of the feeds or for all.
    async fn set_presence(&self, counts: Vec<(FeedId, usize)>) -> Result<(), LogError>;

    /// Counts the subscribers of `feed` in all other processes.
    ///
    /// # Errors
    /// When the log is unavailable.
    async fn count_remote(&self, feed: &FeedId) -> Result<usize, LogError>;
}

/// An in-memory log belongs to one process, so there are no remote subscribers.
#[async_trait]
impl Presence for MemoryLog {
    async fn set_presence(&self, _counts: Vec<(FeedId, usize)>) -> Result<(), LogError> {
        Ok(())
    }

    async fn count_remote(&self, _feed: &FeedId) -> Result<usize, LogError> {
        Ok(0)
    }
}
