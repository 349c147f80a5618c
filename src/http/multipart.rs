//! Uploads in the shape that Uppy's S3 plugin and Companion speak: a form for small files, parts for
//! large ones. <https://uppy.io/docs/aws-s3/>

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Json as Body, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Context,
    api::{CompleteRequest, MultipartRequest, ProblemDetails},
    asked::{DEFAULT_EXPIRES_IN, content_type, digits, invalid, story, text},
    extract::{Caller, Json, Params, PartNumber, UploadId, UploaderOfOne},
    uploads::{Fields, new_key, object},
};
use crate::{
    auth::Right,
    bucket::{Declared, MultipartUpload, Named},
    feed::ObjectKey,
    wire::{Problem, ProblemKind},
};

/// S3's limit.
const MAX_PARTS: u16 = 10_000;
/// Parts that are signed in one request.
const MAX_BATCH: usize = 100;
const LIFE: Duration = Duration::from_secs(DEFAULT_EXPIRES_IN);

/// What the file is. Uppy sends more metadata than is kept.
#[derive(Deserialize)]
pub(super) struct FormParams {
    /// What the file is called.
    filename: Option<String>,
    /// Its media type.
    r#type: Option<String>,
    /// What the uploader wrote to it.
    #[serde(rename = "metadata[caption]")]
    caption: Option<String>,
}

/// A form to send the file with.
#[derive(Serialize, ToSchema)]
pub(super) struct Form {
    method: &'static str,
    url: String,
    /// To be sent in this order, the file last.
    #[schema(value_type = BTreeMap<String, String>)]
    fields: Fields,
    /// Seconds.
    expires: u64,
}

/// The key that the upload is stored under.
#[derive(Deserialize)]
pub(super) struct KeyParam {
    key: Option<String>,
}

/// The parts to sign.
#[derive(Deserialize)]
pub(super) struct BatchParams {
    key: Option<String>,
    /// Numbers with commas between them.
    #[serde(rename = "partNumbers")]
    part_numbers: Option<String>,
}

/// An upload in parts that has begun.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Created {
    key: String,
    upload_id: String,
    bucket: String,
}

/// A part that is there.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StoredPart {
    part_number: u16,
    #[serde(rename = "ETag")]
    e_tag: String,
    size: u64,
}

/// Where to send one part.
#[derive(Serialize, ToSchema)]
pub(super) struct SignedPart {
    url: String,
    /// Seconds.
    expires: u64,
}

/// Where to send several.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignedParts {
    #[schema(value_type = BTreeMap<String, String>)]
    presigned_urls: BTreeMap<u16, String>,
}

/// The object that was made of the parts.
#[derive(Serialize, ToSchema)]
pub(super) struct Completed {
    location: String,
    key: String,
    bucket: String,
}

/// Nothing to say.
#[derive(Serialize, ToSchema)]
pub(super) struct Aborted {}

/// Grants the upload of a file by form.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/s3/params",
    tag = "uppy",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64), ("filename" = Option<String>, Query, description = "What the file is called", max_length = 255), ("type" = String, Query, description = "Its media type"), ("metadata[caption]" = Option<String>, Query, description = "What the uploader wrote to it", max_length = 800)),
    responses((status = 200, description = "A form", body = Form), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn params(
    State(context): State<Arc<Context>>,
    UploaderOfOne(caller): UploaderOfOne,
    Params(params): Params<FormParams>,
) -> Result<Body<Form>, Problem> {
    caller.check(Right::Upload)?;
    let typed = [params.r#type.as_deref(), params.filename.as_deref(), params.caption.as_deref()];
    let declared = declared(&context, &caller, typed).map_err(in_query)?;
    let (bucket, now) = (context.showcase.bucket(), Timestamp::now());
    let key = new_key(&context, &caller, &declared.content_type, 0)?;
    let sizes = 1..=context.uploads.max_bytes;
    let grant = bucket.grant_post(&caller.base, &key, &declared, sizes, LIFE, now);
    let grant = grant.map_err(|error| in_query(error.into()))?;
    let fields = grant.fields.unwrap_or_default().into();
    Ok(Body(Form { method: "POST", url: grant.url, fields, expires: seconds(grant.expires_at, now) }))
}

/// Begins an upload in parts.
#[utoipa::path(
    post,
    path = "/v1/feeds/{feed}/s3/multipart",
    tag = "uppy",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64)),
    request_body = MultipartRequest,
    responses((status = 200, description = "The upload", body = Created), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn create(
    State(context): State<Arc<Context>>,
    UploaderOfOne(caller): UploaderOfOne,
    body: Result<Json, Problem>,
) -> Result<Body<Created>, Problem> {
    caller.check(Right::Upload)?;
    let Json(body) = body?;
    let body = object(&body)?;
    let caption = match body.get("metadata") {
        None | Some(Value::Null) => None,
        Some(Value::Object(metadata)) => text(metadata, "caption")?,
        Some(_) => return Err(invalid("metadata must be an object")),
    };
    let declared = declared(&context, &caller, [text(body, "type")?, text(body, "filename")?, caption])?;
    let bucket = context.showcase.bucket();
    let key = new_key(&context, &caller, &declared.content_type, 0)?;
    let upload_id = bucket.create_multipart(&key, &declared).await?;
    Ok(Body(Created { key: key.as_str().to_owned(), upload_id, bucket: bucket.name().to_owned() }))
}

/// Lists the parts that are there.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/s3/multipart/{uploadId}",
    tag = "uppy",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64), ("uploadId" = String, Path, description = "S3's name for the upload", min_length = 1), ("key" = String, Query, description = "The key that the upload is stored under")),
    responses((status = 200, description = "The parts", body = Vec<StoredPart>), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn parts(
    State(context): State<Arc<Context>>,
    caller: Caller,
    UploadId(id): UploadId,
    Params(KeyParam { key }): Params<KeyParam>,
) -> Result<Body<Vec<StoredPart>>, Problem> {
    let key = own_key(&context, &caller, key)?;
    let parts = context.showcase.bucket().parts(MultipartUpload { key: &key, id: &id }).await?;
    let parts = parts.into_iter().map(|part| StoredPart {
        part_number: part.number,
        e_tag: part.e_tag,
        size: part.size,
    });
    Ok(Body(parts.collect()))
}

/// Signs the upload of a part.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/s3/multipart/{uploadId}/{partNumber}",
    tag = "uppy",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64), ("uploadId" = String, Path, description = "S3's name for the upload", min_length = 1), ("partNumber" = u16, Path, description = "From 1", minimum = 1, maximum = 10000), ("key" = String, Query, description = "The key that the upload is stored under")),
    responses((status = 200, description = "Where to PUT it", body = SignedPart), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn sign(
    State(context): State<Arc<Context>>,
    caller: Caller,
    UploadId(id): UploadId,
    PartNumber(number): PartNumber,
    Params(KeyParam { key }): Params<KeyParam>,
) -> Result<Body<SignedPart>, Problem> {
    let key = own_key(&context, &caller, key)?;
    let (upload, now) = (MultipartUpload { key: &key, id: &id }, Timestamp::now());
    let number = part_number(&number)?;
    let signed = context.showcase.bucket().part_url(&caller.base, upload, number, LIFE, now);
    Ok(Body(SignedPart { url: signed.url, expires: seconds(signed.expires_at, now) }))
}

/// Signs the upload of several parts.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/s3/multipart/{uploadId}/batch",
    tag = "uppy",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64), ("uploadId" = String, Path, description = "S3's name for the upload", min_length = 1), ("key" = String, Query, description = "The key that the upload is stored under"), ("partNumbers" = String, Query, description = "Numbers with commas between them", pattern = "^([1-9][0-9]{0,3}|10000)(,([1-9][0-9]{0,3}|10000))*$")),
    responses((status = 200, description = "Where to PUT them", body = SignedParts), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn sign_batch(
    State(context): State<Arc<Context>>,
    caller: Caller,
    UploadId(id): UploadId,
    Params(BatchParams { key, part_numbers }): Params<BatchParams>,
) -> Result<Body<SignedParts>, Problem> {
    let key = own_key(&context, &caller, key)?;
    let numbers: Vec<_> = part_numbers.as_deref().unwrap_or_default().split(',').collect();
    if numbers.len() > MAX_BATCH {
        return Err(parameter(format!("partNumbers may name at most {MAX_BATCH} parts")));
    }
    let (upload, now) = (MultipartUpload { key: &key, id: &id }, Timestamp::now());
    let bucket = context.showcase.bucket();
    let urls = numbers.into_iter().map(|number| {
        let number = part_number(number)?;
        Ok((number, bucket.part_url(&caller.base, upload, number, LIFE, now).url))
    });
    Ok(Body(SignedParts { presigned_urls: urls.collect::<Result<_, Problem>>()? }))
}

/// Makes one object of the parts.
#[utoipa::path(
    post,
    path = "/v1/feeds/{feed}/s3/multipart/{uploadId}/complete",
    tag = "uppy",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64), ("uploadId" = String, Path, description = "S3's name for the upload", min_length = 1), ("key" = String, Query, description = "The key that the upload is stored under")),
    request_body = CompleteRequest,
    responses((status = 200, description = "The object", body = Completed), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn complete(
    State(context): State<Arc<Context>>,
    caller: Caller,
    UploadId(id): UploadId,
    Params(KeyParam { key }): Params<KeyParam>,
    body: Result<Json, Problem>,
) -> Result<Body<Completed>, Problem> {
    let key = own_key(&context, &caller, key)?;
    let Json(body) = body?;
    let named = named_parts(&body)?;
    let bucket = context.showcase.bucket();
    let upload = MultipartUpload { key: &key, id: &id };
    bucket.complete_multipart(upload, &named, context.uploads.max_bytes).await?;
    Ok(Body(Completed {
        location: bucket.plain_url(&caller.base, &key),
        key: key.as_str().to_owned(),
        bucket: bucket.name().to_owned(),
    }))
}

/// Ends an upload and drops its parts.
#[utoipa::path(
    delete,
    path = "/v1/feeds/{feed}/s3/multipart/{uploadId}",
    tag = "uppy",
    params(("feed" = String, Path, description = "The feed id", min_length = 1, max_length = 64), ("uploadId" = String, Path, description = "S3's name for the upload", min_length = 1), ("key" = String, Query, description = "The key that the upload is stored under")),
    responses((status = 200, description = "It is gone", body = Aborted), (status = "default", description = "A problem", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn abort(
    State(context): State<Arc<Context>>,
    caller: Caller,
    UploadId(id): UploadId,
    Params(KeyParam { key }): Params<KeyParam>,
) -> Result<Body<Aborted>, Problem> {
    let key = own_key(&context, &caller, key)?;
    context.showcase.bucket().abort_multipart(MultipartUpload { key: &key, id: &id }).await?;
    Ok(Body(Aborted {}))
}

/// What is typed: the type, the file's name, the caption.
fn declared(context: &Context, caller: &Caller, typed: [Option<&str>; 3]) -> Result<Declared, Problem> {
    let [kind, filename, caption] = typed;
    Ok(Declared {
        content_type: content_type(kind, "type", &context.uploads)?,
        checksum_sha256: None,
        story: story(filename, caption, caller.uploader(context))?,
    })
}

/// The key in the query, if it is one of the caller's feed.
fn own_key(context: &Context, caller: &Caller, key: Option<String>) -> Result<ObjectKey, Problem> {
    caller.check(Right::Upload)?;
    let key = key.ok_or_else(|| parameter("key must be given"))?;
    let key = ObjectKey::parse(context.showcase.bucket().prefix(), &key)?;
    if *key.feed() == caller.feed {
        return Ok(key);
    }
    Err(Problem::new(ProblemKind::Forbidden, "key must be one of this feed"))
}

fn part_number(text: &str) -> Result<u16, Problem> {
    let number = digits(text).filter(|number| (1..=MAX_PARTS).contains(number));
    number.ok_or_else(|| parameter(format!("part numbers must be 1 to {MAX_PARTS}")))
}

fn named_parts(body: &Value) -> Result<Named, Problem> {
    let Some(Value::Array(parts)) = object(body)?.get("parts") else {
        return Err(invalid("parts must be an array"));
    };
    let named = parts.iter().map(|part| {
        let number = part.get("PartNumber").and_then(Value::as_u64).and_then(|number| number.try_into().ok());
        let e_tag = part.get("ETag").and_then(Value::as_str);
        number.zip(e_tag.map(str::to_owned))
    });
    named.collect::<Option<_>>().ok_or_else(|| invalid("each of parts must have a PartNumber and an ETag"))
}

/// The same mistake, where what is declared comes in the query.
fn in_query(mut problem: Problem) -> Problem {
    if problem.kind == ProblemKind::InvalidBody {
        problem.kind = ProblemKind::InvalidParameter;
    }
    problem
}

fn parameter(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::InvalidParameter, detail)
}

fn seconds(end: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(end.as_second() - now.as_second()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_named_by_number_and_tag() {
        let good = json!({"parts": [{"PartNumber": 1, "ETag": "\"a\""}, {"PartNumber": 2, "ETag": "b"}]});
        assert_eq!(named_parts(&good).unwrap(), [(1, "\"a\"".to_owned()), (2, "b".to_owned())]);
        for bad in [
            json!([]),
            json!({}),
            json!({"parts": {}}),
            json!({"parts": [1]}),
            json!({"parts": [{"PartNumber": 1}]}),
            json!({"parts": [{"PartNumber": "1", "ETag": "a"}]}),
            json!({"parts": [{"PartNumber": 65536, "ETag": "a"}]}),
        ] {
            assert!(named_parts(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn part_numbers_are_those_of_s3() {
        for (text, good) in
            [("1", true), ("10000", true), ("0", false), ("10001", false), ("", false), ("+1", false)]
        {
            assert_eq!(part_number(text).is_ok(), good, "{text}");
        }
    }
}
