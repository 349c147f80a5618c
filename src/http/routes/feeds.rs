//! Handler of a feed.

use std::sync::Arc;

use axum::{Json, extract::State};

use crate::{
    auth::Right,
    http::{
        dto::{FeedPath, FeedResponse},
        extract::FeedCaller,
    },
    hub::Hub,
    log::Presence,
    protocol::Problem,
};

/// Returns a feed and its number of watchers.
#[utoipa::path(
    get,
    path = "/feeds/{feed}",
    tag = "photos",
    params(FeedPath),
    responses((status = 200, description = "The feed", body = FeedResponse), Problem),
)]
pub(in crate::http) async fn get_feed(
    State(hub): State<Arc<Hub>>,
    State(presence): State<Arc<dyn Presence>>,
    caller: FeedCaller,
) -> Result<Json<FeedResponse>, Problem> {
    caller.require(Right::View)?;
    // While the log is unavailable, the count leaves out the other processes.
    let remote = presence.count_remote(&caller.feed).await.unwrap_or_default();
    let watchers = hub.subscriber_count(&caller.feed) + remote;
    Ok(Json(FeedResponse { feed: caller.feed, watchers }))
}
