//! Lists of photos.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use utoipa::{IntoParams, ToSchema};

use super::fields::parse_digits;
use crate::feed::{Cursor, FeedId};

const DEFAULT_LIMIT: u16 = 50;
const MAX_LIMIT: u16 = 200;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ListPhotosQuery {
    /// Maximum number of photos per page
    #[serde(default)]
    #[param(value_type = Option<u16>, nullable = false, minimum = 1, maximum = 200, default = 50)]
    pub(in crate::http) limit: PageLimit,
    /// The field `before` of the previous page
    #[param(nullable = false)]
    pub(in crate::http) before: Option<String>,
}

/// Number of photos per page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct PageLimit(pub(in crate::http) u16);

/// A page of a feed's photos, newest first.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct PhotoPage {
    #[schema(value_type = String)]
    pub(in crate::http) feed: FeedId,
    /// Position in the feed's log. A client that joins from here receives every later event.
    #[schema(value_type = String)]
    pub(in crate::http) cursor: Cursor,
    pub(in crate::http) photos: Vec<ListedPhoto>,
    /// Pass it as the parameter `before` to get the next page. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(in crate::http) before: Option<String>,
}

/// A stored photo.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct ListedPhoto {
    pub(in crate::http) key: String,
    pub(in crate::http) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(in crate::http) e_tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub(in crate::http) last_modified: Option<Timestamp>,
    /// Signed URL of the image.
    pub(in crate::http) url: String,
    #[schema(value_type = String, format = DateTime)]
    pub(in crate::http) url_expires_at: Timestamp,
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(DEFAULT_LIMIT)
    }
}

impl<'de> Deserialize<'de> for PageLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let limit = parse_digits(&text).filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.map(Self).ok_or_else(|| D::Error::custom(format_args!("must be 1 to {MAX_LIMIT}")))
    }
}
