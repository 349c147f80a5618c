//! Authorization: the rights of a caller per feed.

use std::{collections::HashMap, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};

use crate::feed::FeedId;

/// A permission on a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Join, list and stream the feed.
    View,
    /// Request upload URLs.
    Upload,
    /// Delete photos.
    Delete,
}

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

/// The rights of an authenticated or anonymous caller.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The token's `sub` claim, if present.
    pub subject: Option<String>,
    /// Expiry of the token.
    pub expires_at: Option<Timestamp>,
    /// Rights on all feeds.
    pub(super) all_feeds: Rights,
    pub(super) feeds: HashMap<FeedId, Rights>,
    /// Whether the caller sent no token. Changes the error: a token may grant the right.
    pub(super) anonymous: bool,
}

/// The caller lacks a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessDenied {
    /// Anonymous callers do not have the right.
    #[error("a token with the right '{}' on this feed is required", .0.name())]
    TokenRequired(Right),
    /// The token does not grant the right.
    #[error("the token does not grant the right '{}' on this feed", .0.name())]
    MissingRight(Right),
}

/// The text is not the name of a right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a right: use view, upload or delete")]
pub struct UnknownRight(String);

impl Right {
    /// All rights.
    pub const ALL: [Self; 3] = [Self::View, Self::Upload, Self::Delete];

    /// The name in tokens and settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Upload => "upload",
            Self::Delete => "delete",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Rights {
    /// All rights.
    pub const ALL: Self = Self(0b111);

    /// Whether the set contains `right`.
    #[must_use]
    pub fn contains(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The rights of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of the rights.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Right::ALL.into_iter().filter(move |right| self.contains(*right)).map(Right::name)
    }
}

impl FromStr for Rights {
    type Err = UnknownRight;

    /// Parses a comma-separated list; an empty text is an empty set.
    fn from_str(text: &str) -> Result<Self, UnknownRight> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(parse_right).try_fold(Self::default(), |rights, right| Ok(rights.union(right?)))
    }
}

impl<'de> Deserialize<'de> for Rights {
    /// Deserializes a list of names. Ignores unknown names, which may be meant for other servers.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer).map_err(de::Error::custom)?;
        Ok(names.iter().filter_map(|name| parse_right(name).ok()).fold(Self::default(), Self::union))
    }
}

fn parse_right(name: &str) -> Result<Rights, UnknownRight> {
    let right = Right::ALL.into_iter().find(|right| right.name() == name);
    right.map(|right| Rights(right.bit())).ok_or_else(|| UnknownRight(name.to_owned()))
}

impl Access {
    /// All rights on all feeds, without expiry.
    #[must_use]
    pub fn unrestricted() -> Self {
        Self { all_feeds: Rights::ALL, ..Self::default() }
    }

    /// `rights` on all feeds, for callers without a token.
    #[must_use]
    pub fn anonymous(rights: Rights) -> Self {
        Self { all_feeds: rights, anonymous: true, ..Self::default() }
    }

    /// Checks that the caller has `right` on `feed`.
    ///
    /// # Errors
    /// When the caller lacks the right.
    pub fn check(&self, feed: &FeedId, right: Right) -> Result<(), AccessDenied> {
        let on_feed = self.feeds.get(feed).copied().unwrap_or_default();
        if self.all_feeds.union(on_feed).contains(right) {
            Ok(())
        } else if self.anonymous {
            Err(AccessDenied::TokenRequired(right))
        } else {
            Err(AccessDenied::MissingRight(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::feed;

    #[test]
    fn the_rights_on_all_feeds_and_on_the_feed_are_combined() {
        let summer = feed("summer");
        let access = Access {
            all_feeds: "view".parse().unwrap(),
            feeds: [(summer.clone(), "upload".parse().unwrap())].into(),
            ..Access::default()
        };
        assert_eq!(access.check(&summer, Right::View), Ok(()));
        assert_eq!(access.check(&summer, Right::Upload), Ok(()));
        assert_eq!(access.check(&summer, Right::Delete), Err(AccessDenied::MissingRight(Right::Delete)));
        let other = feed("winter");
        assert_eq!(access.check(&other, Right::Upload), Err(AccessDenied::MissingRight(Right::Upload)));
    }

    #[test]
    fn unknown_rights_in_a_list_are_rejected() {
        assert_eq!("view, upload".parse(), Ok(Rights(0b011)));
        assert_eq!("".parse(), Ok(Rights::default()));
        assert!("views".parse::<Rights>().is_err());
    }
}
