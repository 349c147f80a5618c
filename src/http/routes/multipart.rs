//! Handlers for Uppy's S3 plugin, compatible with Companion: a form upload for small files, a multipart
//! upload for large ones. <https://uppy.io/docs/aws-s3/>

use std::time::Duration;

use axum::{Json, extract::State};
use jiff::Timestamp;

use crate::{
    auth::Right,
    bucket::{Bucket, MultipartUpload, ObjectMetadata},
    feed::ObjectKey,
    http::{
        dto::{
            Caption, CompleteMultipartRequest, CreateMultipartRequest, FeedPath, Filename, KeyQuery,
            MultipartAborted, MultipartCompleted, MultipartCreated, PartNumber, PartNumberError,
            PartNumbersQuery, PartPath, SignedPart, SignedParts, UploadIdPath, UploadParameters,
            UploadParametersQuery, UploadedPart, build_user_metadata,
        },
        extract::{FeedCaller, JsonBody, PartNumberText, QueryParams, UploadId, Uploader},
        upload_issuer::UploadIssuer,
    },
    protocol::{Problem, ProblemKind},
};

/// Lifetime of form parameters and part URLs.
const URL_TTL: Duration = Duration::from_hours(1);

/// Grants the upload of a file with a form (an S3 POST policy).
#[utoipa::path(
    get,
    path = "/feeds/{feed}/s3/params",
    tag = "uppy",
    params(FeedPath, UploadParametersQuery),
    responses((status = 200, description = "The form", body = UploadParameters), Problem),
)]
pub(in crate::http) async fn get_upload_parameters(
    State(issuer): State<UploadIssuer>,
    State(bucket): State<Bucket>,
    Uploader(caller): Uploader,
    query: Result<QueryParams<UploadParametersQuery>, Problem>,
) -> Result<Json<UploadParameters>, Problem> {
    caller.require(Right::Upload)?;
    let QueryParams(UploadParametersQuery { filename, r#type, caption }) = query?;
    let metadata = build_metadata(&issuer, &caller, &r#type, filename, caption)?;
    let now = Timestamp::now();
    let key = issuer.issue_key(&caller.feed, &metadata.content_type, 0)?;
    let sizes = 1..=issuer.rules().max_bytes;
    let grant = bucket
        .grant_post(&caller.bucket_url, &key, &metadata, sizes, URL_TTL, now)
        .map_err(|error| invalid_parameter(&error))?;
    Ok(Json(UploadParameters {
        method: "POST",
        url: grant.url,
        fields: grant.fields.unwrap_or_default().into(),
        expires: seconds_until(grant.expires_at, now),
    }))
}

/// Creates a multipart upload.
#[utoipa::path(
    post,
    path = "/feeds/{feed}/s3/multipart",
    tag = "uppy",
    params(FeedPath),
    request_body = CreateMultipartRequest,
    responses((status = 200, description = "The upload", body = MultipartCreated), Problem),
)]
pub(in crate::http) async fn create_multipart(
    State(issuer): State<UploadIssuer>,
    State(bucket): State<Bucket>,
    Uploader(caller): Uploader,
    body: Result<JsonBody<CreateMultipartRequest>, Problem>,
) -> Result<Json<MultipartCreated>, Problem> {
    caller.require(Right::Upload)?;
    let JsonBody(CreateMultipartRequest { filename, r#type, metadata }) = body?;
    let caption = metadata.and_then(|metadata| metadata.caption);
    let metadata = build_metadata(&issuer, &caller, &r#type, filename, caption)?;
    let key = issuer.issue_key(&caller.feed, &metadata.content_type, 0)?;
    let upload_id = bucket.create_multipart_upload(&key, &metadata).await?;
    Ok(Json(MultipartCreated { key: key.as_str().to_owned(), upload_id, bucket: bucket.name().to_owned() }))
}

/// Lists the parts that the bucket has stored.
#[utoipa::path(
    get,
    path = "/feeds/{feed}/s3/multipart/{uploadId}",
    tag = "uppy",
    params(FeedPath, UploadIdPath, KeyQuery),
    responses((status = 200, description = "The parts", body = Vec<UploadedPart>), Problem),
)]
pub(in crate::http) async fn list_parts(
    State(bucket): State<Bucket>,
    caller: FeedCaller,
    UploadId(id): UploadId,
    query: Result<QueryParams<KeyQuery>, Problem>,
) -> Result<Json<Vec<UploadedPart>>, Problem> {
    caller.require(Right::Upload)?;
    let key = require_key_of_feed(&bucket, &caller, &query?.0.key)?;
    let parts = bucket.list_parts(MultipartUpload { key: &key, id: &id }).await?;
    let parts = parts.into_iter().map(|part| UploadedPart {
        part_number: part.number,
        e_tag: part.e_tag,
        size: part.size,
    });
    Ok(Json(parts.collect()))
}

/// Signs the URL for one part.
#[utoipa::path(
    get,
    path = "/feeds/{feed}/s3/multipart/{uploadId}/{partNumber}",
    tag = "uppy",
    params(FeedPath, UploadIdPath, PartPath, KeyQuery),
    responses((status = 200, description = "The signed URL", body = SignedPart), Problem),
)]
pub(in crate::http) async fn sign_part(
    State(bucket): State<Bucket>,
    caller: FeedCaller,
    UploadId(id): UploadId,
    PartNumberText(number): PartNumberText,
    query: Result<QueryParams<KeyQuery>, Problem>,
) -> Result<Json<SignedPart>, Problem> {
    caller.require(Right::Upload)?;
    let key = require_key_of_feed(&bucket, &caller, &query?.0.key)?;
    let (upload, now) = (MultipartUpload { key: &key, id: &id }, Timestamp::now());
    let PartNumber(number) = number.parse().map_err(|error: PartNumberError| invalid_parameter(&error))?;
    let signed = bucket.presign_part(&caller.bucket_url, upload, number, URL_TTL, now);
    Ok(Json(SignedPart { url: signed.url, expires: seconds_until(signed.expires_at, now) }))
}

/// Signs the URLs for several parts.
#[utoipa::path(
    get,
    path = "/feeds/{feed}/s3/multipart/{uploadId}/batch",
    tag = "uppy",
    params(FeedPath, UploadIdPath, KeyQuery, PartNumbersQuery),
    responses((status = 200, description = "The signed URLs", body = SignedParts), Problem),
)]
pub(in crate::http) async fn sign_parts(
    State(bucket): State<Bucket>,
    caller: FeedCaller,
    UploadId(id): UploadId,
    query: Result<QueryParams<KeyQuery>, Problem>,
    numbers: Result<QueryParams<PartNumbersQuery>, Problem>,
) -> Result<Json<SignedParts>, Problem> {
    caller.require(Right::Upload)?;
    let key = require_key_of_feed(&bucket, &caller, &query?.0.key)?;
    let QueryParams(PartNumbersQuery { part_numbers }) = numbers?;
    let (upload, now) = (MultipartUpload { key: &key, id: &id }, Timestamp::now());
    let urls = part_numbers.into_iter().map(|PartNumber(number)| {
        (number, bucket.presign_part(&caller.bucket_url, upload, number, URL_TTL, now).url)
    });
    Ok(Json(SignedParts { presigned_urls: urls.collect() }))
}

/// Completes a multipart upload: assembles its parts into the object.
#[utoipa::path(
    post,
    path = "/feeds/{feed}/s3/multipart/{uploadId}/complete",
    tag = "uppy",
    params(FeedPath, UploadIdPath, KeyQuery),
    request_body = CompleteMultipartRequest,
    responses((status = 200, description = "The object", body = MultipartCompleted), Problem),
)]
pub(in crate::http) async fn complete_multipart(
    State(issuer): State<UploadIssuer>,
    State(bucket): State<Bucket>,
    caller: FeedCaller,
    UploadId(id): UploadId,
    query: Result<QueryParams<KeyQuery>, Problem>,
    body: Result<JsonBody<CompleteMultipartRequest>, Problem>,
) -> Result<Json<MultipartCompleted>, Problem> {
    caller.require(Right::Upload)?;
    let key = require_key_of_feed(&bucket, &caller, &query?.0.key)?;
    let JsonBody(CompleteMultipartRequest { parts }) = body?;
    let parts = parts.into_iter().map(|part| (part.part_number, part.e_tag)).collect();
    let upload = MultipartUpload { key: &key, id: &id };
    bucket.complete_multipart_upload(upload, &parts, issuer.rules().max_bytes).await?;
    Ok(Json(MultipartCompleted {
        location: bucket.unsigned_url(&caller.bucket_url, &key),
        key: key.as_str().to_owned(),
        bucket: bucket.name().to_owned(),
    }))
}

/// Aborts a multipart upload and deletes its parts.
#[utoipa::path(
    delete,
    path = "/feeds/{feed}/s3/multipart/{uploadId}",
    tag = "uppy",
    params(FeedPath, UploadIdPath, KeyQuery),
    responses((status = 200, description = "The upload was aborted", body = MultipartAborted), Problem),
)]
pub(in crate::http) async fn abort_multipart(
    State(bucket): State<Bucket>,
    caller: FeedCaller,
    UploadId(id): UploadId,
    query: Result<QueryParams<KeyQuery>, Problem>,
) -> Result<Json<MultipartAborted>, Problem> {
    caller.require(Right::Upload)?;
    let key = require_key_of_feed(&bucket, &caller, &query?.0.key)?;
    bucket.abort_multipart_upload(MultipartUpload { key: &key, id: &id }).await?;
    Ok(Json(MultipartAborted {}))
}

fn build_metadata(
    issuer: &UploadIssuer,
    caller: &FeedCaller,
    content_type: &str,
    filename: Option<Filename>,
    caption: Option<Caption>,
) -> Result<ObjectMetadata, Problem> {
    let rules = issuer.rules();
    Ok(ObjectMetadata {
        content_type: rules.require_content_type("type", content_type)?,
        checksum_sha256: None,
        user_metadata: build_user_metadata(filename, caption, caller.recorded_uploader(rules)),
    })
}

/// Requires that `key` belongs to the caller's feed.
fn require_key_of_feed(bucket: &Bucket, caller: &FeedCaller, key: &str) -> Result<ObjectKey, Problem> {
    let key = ObjectKey::parse(bucket.prefix(), key)?;
    if *key.feed() == caller.feed {
        return Ok(key);
    }
    Err(Problem::new(ProblemKind::Forbidden, "key must belong to this feed"))
}

fn invalid_parameter(error: &dyn std::error::Error) -> Problem {
    Problem::new(ProblemKind::InvalidParameter, error.to_string())
}

fn seconds_until(end: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(end.as_second() - now.as_second()).unwrap_or(0)
}
