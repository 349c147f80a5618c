//! Takes the values out of the settings and collects the errors.

use super::{
    error::{ConfigError, ConfigErrors},
    setting::Setting,
};

/// Collects errors. The value of an invalid setting is replaced by a placeholder, so that one run reports all
/// errors; [`Validator::finish`] discards the placeholders.
#[derive(Default)]
pub(super) struct Validator(ConfigErrors);

impl Validator {
    /// Returns `config` if no error was recorded.
    pub(super) fn finish<T>(self, config: T) -> Result<T, ConfigErrors> {
        if self.0.0.is_empty() { Ok(config) } else { Err(self.0) }
    }

    pub(super) fn add_error(&mut self, name: &str, requirement: impl Into<String>) {
        self.0.0.push(ConfigError { name: name.to_owned(), requirement: requirement.into() });
    }

    /// Returns the value of a setting that has a default.
    pub(super) fn value<T: Default>(&mut self, setting: Setting<T>) -> T {
        self.optional(Some(setting)).unwrap_or_default()
    }

    /// Returns the value of a setting that may be unset.
    pub(super) fn optional<T>(&mut self, setting: Option<Setting<T>>) -> Option<T> {
        match setting? {
            Setting::Valid(value) => Some(value),
            Setting::Invalid(error) => {
                self.0.0.push(error);
                None
            }
            Setting::Unset => None,
        }
    }

    /// Returns the value of a setting that must be set.
    pub(super) fn required<T: Default>(
        &mut self,
        name: &str,
        setting: Option<Setting<T>>,
        requirement: &str,
    ) -> T {
        self.require(name, setting.as_ref(), requirement);
        self.optional(setting).unwrap_or_default()
    }

    /// Records an error if `setting` is unset. An invalid value has an error of its own.
    pub(super) fn require<T>(&mut self, name: &str, setting: Option<&Setting<T>>, requirement: &str) {
        if !is_set(setting) {
            self.add_error(name, requirement);
        }
    }
}

/// Whether there is a value, valid or not.
pub(super) fn is_set<T>(setting: Option<&Setting<T>>) -> bool {
    !matches!(setting, None | Some(Setting::Unset))
}
