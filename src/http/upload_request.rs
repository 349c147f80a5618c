//! Requests for upload grants: parsing and validation.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::UploadRules;
use crate::{
    bucket::{ObjectMetadata, UploadMethod},
    protocol::{Problem, ProblemKind},
};

const MAX_FILENAME_BYTES: usize = 255;
const MAX_CAPTION_BYTES: usize = 800;
/// Maximum lifetime of a signed URL in S3, in seconds (seven days).
const MAX_EXPIRES_IN_SECS: u64 = 604_800;
pub(super) const DEFAULT_EXPIRES_IN_SECS: u64 = 3600;

/// A validated request to upload one photo.
pub(super) struct UploadRequest {
    pub(super) metadata: ObjectMetadata,
    pub(super) size: u64,
    pub(super) method: UploadMethod,
    /// Lifetime of the signed URL.
    pub(super) ttl: Duration,
}

impl UploadRequest {
    /// Parses the body of a request for one upload. `subject` is stored as the uploader, if given.
    pub(super) fn parse(
        body: &Map<String, Value>,
        rules: &UploadRules,
        subject: Option<&str>,
    ) -> Result<Self, Problem> {
        let content_type = parse_content_type(string_field(body, "contentType")?, "contentType", rules)?;
        let size = parse_size(body, rules)?;
        let ttl_secs = integer_field(body, "expiresIn")?.unwrap_or(DEFAULT_EXPIRES_IN_SECS);
        if !(1..=MAX_EXPIRES_IN_SECS).contains(&ttl_secs) {
            return Err(invalid_body(format!("expiresIn must be 1 to {MAX_EXPIRES_IN_SECS} seconds")));
        }
        let method = match string_field(body, "method")? {
            None | Some("PUT") => UploadMethod::Put,
            Some("POST") => UploadMethod::Post,
            Some(_) => return Err(invalid_body("method must be \"PUT\" or \"POST\"")),
        };
        let user_metadata =
            parse_user_metadata(string_field(body, "filename")?, string_field(body, "caption")?, subject)?;
        let checksum_sha256 = parse_checksum(string_field(body, "checksumSha256")?)?;
        let metadata = ObjectMetadata { content_type, checksum_sha256, user_metadata };
        Ok(Self { metadata, size, method, ttl: Duration::from_secs(ttl_secs) })
    }
}

/// The object's user-defined metadata: `filename`, `caption` and the uploader's `subject`.
pub(super) fn parse_user_metadata(
    filename: Option<&str>,
    caption: Option<&str>,
    subject: Option<&str>,
) -> Result<BTreeMap<&'static str, String>, Problem> {
    let limits = [("filename", filename, MAX_FILENAME_BYTES), ("caption", caption, MAX_CAPTION_BYTES)];
    let mut metadata = BTreeMap::new();
    for (name, value, max_bytes) in limits {
        // S3 does not store empty metadata.
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        if value.len() > max_bytes {
            let len = value.len();
            return Err(invalid_body(format!(
                "{name} must be at most {max_bytes} bytes of UTF-8, got {len}"
            )));
        }
        metadata.insert(name, value.to_owned());
    }
    metadata.extend(subject.map(|subject| ("uploaded-by", subject.to_owned())));
    Ok(metadata)
}

/// Parses an accepted media type. Returns it in lower case and without parameters.
pub(super) fn parse_content_type(
    value: Option<&str>,
    field: &str,
    rules: &UploadRules,
) -> Result<String, Problem> {
    let value = value.ok_or_else(|| invalid_body(format!("{field} is required")))?;
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // SVG can contain scripts, so it is rejected even if the configuration lists it.
    if essence != "image/svg+xml" && rules.content_types.contains(&essence) {
        return Ok(essence);
    }
    let detail = format!("{field} must be one of {}", rules.content_types.join(", "));
    Err(Problem::new(ProblemKind::UnsupportedContentType, detail))
}

fn parse_size(body: &Map<String, Value>, rules: &UploadRules) -> Result<u64, Problem> {
    match integer_field(body, "size")? {
        None => Err(invalid_body("size is required, in bytes")),
        Some(0) => Err(invalid_body("size must be at least 1 byte")),
        Some(size) if size > rules.max_bytes => {
            let detail = format!("size must be at most {} bytes, got {}", rules.max_bytes, body["size"]);
            Err(Problem::new(ProblemKind::TooLarge, detail))
        }
        Some(size) => Ok(size),
    }
}

fn parse_checksum(value: Option<&str>) -> Result<Option<String>, Problem> {
    let Some(value) = value else { return Ok(None) };
    match BASE64_STANDARD.decode(value) {
        Ok(bytes) if bytes.len() == 32 => Ok(Some(value.to_owned())),
        _ => Err(invalid_body("checksumSha256 must be 32 bytes in base64")),
    }
}

/// An optional string in a JSON object; `null` counts as absent.
pub(super) fn string_field<'a>(
    body: &'a Map<String, Value>,
    field: &str,
) -> Result<Option<&'a str>, Problem> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid_body(format!("{field} must be a string"))),
    }
}

/// An optional non-negative integer in a JSON object; `null` counts as absent.
fn integer_field(body: &Map<String, Value>, field: &str) -> Result<Option<u64>, Problem> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().or_else(|| value.as_f64().and_then(integral_float));
            let number =
                number.ok_or_else(|| invalid_body(format!("{field} must be a non-negative integer")));
            number.map(Some)
        }
    }
}

/// JSON has a single number type: `1e12` is the integer `1000000000000`. A number beyond `u64` saturates,
/// which exceeds every limit.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "integral and not negative; saturates"
)]
fn integral_float(number: f64) -> Option<u64> {
    (number >= 0.0 && number.fract() == 0.0).then_some(number as u64)
}

/// Parses a number that consists of digits only. `str::parse` would also accept a sign.
pub(super) fn parse_digits(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

pub(super) fn invalid_body(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::InvalidBody, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<UploadRequest, Problem> {
        let rules =
            UploadRules { max_bytes: 1000, content_types: vec!["image/jpeg".into()], record_uploader: true };
        UploadRequest::parse(body.as_object().unwrap(), &rules, Some("ann"))
    }

    #[test]
    fn a_request_is_parsed_with_defaults_and_its_metadata() {
        let request =
            parse(&json!({"contentType": "Image/JPEG; q=1", "size": 1000, "caption": "é"})).unwrap();
        assert_eq!((&*request.metadata.content_type, request.size), ("image/jpeg", 1000));
        assert_eq!(request.ttl, Duration::from_hours(1));
        assert_eq!(
            request.metadata.user_metadata.keys().copied().collect::<Vec<_>>(),
            ["caption", "uploaded-by"]
        );
    }

    #[test]
    fn errors_name_the_invalid_field() {
        for (field, value, kind) in [
            ("contentType", json!("image/svg+xml"), ProblemKind::UnsupportedContentType),
            ("contentType", json!(7), ProblemKind::InvalidBody),
            ("size", json!(1001), ProblemKind::TooLarge),
            ("size", json!(1e30), ProblemKind::TooLarge),
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
            let problem = parse(&body).err().unwrap();
            assert_eq!(problem.kind, kind, "{field}");
            assert!(problem.detail.contains(field), "{}", problem.detail);
        }
    }
}
