//! [`Pattern`]: names of parameters with wildcards.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A pattern of names: `*` stands for any letters, as in `layer1.*` or `*.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Whether a name fits.
    pub fn fits(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let parts: Vec<&str> = parts.collect();
        let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
        for part in between {
            // The earliest place leaves the most for the other parts.
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_letters() {
        let cases: [(&str, &[&str], &[&str]); 6] = [
            ("c1.weight", &["c1.weight"], &["c1.weights", "xc1.weight", ""]),
            ("c1.*", &["c1.weight", "c1."], &["c11.weight", "c1"]),
            ("*.bias", &["c1.bias", ".bias"], &["c1.bias2"]),
            ("layer*.conv*.weight", &["layer1.0.conv2.weight", "layer.conv.weight"], &["layer1.bn1.weight"]),
            ("*", &["", "anything"], &[]),
            ("a*a", &["aa", "aba"], &["a"]),
        ];
        for (pattern, fitting, others) in cases {
            let pattern: Pattern = pattern.parse().unwrap();
            fitting.iter().for_each(|name| assert!(pattern.fits(name), "{pattern} {name}"));
            others.iter().for_each(|name| assert!(!pattern.fits(name), "{pattern} {name}"));
        }
    }
}
