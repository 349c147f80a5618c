//! Judges single settings and keeps what is wrong with them.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use secrecy::SecretString;

const MIN_SECRET: usize = 32;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The variable.
    pub name: &'static str,
    /// What it must be.
    pub must: String,
}

/// All that is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not right:")?;
        for Mistake { name, must } in &self.0 {
            write!(f, "\n  {name} {must}")?;
        }
        Ok(())
    }
}

/// Judges one setting after the other; each mistake is noted, and something put in its place.
#[derive(Default)]
pub(super) struct Judge(Mistakes);

impl Judge {
    pub(super) fn verdict<T>(self, good: T) -> Result<T, Mistakes> {
        if self.0.0.is_empty() { Ok(good) } else { Err(self.0) }
    }

    pub(super) fn mistake(&mut self, name: &'static str, must: impl Into<String>) {
        self.0.0.push(Mistake { name, must: must.into() });
    }

    pub(super) fn secret(&mut self, name: &'static str, secret: &str) -> Option<SecretString> {
        let secret = optional(secret)?;
        if secret.len() < MIN_SECRET {
            let must = format!("must have at least {MIN_SECRET} bytes, this one has {}", secret.len());
            self.mistake(name, must);
        }
        Some(secret.into())
    }

    pub(super) fn require(&mut self, name: &'static str, value: &str, must: &'static str) {
        if value.is_empty() {
            self.mistake(name, must);
        }
    }

    pub(super) fn flag(&mut self, name: &'static str, text: &str) -> bool {
        match text {
            "true" | "1" => true,
            "false" | "0" | "" => false,
            _ => {
                self.mistake(name, "must be true or false");
                false
            }
        }
    }

    pub(super) fn whole(&mut self, name: &'static str, text: &str, range: RangeInclusive<u64>) -> u64 {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.unwrap_or_else(|| {
            self.mistake(name, format!("must be a whole number, {} to {}", range.start(), range.end()));
            *range.start()
        })
    }

    pub(super) fn count(&mut self, name: &'static str, text: &str, range: RangeInclusive<u64>) -> usize {
        usize::try_from(self.whole(name, text, range)).unwrap_or(usize::MAX)
    }

    pub(super) fn seconds(&mut self, name: &'static str, text: &str, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.whole(name, text, range))
    }

    pub(super) fn parsed<T: FromStr<Err: fmt::Display> + Default>(
        &mut self,
        name: &'static str,
        text: &str,
    ) -> T {
        text.parse().unwrap_or_else(|error: T::Err| {
            self.mistake(name, format!("is wrong: {error}"));
            T::default()
        })
    }
}

/// An empty value counts as none.
pub(super) fn optional(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
