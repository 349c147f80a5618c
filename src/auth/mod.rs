//! From a token to what its bearer may do: JSON Web Tokens, <https://www.rfc-editor.org/rfc/rfc7519>.

mod access;
mod gate;
mod jwks;
mod mint;
mod remote;

pub use access::{Access, Denied, Right, Rights, RightsError};
pub use gate::{AuthError, Gate, KeySources, LEEWAY, MAX_TOKEN_BYTES, Settings};
pub use mint::{MintError, Order, Scope, mint};
pub use remote::{ClientError, JwksUrl, JwksUrlError};
