//! How many watch a feed, over all processes that share the log.

use std::time::Duration;

use async_trait::async_trait;

use super::{LogError, MemoryLog};
use crate::feed::FeedId;

/// What a process noted counts for so long.
pub const FRESH: Duration = Duration::from_secs(30);

/// Counts watchers, approximately and cheaply.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Notes how many watch here, of all feeds that anybody does. To be called anew well within
    /// [`FRESH`]; with nothing when the process stops.
    ///
    /// # Errors
    /// When the log is away.
    async fn note(&self, here: Vec<(FeedId, usize)>) -> Result<(), LogError>;

    /// How many watch `feed` in other processes.
    ///
    /// # Errors
    /// When the log is away.
    async fn elsewhere(&self, feed: &FeedId) -> Result<usize, LogError>;
}

/// There is no other process.
#[async_trait]
impl Presence for MemoryLog {
    async fn note(&self, _here: Vec<(FeedId, usize)>) -> Result<(), LogError> {
        Ok(())
    }

    async fn elsewhere(&self, _feed: &FeedId) -> Result<usize, LogError> {
        Ok(0)
    }
}
