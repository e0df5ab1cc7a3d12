//! [`Loss`] and [`BatchLoss`].

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

/// The loss of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BatchLoss {
    /// The mean over the batch, with the side classifiers times their weight while training.
    pub value: f64,
    /// Number of images whose largest output is that of their label.
    pub correct: usize,
}
