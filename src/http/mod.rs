//! The HTTP API.
//!
//! ```text
//! router ──► middleware   request id, span, panic handling, CORS, host check of `dev`
//!    │
//!    └─────► routes       one handler for each operation
//!               ├─ extract      authenticated caller, path, query, body; every rejection is a problem
//!               ├─ dto          request and response types, which are also the OpenAPI schemas
//!               ├─ state        what the handlers share
//!               └─ error        problems as responses
//! ```
//!
//! A route is registered once, in `router.rs`, together with its `OpenAPI` operation.

mod allowed_origins;
mod dto;
mod error;
mod extract;
mod field_error;
mod metrics_endpoint;
mod middleware;
mod openapi;
mod readiness;
mod router;
mod routes;
mod state;
mod upload_issuer;
mod upload_rules;

pub use allowed_origins::{AllowedOrigins, OriginError};
pub use metrics_endpoint::MetricsEndpoint;
pub use middleware::{AllowedHosts, with_middleware};
pub use readiness::{Readiness, ReadinessCheck};
pub use router::{overload_router, router};
pub use routes::{embedded_s3_router, socketio_router};
pub use state::{AppState, DemoPageSettings};
pub use upload_issuer::UploadIssuer;
pub use upload_rules::UploadRules;
