//! Who may do what, where, until when.

use std::{collections::HashMap, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};

use crate::feed::FeedId;

/// One thing that can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Join, list and stream.
    View,
    /// Get upload URLs.
    Upload,
    /// Delete photos.
    Delete,
}

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

/// What a bearer may do.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Who it is, where a token said so.
    pub subject: Option<String>,
    /// The token's end.
    pub expires_at: Option<Timestamp>,
    pub(super) everywhere: Rights,
    pub(super) feeds: HashMap<FeedId, Rights>,
    /// No token was shown: asking for one may help.
    pub(super) anonymous: bool,
}

/// Why something is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Without a token it is not.
    #[error("a token with the right '{}' on this feed is needed", .0.name())]
    NoToken(Right),
    /// The token does not have the right.
    #[error("the token has no right '{}' on this feed", .0.name())]
    NotAllowed(Right),
}

/// Not the name of a right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no right: use view, upload, delete")]
pub struct RightsError(String);

impl Right {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::View, Self::Upload, Self::Delete];

    /// As it stands in tokens.
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
    /// Every right.
    pub const ALL: Self = Self(0b111);

    /// Whether `right` is among them.
    #[must_use]
    pub fn have(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Right::ALL.into_iter().filter(move |right| self.have(*right)).map(Right::name)
    }
}

impl FromStr for Rights {
    type Err = RightsError;

    /// Reads a comma-separated list; an empty text is no right.
    fn from_str(text: &str) -> Result<Self, RightsError> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(one).try_fold(Self::default(), |rights, right| Ok(rights.and(right?)))
    }
}

impl<'de> Deserialize<'de> for Rights {
    /// Reads a list of names. Unknown ones are for other servers and give nothing here.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer).map_err(de::Error::custom)?;
        Ok(names.iter().filter_map(|name| one(name).ok()).fold(Self::default(), Self::and))
    }
}

fn one(name: &str) -> Result<Rights, RightsError> {
    let right = Right::ALL.into_iter().find(|right| right.name() == name);
    right.map(|right| Rights(right.bit())).ok_or_else(|| RightsError(name.to_owned()))
}

impl Access {
    /// Everything, for ever.
    #[must_use]
    pub fn everything() -> Self {
        Self { everywhere: Rights::ALL, ..Self::default() }
    }

    /// What those without a token may do, everywhere.
    #[must_use]
    pub fn anonymous(rights: Rights) -> Self {
        Self { everywhere: rights, anonymous: true, ..Self::default() }
    }

    /// Whether `right` is given on `feed`.
    ///
    /// # Errors
    /// Says what is lacking.
    pub fn check(&self, feed: &FeedId, right: Right) -> Result<(), Denied> {
        let here = self.feeds.get(feed).copied().unwrap_or_default();
        if self.everywhere.and(here).have(right) {
            Ok(())
        } else if self.anonymous {
            Err(Denied::NoToken(right))
        } else {
            Err(Denied::NotAllowed(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rights_of_star_and_of_the_feed_are_united() {
        let summer = FeedId::parse("summer").unwrap();
        let access = Access {
            everywhere: "view".parse().unwrap(),
            feeds: [(summer.clone(), "upload".parse().unwrap())].into(),
            ..Access::default()
        };
        assert_eq!(access.check(&summer, Right::View), Ok(()));
        assert_eq!(access.check(&summer, Right::Upload), Ok(()));
        assert_eq!(access.check(&summer, Right::Delete), Err(Denied::NotAllowed(Right::Delete)));
        let other = FeedId::parse("winter").unwrap();
        assert_eq!(access.check(&other, Right::Upload), Err(Denied::NotAllowed(Right::Upload)));
    }

    #[test]
    fn lists_of_rights_are_read_strictly() {
        assert_eq!("view, upload".parse(), Ok(Rights(0b011)));
        assert_eq!("".parse(), Ok(Rights::default()));
        assert!("views".parse::<Rights>().is_err());
    }
}
