//! Path parameters, and queries that belong to no body.

use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct FeedPath {
    /// Feed id
    #[param(min_length = 1, max_length = 64)]
    pub(in crate::http) feed: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct PhotoPath {
    /// Photo name: the part of the key after the feed id and its slash. Slashes in it may be literal or encoded as %2F
    #[param(min_length = 1)]
    pub(in crate::http) name: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct UploadIdPath {
    /// Id of the multipart upload
    #[serde(rename = "uploadId")]
    #[param(min_length = 1)]
    pub(in crate::http) upload_id: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct PartPath {
    /// Part number, from 1
    #[serde(rename = "partNumber")]
    #[param(value_type = u16, minimum = 1, maximum = 10_000)]
    pub(in crate::http) part_number: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct StreamEventsQuery {
    /// Cursor to continue from
    #[param(nullable = false)]
    pub(in crate::http) cursor: Option<String>,
}
