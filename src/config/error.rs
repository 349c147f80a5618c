//! Errors of the configuration.

use std::fmt;

/// One setting with an invalid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The environment variable or flag.
    pub name: String,
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
