//! Names of the enums for reports and command lines. `Display` writes them and `FromStr` reads them.

use super::{Activation, Algorithm, ConvError, Isa, Layout};
use std::fmt;
use std::str::FromStr;

/// Returns the item of `all` whose name is `text`.
///
/// # Errors
/// [`ConvError::InvalidField`], which lists all names.
pub(crate) fn by_name<T: Copy>(
    what: &'static str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
    text: &str,
) -> Result<T, ConvError> {
    let found = all.iter().copied().find(|&item| name(item) == text);
    found.ok_or_else(|| ConvError::field(what, alternatives(all.iter().map(|&item| name(item))), text))
}

/// Joins names to `a, b or c`.
fn alternatives(names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<_> = names.collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

impl FromStr for Layout {
    type Err = ConvError;

    /// Parses a layout by its [`name`](Self::name).
    fn from_str(text: &str) -> Result<Self, ConvError> {
        by_name("layout", &Self::ALL, Self::name, text)
    }
}

impl FromStr for Isa {
    type Err = ConvError;

    /// Parses an instruction set by its [`name`](Self::name). This machine need not have it.
    fn from_str(text: &str) -> Result<Self, ConvError> {
        by_name("isa", &Self::ALL, Self::name, text)
    }
}

impl FromStr for Algorithm {
    type Err = ConvError;

    /// Parses an algorithm by its [`name`](Self::name).
    fn from_str(text: &str) -> Result<Self, ConvError> {
        by_name("algorithm", &Self::ALL, Self::name, text)
    }
}

/// One example of each activation, for the names.
const ACTIVATIONS: [Activation; 10] = [
    Activation::None,
    Activation::Relu,
    Activation::LeakyRelu { alpha: 0.01 },
    Activation::RELU6,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Elu { alpha: 1.0 },
    Activation::PRelu,
    Activation::HardSwish,
    Activation::Silu,
];

impl fmt::Display for Activation {
    /// Writes the name and, after a colon, the parameters: `relu`, `leaky_relu:0.01`, `clip:0:6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeakyRelu { alpha } | Self::Elu { alpha } => write!(f, "{}:{alpha}", self.name()),
            Self::Clip { lo, hi } => write!(f, "{}:{lo}:{hi}", self.name()),
            _ => f.pad(self.name()),
        }
    }
}

impl FromStr for Activation {
    type Err = ConvError;

    /// Parses the text that `Display` writes. Without parameters, `leaky_relu` has a slope of 0.01, `elu` has
    /// an alpha of 1, and `clip` is ReLU6.
    fn from_str(text: &str) -> Result<Self, ConvError> {
        let (name, parameters) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let activation = by_name("activation", &ACTIVATIONS, Self::name, name)?;
        let Some(parameters) = parameters else { return Ok(activation) };
        let wrong = |expected| ConvError::field("activation", expected, text);
        let number = |text: &str, expected| text.parse::<f32>().map_err(|_| wrong(expected));
        let activation = match activation {
            Self::LeakyRelu { .. } => Self::LeakyRelu { alpha: number(parameters, "leaky_relu:ALPHA")? },
            Self::Elu { .. } => Self::Elu { alpha: number(parameters, "elu:ALPHA")? },
            Self::Clip { .. } => {
                let (lo, hi) = parameters.split_once(':').ok_or_else(|| wrong("clip:LO:HI"))?;
                Self::Clip { lo: number(lo, "clip:LO:HI")?, hi: number(hi, "clip:LO:HI")? }
            }
            _ => return Err(wrong("a name without parameters")),
        };
        activation.check()?;
        Ok(activation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        fn assert_read<T: fmt::Display + FromStr<Err = ConvError> + PartialEq + fmt::Debug>(item: T) {
            assert_eq!(item.to_string().parse(), Ok(item));
        }
        Layout::ALL.into_iter().for_each(assert_read);
        Isa::ALL.into_iter().for_each(assert_read);
        Algorithm::ALL.into_iter().for_each(assert_read);
        ACTIVATIONS.into_iter().for_each(assert_read);
        assert_read(Activation::Clip { lo: -0.5, hi: 1e9 });
    }

    #[test]
    fn other_names_are_refused_with_those_there_are() {
        let refused = |result: Result<Activation, ConvError>| result.unwrap_err().to_string();
        assert_eq!(
            "nhcw".parse::<Layout>().unwrap_err().to_string(),
            "layout: expected nchw, nhwc or nchw16c, got nhcw"
        );
        assert_eq!(
            "avx".parse::<Isa>().unwrap_err().to_string(),
            "isa: expected portable, neon, avx2fma, avx512f, avx512bf16 or amx, got avx"
        );
        assert_eq!(refused("relu:1".parse()), "activation: expected a name without parameters, got relu:1");
        assert_eq!(refused("clip:1".parse()), "activation: expected clip:LO:HI, got clip:1");
        assert_eq!(refused("clip:2:1".parse()), "activation.clip: expected lo <= hi, got lo 2, hi 1");
        assert_eq!(refused("elu:nan".parse()), "activation.alpha: expected a finite number, got NaN");
    }
}
