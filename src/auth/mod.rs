//! Authentication and authorization by JSON Web Tokens: <https://www.rfc-editor.org/rfc/rfc7519>.

mod access;
mod authenticator;
mod jwks;
mod jwks_client;
mod token;

pub use access::{Access, AccessDenied, Right, Rights, UnknownRight};
pub use authenticator::{AuthError, AuthSettings, Authenticator, KeySources, LEEWAY, MAX_TOKEN_BYTES};
pub use jwks_client::{JwksClientError, JwksUrl, JwksUrlError};
pub use token::{Scope, TokenError, TokenSpec, sign_token};
