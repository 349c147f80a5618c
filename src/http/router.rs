//! The routes of the API. Each is registered once, together with its `OpenAPI` operation.

use axum::{
    Router,
    http::{HeaderValue, header},
    routing::{MethodRouter, any, get},
};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::OpenApi;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use super::{
    error,
    extract::reject_upload_method,
    openapi::ApiDoc,
    routes::{demo_page, docs, events, feeds, multipart, operations, photos, uploads},
    state::AppState,
};

/// Routes of the API, the documentation and the demo page. Does not include Socket.IO and the embedded S3.
pub fn router(state: AppState) -> Router {
    let (router, openapi) = api_router().split_for_parts();
    let mut router = router.merge(docs::routes(&openapi));
    if let Some(settings) = &state.demo_page {
        router = router.merge(demo_page::routes(settings));
    }
    router.fallback(error::not_found).method_not_allowed_fallback(error::method_not_allowed).with_state(state)
}

/// Routes of connections above the limit: the health checks.
pub fn overload_router(state: AppState) -> Router {
    Router::new()
        .route("/healthz", get(operations::get_liveness))
        .route("/readyz", get(operations::get_readiness))
        .fallback(error::overloaded)
        .with_state(state)
}

fn api_router() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(ApiDoc::openapi())
        .nest("/v1", v1_router())
        .routes(routes!(operations::get_liveness))
        .routes(routes!(operations::get_readiness))
        .routes(routes!(operations::get_metrics))
}

fn v1_router() -> OpenApiRouter<AppState> {
    // The responses depend on the token, which is not part of the URL, and contain signed URLs.
    let no_store =
        SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let router = OpenApiRouter::new()
        .routes(routes!(uploads::create_upload))
        .routes(routes!(photos::list_photos))
        .routes(routes!(feeds::get_feed))
        .routes(routes!(events::stream_events))
        .routes(routes!(multipart::get_upload_parameters))
        .routes(routes!(multipart::create_multipart))
        .routes(routes!(multipart::list_parts, multipart::abort_multipart))
        .routes(routes!(multipart::sign_parts))
        .routes(routes!(multipart::complete_multipart))
        .routes(routes!(multipart::sign_part));
    let uploads = [routes!(uploads::get_upload), routes!(uploads::renew_upload)];
    let router = with_rest_route(router, "/feeds/{feed}/uploads/{*name}", uploads, |methods| {
        methods.fallback(reject_upload_method)
    });
    let photos = [routes!(photos::delete_photo)];
    with_rest_route(router, "/feeds/{feed}/photos/{*name}", photos, |methods| methods)
        .route("/feeds/", any(error::empty_feed_id))
        .route("/feeds//{*rest}", any(error::empty_feed_id))
        .layer(no_store)
}

/// Adds `operations` under one `path` that ends in a parameter for the rest of the path. `OpenAPI` has no such
/// parameter: the document keeps the paths that the operations declare.
fn with_rest_route(
    router: OpenApiRouter<AppState>,
    path: &str,
    operations: impl IntoIterator<Item = UtoipaMethodRouter<AppState>>,
    finish: impl FnOnce(MethodRouter<AppState>) -> MethodRouter<AppState>,
) -> OpenApiRouter<AppState> {
    let mut methods = MethodRouter::new();
    let mut documented = OpenApiRouter::<AppState>::new();
    for operation in operations {
        methods = methods.merge(operation.2.clone());
        documented = documented.routes(operation);
    }
    let mut router = router.route(path, finish(methods));
    router.get_openapi_mut().merge(documented.into_openapi());
    router
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_openapi_3_1_and_has_the_declared_paths() {
        let document = serde_json::to_value(api_router().into_openapi()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let paths = document["paths"].as_object().unwrap();
        for path in ["/healthz", "/v1/feeds/{feed}/uploads/{name}/renew", "/v1/feeds/{feed}/photos/{name}"] {
            assert!(paths.contains_key(path), "{path} is missing in {paths:?}");
        }
        assert!(!paths.keys().any(|path| path.contains('*')), "{paths:?}");
    }
}
