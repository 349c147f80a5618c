//! Errors as clients receive them: RFC 9457 problem details, <https://www.rfc-editor.org/rfc/rfc9457>.

use std::{borrow::Cow, error::Error, sync::Arc, time::Duration};

use serde::Serialize;
use tracing::warn;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

/// A problem as clients receive it. `kind` is stable; `detail` names the field and the limit.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Problem type.
    pub kind: ProblemKind,
    /// Explanation for people: which field, which limit.
    pub detail: String,
    /// When a retry may succeed. `None` if it can't.
    pub retry_after: Option<Duration>,
    /// The feed that the problem concerns, as the client sent it, where a response may concern several.
    pub feed: Option<String>,
    /// Logged, never sent.
    cause: Option<Cause>,
}

/// RFC 9457 problem details.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ProblemDetails<'a> {
    /// Stable problem type, `urn:photoshare:problem:<kebab-name>`.
    #[schema(pattern = "^urn:photoshare:problem:[a-z-]+$")]
    r#type: String,
    title: &'static str,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Explanation for people. Names the invalid field and the limit.
    detail: &'a str,
    /// Seconds to wait before a retry. Present only if a retry can succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    retry_after: Option<u64>,
    /// In Socket.IO responses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    feed: Option<&'a str>,
}

/// The internal error behind a problem.
#[derive(Debug, Clone)]
struct Cause {
    component: &'static str,
    error: Arc<dyn Error + Send + Sync>,
}

/// When clients retry after [`ProblemKind::Unavailable`].
const UNAVAILABLE_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Longest feed name, in bytes, that a problem repeats. An invalid one may be as long as the request.
const MAX_FEED_NAME_BYTES: usize = 256;

macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $kind:ident = $status:literal $name:literal $title:literal,)*) => {
        /// The problem types of the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ProblemKind { $($(#[$doc])* $kind,)* }

        impl ProblemKind {
            /// All problem types.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// HTTP status.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)* }
            }

            /// Stable name: the last segment of the problem type's URN.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// Summary, the same for every problem of this type.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }
        }
    };
}

problem_kinds! {
    /// A feed id is invalid.
    InvalidFeed = 400 "invalid-feed" "The feed id is not valid",
    /// A photo name is invalid.
    InvalidKey = 400 "invalid-key" "The photo name is not valid",
    /// The request body is invalid.
    InvalidBody = 400 "invalid-body" "The body is not valid",
    /// A parameter is invalid.
    InvalidParameter = 400 "invalid-parameter" "A parameter is not valid",
    /// The Socket.IO event is unknown.
    UnknownEvent = 400 "unknown-event" "The event is unknown",
    /// The request needs a token.
    TokenMissing = 401 "token-missing" "A token is required",
    /// The token's signature or claims are not accepted.
    TokenInvalid = 401 "token-invalid" "The token is not valid",
    /// The token has expired.
    TokenExpired = 401 "token-expired" "The token has expired",
    /// The token lacks a right, or the page's origin is not allowed.
    Forbidden = 403 "forbidden" "The request is not allowed",
    /// The resource does not exist.
    NotFound = 404 "not-found" "The resource does not exist",
    /// The path does not support the method.
    MethodNotAllowed = 405 "method-not-allowed" "The path does not support this method",
    /// The request did not arrive in time.
    RequestTimeout = 408 "request-timeout" "The request took too long",
    /// The upload is already stored.
    AlreadyStored = 409 "already-stored" "The photo is already stored",
    /// A size exceeds its limit.
    TooLarge = 413 "too-large" "The size exceeds the limit",
    /// The media type is not accepted.
    UnsupportedContentType = 415 "unsupported-content-type" "The media type is not accepted",
    /// A rate limit is exceeded.
    TooManyRequests = 429 "too-many-requests" "Too many requests",
    /// The connection has joined as many feeds as it may.
    TooManyFeeds = 429 "too-many-feeds" "Too many feeds on this connection",
    /// The process, or one address, has as many connections as it may.
    TooManyConnections = 429 "too-many-connections" "Too many connections",
    /// A component behind the server is unavailable.
    Unavailable = 503 "unavailable" "A component behind the server is unavailable",
}

impl Problem {
    /// Creates a problem of type `kind`.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None, feed: None, cause: None }
    }

    /// Sets the feed that the problem concerns.
    #[must_use]
    pub fn with_feed(mut self, feed: &str) -> Self {
        self.feed = (feed.len() <= MAX_FEED_NAME_BYTES).then(|| feed.into());
        self
    }

    /// Removes the feed, for a response that concerns only one.
    #[must_use]
    pub fn without_feed(mut self) -> Self {
        self.feed = None;
        self
    }

    /// A component behind the server is unavailable; clients retry after 5 seconds.
    #[must_use]
    pub fn unavailable(component: &str) -> Self {
        let mut problem =
            Self::new(ProblemKind::Unavailable, format!("{component} is unavailable; try again"));
        problem.retry_after = Some(UNAVAILABLE_RETRY_AFTER);
        problem
    }

    /// The server has no capacity for the request at this time; clients retry after 5 seconds.
    #[must_use]
    pub fn overloaded(detail: impl Into<String>) -> Self {
        let mut problem = Self::new(ProblemKind::Unavailable, detail);
        problem.retry_after = Some(UNAVAILABLE_RETRY_AFTER);
        problem
    }

    /// Logs the internal error behind the problem, if there is one. To be called where the problem is sent: a
    /// conversion logs nothing, since its result may be dropped or converted again.
    pub fn log_cause(&self) {
        if let Some(Cause { component, error }) = &self.cause {
            warn!(error = &**error as &dyn Error, "the {component} is unavailable");
        }
    }

    fn caused_by(mut self, component: &'static str, error: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Cause { component, error: Arc::new(error) });
        self
    }
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let details = ProblemDetails {
            r#type: format!("urn:photoshare:problem:{}", self.kind.name()),
            title: self.kind.title(),
            status: self.kind.status(),
            detail: &self.detail,
            retry_after: self.retry_after.map(|after| after.as_secs().max(1)),
            feed: self.feed.as_deref(),
        };
        details.serialize(serializer)
    }
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        ProblemDetails::schema()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        ProblemDetails::name()
    }
}

impl From<crate::feed::FeedIdError> for Problem {
    fn from(error: crate::feed::FeedIdError) -> Self {
        Self::new(ProblemKind::InvalidFeed, error.to_string())
    }
}

impl From<crate::feed::KeyError> for Problem {
    fn from(error: crate::feed::KeyError) -> Self {
        Self::new(ProblemKind::InvalidKey, error.to_string())
    }
}

impl From<crate::auth::AuthError> for Problem {
    fn from(error: crate::auth::AuthError) -> Self {
        use crate::auth::AuthError;
        let kind = match error {
            AuthError::Unavailable => return Self::unavailable("the signing key server"),
            AuthError::Missing => ProblemKind::TokenMissing,
            AuthError::Expired => ProblemKind::TokenExpired,
            AuthError::Invalid => ProblemKind::TokenInvalid,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<crate::auth::AccessDenied> for Problem {
    fn from(denied: crate::auth::AccessDenied) -> Self {
        use crate::auth::AccessDenied;
        let kind = match denied {
            AccessDenied::TokenRequired(_) => ProblemKind::TokenMissing,
            AccessDenied::MissingRight(_) => ProblemKind::Forbidden,
        };
        Self::new(kind, denied.to_string())
    }
}

impl From<crate::bucket::MetadataError> for Problem {
    fn from(error: crate::bucket::MetadataError) -> Self {
        Self::new(ProblemKind::InvalidBody, error.to_string())
    }
}

impl From<crate::bucket::MultipartError> for Problem {
    fn from(error: crate::bucket::MultipartError) -> Self {
        use crate::bucket::MultipartError;
        let kind = match error {
            MultipartError::NoSuchUpload => ProblemKind::NotFound,
            MultipartError::Parts(_) => ProblemKind::InvalidBody,
            MultipartError::AlreadyStored => ProblemKind::AlreadyStored,
            MultipartError::TooLarge { .. } => ProblemKind::TooLarge,
            MultipartError::Metadata(error) => return error.into(),
            MultipartError::Bucket(error) => return error.into(),
        };
        Self::new(kind, error.to_string())
    }
}

impl From<crate::limit::RateLimitExceeded> for Problem {
    fn from(error: crate::limit::RateLimitExceeded) -> Self {
        let mut problem = Self::new(ProblemKind::TooManyRequests, error.to_string());
        problem.retry_after = Some(error.retry_after);
        problem
    }
}

impl From<crate::limit::ConnectionQuotaExceeded> for Problem {
    fn from(error: crate::limit::ConnectionQuotaExceeded) -> Self {
        Self::new(ProblemKind::TooManyConnections, error.to_string())
    }
}

impl From<crate::limit::BodyError> for Problem {
    fn from(error: crate::limit::BodyError) -> Self {
        use crate::limit::BodyError;
        let kind = match error {
            BodyError::TooLarge(_) => ProblemKind::TooLarge,
            BodyError::TimedOut(_) => ProblemKind::RequestTimeout,
            BodyError::OutOfMemory => return Self::overloaded(error.to_string()),
            BodyError::Failed => ProblemKind::InvalidBody,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<crate::log::LogError> for Problem {
    fn from(error: crate::log::LogError) -> Self {
        Self::unavailable("the feed log").caused_by("feed log", error)
    }
}

impl From<crate::bucket::BucketError> for Problem {
    fn from(error: crate::bucket::BucketError) -> Self {
        Self::unavailable("the bucket").caused_by("bucket", error)
    }
}
