//! The base of the `OpenAPI` document: title, security schemes, the schema of problems. The operations add
//! themselves where they are registered as routes.

use utoipa::OpenApi;

use crate::protocol::Problem;

#[derive(OpenApi)]
#[openapi(
    info(title = "PhotoShare", description = "Real-time photo feeds on S3. Clients upload photos directly to the bucket; the server announces each stored or removed photo to all clients that watch the feed."),
    components(schemas(Problem)),
    modifiers(&TokenSecuritySchemes),
    security(("token" = []), ("tokenInQuery" = []), ()),
)]
pub(super) struct ApiDoc;

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
