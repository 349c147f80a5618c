//! Public keys that are kept elsewhere: fetched, remembered, and fetched anew now and then.

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

/// The whole of a fetch.
const FETCH: Duration = Duration::from_secs(5);
/// Of the body; real sets have a few thousand bytes.
const MAX_BODY: usize = 64 * 1024;
/// Keys this old are fetched anew, so that one that was withdrawn goes.
const FRESH: Duration = Duration::from_mins(10);
/// Between two fetches, whatever keys tokens ask for.
const PAUSE: Duration = Duration::from_secs(5);

/// Where a key set is.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(Url);

/// Not an address to fetch keys from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksUrlError {
    /// Not a URL at all.
    #[error("must be a URL: https://issuer.example.com/.well-known/jwks.json")]
    NotAUrl,
    /// Whoever is on the way could put keys of theirs in.
    #[error("must begin with https:// (http:// on this very machine only)")]
    NotSecure,
    /// It would end up in logs.
    #[error("must not hold a user or a password")]
    Credentials,
}

/// The HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the client that fetches AUTH_JWKS_URL could not be made")]
pub struct ClientError(#[from] reqwest::Error);

/// Keys that can't be told to be missing: the place that would know does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreachable;

/// The key set behind a URL. What was fetched last stays in force while the place is away.
#[derive(Debug)]
pub(super) struct RemoteKeys {
    url: JwksUrl,
    client: Client,
    known: Mutex<Known>,
    /// One fetch at a time; whoever waits for it takes what it brought.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Arc<KeySet>,
    asked: Option<Instant>,
    /// When it was last asked because a token named a key that is not among `keys`.
    looked_up: Option<Instant>,
    failed: bool,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no answer")]
    Request(#[from] reqwest::Error),
    #[error("the answer is {0}, not 200; redirects are not followed")]
    Status(StatusCode),
    #[error("the answer is longer than {MAX_BODY} bytes")]
    TooLong,
    #[error("the answer is no key set")]
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

/// Whether the host is this machine by its very name, which no name server decides.
fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

impl RemoteKeys {
    pub(super) fn new(url: JwksUrl) -> Result<Self, ClientError> {
        let local = is_loopback(&url.0);
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(FETCH)
            .https_only(!local)
            .user_agent(concat!("photoshare/", env!("CARGO_PKG_VERSION")));
        let client = if local { client.no_proxy() } else { client };
        Ok(Self {
            url,
            client: client.build()?,
            known: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// A set that holds a key for `algorithm` with this `id`, fetched anew if need be; without one, the
    /// set as it is.
    pub(super) async fn looked_up(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<Arc<KeySet>, Unreachable> {
        let holds = |keys: &KeySet| keys.fitting(algorithm, id).next().is_some();
        let keys = self.known(|known| known.keys.clone());
        if holds(&keys) {
            return Ok(keys);
        }
        self.fetch_when(|known, now| !holds(&known.keys) && known.may_look_up(now)).await;
        self.known(|known| {
            let unknowable = known.failed && !holds(&known.keys);
            if unknowable { Err(Unreachable) } else { Ok(known.keys.clone()) }
        })
    }

    /// Fetches the keys if they are old, or not there yet.
    pub(super) async fn keep_fresh(&self) {
        self.fetch_when(|known, now| known.is_old(now)).await;
    }

    async fn fetch_when(&self, due: impl Fn(&mut Known, Instant) -> bool) {
        let _one = self.fetching.lock().await;
        let now = Instant::now();
        if !self.known(|known| due(known, now)) {
            return;
        }
        // Noted before: callers who give up half-way shall not make us ask more often.
        self.known(|known| known.asked = Some(now));
        match self.fetch().await {
            Ok(keys) => {
                info!(keys = keys.len(), "signing keys fetched");
                self.known(|known| (known.keys, known.failed) = (Arc::new(keys), false));
            }
            Err(error) => {
                // The query may hold a key to the keys.
                let (host, path) = (self.url.0.host_str(), self.url.0.path());
                warn!(error = &error as &dyn std::error::Error, host, path, "signing keys");
                self.known(|known| known.failed = true);
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
            if body.len() + chunk.len() > MAX_BODY {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(KeySet::parse(&body)?)
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().expect("no panic while held"))
    }
}

impl Known {
    /// Whether the place may be asked for a key: not for every token that names one of its own invention.
    /// Takes note of it. A key that is new is not kept waiting because others were fetched just before.
    fn may_look_up(&mut self, now: Instant) -> bool {
        let last = if self.failed { self.looked_up.max(self.asked) } else { self.looked_up };
        let may = last.is_none_or(|last| now.duration_since(last) >= PAUSE);
        if may {
            self.looked_up = Some(now);
        }
        may
    }

    fn is_old(&self, now: Instant) -> bool {
        let enough = if self.failed { PAUSE } else { FRESH };
        self.asked.is_none_or(|asked| now.duration_since(asked) >= enough)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_over_https_only() {
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
    fn the_place_is_asked_again_after_a_pause() {
        let asked = Instant::now();
        for (failed, after, is_old) in [
            (false, Duration::ZERO, false),
            (false, PAUSE, false),
            (false, FRESH, true),
            (true, Duration::ZERO, false),
            (true, PAUSE, true),
        ] {
            let known = Known { asked: Some(asked), failed, ..Known::default() };
            assert_eq!(known.is_old(asked + after), is_old, "failed: {failed}, after {after:?}");
        }
        assert!(Known::default().is_old(asked), "never asked");
    }

    #[test]
    fn a_new_key_is_looked_up_at_once_and_further_ones_after_a_pause() {
        let asked = Instant::now();
        let mut known = Known { asked: Some(asked), ..Known::default() };
        let looks = [Duration::ZERO, Duration::ZERO, PAUSE, PAUSE];
        assert_eq!(looks.map(|after| known.may_look_up(asked + after)), [true, false, true, false]);
        let mut failed = Known { asked: Some(asked), failed: true, ..Known::default() };
        assert_eq!([Duration::ZERO, PAUSE].map(|after| failed.may_look_up(asked + after)), [false, true]);
    }
}
