//! What AWS refuses and s3s lets pass: headers of S3's own that a signed URL does not cover.

use percent_encoding::percent_decode_str;
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    s3_error,
};

/// Takes only requests that are signed; of those by URL, only what the signature covers. A header may turn
/// the upload that was granted into another operation.
pub(super) struct SignedHeaders;

#[async_trait::async_trait]
impl S3Access for SignedHeaders {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "a signature is required"));
        }
        let Some(signed) = signed_headers(context.uri().query().unwrap_or_default()) else { return Ok(()) };
        let covered = |name: &str| {
            !name.starts_with("x-amz-")
                || name == "x-amz-content-sha256"
                || signed.split(';').any(|one| one == name)
        };
        match context.headers().keys().find(|name| !covered(name.as_str())) {
            Some(_) => Err(s3_error!(
                AccessDenied,
                "there were headers present in the request which were not signed"
            )),
            None => Ok(()),
        }
    }
}

/// The names of the headers that a signed URL covers, if the request is by one.
fn signed_headers(query: &str) -> Option<String> {
    let signed = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-SignedHeaders="))?;
    Some(percent_decode_str(signed).decode_utf8_lossy().into_owned())
}
