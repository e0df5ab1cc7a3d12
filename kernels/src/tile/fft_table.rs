//! [`FftKernels`]: the kernels of FFT convolution behind safe, length-checked calls.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features
//! were detected.

use super::boundary::Entry;
use super::fft::{COMPLEX, Length};
use super::fft_plane::{ColumnsArgs, RowsArgs};
use super::fft_product::ProductArgs;
use super::finish::FinishArgs;
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::post::Post;
use super::store::SumsArgs;
use crate::describe::BLOCK;

/// Transforms, products of spectra, and the epilogue.
pub struct FftKernels {
    pub(super) name: &'static str,
    pub(super) lanes: usize,
    pub(super) forward_rows: Entry<RowsArgs>,
    pub(super) inverse_rows: Entry<RowsArgs>,
    pub(super) columns: Entry<ColumnsArgs>,
    /// Kernels by number of tiles, starting at 1.
    pub(super) products: &'static [Entry<ProductArgs>],
    pub(super) lane_product: Entry<ProductArgs>,
    pub(super) finish: Entry<FinishArgs>,
    pub(super) activate: Entry<SumsArgs>,
}

/// `fft_kernels!(enter_<isa>, name: lanes, tiles of a product)`.
macro_rules! fft_kernels {
    ($enter:ident, $name:literal: lanes $lanes:literal, tiles [$($tiles:literal)+]) => {{
        use super::{fft_plane, fft_product, finish};
        FftKernels {
            name: $name,
            lanes: $lanes,
            forward_rows: fft_plane::ForwardRows::$enter,
            inverse_rows: fft_plane::InverseRows::$enter,
            columns: fft_plane::Columns::$enter,
            products: &[$(<fft_product::Product<$tiles>>::$enter),+],
            lane_product: fft_product::LaneProduct::$enter,
            finish: <finish::Finish<{ crate::describe::BLOCK / $lanes }>>::$enter,
            activate: super::store::ActivateSums::$enter,
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
