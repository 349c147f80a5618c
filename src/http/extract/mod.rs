//! Extractors. Their rejections are problems that name the invalid field.

mod body;
mod caller;
mod path;
mod query;
mod stream_connection;
mod token;
mod upload_path;

pub(super) use body::{JsonBody, OptionalJsonBody};
pub(super) use caller::{BatchUploader, FeedCaller, Uploader};
pub(super) use path::{PartNumberText, PhotoName, UploadId};
pub(super) use query::QueryParams;
pub(super) use stream_connection::StreamConnection;
pub(super) use token::bearer_token;
pub(super) use upload_path::{RenewedUploadName, UploadName, reject_upload_method};
