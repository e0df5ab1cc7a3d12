//! [`Weights`]: the borrowed weights of a convolution, and [`FilterShape`]: their extents.

use super::{ConvDesc, ConvError, Size2, check_positive, checked_product};
use std::fmt;

/// The trained weights of a convolution, borrowed.
///
/// A plan packs a copy of them and does not keep the borrow.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// The filter in OIHW order, `[O][C / groups][KH][KW]`: [`FilterShape::elements`] elements.
    pub filter: &'a [f32],
    /// One bias per output channel, if and only if the epilogue has a bias.
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

/// The extents of a filter, `[O][C / groups][KH][KW]`. They do not depend on the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FilterShape {
    /// Number of output channels, all groups together.
    pub out_channels: usize,
    /// Number of input channels that one output channel reads: `C / groups`.
    pub in_channels: usize,
    /// Height and width of the kernel, without dilation.
    pub kernel: Size2,
    /// Number of groups, a divisor of the output channels.
    pub groups: usize,
}

impl FilterShape {
    /// The shape of `out_channels` filters of `in_channels` input channels each, in one group.
    pub const fn new(out_channels: usize, in_channels: usize, kernel: Size2) -> Self {
        Self { out_channels, in_channels, kernel, groups: 1 }
    }

    /// Sets the number of groups. The input then has `groups * in_channels` channels.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Number of elements of the filter.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] if an extent is zero, or if the groups do not divide the output
    ///   channels.
    /// - [`ConvError::SizeOverflow`] if the address space cannot hold the filter.
    pub fn elements(&self) -> Result<usize, ConvError> {
        let Self { out_channels, in_channels, kernel, groups } = *self;
        check_positive(&[
            ("out_channels", out_channels),
            ("in_channels", in_channels),
            ("kernel.h", kernel.h),
            ("kernel.w", kernel.w),
            ("groups", groups),
        ])?;
        if !out_channels.is_multiple_of(groups) {
            let expected = format!("a divisor of the {out_channels} output channels");
            return Err(ConvError::field("groups", expected, groups));
        }
        checked_product("filter", &[out_channels, in_channels, kernel.h, kernel.w])
    }

    /// Number of input channels, all groups together.
    pub fn input_channels(&self) -> usize {
        self.in_channels.saturating_mul(self.groups)
    }
}

impl From<&ConvDesc> for FilterShape {
    fn from(desc: &ConvDesc) -> Self {
        Self::new(desc.output().c, desc.ins(), desc.kernel()).groups(desc.groups())
    }
}

impl fmt::Display for FilterShape {
    /// Writes `64x32x3x3`, or `64x1x3x3 groups 64` if there is more than one group.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.out_channels, self.in_channels, self.kernel)?;
        if self.groups != 1 {
            write!(f, " groups {}", self.groups)?;
        }
        Ok(())
    }
}
