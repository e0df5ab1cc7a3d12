//! The texts of rules and schedules: a name, and numbers behind a colon, as in `step:10,0.1`.

use std::fmt::{Debug, Display};
use std::ops::Range;
use std::str::{FromStr, Split};

/// The parts of a text.
pub(super) struct Fields<'a> {
    pub(super) name: &'a str,
    text: &'a str,
    rest: Option<Split<'a, char>>,
    known: &'static str,
}

impl<'a> Fields<'a> {
    /// Splits a text. `known` lists what it could be.
    pub(super) fn new(text: &'a str, known: &'static str) -> Result<Self, String> {
        let (name, rest) = match text.split_once(':') {
            Some((name, rest)) => (name, Some(rest.split(','))),
            None => (text, None),
        };
        Ok(Self { name, text, rest, known })
    }

    pub(super) fn unknown(&self) -> String {
        format!("expected {}, got `{}`", self.known, self.text)
    }

    /// The next number, or `default` if the text ends before it.
    pub(super) fn float(&mut self, what: &str, default: f32, range: &Range<f32>) -> Result<f32, String> {
        self.number(what, default, range)
    }

    /// The next number, or `default` if the text ends before it.
    pub(super) fn number<T>(&mut self, what: &str, default: T, range: &Range<T>) -> Result<T, String>
    where
        T: FromStr + PartialOrd + Debug + Display,
    {
        let Some(field) = self.rest.as_mut().and_then(Iterator::next) else { return Ok(default) };
        let number = field.trim().parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let Range { start, end } = range;
            format!("{}: expected a {what} from {start:?} to below {end:?}, got `{field}`", self.name)
        })
    }

    /// The next number, or `default` if the text ends before it. The default can also be written, outside of the range.
    pub(super) fn number_or(&mut self, what: &str, default: f64, range: &Range<f64>) -> Result<f64, String> {
        let text = self.rest.clone().and_then(|mut rest| rest.next());
        let is_default = text.and_then(|text| text.trim().parse().ok()) == Some(default);
        let number = self.number(&format!("{what} of {default}, or"), default, range);
        if is_default { Ok(default) } else { number }
    }

    /// Checks that nothing is left.
    pub(super) fn end(mut self) -> Result<(), String> {
        match self.rest.as_mut().and_then(Iterator::next) {
            Some(_) => Err(self.unknown()),
            None => Ok(()),
        }
    }
}

/// The shortest text that parses to the same number.
pub(super) fn float(number: impl Debug) -> String {
    format!("{number:?}")
}
