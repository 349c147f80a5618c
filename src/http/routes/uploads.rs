//! Handlers of uploads: grant, renew, report the status.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};

use crate::{
    auth::Right,
    bucket::{Bucket, StoredObject},
    feed::{EventKind, ObjectKey, name_matches_type},
    http::{
        dto::{
            BatchEntry, BatchRequest, BatchResponse, CreateUploadRequest, CreateUploadResponse, FeedPath,
            GrantResponse, MAX_FILES, PhotoPath, RenewUploadRequest, UploadRequest, UploadState,
            UploadStatus,
        },
        extract::{
            BatchUploader, FeedCaller, JsonBody, OptionalJsonBody, RenewedUploadName, UploadName, Uploader,
        },
        field_error::deserialize_value,
        upload_issuer::UploadIssuer,
    },
    hub::Hub,
    limit::RateLimits,
    log::Entry,
    protocol::{Problem, ProblemKind},
};

/// Grants the upload of one photo, or of a batch of up to 100.
#[utoipa::path(
    post,
    path = "/feeds/{feed}/uploads",
    tag = "uploads",
    params(FeedPath),
    request_body = CreateUploadRequest,
    responses(
        (status = 201, description = "The grant", body = GrantResponse),
        (status = 200, description = "A grant or a problem for each file of the batch, in order", body = BatchResponse),
        Problem,
    ),
)]
pub(in crate::http) async fn create_upload(
    State(issuer): State<UploadIssuer>,
    State(rate_limits): State<Arc<RateLimits>>,
    BatchUploader(caller): BatchUploader,
    body: Result<JsonBody<CreateUploadRequest>, Problem>,
) -> Result<(StatusCode, Json<CreateUploadResponse>), Problem> {
    let count = body.as_ref().map_or(1, |JsonBody(request)| request.count_uploads());
    rate_limits.check_grants(&caller.rate_limit_key, count)?;
    caller.require(Right::Upload)?;
    match body?.0 {
        CreateUploadRequest::Single(request) => {
            let grant = grant_upload(&issuer, &caller, request)?;
            Ok((StatusCode::CREATED, Json(CreateUploadResponse::Single(grant))))
        }
        CreateUploadRequest::Batch(BatchRequest { files }) if files.len() > MAX_FILES => {
            Err(invalid_body(format!("files must have at most {MAX_FILES} entries, got {}", files.len())))
        }
        CreateUploadRequest::Batch(BatchRequest { files }) => {
            let uploads = files.into_iter().map(|file| grant_batch_entry(&issuer, &caller, file)).collect();
            Ok((StatusCode::OK, Json(CreateUploadResponse::Batch(BatchResponse { uploads }))))
        }
    }
}

/// Returns the status of an upload.
#[utoipa::path(
    get,
    path = "/feeds/{feed}/uploads/{name}",
    tag = "uploads",
    params(FeedPath, PhotoPath),
    responses((status = 200, description = "The status", body = UploadStatus), Problem),
)]
pub(in crate::http) async fn get_upload(
    State(issuer): State<UploadIssuer>,
    State(bucket): State<Bucket>,
    State(hub): State<Arc<Hub>>,
    UploadName(name): UploadName,
    caller: FeedCaller,
) -> Result<Json<UploadStatus>, Problem> {
    caller.require(Right::Upload)?;
    let key = issuer.build_key(&caller.feed, &name)?;
    // Read the bucket before the log: an event appended between the two reads is then reported as announced.
    let stored = bucket.head_object(&key).await?;
    let log = hub.log();
    let mut last = log.find_latest(&key, None).await?;
    if stored.is_none() && last.is_some() && log.find_latest(&key, Some(EventKind::Uploaded)).await?.is_none()
    {
        // A deletion without an upload: the granted upload may still arrive.
        last = None;
    }
    let issued = issuer.read_issued_name(&caller.feed, &name).is_some();
    upload_status(&key, stored, last.as_deref(), issued).map(Json)
}

/// Renews the grant of an upload, under the same key.
#[utoipa::path(
    post,
    path = "/feeds/{feed}/uploads/{name}/renew",
    tag = "uploads",
    params(FeedPath, PhotoPath),
    request_body(content = Option<RenewUploadRequest>, description = "As for the first grant. The type and the size default to those of the first grant"),
    responses((status = 201, description = "The renewed grant", body = GrantResponse), Problem),
)]
pub(in crate::http) async fn renew_upload(
    State(issuer): State<UploadIssuer>,
    State(bucket): State<Bucket>,
    State(hub): State<Arc<Hub>>,
    RenewedUploadName(name): RenewedUploadName,
    Uploader(caller): Uploader,
    body: Result<OptionalJsonBody<RenewUploadRequest>, Problem>,
) -> Result<(StatusCode, Json<GrantResponse>), Problem> {
    caller.require(Right::Upload)?;
    let request = body?.0.unwrap_or_default();
    let key = issuer.build_key(&caller.feed, &name)?;
    let Some(issued) = issuer.read_issued_name(&caller.feed, &name) else {
        return Err(Problem::new(ProblemKind::NotFound, "no upload with this name was granted"));
    };
    let request = request.into_request(issued.content_type, issued.size);
    let upload = request.validate(issuer.rules(), caller.recorded_uploader(issuer.rules()))?;
    if !name_matches_type(&name, &upload.metadata.content_type) {
        return Err(invalid_body("contentType must equal that of the first grant"));
    }
    // A renewal must not restore a removed photo. A deletion without an upload does not prevent the renewal.
    let arrived = hub.log().find_latest(&key, Some(EventKind::Uploaded)).await?.is_some();
    if arrived || bucket.head_object(&key).await?.is_some() {
        return Err(Problem::new(
            ProblemKind::AlreadyStored,
            "this upload is already stored; no further action is needed",
        ));
    }
    let grant = issuer.sign_grant(&caller.bucket_url, &key, &upload)?;
    Ok((StatusCode::CREATED, Json(GrantResponse::new(&key, grant))))
}

fn grant_batch_entry(issuer: &UploadIssuer, caller: &FeedCaller, file: serde_json::Value) -> BatchEntry {
    let request = deserialize_value(file).map_err(invalid_body);
    match request.and_then(|request| grant_upload(issuer, caller, request)) {
        Ok(grant) => BatchEntry::Grant(grant),
        Err(problem) => {
            problem.log_cause();
            BatchEntry::Problem(problem)
        }
    }
}

fn grant_upload(
    issuer: &UploadIssuer,
    caller: &FeedCaller,
    request: UploadRequest,
) -> Result<GrantResponse, Problem> {
    let rules = issuer.rules();
    let upload = request.validate(rules, caller.recorded_uploader(rules))?;
    let key = issuer.issue_key(&caller.feed, &upload.metadata.content_type, upload.size)?;
    let grant = issuer.sign_grant(&caller.bucket_url, &key, &upload)?;
    Ok(GrantResponse::new(&key, grant))
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

fn invalid_body(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::InvalidBody, detail)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::feed::{Cursor, Epoch, FeedEvent, KeyPrefix, Photo, Tag};

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
}
