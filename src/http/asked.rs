//! What clients ask to upload, read and judged.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::UploadRules;
use crate::{
    bucket::{Declared, Method},
    wire::{Problem, ProblemKind},
};

const MAX_FILENAME: usize = 255;
const MAX_CAPTION: usize = 800;
/// S3's limit, seven days.
const MAX_EXPIRES_IN: u64 = 604_800;
pub(super) const DEFAULT_EXPIRES_IN: u64 = 3600;

/// What a client asks for.
pub(super) struct Asked {
    pub(super) declared: Declared,
    pub(super) size: u64,
    pub(super) method: Method,
    pub(super) life: Duration,
}

impl Asked {
    /// Reads the body of a request for a grant; the uploader is `subject`, where one is to be recorded.
    pub(super) fn read(
        body: &Map<String, Value>,
        rules: &UploadRules,
        subject: Option<&str>,
    ) -> Result<Self, Problem> {
        let content_type = content_type(text(body, "contentType")?, "contentType", rules)?;
        let size = size(body, rules)?;
        let life = whole(body, "expiresIn")?.unwrap_or(DEFAULT_EXPIRES_IN);
        if !(1..=MAX_EXPIRES_IN).contains(&life) {
            return Err(invalid(format!("expiresIn must be 1 to {MAX_EXPIRES_IN} seconds")));
        }
        let method = match text(body, "method")? {
            None | Some("PUT") => Method::Put,
            Some("POST") => Method::Post,
            Some(_) => return Err(invalid("method must be \"PUT\" or \"POST\"")),
        };
        let story = story(text(body, "filename")?, text(body, "caption")?, subject)?;
        let checksum_sha256 = checksum(text(body, "checksumSha256")?)?;
        let declared = Declared { content_type, checksum_sha256, story };
        Ok(Self { declared, size, method, life: Duration::from_secs(life) })
    }
}

/// What people typed, and who they are, by the names of the object's metadata.
pub(super) fn story(
    filename: Option<&str>,
    caption: Option<&str>,
    subject: Option<&str>,
) -> Result<BTreeMap<&'static str, String>, Problem> {
    let mut story = BTreeMap::new();
    for (name, text, limit) in [("filename", filename, MAX_FILENAME), ("caption", caption, MAX_CAPTION)] {
        // An empty one is as good as none, and S3 keeps no empty metadata.
        let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
        if text.len() > limit {
            let len = text.len();
            return Err(invalid(format!(
                "{name} may have at most {limit} bytes of UTF-8, this one has {len}"
            )));
        }
        story.insert(name, text.to_owned());
    }
    story.extend(subject.map(|subject| ("uploaded-by", subject.to_owned())));
    Ok(story)
}

/// The media type in lower case and without parameters, if it is one that is taken.
pub(super) fn content_type(given: Option<&str>, field: &str, rules: &UploadRules) -> Result<String, Problem> {
    let given = given.ok_or_else(|| invalid(format!("{field} must be given")))?;
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // A picture that can run scripts is never taken, whatever the configuration says.
    if essence != "image/svg+xml" && rules.content_types.contains(&essence) {
        return Ok(essence);
    }
    let detail = format!("{field} must be one of {}", rules.content_types.join(", "));
    Err(Problem::new(ProblemKind::UnsupportedContentType, detail))
}

fn size(body: &Map<String, Value>, rules: &UploadRules) -> Result<u64, Problem> {
    match whole(body, "size")? {
        None => Err(invalid("size must be given, in bytes")),
        Some(0) => Err(invalid("size must be at least 1 byte")),
        Some(size) if size > rules.max_bytes => {
            let detail = format!("size may be at most {} bytes, this is {}", rules.max_bytes, body["size"]);
            Err(Problem::new(ProblemKind::TooLarge, detail))
        }
        Some(size) => Ok(size),
    }
}

fn checksum(given: Option<&str>) -> Result<Option<String>, Problem> {
    let Some(given) = given else { return Ok(None) };
    match BASE64_STANDARD.decode(given) {
        Ok(bytes) if bytes.len() == 32 => Ok(Some(given.to_owned())),
        _ => Err(invalid("checksumSha256 must be the base64 of 32 bytes")),
    }
}

pub(super) fn text<'a>(body: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, Problem> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(format!("{field} must be a string"))),
    }
}

fn whole(body: &Map<String, Value>, field: &str) -> Result<Option<u64>, Problem> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().or_else(|| value.as_f64().and_then(whole_float));
            let number = number.ok_or_else(|| invalid(format!("{field} must be a whole number, 0 or more")));
            number.map(Some)
        }
    }
}

/// JSON has one sort of numbers: `1e12` is as whole as `1000000000000`. What no `u64` can hold is more
/// than any limit.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole, not negative; it saturates"
)]
fn whole_float(number: f64) -> Option<u64> {
    (number >= 0.0 && number.fract() == 0.0).then_some(number as u64)
}

/// A number in digits alone: `parse` would also take a sign.
pub(super) fn digits(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

pub(super) fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::InvalidBody, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<Asked, Problem> {
        let rules =
            UploadRules { max_bytes: 1000, content_types: vec!["image/jpeg".into()], record_uploader: true };
        Asked::read(body.as_object().unwrap(), &rules, Some("ann"))
    }

    #[test]
    fn what_is_asked_is_read_to_the_letter() {
        let asked = read(&json!({"contentType": "Image/JPEG; q=1", "size": 1000, "caption": "é"})).unwrap();
        assert_eq!((&*asked.declared.content_type, asked.size), ("image/jpeg", 1000));
        assert_eq!(asked.life, Duration::from_hours(1));
        assert_eq!(asked.declared.story.keys().copied().collect::<Vec<_>>(), ["caption", "uploaded-by"]);
    }

    #[test]
    fn refusals_name_the_field() {
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
            let problem = read(&body).err().unwrap();
            assert_eq!(problem.kind, kind, "{field}");
            assert!(problem.detail.contains(field), "{}", problem.detail);
        }
    }
}
