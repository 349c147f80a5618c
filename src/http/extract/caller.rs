//! The feed in the path and the caller who asks for it.

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use super::{path::path_params, token::bearer_token};
use crate::{
    auth::{Access, Right},
    bucket::BucketUrl,
    feed::FeedId,
    http::{dto::FeedPath, state::AppState, upload_rules::UploadRules},
    limit::RateLimitKey,
    listener::Peer,
    protocol::Problem,
};

/// The feed in the path and its authenticated caller. Extracting it counts one request against the rate
/// limit.
pub(in crate::http) struct FeedCaller {
    pub(in crate::http) feed: FeedId,
    pub(in crate::http) access: Access,
    /// Base of the signed URLs that the caller receives.
    pub(in crate::http) bucket_url: BucketUrl,
    /// Key of the caller's rate limits.
    pub(in crate::http) rate_limit_key: RateLimitKey,
}

/// A [`FeedCaller`] that is not rate limited yet: the handler counts the uploads in the body.
pub(in crate::http) struct BatchUploader(pub(in crate::http) FeedCaller);

/// A [`FeedCaller`] whose request counts as one upload.
pub(in crate::http) struct Uploader(pub(in crate::http) FeedCaller);

impl FeedCaller {
    /// Requires that the caller has `right` on the feed.
    pub(in crate::http) fn require(&self, right: Right) -> Result<(), Problem> {
        Ok(self.access.check(&self.feed, right)?)
    }

    /// The subject to store as the photo's uploader, if the server is configured to.
    pub(in crate::http) fn recorded_uploader(&self, rules: &UploadRules) -> Option<&str> {
        self.access.subject.as_deref().filter(|_| rules.record_uploader)
    }

    /// Authenticates the caller without counting the request. A failed attempt counts against the client's
    /// address, which slows down guessing.
    async fn authenticate(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let FeedPath { feed } = path_params(parts).await?;
        let feed = FeedId::parse(&feed)?;
        let AppState { authenticator, rate_limits, client_addresses, url_base, .. } = state;
        let address = client_addresses.resolve(parts.extensions.get::<Peer>(), &parts.headers);
        let access = match authenticator.authenticate(bearer_token(parts).as_deref()).await {
            Ok(access) => access,
            Err(error) => {
                rate_limits.check_request(&RateLimitKey::Address(address))?;
                return Err(error.into());
            }
        };
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let rate_limit_key = RateLimitKey::for_caller(&access, address);
        Ok(Self { feed, access, bucket_url: url_base.for_host(host), rate_limit_key })
    }
}

impl FromRequestParts<AppState> for FeedCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = Self::authenticate(parts, state).await?;
        state.rate_limits.check_request(&caller.rate_limit_key)?;
        Ok(caller)
    }
}

impl FromRequestParts<AppState> for BatchUploader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        FeedCaller::authenticate(parts, state).await.map(Self)
    }
}

impl FromRequestParts<AppState> for Uploader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = FeedCaller::authenticate(parts, state).await?;
        state.rate_limits.check_grants(&caller.rate_limit_key, 1)?;
        Ok(Self(caller))
    }
}
