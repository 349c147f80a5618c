//! Handlers of a feed and its photos: list, delete, count the watchers.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AppState,
    api_docs::ProblemDetails,
    extract::{FeedCaller, PhotoName, QueryParams},
    upload_request::parse_digits,
};
use crate::{
    auth::Right,
    bucket::{Bucket, ListedObject},
    feed::{Cursor, FeedId, ObjectKey},
    protocol::{Problem, ProblemKind},
};

const DEFAULT_LIMIT: u16 = 50;
const MAX_LIMIT: u16 = 200;

#[derive(Deserialize)]
pub(super) struct ListPhotosQuery {
    limit: Option<String>,
    before: Option<String>,
}

/// A page of a feed's photos, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct PhotoPage {
    #[schema(value_type = String)]
    feed: FeedId,
    /// Position in the feed's log. A client that joins from here receives every later event.
    #[schema(value_type = String)]
    cursor: Cursor,
    photos: Vec<ListedPhoto>,
    /// Pass it as the parameter `before` to get the next page. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    before: Option<String>,
}

/// A stored photo.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ListedPhoto {
    key: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    e_tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    last_modified: Option<Timestamp>,
    /// Signed URL of the image.
    url: String,
    #[schema(value_type = String, format = DateTime)]
    url_expires_at: Timestamp,
}

/// A feed.
#[derive(Serialize, ToSchema)]
pub(super) struct FeedResponse {
    #[schema(value_type = String)]
    feed: FeedId,
    /// Number of subscribers in all processes, approximate.
    watchers: usize,
}

/// Lists the photos of a feed.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/photos",
    tag = "photos",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64), ("limit" = Option<u16>, Query, description = "Maximum number of photos per page", minimum = 1, maximum = 200), ("before" = Option<String>, Query, description = "The field `before` of the previous page")),
    responses((status = 200, description = "A page, newest first", body = PhotoPage), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn list_photos(
    State(state): State<Arc<AppState>>,
    caller: FeedCaller,
    QueryParams(query): QueryParams<ListPhotosQuery>,
) -> Result<Json<PhotoPage>, Problem> {
    caller.require(Right::View)?;
    let limit = query.limit.as_deref().map_or(Ok(DEFAULT_LIMIT), parse_limit)?;
    let bucket = state.event_encoder.bucket();
    let after =
        query.before.as_deref().map(|before| decode_before(bucket, &caller.feed, before)).transpose()?;
    // Read the cursor before the bucket, so that a client that joins from it misses no event.
    let cursor = state.hub.log().read_end(&caller.feed).await?;
    let page = bucket.list_objects(&caller.feed, after.as_deref(), limit).await?;
    let now = Timestamp::now();
    let photos = page.photos.into_iter().map(|object| {
        let url = bucket.view_url(&caller.bucket_url, &object.key, now);
        let ListedObject { key, size, e_tag, last_modified } = object;
        ListedPhoto {
            key: key.as_str().to_owned(),
            size,
            e_tag,
            last_modified,
            url: url.url,
            url_expires_at: url.expires_at,
        }
    });
    Ok(Json(PhotoPage {
        cursor,
        photos: photos.collect(),
        before: page.next.map(|key| BASE64_URL_SAFE_NO_PAD.encode(key)),
        feed: caller.feed,
    }))
}

/// Deletes a photo.
#[utoipa::path(
    delete,
    path = "/v1/feeds/{feed}/photos/{name}",
    tag = "photos",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64), ("name" = String, Path, description = "Photo name: the part of the key after the feed id and its slash. Slashes in it may be literal or encoded as %2F", min_length = 1)),
    responses((status = 202, description = "The deletion was accepted; the event `imageRemoved` confirms it"), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn delete_photo(
    State(state): State<Arc<AppState>>,
    caller: FeedCaller,
    PhotoName(name): PhotoName,
) -> Result<StatusCode, Problem> {
    caller.require(Right::Delete)?;
    let bucket = state.event_encoder.bucket();
    let key = ObjectKey::build(bucket.prefix(), &caller.feed, &name)?;
    bucket.delete_object(&key).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Returns a feed and its number of watchers.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}",
    tag = "photos",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64)),
    responses((status = 200, description = "The feed", body = FeedResponse), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn get_feed(
    State(state): State<Arc<AppState>>,
    caller: FeedCaller,
) -> Result<Json<FeedResponse>, Problem> {
    caller.require(Right::View)?;
    // While the log is unavailable, the count leaves out the other processes.
    let remote = state.presence.count_remote(&caller.feed).await.unwrap_or_default();
    let watchers = state.hub.subscriber_count(&caller.feed) + remote;
    Ok(Json(FeedResponse { feed: caller.feed, watchers }))
}

fn parse_limit(text: &str) -> Result<u16, Problem> {
    let limit = parse_digits(text).filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit
        .ok_or_else(|| Problem::new(ProblemKind::InvalidParameter, format!("limit must be 1 to {MAX_LIMIT}")))
}

/// Decodes an opaque `before` to the last key of the previous page, which must belong to `feed`.
fn decode_before(bucket: &Bucket, feed: &FeedId, before: &str) -> Result<String, Problem> {
    let key = BASE64_URL_SAFE_NO_PAD.decode(before).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    key.filter(|key| key.len() <= 1024 && key.starts_with(&bucket.prefix().feed_prefix(feed))).ok_or_else(
        || Problem::new(ProblemKind::InvalidParameter, "before must come from an earlier page of this feed"),
    )
}
