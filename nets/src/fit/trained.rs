//! [`Trained`]: a parameter that is trained.

/// A parameter that is trained.
#[derive(Debug)]
pub(super) struct Trained {
    pub(super) name: String,
    pub(super) len: usize,
    pub(super) is_weight: bool,
    /// The factor of the learning rate.
    pub(super) scale: f64,
    /// The size of the last measured step divided by the size of the weights.
    pub(super) ratio: Option<f64>,
}
