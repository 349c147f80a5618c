//! Feeds.

use serde::Serialize;
use utoipa::ToSchema;

use crate::feed::FeedId;

/// A feed.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct FeedResponse {
    #[schema(value_type = String)]
    pub(in crate::http) feed: FeedId,
    /// Number of subscribers in all processes, approximate.
    pub(in crate::http) watchers: usize,
}
