//! Refusals: RFC 9457 problem details, <https://www.rfc-editor.org/rfc/rfc9457>.

use std::time::Duration;

use serde::Serialize;

/// A refusal, as clients see it. `kind` is stable; `detail` names the field and the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What sort of refusal.
    pub kind: ProblemKind,
    /// For people: which field, which limit.
    pub detail: String,
    /// When to try again, where that helps.
    pub retry_after: Option<Duration>,
    /// The feed that it is about, as it was named, where several may be meant.
    pub feed: Option<String>,
}

/// A feed's name that is longer, in bytes, is not repeated: it may be as long as what it came in.
const LONGEST_NAMED: usize = 256;

macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $kind:ident = $status:literal $name:literal $title:literal,)*) => {
        /// The refusals of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ProblemKind { $($(#[$doc])* $kind,)* }

        impl ProblemKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)* }
            }

            /// The stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// The same for every problem of this kind.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }
        }
    };
}

problem_kinds! {
    /// Not a feed id.
    InvalidFeed = 400 "invalid-feed" "This is not a feed id",
    /// Not the name of a photo.
    InvalidKey = 400 "invalid-key" "This is not the name of a photo",
    /// The request's body is not what it should be.
    InvalidBody = 400 "invalid-body" "The body is not what it should be",
    /// A parameter is not what it should be.
    InvalidParameter = 400 "invalid-parameter" "A parameter is not what it should be",
    /// An event that the server does not know.
    UnknownEvent = 400 "unknown-event" "The server knows no such event",
    /// A token is needed.
    TokenMissing = 401 "token-missing" "A token is needed",
    /// The token is none of ours.
    TokenInvalid = 401 "token-invalid" "The token is not valid",
    /// The token's time is over.
    TokenExpired = 401 "token-expired" "The token has expired",
    /// The token does not allow it, or the page's origin.
    Forbidden = 403 "forbidden" "This is not allowed",
    /// Nothing is there.
    NotFound = 404 "not-found" "Nothing is here",
    /// Not with this method.
    MethodNotAllowed = 405 "method-not-allowed" "This method is not for this path",
    /// The upload has already arrived.
    AlreadyStored = 409 "already-stored" "The photo is already stored",
    /// More than the limit.
    TooLarge = 413 "too-large" "This is larger than the limit",
    /// A media type that is not taken.
    UnsupportedContentType = 415 "unsupported-content-type" "This media type is not taken",
    /// Too often.
    TooManyRequests = 429 "too-many-requests" "Too many requests",
    /// Too many feeds on one connection.
    TooManyFeeds = 429 "too-many-feeds" "Too many feeds on this connection",
    /// Too many connections to this process.
    TooManyConnections = 429 "too-many-connections" "Too many connections",
    /// A part behind the server is away.
    Unavailable = 503 "unavailable" "A part behind the server is away",
}

impl Problem {
    /// A refusal of this kind.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None, feed: None }
    }

    /// The same, about `feed`.
    #[must_use]
    pub fn about(mut self, feed: &str) -> Self {
        self.feed = (feed.len() <= LONGEST_NAMED).then(|| feed.into());
        self
    }

    /// The log or the bucket does not answer.
    #[must_use]
    pub fn unavailable(part: &str) -> Self {
        let mut problem = Self::new(ProblemKind::Unavailable, format!("{part} does not answer; try again"));
        problem.retry_after = Some(Duration::from_secs(5));
        problem
    }
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: String,
            title: &'static str,
            status: u16,
            detail: &'a str,
            #[serde(rename = "retryAfter", skip_serializing_if = "Option::is_none")]
            retry_after: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            feed: Option<&'a str>,
        }
        let body = Body {
            r#type: format!("urn:photoshare:problem:{}", self.kind.name()),
            title: self.kind.title(),
            status: self.kind.status(),
            detail: &self.detail,
            retry_after: self.retry_after.map(|after| after.as_secs().max(1)),
            feed: self.feed.as_deref(),
        };
        body.serialize(serializer)
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
            AuthError::Unavailable => return Self::unavailable("the server of the signing keys"),
            AuthError::Missing => ProblemKind::TokenMissing,
            AuthError::Expired => ProblemKind::TokenExpired,
            AuthError::Invalid => ProblemKind::TokenInvalid,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<crate::auth::Denied> for Problem {
    fn from(denied: crate::auth::Denied) -> Self {
        use crate::auth::Denied;
        let kind = match denied {
            Denied::NoToken(_) => ProblemKind::TokenMissing,
            Denied::NotAllowed(_) => ProblemKind::Forbidden,
        };
        Self::new(kind, denied.to_string())
    }
}

impl From<crate::bucket::StoryError> for Problem {
    fn from(error: crate::bucket::StoryError) -> Self {
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
            MultipartError::Story(error) => return error.into(),
            MultipartError::Bucket(error) => return error.into(),
        };
        Self::new(kind, error.to_string())
    }
}

impl From<crate::limit::TooMany> for Problem {
    fn from(error: crate::limit::TooMany) -> Self {
        let mut problem = Self::new(ProblemKind::TooManyRequests, error.to_string());
        problem.retry_after = Some(error.retry_after);
        problem
    }
}

impl From<crate::limit::NoPlace> for Problem {
    fn from(error: crate::limit::NoPlace) -> Self {
        Self::new(ProblemKind::TooManyConnections, error.to_string())
    }
}

impl From<crate::log::LogError> for Problem {
    fn from(error: crate::log::LogError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "feed log");
        Self::unavailable("the feed log")
    }
}

impl From<crate::bucket::BucketError> for Problem {
    fn from(error: crate::bucket::BucketError) -> Self {
        tracing::warn!(error = &error as &dyn std::error::Error, "bucket");
        Self::unavailable("the bucket")
    }
}
