//! Handlers for Uppy's S3 plugin, compatible with Companion: a form upload for small files, a multipart
//! upload for large ones. <https://uppy.io/docs/aws-s3/>

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    AppState,
    api_docs::{CompleteMultipartRequestBody, CreateMultipartRequestBody, ProblemDetails},
    extract::{FeedCaller, JsonBody, PartNumberText, QueryParams, UploadId, Uploader},
    upload_request::{
        DEFAULT_EXPIRES_IN_SECS, invalid_body, parse_content_type, parse_digits, parse_user_metadata,
        string_field,
    },
    uploads::{FormFields, issue_key, require_object},
};
use crate::{
    auth::Right,
    bucket::{MultipartUpload, ObjectMetadata, RequestedParts},
    feed::ObjectKey,
    protocol::{Problem, ProblemKind},
};

/// Maximum number of parts of a multipart upload in S3.
const MAX_PARTS: u16 = 10_000;
/// Maximum number of parts to sign in one request.
const MAX_PARTS_PER_BATCH: usize = 100;
const URL_TTL: Duration = Duration::from_secs(DEFAULT_EXPIRES_IN_SECS);

/// Description of the file. Ignores the further metadata that Uppy sends.
#[derive(Deserialize)]
pub(super) struct UploadParametersQuery {
    filename: Option<String>,
    /// Media type.
    r#type: Option<String>,
    #[serde(rename = "metadata[caption]")]
    caption: Option<String>,
}

/// Parameters of a form upload.
#[derive(Serialize, ToSchema)]
pub(super) struct UploadParameters {
    method: &'static str,
    url: String,
    /// Form fields. Send them in this order, followed by the file.
    #[schema(value_type = BTreeMap<String, String>)]
    fields: FormFields,
    /// Seconds until the parameters expire.
    expires: u64,
}

/// The object key of the multipart upload.
#[derive(Deserialize)]
pub(super) struct KeyQuery {
    key: Option<String>,
}

/// The parts to sign.
#[derive(Deserialize)]
pub(super) struct SignPartsQuery {
    key: Option<String>,
    /// Part numbers, separated by commas.
    #[serde(rename = "partNumbers")]
    part_numbers: Option<String>,
}

/// A new multipart upload.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MultipartCreated {
    key: String,
    upload_id: String,
    bucket: String,
}

/// A part that the bucket has stored.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UploadedPart {
    part_number: u16,
    #[serde(rename = "ETag")]
    e_tag: String,
    size: u64,
}

/// A signed URL for one part.
#[derive(Serialize, ToSchema)]
pub(super) struct SignedPart {
    url: String,
    /// Seconds until the URL expires.
    expires: u64,
}

/// Signed URLs by part number.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignedParts {
    #[schema(value_type = BTreeMap<String, String>)]
    presigned_urls: BTreeMap<u16, String>,
}

/// The object of a completed multipart upload.
#[derive(Serialize, ToSchema)]
pub(super) struct MultipartCompleted {
    location: String,
    key: String,
    bucket: String,
}

/// Empty response to an abort.
#[derive(Serialize, ToSchema)]
pub(super) struct MultipartAborted {}

/// Grants the upload of a file with a form (an S3 POST policy).
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/s3/params",
    tag = "uppy",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64), ("filename" = Option<String>, Query, description = "File name", max_length = 255), ("type" = String, Query, description = "Media type"), ("metadata[caption]" = Option<String>, Query, description = "Caption", max_length = 800)),
    responses((status = 200, description = "The form", body = UploadParameters), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn get_upload_parameters(
    State(state): State<Arc<AppState>>,
    Uploader(caller): Uploader,
    QueryParams(query): QueryParams<UploadParametersQuery>,
) -> Result<Json<UploadParameters>, Problem> {
    caller.require(Right::Upload)?;
    let fields = [query.r#type.as_deref(), query.filename.as_deref(), query.caption.as_deref()];
    let metadata = parse_metadata(&state, &caller, fields).map_err(into_query_problem)?;
    let (bucket, now) = (state.event_encoder.bucket(), Timestamp::now());
    let key = issue_key(&state, &caller, &metadata.content_type, 0)?;
    let sizes = 1..=state.upload_rules.max_bytes;
    let grant = bucket.grant_post(&caller.bucket_url, &key, &metadata, sizes, URL_TTL, now);
    let grant = grant.map_err(|error| into_query_problem(error.into()))?;
    let fields = grant.fields.unwrap_or_default().into();
    Ok(Json(UploadParameters {
        method: "POST",
        url: grant.url,
        fields,
        expires: seconds_until(grant.expires_at, now),
    }))
}

/// Creates a multipart upload.
#[utoipa::path(
    post,
    path = "/v1/feeds/{feed}/s3/multipart",
    tag = "uppy",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64)),
    request_body = CreateMultipartRequestBody,
    responses((status = 200, description = "The upload", body = MultipartCreated), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn create_multipart(
    State(state): State<Arc<AppState>>,
    Uploader(caller): Uploader,
    body: Result<JsonBody, Problem>,
) -> Result<Json<MultipartCreated>, Problem> {
    caller.require(Right::Upload)?;
    let JsonBody(body) = body?;
    let body = require_object(&body)?;
    let caption = match body.get("metadata") {
        None | Some(Value::Null) => None,
        Some(Value::Object(metadata)) => string_field(metadata, "caption")?,
        Some(_) => return Err(invalid_body("metadata must be an object")),
    };
    let fields = [string_field(body, "type")?, string_field(body, "filename")?, caption];
    let metadata = parse_metadata(&state, &caller, fields)?;
    let bucket = state.event_encoder.bucket();
    let key = issue_key(&state, &caller, &metadata.content_type, 0)?;
    let upload_id = bucket.create_multipart_upload(&key, &metadata).await?;
    Ok(Json(MultipartCreated { key: key.as_str().to_owned(), upload_id, bucket: bucket.name().to_owned() }))
}

/// Lists the parts that the bucket has stored.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/s3/multipart/{uploadId}",
    tag = "uppy",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64), ("uploadId" = String, Path, description = "Id of the multipart upload", min_length = 1), ("key" = String, Query, description = "Object key of the upload")),
    responses((status = 200, description = "The parts", body = Vec<UploadedPart>), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn list_parts(
    State(state): State<Arc<AppState>>,
    caller: FeedCaller,
    UploadId(id): UploadId,
    QueryParams(KeyQuery { key }): QueryParams<KeyQuery>,
) -> Result<Json<Vec<UploadedPart>>, Problem> {
    let key = require_key_of_feed(&state, &caller, key)?;
    let parts = state.event_encoder.bucket().list_parts(MultipartUpload { key: &key, id: &id }).await?;
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
    path = "/v1/feeds/{feed}/s3/multipart/{uploadId}/{partNumber}",
    tag = "uppy",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64), ("uploadId" = String, Path, description = "Id of the multipart upload", min_length = 1), ("partNumber" = u16, Path, description = "Part number, from 1", minimum = 1, maximum = 10000), ("key" = String, Query, description = "Object key of the upload")),
    responses((status = 200, description = "The signed URL", body = SignedPart), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn sign_part(
    State(state): State<Arc<AppState>>,
    caller: FeedCaller,
    UploadId(id): UploadId,
    PartNumberText(number): PartNumberText,
    QueryParams(KeyQuery { key }): QueryParams<KeyQuery>,
) -> Result<Json<SignedPart>, Problem> {
    let key = require_key_of_feed(&state, &caller, key)?;
    let (upload, now) = (MultipartUpload { key: &key, id: &id }, Timestamp::now());
    let number = parse_part_number(&number)?;
    let signed = state.event_encoder.bucket().presign_part(&caller.bucket_url, upload, number, URL_TTL, now);
    Ok(Json(SignedPart { url: signed.url, expires: seconds_until(signed.expires_at, now) }))
}

/// Signs the URLs for several parts.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/s3/multipart/{uploadId}/batch",
    tag = "uppy",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64), ("uploadId" = String, Path, description = "Id of the multipart upload", min_length = 1), ("key" = String, Query, description = "Object key of the upload"), ("partNumbers" = String, Query, description = "Part numbers, separated by commas", pattern = "^([1-9][0-9]{0,3}|10000)(,([1-9][0-9]{0,3}|10000))*$")),
    responses((status = 200, description = "The signed URLs", body = SignedParts), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn sign_parts(
    State(state): State<Arc<AppState>>,
    caller: FeedCaller,
    UploadId(id): UploadId,
    QueryParams(SignPartsQuery { key, part_numbers }): QueryParams<SignPartsQuery>,
) -> Result<Json<SignedParts>, Problem> {
    let key = require_key_of_feed(&state, &caller, key)?;
    let numbers: Vec<_> = part_numbers.as_deref().unwrap_or_default().split(',').collect();
    if numbers.len() > MAX_PARTS_PER_BATCH {
        return Err(invalid_parameter(format!("partNumbers must list at most {MAX_PARTS_PER_BATCH} parts")));
    }
    let (upload, now) = (MultipartUpload { key: &key, id: &id }, Timestamp::now());
    let bucket = state.event_encoder.bucket();
    let urls = numbers.into_iter().map(|number| {
        let number = parse_part_number(number)?;
        Ok((number, bucket.presign_part(&caller.bucket_url, upload, number, URL_TTL, now).url))
    });
    Ok(Json(SignedParts { presigned_urls: urls.collect::<Result<_, Problem>>()? }))
}

/// Completes a multipart upload: assembles its parts into the object.
#[utoipa::path(
    post,
    path = "/v1/feeds/{feed}/s3/multipart/{uploadId}/complete",
    tag = "uppy",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64), ("uploadId" = String, Path, description = "Id of the multipart upload", min_length = 1), ("key" = String, Query, description = "Object key of the upload")),
    request_body = CompleteMultipartRequestBody,
    responses((status = 200, description = "The object", body = MultipartCompleted), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn complete_multipart(
    State(state): State<Arc<AppState>>,
    caller: FeedCaller,
    UploadId(id): UploadId,
    QueryParams(KeyQuery { key }): QueryParams<KeyQuery>,
    body: Result<JsonBody, Problem>,
) -> Result<Json<MultipartCompleted>, Problem> {
    let key = require_key_of_feed(&state, &caller, key)?;
    let JsonBody(body) = body?;
    let parts = parse_completed_parts(&body)?;
    let bucket = state.event_encoder.bucket();
    let upload = MultipartUpload { key: &key, id: &id };
    bucket.complete_multipart_upload(upload, &parts, state.upload_rules.max_bytes).await?;
    Ok(Json(MultipartCompleted {
        location: bucket.unsigned_url(&caller.bucket_url, &key),
        key: key.as_str().to_owned(),
        bucket: bucket.name().to_owned(),
    }))
}

/// Aborts a multipart upload and deletes its parts.
#[utoipa::path(
    delete,
    path = "/v1/feeds/{feed}/s3/multipart/{uploadId}",
    tag = "uppy",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64), ("uploadId" = String, Path, description = "Id of the multipart upload", min_length = 1), ("key" = String, Query, description = "Object key of the upload")),
    responses((status = 200, description = "The upload was aborted", body = MultipartAborted), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn abort_multipart(
    State(state): State<Arc<AppState>>,
    caller: FeedCaller,
    UploadId(id): UploadId,
    QueryParams(KeyQuery { key }): QueryParams<KeyQuery>,
) -> Result<Json<MultipartAborted>, Problem> {
    let key = require_key_of_feed(&state, &caller, key)?;
    state.event_encoder.bucket().abort_multipart_upload(MultipartUpload { key: &key, id: &id }).await?;
    Ok(Json(MultipartAborted {}))
}

/// Parses the object's metadata from the fields type, filename and caption.
fn parse_metadata(
    state: &AppState,
    caller: &FeedCaller,
    fields: [Option<&str>; 3],
) -> Result<ObjectMetadata, Problem> {
    let [content_type, filename, caption] = fields;
    Ok(ObjectMetadata {
        content_type: parse_content_type(content_type, "type", &state.upload_rules)?,
        checksum_sha256: None,
        user_metadata: parse_user_metadata(filename, caption, caller.recorded_uploader(state))?,
    })
}

/// Parses the key in the query, which must belong to the caller's feed.
fn require_key_of_feed(
    state: &AppState,
    caller: &FeedCaller,
    key: Option<String>,
) -> Result<ObjectKey, Problem> {
    caller.require(Right::Upload)?;
    let key = key.ok_or_else(|| invalid_parameter("key is required"))?;
    let key = ObjectKey::parse(state.event_encoder.bucket().prefix(), &key)?;
    if *key.feed() == caller.feed {
        return Ok(key);
    }
    Err(Problem::new(ProblemKind::Forbidden, "key must belong to this feed"))
}

fn parse_part_number(text: &str) -> Result<u16, Problem> {
    let number = parse_digits(text).filter(|number| (1..=MAX_PARTS).contains(number));
    number.ok_or_else(|| invalid_parameter(format!("part numbers must be 1 to {MAX_PARTS}")))
}

fn parse_completed_parts(body: &Value) -> Result<RequestedParts, Problem> {
    let Some(Value::Array(parts)) = require_object(body)?.get("parts") else {
        return Err(invalid_body("parts must be an array"));
    };
    let parts = parts.iter().map(|part| {
        let number = part.get("PartNumber").and_then(Value::as_u64).and_then(|number| number.try_into().ok());
        let e_tag = part.get("ETag").and_then(Value::as_str);
        number.zip(e_tag.map(str::to_owned))
    });
    parts.collect::<Option<_>>().ok_or_else(|| invalid_body("each part must have a PartNumber and an ETag"))
}

/// Converts an invalid body to an invalid parameter, for fields that come in the query.
fn into_query_problem(mut problem: Problem) -> Problem {
    if problem.kind == ProblemKind::InvalidBody {
        problem.kind = ProblemKind::InvalidParameter;
    }
    problem
}

fn invalid_parameter(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::InvalidParameter, detail)
}

fn seconds_until(end: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(end.as_second() - now.as_second()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn completed_parts_have_a_number_and_an_e_tag() {
        let good = json!({"parts": [{"PartNumber": 1, "ETag": "\"a\""}, {"PartNumber": 2, "ETag": "b"}]});
        assert_eq!(parse_completed_parts(&good).unwrap(), [(1, "\"a\"".to_owned()), (2, "b".to_owned())]);
        for bad in [
            json!([]),
            json!({}),
            json!({"parts": {}}),
            json!({"parts": [1]}),
            json!({"parts": [{"PartNumber": 1}]}),
            json!({"parts": [{"PartNumber": "1", "ETag": "a"}]}),
            json!({"parts": [{"PartNumber": 65536, "ETag": "a"}]}),
        ] {
            assert!(parse_completed_parts(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn part_numbers_are_1_to_10000() {
        for (text, good) in
            [("1", true), ("10000", true), ("0", false), ("10001", false), ("", false), ("+1", false)]
        {
            assert_eq!(parse_part_number(text).is_ok(), good, "{text}");
        }
    }
}
