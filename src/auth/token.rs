//! Creates tokens for development and testing. An app's own server issues the tokens of its users.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::Rights;
use crate::feed::FeedId;

/// The feeds on which a token grants rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All feeds.
    AllFeeds,
    /// One feed.
    Feed(FeedId),
}

/// Claims of a token to create.
#[derive(Debug, Clone)]
pub struct TokenSpec {
    /// `sub` claim.
    pub subject: Option<String>,
    /// The feeds on which it grants the rights.
    pub scopes: Vec<Scope>,
    /// The granted rights.
    pub rights: Rights,
    /// Time until it expires.
    pub ttl: Duration,
    /// `aud` claim.
    pub audience: Option<String>,
    /// `iss` claim.
    pub issuer: Option<String>,
}

/// The token could not be created.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The expiry is out of range.
    #[error("the token's TTL is too long")]
    TooLong(#[source] jiff::Error),
    /// Signing failed.
    #[error("failed to sign the token")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct SignedClaims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    iat: i64,
    exp: i64,
    feeds: BTreeMap<&'a str, Vec<&'static str>>,
}

/// Creates a token for `spec`, signed with HS256.
///
/// # Errors
/// When the expiry is out of range.
pub fn sign_token(
    secret: &SecretString,
    spec: &TokenSpec,
    now: Timestamp,
) -> Result<SecretString, TokenError> {
    let expires_at = now.checked_add(spec.ttl).map_err(TokenError::TooLong)?;
    let rights: Vec<_> = spec.rights.names().collect();
    let claims = SignedClaims {
        sub: spec.subject.as_deref(),
        aud: spec.audience.as_deref(),
        iss: spec.issuer.as_deref(),
        iat: now.as_second(),
        exp: expires_at.as_second(),
        feeds: spec.scopes.iter().map(|scope| (scope.claim_key(), rights.clone())).collect(),
    };
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?.into())
}

impl Scope {
    fn claim_key(&self) -> &str {
        match self {
            Self::AllFeeds => "*",
            Self::Feed(feed) => feed.as_str(),
        }
    }
}
