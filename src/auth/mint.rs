//! Makes tokens: for trying things, not for an app's users.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::Rights;
use crate::feed::FeedId;

/// Where a right is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// On every feed.
    Everywhere,
    /// On this one.
    Feed(FeedId),
}

/// What a token shall say.
#[derive(Debug, Clone)]
pub struct Order {
    /// Who it is for.
    pub subject: Option<String>,
    /// Where it gives its rights.
    pub scopes: Vec<Scope>,
    /// What it gives there.
    pub rights: Rights,
    /// How long it lives.
    pub life: Duration,
    /// Who it is meant for.
    pub audience: Option<String>,
    /// Who makes it.
    pub issuer: Option<String>,
}

/// The token can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// Its end is beyond what can be told.
    #[error("the token would live too long")]
    TooLong(#[source] jiff::Error),
    /// It could not be signed.
    #[error("the token could not be signed")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct Claims<'a> {
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

/// A token as ordered, signed with HS256.
///
/// # Errors
/// When it would live beyond all time.
pub fn mint(secret: &SecretString, order: &Order, now: Timestamp) -> Result<SecretString, MintError> {
    let end = now.checked_add(order.life).map_err(MintError::TooLong)?;
    let rights: Vec<_> = order.rights.names().collect();
    let claims = Claims {
        sub: order.subject.as_deref(),
        aud: order.audience.as_deref(),
        iss: order.issuer.as_deref(),
        iat: now.as_second(),
        exp: end.as_second(),
        feeds: order.scopes.iter().map(|scope| (scope.claim(), rights.clone())).collect(),
    };
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?.into())
}

impl Scope {
    fn claim(&self) -> &str {
        match self {
            Self::Everywhere => "*",
            Self::Feed(feed) => feed.as_str(),
        }
    }
}
