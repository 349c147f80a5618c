//! Photos of a feed: listing and deleting.

use std::sync::Arc;

use axum::{Json as Body, extract::State, http::StatusCode};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Context,
    api::ProblemDetails,
    asked::digits,
    extract::{Caller, Name, Params},
};
use crate::{
    auth::Right,
    bucket::{Bucket, Listed},
    feed::{Cursor, FeedId, ObjectKey},
    wire::{Problem, ProblemKind},
};

const DEFAULT_LIMIT: u16 = 50;
const MAX_LIMIT: u16 = 200;

#[derive(Deserialize)]
pub(super) struct ListParams {
    limit: Option<String>,
    before: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct List {
    #[schema(value_type = String)]
    feed: FeedId,
    #[schema(value_type = String)]
    cursor: Cursor,
    photos: Vec<Photo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    before: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Photo {
    key: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    e_tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    last_modified: Option<Timestamp>,
    url: String,
    #[schema(value_type = String, format = DateTime)]
    url_expires_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Feed {
    #[schema(value_type = String)]
    feed: FeedId,
    watchers: usize,
}

/// Lists the photos of a feed.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/photos",
    tag = "photos",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64), ("limit" = Option<u16>, Query, description = "Photos of a page", minimum = 1, maximum = 200), ("before" = Option<String>, Query, description = "Of the page before")),
    responses((status = 200, description = "A page, newest first", body = List), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn list(
    State(context): State<Arc<Context>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Body<List>, Problem> {
    caller.check(Right::View)?;
    let limit = params.limit.as_deref().map_or(Ok(DEFAULT_LIMIT), limit)?;
    let bucket = context.showcase.bucket();
    let after = params.before.as_deref().map(|before| key_of(bucket, &caller.feed, before)).transpose()?;
    // Before the bucket is asked: who joins from here misses nothing of what comes meanwhile.
    let cursor = context.hub.log().end(&caller.feed).await?;
    let page = bucket.list(&caller.feed, after.as_deref(), limit).await?;
    let now = Timestamp::now();
    let photos = page.photos.into_iter().map(|listed| {
        let url = bucket.view_url(&caller.base, &listed.key, now);
        let Listed { key, size, e_tag, last_modified } = listed;
        Photo {
            key: key.as_str().to_owned(),
            size,
            e_tag,
            last_modified,
            url: url.url,
            url_expires_at: url.expires_at,
        }
    });
    Ok(Body(List {
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
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64), ("name" = String, Path, description = "What follows the feed's slash in the key; its slashes literal or as %2F", min_length = 1)),
    responses((status = 202, description = "It will be gone; the removal is announced"), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn remove(
    State(context): State<Arc<Context>>,
    caller: Caller,
    Name(name): Name,
) -> Result<StatusCode, Problem> {
    caller.check(Right::Delete)?;
    let bucket = context.showcase.bucket();
    let key = ObjectKey::build(bucket.prefix(), &caller.feed, &name)?;
    bucket.delete(&key).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Tells how many watch a feed.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}",
    tag = "photos",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64)),
    responses((status = 200, description = "The feed", body = Feed), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn feed(State(context): State<Arc<Context>>, caller: Caller) -> Result<Body<Feed>, Problem> {
    caller.check(Right::View)?;
    // Approximate is better than none: what the others count is left out while the log is away.
    let elsewhere = context.presence.elsewhere(&caller.feed).await.unwrap_or_default();
    let watchers = context.hub.watchers(&caller.feed) + elsewhere;
    Ok(Body(Feed { feed: caller.feed, watchers }))
}

fn limit(text: &str) -> Result<u16, Problem> {
    let limit = digits(text).filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit
        .ok_or_else(|| Problem::new(ProblemKind::InvalidParameter, format!("limit must be 1 to {MAX_LIMIT}")))
}

/// The key inside an opaque `before`; it can only be of the same feed.
fn key_of(bucket: &Bucket, feed: &FeedId, before: &str) -> Result<String, Problem> {
    let key = BASE64_URL_SAFE_NO_PAD.decode(before).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    key.filter(|key| key.len() <= 1024 && key.starts_with(&bucket.prefix().of_feed(feed))).ok_or_else(|| {
        Problem::new(ProblemKind::InvalidParameter, "before must be the one of an earlier page of this feed")
    })
}
