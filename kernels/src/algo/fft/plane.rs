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
    pub(super) rows: &'a mut [f32],
    /// The half spectra of all rows.
    pub(super) plane: &'a mut [f32],
    pub(super) passes: &'a mut [f32],
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
        self.forward_rows(scratch, |y, stage| {
            if y.is_multiple_of(2) {
                stage.fill(0.0);
            }
            fill(y, stage)
        });
        let Tables { x, y, .. } = self.tables;
        let from = Plane { data: scratch.plane, step: x.half() * COMPLEX, column: COMPLEX };
        let to = self.columns(spectrum, step);
        self.kernels.columns(y, x.half(), from, to, false, scratch.passes);
    }

    /// Transforms the rows of a tile to the plane. `fill` writes row `y` to sixteen of every [`COMPLEX`]
    /// elements, and returns whether the row exists. An even row comes before the odd one after it.
    pub(super) fn forward_rows(
        &self,
        scratch: &mut Scratch<'_>,
        mut fill: impl FnMut(usize, &mut [f32]) -> bool,
    ) {
        let x = &self.tables.x;
        for (pair, spectra) in scratch.plane.chunks_exact_mut(2 * x.half() * COMPLEX).enumerate() {
            let first = fill(2 * pair, scratch.rows);
            let second = fill(2 * pair + 1, &mut scratch.rows[BLOCK..]);
            if first || second {
                self.kernels.forward_rows(x, scratch.rows, spectra, scratch.passes);
            } else {
                spectra.fill(0.0);
            }
        }
    }

    /// Transforms column `x` of the plane to `spectrum`, or back if `inverse`.
    pub(super) fn column(&self, scratch: &mut Scratch<'_>, x: usize, spectrum: &mut [f32], inverse: bool) {
        let row = self.tables.x.half() * COMPLEX;
        let of_plane = Plane { data: &mut scratch.plane[x * COMPLEX..], step: row, column: 0 };
        let spectrum = Plane { data: spectrum, step: COMPLEX, column: 0 };
        let (from, to) = if inverse { (spectrum, of_plane) } else { (of_plane, spectrum) };
        self.kernels.columns(&self.tables.y, 1, from, to, inverse, scratch.passes);
    }

    /// Transforms a spectrum back, and passes the first `count` rows of the tile to `take`. The numbers of
    /// the spectrum are `step` times [`COMPLEX`] elements apart.
    pub(super) fn inverse(
        &self,
        scratch: &mut Scratch<'_>,
        spectrum: &mut [f32],
        step: usize,
        count: usize,
        take: impl FnMut(usize, &[f32]),
    ) {
        let Tables { x, y, .. } = self.tables;
        let to = Plane { data: scratch.plane, step: x.half() * COMPLEX, column: COMPLEX };
        let from = self.columns(spectrum, step);
        self.kernels.columns(y, x.half(), from, to, true, scratch.passes);
        self.inverse_rows(scratch, count, take);
    }

    /// Transforms the plane back, and passes the first `count` rows of the tile to `take`.
    pub(super) fn inverse_rows(
        &self,
        scratch: &mut Scratch<'_>,
        count: usize,
        mut take: impl FnMut(usize, &[f32]),
    ) {
        let x = &self.tables.x;
        for (pair, spectra) in scratch.plane.chunks_exact_mut(2 * x.half() * COMPLEX).enumerate() {
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
