//! API documentation: `OpenAPI` generated from the handlers, `AsyncAPI` for Socket.IO and server-sent events,
//! and a page that renders both.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::get,
};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::{AppState, health, multipart, photos, sse, uploads};

/// Error response (RFC 9457).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProblemDetails {
    /// Stable identifier: `urn:photoshare:problem:<kebab-name>`.
    #[schema(pattern = "^urn:photoshare:problem:[a-z-]+$")]
    r#type: String,
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Human-readable explanation, for example which field or limit.
    detail: String,
    /// Seconds to wait before a retry.
    #[schema(nullable = false, minimum = 1)]
    retry_after: Option<u64>,
}

/// Result for one file of a batch.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "schema of a serialized batch entry")]
pub(super) enum BatchEntrySchema {
    /// The grant.
    Grant(uploads::GrantResponse),
    /// The reason why the upload was not granted.
    Problem(ProblemDetails),
}

/// A photo to upload.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "schema only; `UploadRequest::parse` validates field by field")]
pub(super) struct UploadRequestBody {
    /// Media type; the server accepts a configured list.
    #[schema(example = "image/jpeg")]
    content_type: String,
    /// Exact size in bytes; the server has a configured maximum.
    #[schema(minimum = 1)]
    size: u64,
    #[serde(flatten)]
    options: UploadOptions,
}

/// Changes to a renewed grant.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "schema only; parsed field by field")]
pub(super) struct RenewUploadRequestBody {
    /// Must equal that of the first grant.
    content_type: Option<String>,
    /// Exact size in bytes; default: that of the first grant.
    #[schema(minimum = 1)]
    size: Option<u64>,
    #[serde(flatten)]
    options: UploadOptions,
}

/// Optional fields of an upload.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "schema only; parsed field by field")]
struct UploadOptions {
    /// HTTP method of the upload: `PUT` (default) or `POST` with a form.
    #[schema(pattern = "^(PUT|POST)$")]
    method: Option<String>,
    /// File name, at most 255 bytes of UTF-8.
    #[schema(max_length = 255)]
    filename: Option<String>,
    /// Caption, at most 800 bytes of UTF-8.
    #[schema(max_length = 800)]
    caption: Option<String>,
    /// SHA-256 of the file, in base64.
    #[schema(pattern = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$")]
    checksum_sha256: Option<String>,
    /// Lifetime of the grant in seconds; default 3600.
    #[schema(minimum = 1, maximum = 604_800)]
    expires_in: Option<u64>,
}

/// A batch of photos to upload.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "schema only; parsed field by field")]
pub(super) struct BatchRequestBody {
    #[schema(max_items = 100)]
    files: Vec<UploadRequestBody>,
}

/// One photo, or a batch.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "schema only; parsed field by field")]
pub(super) enum CreateUploadRequestBody {
    /// One photo.
    Single(UploadRequestBody),
    /// A batch.
    Batch(BatchRequestBody),
}

/// A file to upload in parts.
#[derive(ToSchema)]
#[expect(dead_code, reason = "schema only; parsed field by field")]
pub(super) struct CreateMultipartRequestBody {
    #[schema(max_length = 255)]
    filename: Option<String>,
    /// Media type.
    r#type: String,
    /// Uppy's metadata; only `caption` is stored.
    metadata: Option<MultipartMetadata>,
}

/// Metadata that Uppy sends.
#[derive(ToSchema)]
#[expect(dead_code, reason = "schema only; parsed field by field")]
pub(super) struct MultipartMetadata {
    #[schema(max_length = 800)]
    caption: Option<String>,
}

/// The parts of the object, in ascending order of their numbers.
#[derive(ToSchema)]
#[expect(dead_code, reason = "schema only; parsed field by field")]
pub(super) struct CompleteMultipartRequestBody {
    #[schema(min_items = 1)]
    parts: Vec<CompletedPart>,
}

/// An uploaded part: its number and `ETag`.
#[derive(ToSchema)]
#[schema(rename_all = "PascalCase")]
#[expect(dead_code, reason = "schema only; parsed field by field")]
pub(super) struct CompletedPart {
    #[schema(minimum = 1, maximum = 10_000)]
    part_number: u16,
    #[schema(rename = "ETag")]
    e_tag: String,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "PhotoShare", description = "Real-time photo feeds on S3. Clients upload photos directly to the bucket; the server announces each stored or removed photo to all clients that watch the feed."),
    paths(
        uploads::create_upload, uploads::get_upload, uploads::renew_upload,
        photos::list_photos, photos::delete_photo, photos::get_feed, sse::stream_events,
        multipart::get_upload_parameters, multipart::create_multipart, multipart::list_parts,
        multipart::sign_part, multipart::sign_parts, multipart::complete_multipart, multipart::abort_multipart,
        health::get_liveness, health::get_readiness, health::get_metrics,
    ),
    modifiers(&TokenSecuritySchemes),
    security(("token" = []), ("tokenInQuery" = []), ()),
)]
struct ApiDoc;

/// Adds the security schemes: a bearer token in the header or in the query.
struct TokenSecuritySchemes;

impl utoipa::Modify for TokenSecuritySchemes {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let query = ApiKeyValue::with_description("token", "For EventSource, which can't set headers.");
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        components.add_security_scheme("tokenInQuery", SecurityScheme::ApiKey(ApiKey::Query(query)));
    }
}

const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// Routes of the documents and of the page that renders them.
pub(super) fn routes() -> Router<Arc<AppState>> {
    let json = "application/json";
    Router::new()
        .route("/openapi.json", get(async move || serve_file(json, openapi_json())))
        .route("/asyncapi.json", get(async move || serve_file(json, include_str!("assets/asyncapi.json"))))
        .route(
            "/docs",
            get(async || serve_file("text/html; charset=utf-8", include_str!("assets/docs.html"))),
        )
        .route(
            "/docs/docs.js",
            get(async || serve_file("text/javascript; charset=utf-8", include_str!("assets/docs.js"))),
        )
        .route(
            "/docs/docs.css",
            get(async || serve_file("text/css; charset=utf-8", include_str!("assets/docs.css"))),
        )
}

fn openapi_json() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| ApiDoc::openapi().to_json().expect("the document serializes to JSON"))
}

fn serve_file(content_type: &'static str, content: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer")),
    ];
    (headers, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_openapi_3_1_and_has_every_path_under_v1() {
        let document: serde_json::Value = serde_json::from_str(openapi_json()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let routes = include_str!("mod.rs").matches("\"/feeds/{feed}").count();
        let paths = document["paths"].as_object().unwrap().keys().filter(|path| path.starts_with("/v1/"));
        // One route serves two paths: an upload and its renewal.
        assert_eq!(paths.count(), routes + 1);
    }
}
