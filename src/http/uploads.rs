//! Handlers of uploads: grant, renew, report the status.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    AppState,
    api_docs::{BatchEntrySchema, CreateUploadRequestBody, ProblemDetails, RenewUploadRequestBody},
    extract::{
        BatchUploader, FeedCaller, JsonBody, OptionalJsonBody, RenewedUploadName, UploadName, Uploader,
    },
    upload_request::{UploadRequest, invalid_body},
};
use crate::{
    auth::Right,
    bucket::{Grant, StoredObject, UploadMethod},
    feed::{Cursor, EventKind, FeedId, ObjectKey, issue_name, name_matches_type, verify_issued_name},
    log::Entry,
    protocol::{Problem, ProblemKind},
};

/// Maximum number of files in a batch.
const MAX_FILES: usize = 100;

/// A signed request for the upload of one photo, valid until `expiresAt`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct GrantResponse {
    #[schema(value_type = String)]
    feed: FeedId,
    /// The object key under which the photo will be stored.
    key: String,
    method: &'static str,
    /// URL to send the photo to.
    url: String,
    /// Headers to send verbatim.
    headers: BTreeMap<String, String>,
    /// For the method POST: form fields to send in this order, followed by the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>, nullable = false)]
    fields: Option<FormFields>,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Form fields, serialized as an object in the order in which they must be sent.
#[derive(Debug)]
pub(super) struct FormFields(Vec<(String, String)>);

/// Response to a batch request.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchResponse {
    /// A grant or a problem for each file, in the order of the request.
    #[schema(value_type = Vec<BatchEntrySchema>)]
    uploads: Vec<BatchEntry>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum BatchEntry {
    Grant(GrantResponse),
    Problem(Problem),
}

/// Response to a request for grants. Must not be converted to a `Value`, which would sort the form fields.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum CreateUploadResponse {
    Single(GrantResponse),
    Batch(BatchResponse),
}

/// Status of an upload.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UploadStatus {
    key: String,
    state: UploadState,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    e_tag: Option<String>,
    /// Position of the photo's event in the feed's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    cursor: Option<Cursor>,
}

/// Progress of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum UploadState {
    /// Granted, not stored yet.
    Issued,
    /// Stored in the bucket. Its event is not in the log yet, or no longer.
    Stored,
    /// Stored in the bucket, and its event is in the log.
    Announced,
}

/// Grants the upload of one photo, or of a batch of up to 100.
#[utoipa::path(
    post,
    path = "/v1/feeds/{feed}/uploads",
    tag = "uploads",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64)),
    request_body = CreateUploadRequestBody,
    responses((status = 201, description = "The grant", body = GrantResponse), (status = 200, description = "A grant or a problem for each file of the batch, in order", body = BatchResponse), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn create_upload(
    State(state): State<Arc<AppState>>,
    BatchUploader(caller): BatchUploader,
    body: Result<JsonBody, Problem>,
) -> Result<(StatusCode, Json<CreateUploadResponse>), Problem> {
    state.limiter.check_grants(&caller.rate_limit_key, body.as_ref().map_or(1, count_files))?;
    caller.require(Right::Upload)?;
    let JsonBody(body) = body?;
    let body = require_object(&body)?;
    match body.get("files") {
        None | Some(Value::Null) => {
            let grant = grant_upload(&state, &caller, body)?;
            Ok((StatusCode::CREATED, Json(CreateUploadResponse::Single(grant))))
        }
        Some(Value::Array(files)) if files.len() > MAX_FILES => {
            Err(invalid_body(format!("files must have at most {MAX_FILES} entries, got {}", files.len())))
        }
        Some(Value::Array(files)) => {
            let uploads = files.iter().map(|file| grant_batch_entry(&state, &caller, file)).collect();
            Ok((StatusCode::OK, Json(CreateUploadResponse::Batch(BatchResponse { uploads }))))
        }
        Some(_) => Err(invalid_body("files must be an array")),
    }
}

/// Returns the status of an upload.
#[utoipa::path(
    get,
    path = "/v1/feeds/{feed}/uploads/{name}",
    tag = "uploads",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64), ("name" = String, Path, description = "Photo name: the part of the key after the feed id and its slash. Slashes in it may be literal or encoded as %2F", min_length = 1)),
    responses((status = 200, description = "The status", body = UploadStatus), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn get_upload(
    State(state): State<Arc<AppState>>,
    UploadName(name): UploadName,
    caller: FeedCaller,
) -> Result<Json<UploadStatus>, Problem> {
    caller.require(Right::Upload)?;
    let bucket = state.event_encoder.bucket();
    let key = ObjectKey::build(bucket.prefix(), &caller.feed, &name)?;
    // Read the bucket before the log: an event appended between the two reads is then reported as announced.
    let stored = bucket.head_object(&key).await?;
    let log = state.hub.log();
    let mut last = log.find_latest(&key, None).await?;
    if stored.is_none() && last.is_some() && log.find_latest(&key, Some(EventKind::Uploaded)).await?.is_none()
    {
        // A deletion without an upload: the granted upload may still arrive.
        last = None;
    }
    let issued =
        verify_issued_name(&state.upload_name_secret, &caller.feed, &name, Timestamp::now()).is_some();
    upload_status(&key, stored, last.as_deref(), issued).map(Json)
}

/// Renews the grant of an upload, under the same key.
#[utoipa::path(
    post,
    path = "/v1/feeds/{feed}/uploads/{name}/renew",
    tag = "uploads",
    params(("feed" = String, Path, description = "Feed id", min_length = 1, max_length = 64), ("name" = String, Path, description = "Photo name: the part of the key after the feed id and its slash. Slashes in it may be literal or encoded as %2F", min_length = 1)),
    request_body(content = Option<RenewUploadRequestBody>, description = "As for the first grant. The type and the size default to those of the first grant"),
    responses((status = 201, description = "The renewed grant", body = GrantResponse), (status = "default", description = "Error", body = ProblemDetails, content_type = "application/problem+json")),
)]
pub(super) async fn renew_upload(
    State(state): State<Arc<AppState>>,
    RenewedUploadName(name): RenewedUploadName,
    Uploader(caller): Uploader,
    body: Result<OptionalJsonBody, Problem>,
) -> Result<(StatusCode, Json<GrantResponse>), Problem> {
    caller.require(Right::Upload)?;
    let OptionalJsonBody(body) = body?;
    let bucket = state.event_encoder.bucket();
    let key = ObjectKey::build(bucket.prefix(), &caller.feed, &name)?;
    let Some(size) = verify_issued_name(&state.upload_name_secret, &caller.feed, &name, Timestamp::now())
    else {
        return Err(Problem::new(ProblemKind::NotFound, "no upload with this name was granted"));
    };
    let mut fields = issued_fields(&state.upload_rules, &name, size);
    if let Some(JsonBody(body)) = &body {
        let sent = require_object(body)?.iter().filter(|(_, value)| !value.is_null());
        fields.extend(sent.map(|(field, value)| (field.clone(), value.clone())));
    }
    let request = parse_request(&state, &caller, &fields)?;
    if !name_matches_type(&name, &request.metadata.content_type) {
        return Err(invalid_body("contentType must equal that of the first grant"));
    }
    // A renewal must not restore a removed photo. A deletion without an upload does not prevent the renewal.
    let arrived = state.hub.log().find_latest(&key, Some(EventKind::Uploaded)).await?.is_some();
    if arrived || bucket.head_object(&key).await?.is_some() {
        return Err(Problem::new(
            ProblemKind::AlreadyStored,
            "this upload is already stored; no further action is needed",
        ));
    }
    Ok((StatusCode::CREATED, Json(sign_grant(&state, &caller, &key, &request)?)))
}

/// The fields of the first grant that the name encodes: the type by its extension, and the size.
fn issued_fields(rules: &super::UploadRules, name: &str, size: u64) -> Map<String, Value> {
    let content_type = rules.content_types.iter().find(|content_type| name_matches_type(name, content_type));
    let fields = [
        ("contentType", content_type.map_or(Value::Null, |content_type| content_type.as_str().into())),
        ("size", size.into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn grant_batch_entry(state: &AppState, caller: &FeedCaller, file: &Value) -> BatchEntry {
    let file = file.as_object().ok_or_else(|| invalid_body("each entry of files must be an object"));
    match file.and_then(|file| grant_upload(state, caller, file)) {
        Ok(grant) => BatchEntry::Grant(grant),
        Err(problem) => {
            problem.log_cause();
            BatchEntry::Problem(problem)
        }
    }
}

/// The number of uploads that a body counts as: at least 1, at most [`MAX_FILES`].
fn count_files(JsonBody(body): &JsonBody) -> usize {
    body.get("files").and_then(Value::as_array).map_or(1, |files| files.len().clamp(1, MAX_FILES))
}

fn grant_upload(
    state: &AppState,
    caller: &FeedCaller,
    body: &Map<String, Value>,
) -> Result<GrantResponse, Problem> {
    let request = parse_request(state, caller, body)?;
    let key = issue_key(state, caller, &request.metadata.content_type, request.size)?;
    sign_grant(state, caller, &key, &request)
}

fn parse_request(
    state: &AppState,
    caller: &FeedCaller,
    body: &Map<String, Value>,
) -> Result<UploadRequest, Problem> {
    UploadRequest::parse(body, &state.upload_rules, caller.recorded_uploader(state))
}

/// Issues a new, unique object key in the caller's feed.
pub(super) fn issue_key(
    state: &AppState,
    caller: &FeedCaller,
    content_type: &str,
    size: u64,
) -> Result<ObjectKey, Problem> {
    let name = issue_name(&state.upload_name_secret, &caller.feed, content_type, size, Timestamp::now());
    Ok(ObjectKey::build(state.event_encoder.bucket().prefix(), &caller.feed, &name)?)
}

fn sign_grant(
    state: &AppState,
    caller: &FeedCaller,
    key: &ObjectKey,
    request: &UploadRequest,
) -> Result<GrantResponse, Problem> {
    let (bucket, now) = (state.event_encoder.bucket(), Timestamp::now());
    let UploadRequest { metadata, size, method, ttl } = request;
    let grant = match method {
        UploadMethod::Put => bucket.grant_put(&caller.bucket_url, key, metadata, *size, *ttl, now),
        UploadMethod::Post => bucket.grant_post(&caller.bucket_url, key, metadata, *size..=*size, *ttl, now),
    };
    Ok(GrantResponse::new(key, grant?))
}

/// Derives the status of an upload from the bucket, the last log entry of the key, and whether the server
/// issued its name.
fn upload_status(
    key: &ObjectKey,
    stored: Option<StoredObject>,
    last: Option<&Entry>,
    issued: bool,
) -> Result<UploadStatus, Problem> {
    let announced_at = last.filter(|entry| entry.event.kind == EventKind::Uploaded).map(|entry| entry.cursor);
    let state = match (&stored, last) {
        (Some(_), _) if announced_at.is_some() => UploadState::Announced,
        (Some(_), _) => UploadState::Stored,
        (None, None) if issued => UploadState::Issued,
        // The state `issued` would invite the client to upload a removed photo again.
        (None, Some(_)) => return Err(Problem::new(ProblemKind::NotFound, "the photo was removed")),
        (None, None) => {
            return Err(Problem::new(ProblemKind::NotFound, "no upload with this name is known"));
        }
    };
    Ok(UploadStatus {
        key: key.as_str().to_owned(),
        state,
        size: stored.as_ref().and_then(|stored| stored.size),
        e_tag: stored.and_then(|stored| stored.e_tag),
        cursor: announced_at.filter(|_| state == UploadState::Announced),
    })
}

pub(super) fn require_object(body: &Value) -> Result<&Map<String, Value>, Problem> {
    body.as_object().ok_or_else(|| invalid_body("the body must be an object"))
}

impl GrantResponse {
    fn new(key: &ObjectKey, grant: Grant) -> Self {
        Self {
            feed: key.feed().clone(),
            key: key.as_str().to_owned(),
            method: match grant.method {
                UploadMethod::Put => "PUT",
                UploadMethod::Post => "POST",
            },
            url: grant.url,
            headers: grant.headers,
            fields: grant.fields.map(FormFields),
            expires_at: grant.expires_at,
        }
    }
}

impl From<Vec<(String, String)>> for FormFields {
    fn from(fields: Vec<(String, String)>) -> Self {
        Self(fields)
    }
}

impl Serialize for FormFields {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::feed::{Epoch, FeedEvent, KeyPrefix, Photo, Tag};

    fn entry(kind: EventKind) -> Arc<Entry> {
        let key = ObjectKey::parse(&KeyPrefix::default(), "summer/a.jpg").unwrap();
        let event_name = kind.name().to_owned();
        let photo = Photo::default();
        let event = FeedEvent { kind, key, event_name, event_time: None, sequencer: None, photo };
        let cursor = Cursor::start(Epoch::random());
        Arc::new(Entry { cursor, previous_tag: Tag::default(), event })
    }

    #[test]
    fn the_status_derives_from_the_bucket_the_log_and_the_name() {
        let key = ObjectKey::parse(&KeyPrefix::default(), "summer/a.jpg").unwrap();
        let (uploaded, removed) = (entry(EventKind::Uploaded), entry(EventKind::Removed));
        for (stored, last, issued, expected) in [
            (true, Some(&uploaded), true, Some(UploadState::Announced)),
            (true, Some(&uploaded), false, Some(UploadState::Announced)),
            (true, None, true, Some(UploadState::Stored)),
            (true, Some(&removed), true, Some(UploadState::Stored)),
            (false, None, true, Some(UploadState::Issued)),
            (false, None, false, None),
            (false, Some(&removed), true, None),
            (false, Some(&uploaded), true, None),
        ] {
            let stored = stored.then(|| StoredObject { size: Some(1), e_tag: Some("e".into()) });
            let status = upload_status(&key, stored, last.map(|entry| &**entry), issued);
            assert_eq!(status.as_ref().ok().map(|status| status.state), expected);
            let has_cursor = status.is_ok_and(|status| status.cursor.is_some());
            assert_eq!(has_cursor, expected == Some(UploadState::Announced));
        }
    }

    #[test]
    fn form_fields_keep_their_order() {
        let fields = FormFields(vec![("key".into(), "k".into()), ("content-type".into(), "t".into())]);
        assert_eq!(serde_json::to_string(&fields).unwrap(), r#"{"key":"k","content-type":"t"}"#);
    }
}
