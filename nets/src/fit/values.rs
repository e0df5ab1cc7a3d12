//! Named texts: the form in which recipes and progress are saved.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Names and texts. Numbers are written so that they parse to the same bits.
pub(super) type Values = BTreeMap<String, String>;

/// Parses the value of a name.
///
/// # Errors
/// A sentence with the name, if it is missing or unusable.
pub(super) fn get<T: FromStr>(values: &Values, name: &str) -> Result<T, String> {
    let text = values.get(name).ok_or_else(|| format!("no `{name}`"))?;
    text.parse().map_err(|_| format!("`{name}` as `{text}`"))
}

/// Parses a list whose parts are separated by spaces.
pub(super) fn list<T: FromStr>(values: &Values, name: &str) -> Result<Vec<T>, String> {
    let text = values.get(name).ok_or_else(|| format!("no `{name}`"))?;
    let parts = text.split_whitespace().map(|part| part.parse().map_err(|_| format!("`{name}` as `{text}`")));
    parts.collect()
}
