//! Handlers of photos: list and delete.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;

use crate::{
    auth::Right,
    bucket::{Bucket, ListedObject},
    feed::{FeedId, ObjectKey},
    http::{
        dto::{FeedPath, ListPhotosQuery, ListedPhoto, PageLimit, PhotoPage, PhotoPath},
        extract::{FeedCaller, PhotoName, QueryParams},
    },
    hub::Hub,
    protocol::{Problem, ProblemKind},
};

/// Lists the photos of a feed.
#[utoipa::path(
    get,
    path = "/feeds/{feed}/photos",
    tag = "photos",
    params(FeedPath, ListPhotosQuery),
    responses((status = 200, description = "A page, newest first", body = PhotoPage), Problem),
)]
pub(in crate::http) async fn list_photos(
    State(bucket): State<Bucket>,
    State(hub): State<Arc<Hub>>,
    caller: FeedCaller,
    query: Result<QueryParams<ListPhotosQuery>, Problem>,
) -> Result<Json<PhotoPage>, Problem> {
    caller.require(Right::View)?;
    let QueryParams(ListPhotosQuery { limit: PageLimit(limit), before }) = query?;
    let after = before.map(|before| decode_before(&bucket, &caller.feed, &before)).transpose()?;
    // Read the cursor before the bucket, so that a client that joins from it misses no event.
    let cursor = hub.log().read_end(&caller.feed).await?;
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
    path = "/feeds/{feed}/photos/{name}",
    tag = "photos",
    params(FeedPath, PhotoPath),
    responses((status = 202, description = "The deletion was accepted; the event `imageRemoved` confirms it"), Problem),
)]
pub(in crate::http) async fn delete_photo(
    State(bucket): State<Bucket>,
    caller: FeedCaller,
    PhotoName(name): PhotoName,
) -> Result<StatusCode, Problem> {
    caller.require(Right::Delete)?;
    let key = ObjectKey::build(bucket.prefix(), &caller.feed, &name)?;
    bucket.delete_object(&key).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Decodes an opaque `before` to the last key of the previous page, which must belong to `feed`.
fn decode_before(bucket: &Bucket, feed: &FeedId, before: &str) -> Result<String, Problem> {
    let key = BASE64_URL_SAFE_NO_PAD.decode(before).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    key.filter(|key| key.len() <= 1024 && key.starts_with(&bucket.prefix().feed_prefix(feed))).ok_or_else(
        || Problem::new(ProblemKind::InvalidParameter, "before must come from an earlier page of this feed"),
    )
}
