//! Verification of access tokens.

use std::{collections::HashMap, fmt, time::Duration};

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, errors::ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    Access, Rights,
    jwks_client::{JwksClient, JwksClientError, JwksUnavailable, JwksUrl},
};
use crate::feed::FeedId;

/// Accepted clock skew between the server and the issuer.
pub const LEEWAY: Duration = Duration::from_secs(30);
/// Maximum length of a token; longer ones are rejected without parsing.
pub const MAX_TOKEN_BYTES: usize = 8192;
/// Maximum number of keys to try for a token without a `kid`.
const MAX_KEYS_TRIED: usize = 8;

/// Authenticates callers by their token, or as anonymous callers without one.
#[derive(Debug)]
pub struct Authenticator {
    /// `None` disables authentication: every caller has all rights.
    keys: Option<VerificationKeys>,
    anonymous_rights: Rights,
    audience: Option<String>,
    issuer: Option<String>,
}

/// Settings of authentication.
#[derive(Debug)]
pub struct AuthSettings {
    /// Sources of the verification keys; `None` disables authentication: every caller has all rights.
    pub keys: Option<KeySources>,
    /// Rights of callers without a token.
    pub anonymous: Rights,
    /// Required `aud` claim.
    pub audience: Option<String>,
    /// Required `iss` claim.
    pub issuer: Option<String>,
}

/// Sources of the verification keys. Each algorithm has exactly one source, so that a public key is never
/// used as a shared secret.
#[derive(Debug, Default)]
pub struct KeySources {
    /// Shared secret for HS256.
    pub secret: Option<SecretString>,
    /// Key set for RS256, ES256 and `EdDSA`.
    pub jwks: Option<JwksUrl>,
}

/// Authentication failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token was sent, and anonymous callers have no rights.
    #[error("no token was sent: use the Authorization header, the handshake's auth.token or ?token=")]
    Missing,
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The token is malformed, or its signature or claims are invalid.
    #[error("the token's signature or claims are invalid")]
    Invalid,
    /// The token's key is unknown, and the key set could not be fetched.
    #[error("failed to fetch the signing keys")]
    Unavailable,
}

struct VerificationKeys {
    secret: Option<DecodingKey>,
    jwks: Option<JwksClient>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: serde_json::Number,
    /// Some token libraries serialize an empty list of rights as null.
    feeds: Option<HashMap<String, Option<Rights>>>,
}

impl Authenticator {
    /// Creates an authenticator.
    ///
    /// # Errors
    /// When the HTTP client that fetches the key set can't be created.
    pub fn new(settings: AuthSettings) -> Result<Self, JwksClientError> {
        let AuthSettings { keys, anonymous, audience, issuer } = settings;
        let keys = keys.map(VerificationKeys::new).transpose()?;
        Ok(Self { keys, anonymous_rights: anonymous, audience, issuer })
    }

    /// Verifies `token` and returns the rights of its bearer.
    ///
    /// # Errors
    /// When the token is invalid, or it is missing and anonymous callers have no rights.
    pub async fn authenticate(&self, token: Option<&str>) -> Result<Access, AuthError> {
        let Some(keys) = &self.keys else { return Ok(Access::unrestricted()) };
        match token {
            Some(token) => access_from_claims(self.verify(keys, token).await?),
            None if self.anonymous_rights.is_empty() => Err(AuthError::Missing),
            None => Ok(Access::anonymous(self.anonymous_rights)),
        }
    }

    /// Fetches the key set if it is stale. Call it periodically, so that no request waits for a fetch.
    pub async fn refresh_keys(&self) {
        if let Some(jwks) = self.keys.as_ref().and_then(|keys| keys.jwks.as_ref()) {
            jwks.refresh_if_stale().await;
        }
    }

    async fn verify(&self, keys: &VerificationKeys, token: &str) -> Result<Claims, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Invalid)?;
        // Critical extensions must be understood (RFC 7515, section 4.1.11); none are supported.
        if header.crit.is_some() {
            return Err(AuthError::Invalid);
        }
        let validation = self.validation(header.alg);
        let mut failure = AuthError::Invalid;
        for key in keys.candidates(&header).await? {
            match jsonwebtoken::decode(token, &key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) if *error.kind() == ErrorKind::ExpiredSignature => failure = AuthError::Expired,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

impl VerificationKeys {
    fn new(sources: KeySources) -> Result<Self, JwksClientError> {
        let secret = sources.secret.map(|secret| DecodingKey::from_secret(secret.expose_secret().as_bytes()));
        Ok(Self { secret, jwks: sources.jwks.map(JwksClient::new).transpose()? })
    }

    /// The keys that may verify a token with this header, from the source of its algorithm.
    async fn candidates(&self, header: &Header) -> Result<Vec<DecodingKey>, AuthError> {
        match (header.alg, &self.jwks) {
            (Algorithm::HS256, _) => Ok(self.secret.iter().cloned().collect()),
            (Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA, Some(jwks)) => {
                let id = header.kid.as_deref();
                let keys = jwks.find_keys(header.alg, id).await?;
                Ok(keys.matching(header.alg, id).take(MAX_KEYS_TRIED).cloned().collect())
            }
            _ => Ok(Vec::new()),
        }
    }
}

fn access_from_claims(claims: Claims) -> Result<Access, AuthError> {
    let claimed = claims.feeds.unwrap_or_default();
    let all_feeds = claimed.get("*").copied().flatten().unwrap_or_default();
    let feeds = claimed.iter().filter_map(|(feed, rights)| Some((FeedId::parse(feed).ok()?, (*rights)?)));
    Ok(Access {
        expires_at: Some(parse_numeric_date(&claims.exp).ok_or(AuthError::Invalid)?),
        all_feeds,
        feeds: feeds.collect(),
        subject: claims.sub.filter(|subject| !subject.is_empty()),
        anonymous: false,
    })
}

/// Parses a `NumericDate` (RFC 7519), which may have a fraction.
fn parse_numeric_date(seconds: &serde_json::Number) -> Option<Timestamp> {
    let fraction = || Duration::try_from_secs_f64(seconds.as_f64()?).ok().map(|date| date.as_secs());
    let seconds = seconds.as_u64().or_else(fraction)?;
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

impl From<JwksUnavailable> for AuthError {
    fn from(_: JwksUnavailable) -> Self {
        Self::Unavailable
    }
}

impl fmt::Debug for VerificationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret, jwks } = self;
        f.debug_struct("VerificationKeys").field("secret", &secret.is_some()).field("jwks", jwks).finish()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::EncodingKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        auth::{Right, Scope, TokenSpec, sign_token},
        support::feed,
    };

    const SECRET: &str = "a secret of thirty-two bytes, or more";

    fn authenticator(audience: Option<&str>, issuer: Option<&str>) -> Authenticator {
        let secret = Some(SECRET.into());
        Authenticator::new(AuthSettings {
            keys: Some(KeySources { secret, jwks: None }),
            anonymous: Rights::default(),
            audience: audience.map(str::to_owned),
            issuer: issuer.map(str::to_owned),
        })
        .unwrap()
    }

    fn sign_claims(header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
    }

    #[tokio::test]
    async fn claims_are_validated_with_a_leeway_of_30_s() {
        let now = Timestamp::now().as_second();
        let (lenient, strict) =
            (authenticator(None, None), authenticator(Some("photos"), Some("https://issuer")));
        for (claims, expected_lenient, expected_strict) in [
            (json!({"exp": now + 60}), Ok(()), Err(AuthError::Invalid)),
            (json!({"exp": now + 60, "aud": "photos", "iss": "https://issuer"}), Ok(()), Ok(())),
            (json!({"exp": now + 60, "aud": ["x", "photos"], "iss": "https://issuer"}), Ok(()), Ok(())),
            (json!({"exp": now + 60, "aud": "photos"}), Ok(()), Err(AuthError::Invalid)),
            (json!({"exp": now + 60, "iss": "https://issuer"}), Ok(()), Err(AuthError::Invalid)),
            (json!({"exp": now + 60, "aud": "x", "iss": "https://issuer"}), Ok(()), Err(AuthError::Invalid)),
            (json!({"exp": now + 60, "aud": "photos", "iss": "x"}), Ok(()), Err(AuthError::Invalid)),
            (json!({"exp": now - 20, "aud": "photos", "iss": "https://issuer"}), Ok(()), Ok(())),
            (json!({"exp": now - 40}), Err(AuthError::Expired), Err(AuthError::Invalid)),
            (json!({"exp": now + 60, "nbf": now + 20}), Ok(()), Err(AuthError::Invalid)),
            (json!({"exp": now + 60, "nbf": now + 50}), Err(AuthError::Invalid), Err(AuthError::Invalid)),
            (json!({"exp": now + 60, "nbf": "soon"}), Err(AuthError::Invalid), Err(AuthError::Invalid)),
            (json!({"exp": (now as f64) + 60.5}), Ok(()), Err(AuthError::Invalid)),
            (json!({"exp": "tomorrow"}), Err(AuthError::Invalid), Err(AuthError::Invalid)),
            (json!({"exp": 1e30}), Err(AuthError::Invalid), Err(AuthError::Invalid)),
            (json!({}), Err(AuthError::Invalid), Err(AuthError::Invalid)),
            (json!({"exp": now + 60, "feeds": ["summer"]}), Err(AuthError::Invalid), Err(AuthError::Invalid)),
        ] {
            let token = sign_claims(&Header::default(), &claims);
            for (authenticator, expected) in [(&lenient, expected_lenient), (&strict, expected_strict)] {
                assert_eq!(authenticator.authenticate(Some(&token)).await.map(drop), expected, "{claims}");
            }
        }
    }

    #[tokio::test]
    async fn only_tokens_signed_with_the_secret_and_hs256_are_accepted() {
        let claims = json!({"exp": Timestamp::now().as_second() + 60});
        let valid = sign_claims(&Header::default(), &claims);
        let (message, signature) = valid.rsplit_once('.').unwrap();
        let body = message.split_once('.').unwrap().1;
        let critical = Header { crit: Some(vec!["b64".into()]), ..Header::default() };
        let none = "eyJhbGciOiJub25lIn0"; // {"alg":"none"}
        let other = EncodingKey::from_secret(b"another secret of thirty-two bytes");
        let authenticator = authenticator(None, None);
        assert!(authenticator.authenticate(Some(&valid)).await.is_ok());
        for (description, token) in [
            ("none, unsigned", format!("{none}.{body}.")),
            ("none, signed", format!("{none}.{body}.{signature}")),
            ("without a signature", format!("{message}.")),
            ("with two segments", message.to_owned()),
            (
                "signed with another secret",
                jsonwebtoken::encode(&Header::default(), &claims, &other).unwrap(),
            ),
            ("HS512", sign_claims(&Header::new(Algorithm::HS512), &claims)),
            ("with a critical extension", sign_claims(&critical, &claims)),
            (
                "too long",
                sign_claims(&Header::default(), &json!({"exp": 9e9, "x": "x".repeat(MAX_TOKEN_BYTES)})),
            ),
            ("empty", String::new()),
        ] {
            let error = authenticator.authenticate(Some(&token)).await.err();
            assert_eq!(error, Some(AuthError::Invalid), "a token {description}");
        }
    }

    #[tokio::test]
    async fn a_signed_token_grants_the_rights_of_its_spec() {
        let (summer, winter) = (feed("summer"), feed("winter"));
        let spec = TokenSpec {
            subject: Some("me".into()),
            scopes: vec![Scope::Feed(summer.clone())],
            rights: "view,upload".parse().unwrap(),
            ttl: Duration::from_mins(1),
            audience: Some("photos".into()),
            issuer: Some("https://issuer".into()),
        };
        let now = Timestamp::now();
        let token = sign_token(&SECRET.into(), &spec, now).unwrap();
        let access = authenticator(Some("photos"), Some("https://issuer"))
            .authenticate(Some(token.expose_secret()))
            .await
            .unwrap();
        assert_eq!(access.subject.as_deref(), Some("me"));
        assert_eq!(access.expires_at.unwrap().as_second(), now.as_second() + 60);
        for (feed, right, granted) in [
            (&summer, Right::View, true),
            (&summer, Right::Upload, true),
            (&summer, Right::Delete, false),
            (&winter, Right::View, false),
        ] {
            assert_eq!(access.check(feed, right).is_ok(), granted, "{right:?} on {}", feed.as_str());
        }
    }
}
