//! Validates single settings and collects the errors.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use secrecy::SecretString;

const MIN_SECRET_BYTES: usize = 32;

/// One setting with an invalid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The environment variable or flag.
    pub name: &'static str,
    /// What the value must be, as the end of a sentence that begins with the name: `must be true or false`.
    pub requirement: String,
}

/// All invalid settings of one command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration:")?;
        for ConfigError { name, requirement } in &self.0 {
            write!(f, "\n  {name} {requirement}")?;
        }
        Ok(())
    }
}

/// Converts settings one by one. An invalid value is recorded and replaced by a placeholder, so that one run
/// reports all errors; [`Validator::finish`] discards the placeholders.
#[derive(Default)]
pub(super) struct Validator(ConfigErrors);

impl Validator {
    /// Returns `config` if no error was recorded.
    pub(super) fn finish<T>(self, config: T) -> Result<T, ConfigErrors> {
        if self.0.0.is_empty() { Ok(config) } else { Err(self.0) }
    }

    pub(super) fn add_error(&mut self, name: &'static str, requirement: impl Into<String>) {
        self.0.0.push(ConfigError { name, requirement: requirement.into() });
    }

    pub(super) fn validate_secret(&mut self, name: &'static str, secret: &str) -> Option<SecretString> {
        let secret = non_empty(secret)?;
        if secret.len() < MIN_SECRET_BYTES {
            let requirement =
                format!("must have at least {MIN_SECRET_BYTES} bytes, this value has {}", secret.len());
            self.add_error(name, requirement);
        }
        Some(secret.into())
    }

    pub(super) fn require_value(&mut self, name: &'static str, value: &str, requirement: &'static str) {
        if value.is_empty() {
            self.add_error(name, requirement);
        }
    }

    pub(super) fn parse_bool(&mut self, name: &'static str, text: &str) -> bool {
        match text {
            "true" | "1" => true,
            "false" | "0" | "" => false,
            _ => {
                self.add_error(name, "must be true or false");
                false
            }
        }
    }

    pub(super) fn parse_u64(&mut self, name: &'static str, text: &str, range: RangeInclusive<u64>) -> u64 {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.unwrap_or_else(|| {
            self.add_error(name, format!("must be an integer from {} to {}", range.start(), range.end()));
            *range.start()
        })
    }

    pub(super) fn parse_usize(
        &mut self,
        name: &'static str,
        text: &str,
        range: RangeInclusive<u64>,
    ) -> usize {
        usize::try_from(self.parse_u64(name, text, range)).unwrap_or(usize::MAX)
    }

    pub(super) fn parse_seconds(
        &mut self,
        name: &'static str,
        text: &str,
        range: RangeInclusive<u64>,
    ) -> Duration {
        Duration::from_secs(self.parse_u64(name, text, range))
    }

    pub(super) fn parse_value<T: FromStr<Err: fmt::Display> + Default>(
        &mut self,
        name: &'static str,
        text: &str,
    ) -> T {
        text.parse().unwrap_or_else(|error: T::Err| {
            self.add_error(name, format!("is invalid: {error}"));
            T::default()
        })
    }
}

/// Treats an empty value as unset: an environment variable can be emptied more easily than removed.
pub(super) fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
