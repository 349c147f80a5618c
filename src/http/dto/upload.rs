//! Grants of uploads: requests, responses and the status of an upload.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::fields::{BoundedText, ExpirySeconds, Sha256Base64, optional_positive_integer, positive_integer};
use crate::{
    bucket::{Grant, ObjectMetadata, UploadMethod},
    feed::{Cursor, FeedId, ObjectKey},
    http::{field_error::deserialize_value, upload_rules::UploadRules},
    protocol::Problem,
};

/// Maximum number of files in a batch.
pub(in crate::http) const MAX_FILES: usize = 100;

/// File name, at most 255 bytes of UTF-8.
pub(in crate::http) type Filename = BoundedText<255>;
/// Caption, at most 800 bytes of UTF-8.
pub(in crate::http) type Caption = BoundedText<800>;

/// One photo, or a batch.
#[derive(Deserialize, ToSchema)]
#[serde(untagged, try_from = "Map<String, Value>")]
pub(in crate::http) enum CreateUploadRequest {
    /// One photo.
    Single(UploadRequest),
    /// A batch.
    Batch(BatchRequest),
}

/// A batch of photos to upload.
#[derive(Deserialize, ToSchema)]
pub(in crate::http) struct BatchRequest {
    // An invalid entry is a problem of that entry, not of the batch: each is deserialized on its own.
    #[schema(value_type = Vec<UploadRequest>, max_items = 100)]
    pub(in crate::http) files: Vec<Value>,
}

/// A photo to upload.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(in crate::http) struct UploadRequest {
    /// Media type, one of those that the server accepts.
    #[schema(example = "image/jpeg")]
    content_type: String,
    /// Exact size in bytes. The maximum is set by the server.
    #[serde(deserialize_with = "positive_integer")]
    #[schema(minimum = 1)]
    size: u64,
    /// Method of the upload; default PUT.
    #[schema(value_type = Option<String>, pattern = "^(PUT|POST)$")]
    method: Option<UploadMethod>,
    /// File name, at most 255 bytes of UTF-8.
    #[schema(value_type = Option<String>, max_length = 255)]
    filename: Option<Filename>,
    /// Caption, at most 800 bytes of UTF-8.
    #[schema(value_type = Option<String>, max_length = 800)]
    caption: Option<Caption>,
    /// SHA-256 of the file, in base64.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$")]
    checksum_sha256: Option<Sha256Base64>,
    /// Lifetime of the grant in seconds; default 3600.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 604_800)]
    expires_in: Option<ExpirySeconds>,
}

/// A renewal of a grant. Type and size default to those of the first grant.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(in crate::http) struct RenewUploadRequest {
    /// Media type; must equal that of the first grant.
    content_type: Option<String>,
    /// Exact size in bytes.
    #[serde(default, deserialize_with = "optional_positive_integer")]
    #[schema(minimum = 1)]
    size: Option<u64>,
    /// Method of the upload; default PUT.
    #[schema(value_type = Option<String>, pattern = "^(PUT|POST)$")]
    method: Option<UploadMethod>,
    /// File name, at most 255 bytes of UTF-8.
    #[schema(value_type = Option<String>, max_length = 255)]
    filename: Option<Filename>,
    /// Caption, at most 800 bytes of UTF-8.
    #[schema(value_type = Option<String>, max_length = 800)]
    caption: Option<Caption>,
    /// SHA-256 of the file, in base64.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$")]
    checksum_sha256: Option<Sha256Base64>,
    /// Lifetime of the grant in seconds; default 3600.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 604_800)]
    expires_in: Option<ExpirySeconds>,
}

/// An upload that the rules accept.
pub(in crate::http) struct UploadSpec {
    pub(in crate::http) metadata: ObjectMetadata,
    pub(in crate::http) size: u64,
    pub(in crate::http) method: UploadMethod,
    /// Lifetime of the signed URL.
    pub(in crate::http) ttl: Duration,
}

/// A signed request for the upload of one photo, valid until `expiresAt`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct GrantResponse {
    #[schema(value_type = String)]
    feed: FeedId,
    /// The object key under which the photo will be stored.
    key: String,
    #[schema(value_type = String)]
    method: UploadMethod,
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
pub(in crate::http) struct FormFields(Vec<(String, String)>);

/// Response to a request for grants. Must not be converted to a `Value`, which would sort the form fields.
#[derive(Serialize)]
#[serde(untagged)]
pub(in crate::http) enum CreateUploadResponse {
    Single(GrantResponse),
    Batch(BatchResponse),
}

/// Response to a batch request.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct BatchResponse {
    /// A grant or a problem for each file, in the order of the request.
    pub(in crate::http) uploads: Vec<BatchEntry>,
}

/// A grant, or the problem that prevents it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum BatchEntry {
    Grant(GrantResponse),
    Problem(Problem),
}

/// Status of an upload.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct UploadStatus {
    pub(in crate::http) key: String,
    pub(in crate::http) state: UploadState,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(in crate::http) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(in crate::http) e_tag: Option<String>,
    /// Position of the photo's event in the feed's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub(in crate::http) cursor: Option<Cursor>,
}

/// Progress of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) enum UploadState {
    /// Granted, not stored yet.
    Issued,
    /// Stored in the bucket. Its event is not in the log yet, or no longer.
    Stored,
    /// Stored in the bucket, and its event is in the log.
    Announced,
}

impl TryFrom<Map<String, Value>> for CreateUploadRequest {
    type Error = String;

    fn try_from(body: Map<String, Value>) -> Result<Self, String> {
        let is_batch = body.get("files").is_some_and(|files| !files.is_null());
        let body = Value::Object(body);
        if is_batch {
            deserialize_value(body).map(Self::Batch)
        } else {
            deserialize_value(body).map(Self::Single)
        }
    }
}

impl CreateUploadRequest {
    /// The number of uploads that the request counts as against the rate limit: 1 to [`MAX_FILES`].
    pub(in crate::http) fn count_uploads(&self) -> usize {
        match self {
            Self::Single(_) => 1,
            Self::Batch(BatchRequest { files }) => files.len().clamp(1, MAX_FILES),
        }
    }
}

impl UploadRequest {
    /// Validates the request under `rules`. `subject` is stored as the uploader, if given.
    pub(in crate::http) fn validate(
        self,
        rules: &UploadRules,
        subject: Option<&str>,
    ) -> Result<UploadSpec, Problem> {
        let metadata = ObjectMetadata {
            content_type: rules.require_content_type("contentType", &self.content_type)?,
            checksum_sha256: self.checksum_sha256.map(Sha256Base64::into_string),
            user_metadata: build_user_metadata(self.filename, self.caption, subject),
        };
        Ok(UploadSpec {
            metadata,
            size: rules.require_size(self.size)?,
            method: self.method.unwrap_or(UploadMethod::Put),
            ttl: self.expires_in.unwrap_or_default().as_duration(),
        })
    }
}

impl RenewUploadRequest {
    /// Completes the renewal to a request, with the type and the size of the first grant as defaults. There is
    /// no default type if the server no longer accepts that of the first grant.
    pub(in crate::http) fn into_request(self, content_type: Option<String>, size: u64) -> UploadRequest {
        let Self { method, filename, caption, checksum_sha256, expires_in, .. } = self;
        UploadRequest {
            content_type: self.content_type.or(content_type).unwrap_or_default(),
            size: self.size.unwrap_or(size),
            method,
            filename,
            caption,
            checksum_sha256,
            expires_in,
        }
    }
}

/// The object's user-defined metadata: `filename`, `caption` and the uploader's `subject`. S3 does not store
/// empty metadata.
pub(in crate::http) fn build_user_metadata(
    filename: Option<Filename>,
    caption: Option<Caption>,
    subject: Option<&str>,
) -> BTreeMap<&'static str, String> {
    let fields = [
        ("filename", filename.map(BoundedText::into_string)),
        ("caption", caption.map(BoundedText::into_string)),
        ("uploaded-by", subject.map(str::to_owned)),
    ];
    let present = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    present.filter(|(_, value)| !value.is_empty()).collect()
}

impl GrantResponse {
    pub(in crate::http) fn new(key: &ObjectKey, grant: Grant) -> Self {
        Self {
            feed: key.feed().clone(),
            key: key.as_str().to_owned(),
            method: grant.method,
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
    use serde_json::json;

    use super::*;
    use crate::protocol::ProblemKind;

    fn validate(body: Value) -> Result<UploadSpec, Problem> {
        let rules =
            UploadRules { max_bytes: 1000, content_types: vec!["image/jpeg".into()], record_uploader: true };
        let request: UploadRequest =
            deserialize_value(body).map_err(|detail| Problem::new(ProblemKind::InvalidBody, detail))?;
        request.validate(&rules, Some("ann"))
    }

    #[test]
    fn a_request_is_parsed_with_defaults_and_its_metadata() {
        let upload =
            validate(json!({"contentType": "Image/JPEG; q=1", "size": 1e3, "caption": "é", "filename": ""}))
                .unwrap();
        assert_eq!((&*upload.metadata.content_type, upload.size), ("image/jpeg", 1000));
        assert_eq!(upload.ttl, Duration::from_hours(1));
        let names: Vec<_> = upload.metadata.user_metadata.keys().copied().collect();
        assert_eq!(names, ["caption", "uploaded-by"]);
    }

    #[test]
    fn errors_name_the_invalid_field() {
        for (field, value, kind) in [
            ("contentType", json!("image/svg+xml"), ProblemKind::UnsupportedContentType),
            ("contentType", json!(7), ProblemKind::InvalidBody),
            ("contentType", Value::Null, ProblemKind::InvalidBody),
            ("size", json!(1001), ProblemKind::TooLarge),
            ("size", json!(1e30), ProblemKind::TooLarge),
            ("size", json!(0), ProblemKind::InvalidBody),
            ("size", json!(-1), ProblemKind::InvalidBody),
            ("size", json!(1.5), ProblemKind::InvalidBody),
            ("expiresIn", json!(604_801), ProblemKind::InvalidBody),
            ("method", json!("DELETE"), ProblemKind::InvalidBody),
            ("filename", json!("x".repeat(256)), ProblemKind::InvalidBody),
            ("caption", json!("x".repeat(801)), ProblemKind::InvalidBody),
            ("checksumSha256", json!("AAAA"), ProblemKind::InvalidBody),
        ] {
            let mut body = json!({"contentType": "image/jpeg", "size": 1});
            body[field] = value;
            let problem = validate(body).err().unwrap();
            assert_eq!(problem.kind, kind, "{field}");
            assert!(problem.detail.contains(field), "{}", problem.detail);
        }
    }

    #[test]
    fn a_body_with_files_is_a_batch_and_one_with_null_is_not() {
        let count =
            |body: Value| deserialize_value::<CreateUploadRequest>(body).map(|body| body.count_uploads());
        let file = json!({"contentType": "image/jpeg", "size": 1, "files": null});
        assert_eq!(count(file.clone()), Ok(1));
        assert_eq!(count(json!({"files": [7, file]})), Ok(2));
        assert_eq!(count(json!({"files": []})), Ok(1));
        assert!(count(json!({"files": 7})).unwrap_err().contains("files"));
        assert!(count(json!([])).is_err());
    }

    #[test]
    fn form_fields_keep_their_order() {
        let fields = FormFields(vec![("key".into(), "k".into()), ("content-type".into(), "t".into())]);
        assert_eq!(serde_json::to_string(&fields).unwrap(), r#"{"key":"k","content-type":"t"}"#);
    }
}
