//! The contract in machine-readable form: `OpenAPI` from the handlers themselves, `AsyncAPI` for what is
//! told over Socket.IO and server-sent events, and a page that shows both.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
    routing::get,
};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::{Context, multipart, ops, photos, sse, uploads};

/// The answer to everything that does not work out: RFC 9457.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProblemDetails {
    /// Stable: `urn:photoshare:problem:<kebab-name>`.
    #[schema(pattern = "^urn:photoshare:problem:[a-z-]+$")]
    r#type: String,
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// For people: which field, which limit.
    detail: String,
    /// Seconds to wait, where waiting helps.
    #[schema(nullable = false, minimum = 1)]
    retry_after: Option<u64>,
}

/// What a pack holds for each of its files.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the shape of an entry on the wire")]
pub(super) enum GrantedOrProblem {
    /// The grant.
    Granted(uploads::Granted),
    /// Why there is none.
    Problem(ProblemDetails),
}

/// What a client wants to upload.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "what `Asked::read` reads, field by field, to name each mistake")]
pub(super) struct GrantRequest {
    /// One of the types that the server takes.
    #[schema(example = "image/jpeg")]
    content_type: String,
    /// Bytes, exactly; how many are too many is the server's to say.
    #[schema(minimum = 1)]
    size: u64,
    #[serde(flatten)]
    wishes: Wishes,
}

/// What a client says to upload it after all: type and size are known already.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read field by field")]
pub(super) struct RenewalRequest {
    /// That of the first grant.
    content_type: Option<String>,
    /// Bytes, exactly; without it, those of the first grant.
    #[schema(minimum = 1)]
    size: Option<u64>,
    #[serde(flatten)]
    wishes: Wishes,
}

/// What a client may say about an upload.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read field by field")]
struct Wishes {
    /// How the photo is sent.
    #[schema(pattern = "^(PUT|POST)$")]
    method: Option<String>,
    /// At most 255 bytes of UTF-8.
    #[schema(max_length = 255)]
    filename: Option<String>,
    /// At most 800 bytes of UTF-8.
    #[schema(max_length = 800)]
    caption: Option<String>,
    /// Base64 of the file's SHA-256.
    #[schema(pattern = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$")]
    checksum_sha256: Option<String>,
    /// Seconds.
    #[schema(minimum = 1, maximum = 604_800)]
    expires_in: Option<u64>,
}

/// Several at once.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "read field by field")]
pub(super) struct PackRequest {
    #[schema(max_items = 100)]
    files: Vec<GrantRequest>,
}

/// One file, or several.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read field by field")]
pub(super) enum UploadRequest {
    /// One.
    One(GrantRequest),
    /// Several.
    Pack(PackRequest),
}

/// The file that is to be sent in parts.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read field by field")]
pub(super) struct MultipartRequest {
    #[schema(max_length = 255)]
    filename: Option<String>,
    /// Its media type.
    r#type: String,
    /// Of Uppy's metadata, `caption` is kept.
    metadata: Option<MultipartMetadata>,
}

/// What the uploader wrote to the photo.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read field by field")]
pub(super) struct MultipartMetadata {
    #[schema(max_length = 800)]
    caption: Option<String>,
}

/// The parts of the object, in ascending order.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read field by field")]
pub(super) struct CompleteRequest {
    #[schema(min_items = 1)]
    parts: Vec<NamedPart>,
}

/// A part by its number and tag.
#[derive(ToSchema)]
#[schema(rename_all = "PascalCase")]
#[expect(dead_code, reason = "read field by field")]
pub(super) struct NamedPart {
    #[schema(minimum = 1, maximum = 10_000)]
    part_number: u16,
    #[schema(rename = "ETag")]
    e_tag: String,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "PhotoShare", description = "Photo feeds over S3. Photos go straight to the bucket; what S3 says is told."),
    paths(
        uploads::grant, uploads::state, uploads::renew,
        photos::list, photos::remove, photos::feed, sse::stream,
        multipart::params, multipart::create, multipart::parts, multipart::sign, multipart::sign_batch,
        multipart::complete, multipart::abort,
        ops::healthz, ops::readyz, ops::metrics,
    ),
    modifiers(&Tokens),
    security(("token" = []), ("tokenInQuery" = []), ()),
)]
struct ApiDoc;

/// The ways in which a token comes.
struct Tokens;

impl utoipa::Modify for Tokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let query = ApiKeyValue::with_description("token", "For EventSource, which can't set headers.");
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        components.add_security_scheme("tokenInQuery", SecurityScheme::ApiKey(ApiKey::Query(query)));
    }
}

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// The documents and their page.
pub(super) fn routes() -> Router<Arc<Context>> {
    let json = "application/json";
    Router::new()
        .route("/openapi.json", get(async move || file(json, openapi())))
        .route("/asyncapi.json", get(async move || file(json, include_str!("assets/asyncapi.json"))))
        .route("/docs", get(async || file("text/html; charset=utf-8", include_str!("assets/docs.html"))))
        .route(
            "/docs/docs.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("assets/docs.js"))),
        )
        .route(
            "/docs/docs.css",
            get(async || file("text/css; charset=utf-8", include_str!("assets/docs.css"))),
        )
}

fn openapi() -> &'static str {
    static WRITTEN: OnceLock<String> = OnceLock::new();
    WRITTEN.get_or_init(|| ApiDoc::openapi().to_json().expect("a document of texts is always JSON"))
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer")),
    ];
    (headers, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_openapi_3_1_and_has_every_path_below_v1() {
        let document: serde_json::Value = serde_json::from_str(openapi()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let routes = include_str!("mod.rs").matches("\"/feeds/{feed}").count();
        let paths = document["paths"].as_object().unwrap().keys().filter(|path| path.starts_with("/v1/"));
        // One route stands for two paths: the state of an upload, and its renewal.
        assert_eq!(paths.count(), routes + 1);
    }
}
