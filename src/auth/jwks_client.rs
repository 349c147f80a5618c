//! Client that fetches, caches and refreshes a JSON Web Key Set.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jsonwebtoken::Algorithm;
use reqwest::{Client, StatusCode, Url, redirect};
use tracing::{info, warn};

use super::jwks::KeySet;

/// Timeout of a fetch, including the body.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of the response body; typical key sets have a few kilobytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Age at which the key set is refreshed, so that revoked keys are dropped.
const MAX_AGE: Duration = Duration::from_mins(10);
/// Minimum interval between fetches for unknown key ids and after errors.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(5);

/// URL of a key set: HTTPS, or HTTP on the loopback interface.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(Url);

/// The text is not a valid URL of a key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksUrlError {
    /// Not a URL.
    #[error("must be a URL: https://issuer.example.com/.well-known/jwks.json")]
    NotAUrl,
    /// Without TLS an attacker on the network could replace the keys.
    #[error("must start with https:// (http:// only for this machine)")]
    NotSecure,
    /// Credentials in a URL would appear in logs.
    #[error("must not contain a user name or a password")]
    Credentials,
}

/// The HTTP client could not be created.
#[derive(Debug, thiserror::Error)]
#[error("failed to create the HTTP client for AUTH_JWKS_URL")]
pub struct JwksClientError(#[from] reqwest::Error);

/// The key is unknown, and the last fetch of the key set failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JwksUnavailable;

/// Caches the key set of a URL. The last fetched set stays valid while the URL is unavailable.
#[derive(Debug)]
pub(super) struct JwksClient {
    url: JwksUrl,
    client: Client,
    cache: Mutex<Cache>,
    /// Serializes fetches; waiting callers use the result of the fetch that they waited for.
    fetch_lock: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Cache {
    keys: Arc<KeySet>,
    last_fetch: Option<Instant>,
    /// The last fetch that an unknown key id caused.
    last_lookup: Option<Instant>,
    /// Whether the last fetch failed.
    failed: bool,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the request failed")]
    Request(#[from] reqwest::Error),
    #[error("unexpected status {0}; redirects are not followed")]
    Status(StatusCode),
    #[error("the response is longer than {MAX_BODY_BYTES} bytes")]
    TooLong,
    #[error("the response is not a key set")]
    NotAKeySet(#[from] serde_json::Error),
}

impl FromStr for JwksUrl {
    type Err = JwksUrlError;

    fn from_str(text: &str) -> Result<Self, JwksUrlError> {
        let url = Url::parse(text).map_err(|_| JwksUrlError::NotAUrl)?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            _ => return Err(JwksUrlError::NotSecure),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(JwksUrlError::Credentials);
        }
        Ok(Self(url))
    }
}

impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// Whether the host is `localhost` or a loopback address; does not use DNS.
fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

impl JwksClient {
    pub(super) fn new(url: JwksUrl) -> Result<Self, JwksClientError> {
        let loopback = is_loopback(&url.0);
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(FETCH_TIMEOUT)
            .https_only(!loopback)
            .user_agent(concat!("photoshare/", env!("CARGO_PKG_VERSION")));
        let client = if loopback { client.no_proxy() } else { client };
        Ok(Self {
            url,
            client: client.build()?,
            cache: Mutex::default(),
            fetch_lock: tokio::sync::Mutex::default(),
        })
    }

    /// Returns a key set with a key for `algorithm` and `id`. Fetches the set if the cached one has no such
    /// key; returns it without the key if the fetched one has none either.
    pub(super) async fn find_keys(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<Arc<KeySet>, JwksUnavailable> {
        let has_key = |keys: &KeySet| keys.matching(algorithm, id).next().is_some();
        let keys = self.with_cache(|cache| cache.keys.clone());
        if has_key(&keys) {
            return Ok(keys);
        }
        self.fetch_if(|cache, now| !has_key(&cache.keys) && cache.start_lookup(now)).await;
        self.with_cache(|cache| {
            let unavailable = cache.failed && !has_key(&cache.keys);
            if unavailable { Err(JwksUnavailable) } else { Ok(cache.keys.clone()) }
        })
    }

    /// Fetches the key set if it is stale or was never fetched.
    pub(super) async fn refresh_if_stale(&self) {
        self.fetch_if(|cache, now| cache.is_stale(now)).await;
    }

    async fn fetch_if(&self, is_due: impl Fn(&mut Cache, Instant) -> bool) {
        let _guard = self.fetch_lock.lock().await;
        let now = Instant::now();
        if !self.with_cache(|cache| is_due(cache, now)) {
            return;
        }
        // Set before the fetch, so that cancelled callers do not raise the fetch rate.
        self.with_cache(|cache| cache.last_fetch = Some(now));
        match self.fetch().await {
            Ok(keys) => {
                info!(keys = keys.len(), "fetched signing keys");
                self.with_cache(|cache| (cache.keys, cache.failed) = (Arc::new(keys), false));
            }
            Err(error) => {
                // Omits the query, which may contain an access key.
                let (host, path) = (self.url.0.host_str(), self.url.0.path());
                warn!(error = &error as &dyn std::error::Error, host, path, "failed to fetch signing keys");
                self.with_cache(|cache| cache.failed = true);
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let request = self.client.get(self.url.0.clone()).header("accept", "application/json");
        let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(KeySet::parse(&body)?)
    }

    fn with_cache<T>(&self, f: impl FnOnce(&mut Cache) -> T) -> T {
        f(&mut self.cache.lock().expect("no panic while held"))
    }
}

impl Cache {
    /// Whether to fetch the set for an unknown key id; records the attempt. The rate is limited, since a token
    /// can name any key id. A recent periodic refresh does not delay the lookup of a new key.
    fn start_lookup(&mut self, now: Instant) -> bool {
        let last = if self.failed { self.last_lookup.max(self.last_fetch) } else { self.last_lookup };
        let is_due = last.is_none_or(|last| now.duration_since(last) >= MIN_FETCH_INTERVAL);
        if is_due {
            self.last_lookup = Some(now);
        }
        is_due
    }

    fn is_stale(&self, now: Instant) -> bool {
        let max_age = if self.failed { MIN_FETCH_INTERVAL } else { MAX_AGE };
        self.last_fetch.is_none_or(|last| now.duration_since(last) >= max_age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_sets_are_fetched_only_over_https_or_loopback() {
        use JwksUrlError::{Credentials, NotAUrl, NotSecure};
        for (url, expected) in [
            ("https://issuer.example.com/.well-known/jwks.json", None),
            ("http://127.0.0.1:8080/jwks", None),
            ("http://127.8.9.1/jwks", None),
            ("http://[::1]:8080/jwks", None),
            ("http://localhost:8080/jwks", None),
            ("http://issuer.example.com/jwks", Some(NotSecure)),
            ("http://10.0.0.1/jwks", Some(NotSecure)),
            ("http://localhost.example.com/jwks", Some(NotSecure)),
            ("http://127.0.0.1.example.com/jwks", Some(NotSecure)),
            ("http://127.0.0.1@example.com/jwks", Some(NotSecure)),
            ("https://me:secret@example.com/jwks", Some(Credentials)),
            ("file:///etc/passwd", Some(NotSecure)),
            ("data:application/json,{}", Some(NotSecure)),
            ("issuer.example.com", Some(NotAUrl)),
            ("", Some(NotAUrl)),
        ] {
            assert_eq!(url.parse::<JwksUrl>().err(), expected, "{url}");
        }
    }

    #[test]
    fn a_key_set_is_stale_after_its_maximum_age_and_sooner_after_an_error() {
        let start = Instant::now();
        for (failed, after, is_stale) in [
            (false, Duration::ZERO, false),
            (false, MIN_FETCH_INTERVAL, false),
            (false, MAX_AGE, true),
            (true, Duration::ZERO, false),
            (true, MIN_FETCH_INTERVAL, true),
        ] {
            let cache = Cache { last_fetch: Some(start), failed, ..Cache::default() };
            assert_eq!(cache.is_stale(start + after), is_stale, "failed: {failed}, after {after:?}");
        }
        assert!(Cache::default().is_stale(start), "never fetched");
    }

    #[test]
    fn the_first_unknown_key_is_looked_up_immediately_and_later_ones_at_a_limited_rate() {
        let start = Instant::now();
        let mut cache = Cache { last_fetch: Some(start), ..Cache::default() };
        let lookups = [Duration::ZERO, Duration::ZERO, MIN_FETCH_INTERVAL, MIN_FETCH_INTERVAL];
        assert_eq!(lookups.map(|after| cache.start_lookup(start + after)), [true, false, true, false]);
        let mut failed = Cache { last_fetch: Some(start), failed: true, ..Cache::default() };
        assert_eq!(
            [Duration::ZERO, MIN_FETCH_INTERVAL].map(|after| failed.start_lookup(start + after)),
            [false, true]
        );
    }
}
