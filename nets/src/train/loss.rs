//! [`Loss`] and [`BatchLoss`].

use std::fmt;
use std::str::FromStr;

/// How wrong the output of a network is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Loss {
    /// Cross-entropy of the softmax: `ln(sum over j of exp(x_j)) - x_label`.
    #[default]
    CrossEntropy,
    /// The hinge loss of a multiclass support vector machine (Weston and Watkins 1999):
    /// `sum over j other than label of max(0, x_j - x_label + margin)`.
    Hinge {
        /// The distance by which the right class must lead; most use 1.
        margin: f32,
    },
}

/// Reads `softmax`, `hinge` or `hinge:MARGIN`, where the margin is above 0 and 1 by default.
impl FromStr for Loss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let margin = match text.split_once(':') {
            None if text == "softmax" => return Ok(Self::CrossEntropy),
            None if text == "hinge" => Some(1.0),
            Some(("hinge", margin)) => margin.parse().ok(),
            _ => None,
        };
        let margin = margin.filter(|margin: &f32| *margin > 0.0 && margin.is_finite());
        let margin =
            margin.ok_or_else(|| format!("expected softmax, hinge or hinge:MARGIN, got `{text}`"))?;
        Ok(Self::Hinge { margin })
    }
}

/// The text that [`FromStr`] reads back to the same bits.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrossEntropy => f.write_str("softmax"),
            Self::Hinge { margin } => write!(f, "hinge:{margin:?}"),
        }
    }
}

/// The loss of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BatchLoss {
    /// The mean over the batch, with the side classifiers times their weight while training.
    pub value: f64,
    /// Number of images whose largest output is that of their label.
    pub correct: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_back() {
        for loss in [Loss::CrossEntropy, Loss::Hinge { margin: 1.0 }, Loss::Hinge { margin: 0.1 + 0.2 }] {
            assert_eq!(loss.to_string().parse(), Ok(loss));
        }
        assert_eq!("hinge".parse(), Ok(Loss::Hinge { margin: 1.0 }));
        for text in ["softmin", "hinge:-1", "hinge:nan", "hinge:", "softmax:1"] {
            let expected = format!("expected softmax, hinge or hinge:MARGIN, got `{text}`");
            assert_eq!(text.parse::<Loss>().unwrap_err(), expected);
        }
    }
}
