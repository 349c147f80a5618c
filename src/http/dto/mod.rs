//! Request and response types of the API. Each describes its own `OpenAPI` schema.

mod feed;
mod fields;
mod multipart;
mod operations;
mod params;
mod photo;
mod upload;

pub(super) use feed::FeedResponse;
pub(super) use multipart::{
    CompleteMultipartRequest, CreateMultipartRequest, KeyQuery, MultipartAborted, MultipartCompleted,
    MultipartCreated, PartNumber, PartNumberError, PartNumbersQuery, SignedPart, SignedParts,
    UploadParameters, UploadParametersQuery, UploadedPart,
};
pub(super) use operations::ReadinessReport;
pub(super) use params::{FeedPath, PartPath, PhotoPath, StreamEventsQuery, UploadIdPath};
pub(super) use photo::{ListPhotosQuery, ListedPhoto, PageLimit, PhotoPage};
pub(super) use upload::{
    BatchEntry, BatchRequest, BatchResponse, Caption, CreateUploadRequest, CreateUploadResponse, Filename,
    GrantResponse, MAX_FILES, RenewUploadRequest, UploadRequest, UploadSpec, UploadState, UploadStatus,
    build_user_metadata,
};
