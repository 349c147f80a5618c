//! Access check that AWS performs and s3s does not: the signature must cover all `x-amz-` headers.

use percent_encoding::percent_decode_str;
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    s3_error,
};

/// Accepts only signed requests. Rejects presigned requests with unsigned `x-amz-` headers, which could turn the
/// granted upload into another operation.
pub(super) struct RequireSignedHeaders;

#[async_trait::async_trait]
impl S3Access for RequireSignedHeaders {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "a signature is required"));
        }
        let Some(signed) = signed_headers(context.uri().query().unwrap_or_default()) else { return Ok(()) };
        let is_covered = |name: &str| {
            !name.starts_with("x-amz-")
                || name == "x-amz-content-sha256"
                || signed.split(';').any(|header| header == name)
        };
        match context.headers().keys().find(|name| !is_covered(name.as_str())) {
            Some(_) => Err(s3_error!(
                AccessDenied,
                "there were headers present in the request which were not signed"
            )),
            None => Ok(()),
        }
    }
}

/// The names of the signed headers, separated by semicolons; `None` if the URL is not presigned.
fn signed_headers(query: &str) -> Option<String> {
    let signed = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-SignedHeaders="))?;
    Some(percent_decode_str(signed).decode_utf8_lossy().into_owned())
}
