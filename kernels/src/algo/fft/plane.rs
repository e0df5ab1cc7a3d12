//! The transforms of one tile in sixteen channels to its spectrum, and back.

use super::schedule::Lengths;
use crate::describe::BLOCK;
use crate::tile::fft::{COMPLEX, Length};
use crate::tile::fft_table::{FftKernels, Plane};

/// The factors of the transforms of a tile.
pub(super) struct Tables {
    lengths: Lengths,
    x: Length,
    y: Length,
}

/// The transforms of a tile.
#[derive(Clone, Copy)]
pub(super) struct Transform<'a> {
    tables: &'a Tables,
    kernels: &'static FftKernels,
}

/// The scratch memory of a transform.
pub(super) struct Scratch<'a> {
    /// Two rows of the tile.
    rows: &'a mut [f32],
    /// The half spectra of all rows.
    plane: &'a mut [f32],
    passes: &'a mut [f32],
}

impl Tables {
    pub(super) fn new(lengths: Lengths) -> Self {
        Self { lengths, x: Length::new(lengths.x), y: Length::new(lengths.y) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.x.bytes() + self.y.bytes()
    }

    /// The transforms as `kernels` compute them.
    pub(super) fn with(&self, kernels: &'static FftKernels) -> Transform<'_> {
        Transform { tables: self, kernels }
    }
}

impl Transform<'_> {
    /// The factor that is still missing after one transform of the image, one of the weights (each of which
    /// doubles its numbers) and one back. It is applied at the end, because applying it to small weights
    /// would lose accuracy.
    pub(super) fn scale(&self) -> f32 {
        (1.0 / (4 * self.tables.x.n() * self.tables.y.n()) as f64) as f32
    }

    /// Splits `memory` of [`Lengths::scratch_len`] elements.
    pub(super) fn scratch<'a>(&self, memory: &'a mut [f32]) -> Scratch<'a> {
        let (rows, memory) = memory.split_at_mut(self.tables.lengths.rows_len());
        let (plane, passes) = memory.split_at_mut(self.tables.lengths.spectrum_len());
        Scratch { rows, plane, passes }
    }

    /// Transforms a tile. `fill` adds row `y` of the tile to zeros, sixteen channels every [`COMPLEX`]
    /// elements, and returns whether the row exists. The numbers of the spectrum are `step` times [`COMPLEX`]
    /// elements apart.
    pub(super) fn forward(
        &self,
        scratch: &mut Scratch<'_>,
        spectrum: &mut [f32],
        step: usize,
        mut fill: impl FnMut(usize, &mut [f32]) -> bool,
    ) {
        let Tables { x, y, .. } = self.tables;
        let row = x.half() * COMPLEX;
        for (pair, spectra) in scratch.plane.chunks_exact_mut(2 * row).enumerate() {
            let rows = &mut scratch.rows[..self.tables.lengths.rows_len()];
            rows.fill(0.0);
            let first = fill(2 * pair, rows);
            let second = fill(2 * pair + 1, &mut rows[BLOCK..]);
            if first || second {
                self.kernels.forward_rows(x, rows, spectra, scratch.passes);
            } else {
                spectra.fill(0.0);
            }
        }
        let from = Plane { data: scratch.plane, step: row, column: COMPLEX };
        let to = self.columns(spectrum, step);
        self.kernels.columns(y, x.half(), from, to, false, scratch.passes);
    }

    /// Transforms a spectrum back, and passes the first `count` rows of the tile to `take`. The numbers of
    /// the spectrum are `step` times [`COMPLEX`] elements apart.
    pub(super) fn inverse(
        &self,
        scratch: &mut Scratch<'_>,
        spectrum: &mut [f32],
        step: usize,
        count: usize,
        mut take: impl FnMut(usize, &[f32]),
    ) {
        let Tables { x, y, .. } = self.tables;
        let row = x.half() * COMPLEX;
        let to = Plane { data: scratch.plane, step: row, column: COMPLEX };
        let from = self.columns(spectrum, step);
        self.kernels.columns(y, x.half(), from, to, true, scratch.passes);
        for (pair, spectra) in scratch.plane.chunks_exact_mut(2 * row).enumerate() {
            if 2 * pair >= count {
                return;
            }
            self.kernels.inverse_rows(x, spectra, scratch.rows, scratch.passes);
            take(2 * pair, scratch.rows);
            if 2 * pair + 1 < count {
                take(2 * pair + 1, &scratch.rows[BLOCK..]);
            }
        }
    }

    fn columns<'a>(&self, data: &'a mut [f32], step: usize) -> Plane<'a> {
        let step = step * COMPLEX;
        Plane { data, step, column: self.tables.y.n() * step }
    }
}
