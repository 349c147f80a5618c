//! Parsers of the values of settings, for clap. Clap stops at the first invalid value, so these parsers never
//! fail: they return the error as a value, and the validator reports the errors of all settings together.

use std::{convert::Infallible, ffi::OsStr, fmt::Display, ops::RangeInclusive, time::Duration};

use clap::{
    Arg, Command,
    builder::{PossibleValue, TypedValueParser},
};

use super::error::ConfigError;

/// The value of a flag or environment variable.
#[derive(Debug, Clone)]
pub(super) enum Setting<T> {
    Valid(T),
    Invalid(ConfigError),
    /// An optional variable that is empty: it can be emptied more easily than removed.
    Unset,
}

/// Parses an integer of `range`.
pub(super) fn integer<T>(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = Setting<T>>
where
    T: TryFrom<u64> + Clone + Send + Sync + 'static,
{
    in_range(range, |number| T::try_from(number).ok())
}

/// Parses a number of seconds.
pub(super) fn seconds(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = Setting<Duration>> {
    in_range(range, |number| Some(Duration::from_secs(number)))
}

/// Parses a number of milliseconds.
pub(super) fn milliseconds(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = Setting<Duration>> {
    in_range(range, |number| Some(Duration::from_millis(number)))
}

/// Parses one of several words.
pub(super) fn choice<T, W, const N: usize>(choices: [(W, T); N]) -> impl TypedValueParser<Value = Setting<T>>
where
    T: Clone + Send + Sync + 'static,
    W: Into<PossibleValue>,
{
    let choices = choices.map(|(word, value)| (word.into(), value));
    let possible_values = choices.iter().map(|(word, _)| word.clone()).collect();
    let parse = move |text: &str| {
        let chosen = choices.iter().find(|(word, _)| word.matches(text, false));
        chosen.map(|(_, value)| value.clone()).ok_or_else(|| {
            let words = choices.each_ref().map(|(word, _)| word.get_name()).join(", ");
            match words.rsplit_once(", ") {
                Some((first, last)) => format!("must be {first} or {last}"),
                None => format!("must be {words}"),
            }
        })
    };
    SettingParser { parse, possible_values }
}

/// Parses `true` or `false`, which is the default.
pub(super) fn boolean() -> impl TypedValueParser<Value = Setting<bool>> {
    let [yes, no] = ["true", "false"].map(PossibleValue::new);
    choice([(yes.alias("1"), true), (no.aliases(["0", ""]), false)])
}

/// Parses `on` or `off`.
pub(super) fn switch() -> impl TypedValueParser<Value = Setting<bool>> {
    choice([("on", true), ("off", false)])
}

/// Accepts every text.
pub(super) fn text<T>() -> impl TypedValueParser<Value = Setting<T>>
where
    T: for<'a> From<&'a str> + Clone + Send + Sync + 'static,
{
    parsed(|text| Ok::<T, Infallible>(T::from(text)))
}

/// Parses with `parse`, whose error is what the value must be.
pub(super) fn parsed<T, E>(
    parse: impl Fn(&str) -> Result<T, E> + Clone + Send + Sync + 'static,
) -> impl TypedValueParser<Value = Setting<T>>
where
    T: Clone + Send + Sync + 'static,
    E: Display,
{
    let parse = move |text: &str| parse(text).map_err(|error| error.to_string());
    SettingParser { parse, possible_values: Vec::new() }
}

fn in_range<T: Clone + Send + Sync + 'static>(
    range: RangeInclusive<u64>,
    convert: fn(u64) -> Option<T>,
) -> impl TypedValueParser<Value = Setting<T>> {
    let (min, max) = range.clone().into_inner();
    let parse = move |text: &str| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.and_then(convert).ok_or_else(|| format!("must be an integer from {min} to {max}"))
    };
    SettingParser { parse, possible_values: vec![PossibleValue::new(format!("{min}-{max}"))] }
}

#[derive(Clone)]
struct SettingParser<F> {
    parse: F,
    /// For `--help`.
    possible_values: Vec<PossibleValue>,
}

impl<F, T> TypedValueParser for SettingParser<F>
where
    F: Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
{
    type Value = Setting<T>;

    fn parse_ref(&self, _: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Self::Value, clap::Error> {
        if value.is_empty() && arg.is_some_and(is_optional_variable) {
            return Ok(Setting::Unset);
        }
        let text = value.to_str().ok_or_else(|| "must be UTF-8".to_owned());
        Ok(match text.and_then(&self.parse) {
            Ok(value) => Setting::Valid(value),
            Err(requirement) => {
                Setting::Invalid(ConfigError { name: arg.map(name_of).unwrap_or_default(), requirement })
            }
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.possible_values.iter().cloned()))
    }
}

fn is_optional_variable(arg: &Arg) -> bool {
    arg.get_env().is_some() && arg.get_default_values().is_empty()
}

fn name_of(arg: &Arg) -> String {
    match arg.get_env() {
        Some(variable) => variable.to_string_lossy().into_owned(),
        None => format!("--{}", arg.get_long().unwrap_or_default()),
    }
}
