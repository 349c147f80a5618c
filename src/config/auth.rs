//! Authentication: the keys that verify tokens, and the rights of clients without one.

use clap::Args;
use secrecy::SecretString;

use super::{
    setting::{Setting, parsed, text},
    validate::Validator,
};
use crate::auth::{AuthSettings, JwksUrl, KeySources, Rights};

const MIN_SECRET_BYTES: usize = 32;

/// Settings of authentication.
#[derive(Debug, Args)]
pub(super) struct AuthArgs {
    #[command(flatten)]
    pub(super) token_keys: TokenKeyArgs,
    /// URL of the JSON Web Key Set that verifies tokens (RS256, ES256, EdDSA): https://…; if unset, only
    /// AUTH_JWT_SECRET verifies tokens
    #[arg(long, env = "AUTH_JWKS_URL")]
    #[arg(value_name = "URL", value_parser = parsed(str::parse::<JwksUrl>))]
    pub(super) auth_jwks_url: Option<Setting<JwksUrl>>,
    /// Rights of clients without a token, comma-separated: view, upload, delete; if unset, none
    #[arg(long, env = "AUTH_ANONYMOUS")]
    #[arg(value_name = "RIGHTS", value_parser = parsed(parse_rights))]
    auth_anonymous: Option<Setting<Rights>>,
}

/// Settings that the server verifies tokens with, and `photoshare token` signs them with.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the names of the settings")]
pub(super) struct TokenKeyArgs {
    /// Secret that signs and verifies tokens (HS256), at least 32 bytes; if unset, only AUTH_JWKS_URL verifies
    /// tokens
    #[arg(long, env = "AUTH_JWT_SECRET", hide_env_values = true)]
    #[arg(value_name = "SECRET", value_parser = parsed(parse_secret))]
    pub(super) auth_jwt_secret: Option<Setting<SecretString>>,
    /// Required audience of tokens (claim "aud"); if unset, not checked
    #[arg(long, env = "AUTH_AUDIENCE")]
    #[arg(value_name = "AUDIENCE", value_parser = text::<String>())]
    pub(super) auth_audience: Option<Setting<String>>,
    /// Required issuer of tokens (claim "iss"); if unset, not checked
    #[arg(long, env = "AUTH_ISSUER")]
    #[arg(value_name = "ISSUER", value_parser = text::<String>())]
    pub(super) auth_issuer: Option<Setting<String>>,
}

impl AuthArgs {
    pub(super) fn validate(self, enabled: bool, validator: &mut Validator) -> AuthSettings {
        let Self { token_keys, auth_jwks_url, auth_anonymous } = self;
        AuthSettings {
            // Without authentication the keys are unused, so they may be invalid.
            keys: enabled.then(|| KeySources {
                secret: validator.optional(token_keys.auth_jwt_secret),
                jwks: validator.optional(auth_jwks_url),
            }),
            anonymous: validator.optional(auth_anonymous).unwrap_or_default(),
            audience: validator.optional(token_keys.auth_audience),
            issuer: validator.optional(token_keys.auth_issuer),
        }
    }
}

pub(super) fn parse_secret(text: &str) -> Result<SecretString, String> {
    match text.len() {
        MIN_SECRET_BYTES.. => Ok(text.into()),
        bytes => Err(format!("must have at least {MIN_SECRET_BYTES} bytes, this value has {bytes}")),
    }
}

pub(super) fn parse_rights(text: &str) -> Result<Rights, String> {
    text.parse().map_err(|error| format!("is invalid: {error}"))
}
