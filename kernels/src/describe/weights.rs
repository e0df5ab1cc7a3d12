//! [`Weights`]: the borrowed numbers that a plan packs.

/// The trained numbers of a convolution. They are copied; the plan does not borrow them.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// `[O][C / groups][KH][KW]`, [`ConvDesc::filter_len`](super::ConvDesc::filter_len) elements.
    pub filter: &'a [f32],
    /// One number per output channel, if and only if the epilogue has a bias.
    pub bias: Option<&'a [f32]>,
    /// One slope per output channel, if and only if the activation is [`Activation::PRelu`](super::Activation::PRelu).
    pub slope: Option<&'a [f32]>,
}

impl<'a> Weights<'a> {
    /// A filter without bias or slopes.
    pub const fn filter(filter: &'a [f32]) -> Self {
        Self { filter, bias: None, slope: None }
    }

    /// A filter with bias, without slopes.
    pub const fn with_bias(filter: &'a [f32], bias: &'a [f32]) -> Self {
        Self { filter, bias: Some(bias), slope: None }
    }
}
