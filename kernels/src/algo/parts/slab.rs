//! The parts of a slab of workspace.

use crate::memory::split_memory;

/// Elements of the parts of a slab. Each is a whole number of cache lines.
pub(super) struct SlabLens {
    /// The split pixels.
    pub(super) pixels: usize,
    /// The sums of a stretch and a panel, and those of a later block of K.
    pub(super) sums: usize,
    pub(super) more: usize,
    /// The split weights of a block, if they are stored as floats.
    pub(super) weights: usize,
    /// Rows of pixels before they are split.
    pub(super) rows: usize,
    /// Outputs and residual before they are transposed to NCHW.
    pub(super) lines: usize,
}

/// The parts of a slab.
pub(super) struct Slab<'a> {
    pub(super) pixels: &'a mut [f32],
    pub(super) sums: &'a mut [f32],
    pub(super) more: &'a mut [f32],
    pub(super) weights: &'a mut [f32],
    pub(super) rows: &'a mut [f32],
    pub(super) lines: &'a mut [f32],
}

impl SlabLens {
    pub(super) fn sum(&self) -> usize {
        let Self { pixels, sums, more, weights, rows, lines } = *self;
        [sums, more, weights, rows, lines].into_iter().fold(pixels, usize::saturating_add)
    }

    pub(super) fn cut(self, slab: &mut [f32]) -> Slab<'_> {
        let Self { pixels, sums, more, weights, rows, lines } = self;
        let (parts, _) = split_memory(slab, [pixels, sums, more, weights, rows, lines], 1);
        let [pixels, sums, more, weights, rows, lines] = parts;
        Slab { pixels, sums, more, weights, rows, lines }
    }
}
