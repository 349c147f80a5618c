//! Checks tokens.

use std::{collections::HashMap, fmt, time::Duration};

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, errors::ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    Access, Rights,
    remote::{ClientError, JwksUrl, RemoteKeys, Unreachable},
};
use crate::feed::FeedId;

/// Clocks may differ by this.
pub const LEEWAY: Duration = Duration::from_secs(30);
/// A longer token is refused unread.
pub const MAX_TOKEN_BYTES: usize = 8192;
/// Keys that a token without a `kid` is tried with.
const MAX_TRIES: usize = 8;

/// Lets people in, by their token or without one.
#[derive(Debug)]
pub struct Gate {
    /// `None` lets everybody do everything.
    keys: Option<Keys>,
    anonymous: Rights,
    audience: Option<String>,
    issuer: Option<String>,
}

/// What decides who gets in.
#[derive(Debug)]
pub struct Settings {
    /// Where keys come from; `None` lets everybody do everything.
    pub keys: Option<KeySources>,
    /// What those without a token may do.
    pub anonymous: Rights,
    /// Who the token must be meant for.
    pub audience: Option<String>,
    /// Who must have made the token.
    pub issuer: Option<String>,
}

/// Where the keys come from that tokens are checked with. Each algorithm has one source and no other:
/// or a public key could be taken for a shared secret.
#[derive(Debug, Default)]
pub struct KeySources {
    /// HS256.
    pub secret: Option<SecretString>,
    /// RS256, ES256 and `EdDSA`.
    pub jwks: Option<JwksUrl>,
}

/// Why a token lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is none, and without one nothing is allowed.
    #[error("no token was sent: use the Authorization header, the handshake's auth.token or ?token=")]
    Missing,
    /// Its time is over.
    #[error("the token's exp is past")]
    Expired,
    /// Its signature, shape, audience or issuer is not what it must be.
    #[error("the token's signature or claims are not accepted")]
    Invalid,
    /// Its key is not known, and the place that may know it does not answer.
    #[error("the signing keys could not be fetched")]
    Unavailable,
}

struct Keys {
    secret: Option<DecodingKey>,
    remote: Option<RemoteKeys>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: serde_json::Number,
    /// Null where there is none, as some languages write what is empty.
    feeds: Option<HashMap<String, Option<Rights>>>,
}

impl Gate {
    /// A gate by these settings.
    ///
    /// # Errors
    /// When the client that fetches keys can't be made.
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        let Settings { keys, anonymous, audience, issuer } = settings;
        Ok(Self { keys: keys.map(Keys::new).transpose()?, anonymous, audience, issuer })
    }

    /// What the bearer of `token` may do.
    ///
    /// # Errors
    /// When the token is not accepted, or there is none and nothing is allowed without.
    pub async fn admit(&self, token: Option<&str>) -> Result<Access, AuthError> {
        let Some(keys) = &self.keys else { return Ok(Access::everything()) };
        match token {
            Some(token) => access(self.verify(keys, token).await?),
            None if self.anonymous.is_empty() => Err(AuthError::Missing),
            None => Ok(Access::anonymous(self.anonymous)),
        }
    }

    /// Fetches keys that are kept elsewhere before anybody waits for them. To be called now and then.
    pub async fn keep_keys_fresh(&self) {
        if let Some(remote) = self.keys.as_ref().and_then(|keys| keys.remote.as_ref()) {
            remote.keep_fresh().await;
        }
    }

    async fn verify(&self, keys: &Keys, token: &str) -> Result<Claims, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Invalid)?;
        // Extensions that must be understood (RFC 7515, section 4.1.11): we understand none.
        if header.crit.is_some() {
            return Err(AuthError::Invalid);
        }
        let validation = self.validation(header.alg);
        let mut refusal = AuthError::Invalid;
        for key in keys.fitting(&header).await? {
            match jsonwebtoken::decode(token, &key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) if *error.kind() == ErrorKind::ExpiredSignature => refusal = AuthError::Expired,
                Err(_) => {}
            }
        }
        Err(refusal)
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

impl Keys {
    fn new(sources: KeySources) -> Result<Self, ClientError> {
        let secret = sources.secret.map(|secret| DecodingKey::from_secret(secret.expose_secret().as_bytes()));
        Ok(Self { secret, remote: sources.jwks.map(RemoteKeys::new).transpose()? })
    }

    /// The keys that a token with this header may be signed with, from the one source of its algorithm.
    async fn fitting(&self, header: &Header) -> Result<Vec<DecodingKey>, AuthError> {
        match (header.alg, &self.remote) {
            (Algorithm::HS256, _) => Ok(self.secret.iter().cloned().collect()),
            (Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA, Some(remote)) => {
                let id = header.kid.as_deref();
                let keys = remote.looked_up(header.alg, id).await?;
                Ok(keys.fitting(header.alg, id).take(MAX_TRIES).cloned().collect())
            }
            _ => Ok(Vec::new()),
        }
    }
}

fn access(claims: Claims) -> Result<Access, AuthError> {
    let claimed = claims.feeds.unwrap_or_default();
    let everywhere = claimed.get("*").copied().flatten().unwrap_or_default();
    let feeds = claimed.iter().filter_map(|(feed, rights)| Some((FeedId::parse(feed).ok()?, (*rights)?)));
    Ok(Access {
        expires_at: Some(moment(&claims.exp).ok_or(AuthError::Invalid)?),
        everywhere,
        feeds: feeds.collect(),
        subject: claims.sub.filter(|subject| !subject.is_empty()),
        anonymous: false,
    })
}

/// A `NumericDate`, which may have a fraction.
fn moment(seconds: &serde_json::Number) -> Option<Timestamp> {
    let fraction = || Duration::try_from_secs_f64(seconds.as_f64()?).ok().map(|date| date.as_secs());
    let whole = seconds.as_u64().or_else(fraction)?;
    Timestamp::from_second(i64::try_from(whole).ok()?).ok()
}

impl From<Unreachable> for AuthError {
    fn from(_: Unreachable) -> Self {
        Self::Unavailable
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret, remote } = self;
        f.debug_struct("Keys").field("secret", &secret.is_some()).field("remote", remote).finish()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::EncodingKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::{Order, Right, Scope, mint};

    const SECRET: &str = "a secret of thirty-two bytes, or more";

    fn gate(audience: Option<&str>, issuer: Option<&str>) -> Gate {
        let secret = Some(SECRET.into());
        Gate::new(Settings {
            keys: Some(KeySources { secret, jwks: None }),
            anonymous: Rights::default(),
            audience: audience.map(str::to_owned),
            issuer: issuer.map(str::to_owned),
        })
        .unwrap()
    }

    fn signed(header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
    }

    #[tokio::test]
    async fn claims_are_judged_with_a_leeway_of_30_s() {
        let now = Timestamp::now().as_second();
        let (plain, strict) = (gate(None, None), gate(Some("photos"), Some("https://issuer")));
        for (claims, to_plain, to_strict) in [
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
            let token = signed(&Header::default(), &claims);
            for (gate, expected) in [(&plain, to_plain), (&strict, to_strict)] {
                assert_eq!(gate.admit(Some(&token)).await.map(drop), expected, "{claims}");
            }
        }
    }

    #[tokio::test]
    async fn only_what_the_secret_signed_with_hs256_gets_in() {
        let claims = json!({"exp": Timestamp::now().as_second() + 60});
        let good = signed(&Header::default(), &claims);
        let (message, signature) = good.rsplit_once('.').unwrap();
        let body = message.split_once('.').unwrap().1;
        let critical = Header { crit: Some(vec!["b64".into()]), ..Header::default() };
        let none = "eyJhbGciOiJub25lIn0"; // {"alg":"none"}
        let other = EncodingKey::from_secret(b"another secret of thirty-two bytes");
        let gate = gate(None, None);
        assert!(gate.admit(Some(&good)).await.is_ok());
        for (what, token) in [
            ("none, unsigned", format!("{none}.{body}.")),
            ("none, signed", format!("{none}.{body}.{signature}")),
            ("without a signature", format!("{message}.")),
            ("in two parts", message.to_owned()),
            ("of another secret", jsonwebtoken::encode(&Header::default(), &claims, &other).unwrap()),
            ("HS512", signed(&Header::new(Algorithm::HS512), &claims)),
            ("with an extension that must be understood", signed(&critical, &claims)),
            ("too long", signed(&Header::default(), &json!({"exp": 9e9, "x": "x".repeat(MAX_TOKEN_BYTES)}))),
            ("empty", String::new()),
        ] {
            assert_eq!(gate.admit(Some(&token)).await.err(), Some(AuthError::Invalid), "a token {what}");
        }
    }

    #[tokio::test]
    async fn a_minted_token_gives_what_was_ordered() {
        let (summer, winter) = (FeedId::parse("summer").unwrap(), FeedId::parse("winter").unwrap());
        let order = Order {
            subject: Some("me".into()),
            scopes: vec![Scope::Feed(summer.clone())],
            rights: "view,upload".parse().unwrap(),
            life: Duration::from_mins(1),
            audience: Some("photos".into()),
            issuer: Some("https://issuer".into()),
        };
        let now = Timestamp::now();
        let token = mint(&SECRET.into(), &order, now).unwrap();
        let access =
            gate(Some("photos"), Some("https://issuer")).admit(Some(token.expose_secret())).await.unwrap();
        assert_eq!(access.subject.as_deref(), Some("me"));
        assert_eq!(access.expires_at.unwrap().as_second(), now.as_second() + 60);
        for (feed, right, given) in [
            (&summer, Right::View, true),
            (&summer, Right::Upload, true),
            (&summer, Right::Delete, false),
            (&winter, Right::View, false),
        ] {
            assert_eq!(access.check(feed, right).is_ok(), given, "{right:?} on {}", feed.as_str());
        }
    }
}
