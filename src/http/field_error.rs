//! Deserialization errors that name the invalid field.

use serde::{Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// Deserializes a JSON value.
///
/// # Errors
/// A description that begins with the path of the invalid field: `files[3].size: must be at least 1`.
pub(super) fn deserialize_value<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    deserialize_named(value)
}

/// The same, from any format.
pub(super) fn deserialize_named<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, String> {
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // The path of the root is a dot.
        if path == "." { error.to_string() } else { format!("{path}: {error}") }
    })
}
