//! The cost of a convolution by its definition, independent of the algorithm.

use super::{ConvDesc, Layout};

/// Work and traffic of one [`ConvDesc`]. Counts are exact and saturate at `u64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// Multiply-accumulates: `N*O*OH*OW*(C/groups)*KH*KW`. Products with padding count, as in the literature.
    pub macs: u64,
    /// Floating-point operations: `2 * macs`. Bias and activation do not count.
    pub flops: u64,
    /// Bytes of input, filter and output, each counted once. The padding lanes of a blocked layout do not
    /// count.
    pub min_bytes: u64,
}

impl Cost {
    pub(super) fn of(desc: &ConvDesc) -> Self {
        let out = desc.output();
        let per_output = [desc.ins(), desc.kernel().h, desc.kernel().w];
        let product = |factors: &[usize]| {
            factors.iter().fold(1u64, |product, &factor| product.saturating_mul(factor as u64))
        };
        let macs = product(&[out.n, out.c, out.h, out.w]).saturating_mul(product(&per_output));
        // The builder has checked that each size fits; NCHW has no padding lanes.
        let elements = |len: Result<usize, _>| len.map_or(u64::MAX, |len: usize| len as u64);
        let min_bytes = elements(desc.input().len(Layout::Nchw))
            .saturating_add(desc.filter_len() as u64)
            .saturating_add(elements(out.len(Layout::Nchw)))
            .saturating_mul(size_of::<f32>() as u64);
        Self { macs, flops: macs.saturating_mul(2), min_bytes }
    }

    /// Arithmetic intensity in FLOPs per byte of compulsory traffic: the horizontal axis of the roofline.
    pub fn intensity(&self) -> f64 {
        self.flops as f64 / self.min_bytes.max(1) as f64
    }
}
