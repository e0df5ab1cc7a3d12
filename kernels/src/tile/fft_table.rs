//! [`FftKernels`]: the kernels of FFT convolution behind safe, length-checked calls.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features
//! were detected.

use super::activate::SumsArgs;
use super::boundary::Entry;
use super::fft::{COMPLEX, Length};
use super::fft_lanes::{ColumnArgs, GatherArgs, LaneRow, ScatterArgs};
use super::fft_plane::{ColumnsArgs, RowsArgs};
use super::fft_product::ProductArgs;
use super::finish::FinishArgs;
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::post::Post;
use crate::describe::BLOCK;

/// Transforms, products of spectra, and the epilogue.
pub struct FftKernels {
    pub(super) name: &'static str,
    pub(super) tiles_name: &'static str,
    pub(super) lanes: usize,
    pub(super) forward_rows: Entry<RowsArgs>,
    pub(super) inverse_rows: Entry<RowsArgs>,
    pub(super) columns: Entry<ColumnsArgs>,
    /// Kernels by number of tiles, starting at 1.
    pub(super) products: &'static [Entry<ProductArgs>],
    pub(super) lane_product: Entry<ProductArgs>,
    pub(super) column_product: Entry<ColumnArgs>,
    pub(super) gather_rows: Entry<GatherArgs>,
    pub(super) scatter_rows: Entry<ScatterArgs>,
    pub(super) finish: Entry<FinishArgs>,
    pub(super) activate: Entry<SumsArgs>,
}

/// `fft_kernels!(enter_<isa>, name, name if lanes are tiles: lanes, tiles of a product)`.
macro_rules! fft_kernels {
    ($enter:ident, $name:literal $tiles_name:literal: lanes $lanes:literal, tiles [$($tiles:literal)+]) => {{
        use super::{fft_lanes, fft_plane, fft_product, finish};
        FftKernels {
            name: $name,
            tiles_name: $tiles_name,
            lanes: $lanes,
            forward_rows: fft_plane::ForwardRows::$enter,
            inverse_rows: fft_plane::InverseRows::$enter,
            columns: fft_plane::Columns::$enter,
            products: &[$(<fft_product::Product<$tiles>>::$enter),+],
            lane_product: fft_product::LaneProduct::$enter,
            column_product: fft_lanes::ColumnProduct::$enter,
            gather_rows: fft_lanes::GatherRows::$enter,
            scatter_rows: fft_lanes::ScatterRows::$enter,
            finish: <finish::Finish<{ crate::describe::BLOCK / $lanes }>>::$enter,
            activate: super::activate::ActivateSums::$enter,
        }
    }};
}
pub(super) use fft_kernels;

// Names of the operands in errors.
const IMAGE: &str = "spectra of the image";
const WEIGHTS: &str = "spectra of the weights";
const SUMS: &str = "sums of spectra";

/// Columns of complex numbers. Numbers are `step` elements apart, and columns are `column` elements apart.
pub(crate) struct Plane<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) step: usize,
    pub(crate) column: usize,
}

impl Plane<'_> {
    /// Checks that the plane holds `columns` columns of `n` numbers.
    ///
    /// # Panics
    /// If it does not. That is a bug in this library.
    fn measure(&self, columns: usize, n: usize) {
        let needed = span([(columns, self.column), (n, self.step), (COMPLEX, 1)]);
        require("plane of a transform", needed, self.data.len());
    }
}

/// The operands of a product.
#[derive(Clone, Copy)]
pub(crate) struct Factors<'a> {
    /// The spectra of the image, `[block of channels][bin][tile]`, as complex numbers.
    pub(crate) image: &'a [f32],
    /// The spectra of the weights, `[bin][channel]`, as complex numbers.
    pub(crate) weights: &'a [f32],
    pub(crate) bins: usize,
    /// Number of input channels to sum. In a lane product, it is the distance between bins of the weights, in
    /// numbers.
    pub(crate) channels: usize,
}

impl FftKernels {
    /// `fft_f32_<tiles of a product>x<channels>_<isa>`. Code, tests, benches and reports use this name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// `fft_f32_16tiles_<isa>`: the name if the lanes of the transforms are tiles.
    pub fn tiles_name(&self) -> &'static str {
        self.tiles_name
    }

    /// Maximum number of tiles of a product.
    pub fn tiles(&self) -> usize {
        self.products.len()
    }

    /// Number of channels of a vector.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Transforms two rows into twice their half spectra. `rows` is `n` complex numbers: one row is the real
    /// parts, and the other the imaginary parts. It is overwritten. `spectra` is two times `n / 2 + 1`
    /// numbers.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn forward_rows(
        &self,
        length: &Length,
        rows: &mut [f32],
        spectra: &mut [f32],
        scratch: &mut [f32],
    ) {
        let args = rows_args(length, rows, spectra, scratch);
        // SAFETY: the operands were measured and are borrowed. The features were detected.
        unsafe { (self.forward_rows)(&args) }
    }

    /// Transforms two half spectra into `n` times their rows. The operands have the form of
    /// [`forward_rows`](Self::forward_rows).
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn inverse_rows(
        &self,
        length: &Length,
        spectra: &mut [f32],
        rows: &mut [f32],
        scratch: &mut [f32],
    ) {
        let args = rows_args(length, rows, spectra, scratch);
        // SAFETY: the operands were measured and are borrowed. The features were detected.
        unsafe { (self.inverse_rows)(&args) }
    }

    /// Transforms columns of complex numbers. The inverse transform gives `n` times the numbers.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn columns(
        &self,
        length: &Length,
        columns: usize,
        from: Plane<'_>,
        to: Plane<'_>,
        inverse: bool,
        scratch: &mut [f32],
    ) {
        from.measure(columns, length.n());
        to.measure(columns, length.n());
        assert!(scratch.len() >= length.scratch_len());
        let args = ColumnsArgs {
            length,
            columns,
            from: from.data.as_mut_ptr(),
            from_step: from.step,
            from_column: from.column,
            to: to.data.as_mut_ptr(),
            to_step: to.step,
            to_column: to.column,
            inverse,
            scratch: scratch.as_mut_ptr(),
        };
        // SAFETY: the operands were measured and are borrowed. The features were detected.
        unsafe { (self.columns)(&args) }
    }

    /// `out[bin][tile] = sum over channels of image[bin][tile] * weights[bin]`. Each input channel is
    /// multiplied with sixteen output channels.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn product(&self, tiles: usize, factors: &Factors<'_>, out: &mut [f32]) {
        let Factors { image, bins, channels, .. } = *factors;
        let block = product([bins, tiles, COMPLEX]);
        assert!((1..=self.tiles()).contains(&tiles) && channels > 0);
        require(IMAGE, product([channels.div_ceil(BLOCK), block]), image.len());
        require(WEIGHTS, product([bins, channels, COMPLEX]), factors.weights.len());
        require(SUMS, block, out.len());
        let args = factors.args(block, out, false);
        // SAFETY: the operands were measured and are borrowed. The features were detected.
        unsafe { self.products[tiles - 1](&args) }
    }

    /// `out[bin] = image[bin] * weights[bin][0]`, or adds that product to `out`. It is computed lane by lane,
    /// for one tile.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn lane_product(&self, factors: &Factors<'_>, add: bool, out: &mut [f32]) {
        let block = product([factors.bins, COMPLEX]);
        assert!(factors.channels > 0);
        require(IMAGE, block, factors.image.len());
        let needed = span([(factors.bins, product([factors.channels, COMPLEX])), (COMPLEX, 1)]);
        require(WEIGHTS, needed, factors.weights.len());
        require(SUMS, block, out.len());
        let args = factors.args(block, out, add);
        // SAFETY: the operands were measured and are borrowed. The features were detected.
        unsafe { (self.lane_product)(&args) }
    }

    /// `out[number] = sum over channels of image[channel][number] * weights[channel][number]`, for a column of
    /// `n` numbers in sixteen tiles. A weight is one complex number for all tiles.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn column_product(&self, n: usize, image: &[f32], weights: &[f32], out: &mut [f32]) {
        let channels = weights.len() / (2 * n);
        assert!(channels > 0);
        require(IMAGE, product([channels, n, COMPLEX]), image.len());
        require(SUMS, product([n, COMPLEX]), out.len());
        let (image, weights, out) = (image.as_ptr(), weights.as_ptr(), out.as_mut_ptr());
        let args = ColumnArgs { n, channels, image, weights, out };
        // SAFETY: the operands were measured and are borrowed. The features were detected.
        unsafe { (self.column_product)(&args) }
    }

    /// Writes the rows of sixteen tiles to the real (or imaginary) parts of the `n` complex numbers that begin
    /// at `out`. Numbers outside a row are zero. The rows that are `ahead` elements further on are prefetched.
    ///
    /// # Panics
    /// If a row or the output is too short. That is a bug in this library.
    pub(crate) fn gather_rows(&self, rows: &[LaneRow<'_>; BLOCK], n: usize, ahead: usize, out: &mut [f32]) {
        assert!(rows.iter().all(|row| row.at <= n && row.data.len() <= n - row.at));
        require("rows of a transform", span([(n, COMPLEX), (BLOCK, 1)]), out.len());
        let args = GatherArgs { rows: rows.as_ptr().cast(), n, ahead, out: out.as_mut_ptr() };
        // SAFETY: the operands were measured and are borrowed. The features were detected.
        unsafe { (self.gather_rows)(&args) }
    }

    /// Writes the real (or imaginary) parts of `count` complex numbers to sixteen rows of `row` elements, one
    /// for each tile.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn scatter_rows(&self, sums: &[f32], count: usize, row: usize, out: &mut [f32]) {
        require(SUMS, span([(count, COMPLEX), (BLOCK, 1)]), sums.len());
        assert!(row >= count.next_multiple_of(BLOCK));
        require("rows of tiles", product([BLOCK, row]), out.len());
        let args = ScatterArgs { sums: sums.as_ptr(), count, out: out.as_mut_ptr(), row };
        // SAFETY: the operands were measured and are borrowed. The features were detected.
        unsafe { (self.scatter_rows)(&args) }
    }

    /// `out = act(bias + sums * scale + residual)` for adjacent pixels of one channel. `post` has sixteen
    /// copies of the bias and of the slope.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn finish_row(&self, sums: &[f32], scale: f32, out: OutputTile<'_>, post: &Post<'_>) {
        let pixels = out.hi;
        assert!(out.rows == 1 && out.lo == 0 && out.zeros == 0);
        require(SUMS, pixels.next_multiple_of(BLOCK), sums.len());
        assert!(post.first && post.last && !post.per_row);
        let mut target = post.target(&out, BLOCK, self.activate);
        (target.out.row, target.residual.row) = (BLOCK, BLOCK);
        let (whole, rest) = (pixels / BLOCK, pixels % BLOCK);
        for (first, rows, hi) in [(0, whole, BLOCK), (whole * BLOCK, 1, rest)] {
            if rows == 0 || hi == 0 {
                continue;
            }
            let mut target = target.ahead(first, first);
            target.hi = hi;
            let sums = sums[first..].as_ptr();
            let args = FinishArgs { sums, step: BLOCK, pixels: rows, scale, target };
            // SAFETY: as in `finish`. Rows of sixteen pixels follow each other in the sums, the output and the
            // residual, all of which were measured.
            unsafe { (self.finish)(&args) };
        }
    }

    /// `out = act(bias + sums * scale + residual)` for pixels of sixteen channels, which are [`COMPLEX`]
    /// elements apart in `sums`.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn finish(&self, sums: &[f32], scale: f32, out: OutputTile<'_>, post: &Post<'_>) {
        let pixels = out.rows;
        if pixels == 0 || out.lo >= out.hi {
            return;
        }
        assert!(out.hi <= BLOCK && out.zeros <= BLOCK);
        require(SUMS, span([(pixels, COMPLEX), (BLOCK, 1)]), sums.len());
        assert!(post.first && post.last && !post.per_row);
        let target = post.target(&out, BLOCK, self.activate);
        let args = FinishArgs { sums: sums.as_ptr(), step: COMPLEX, pixels, scale, target };
        // SAFETY: the sums were measured. The output lies in a region or a matrix that this call borrows.
        // `post.target` has measured the residual and the numbers per channel. The features were detected.
        unsafe { (self.finish)(&args) }
    }
}

fn rows_args(length: &Length, rows: &mut [f32], spectra: &mut [f32], scratch: &mut [f32]) -> RowsArgs {
    assert!(rows.len() >= length.n() * COMPLEX && spectra.len() >= 2 * length.half() * COMPLEX);
    assert!(scratch.len() >= length.scratch_len());
    RowsArgs { length, rows: rows.as_mut_ptr(), spectra: spectra.as_mut_ptr(), scratch: scratch.as_mut_ptr() }
}

impl Factors<'_> {
    fn args(&self, image_block: usize, out: &mut [f32], add: bool) -> ProductArgs {
        let Self { image, weights, bins, channels } = *self;
        ProductArgs {
            bins,
            channels,
            image: image.as_ptr(),
            image_block,
            weights: weights.as_ptr(),
            out: out.as_mut_ptr(),
            add,
        }
    }
}
