//! [`Filter2d`]: one kernel for images of any size.

use crate::border::Border;
use crate::engine::Engine;
use crate::error::{Error, check_filled, check_shape};
use crate::memory::zeros;
use crate::threads::Threads;
use kernels::{Pad2, Shape4, Size2};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, s};
use std::fmt;

/// The extents of an output, for an image of `n` and a kernel of `k` pixels on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// All outputs whose windows reach the image: `n + k - 1`.
    Full,
    /// As many outputs as the image has pixels: `n`.
    #[default]
    Same,
    /// The outputs whose windows lie inside of the image: `n - k + 1`.
    Valid,
}

/// How a kernel is applied. [`FilterOptions::default`] is what OpenCV's `filter2D` does, with zeros outside
/// of the image.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct FilterOptions {
    /// The values outside of the image. The default is [`Border::Zero`].
    pub border: Border,
    /// The extents of the output. The default is [`Mode::Same`].
    pub mode: Mode,
    /// Row and column of the kernel that lie on the output's pixel in [`Mode::Same`]. `None` stands for
    /// OpenCV's default, `(height / 2, width / 2)`.
    pub anchor: Option<(usize, usize)>,
    /// Whether the kernel is rotated by 180 degrees first, for a convolution instead of a correlation. The
    /// anchor is a place in the rotated kernel.
    pub flip: bool,
    /// Whether a kernel that is a column times a row is applied as two passes. The default is `true`.
    ///
    /// A kernel counts as such if the deviations of all entries sum up to at most 5e-7 of the sum of the
    /// magnitudes, and if each entry deviates by at most 1e-5 of itself plus 1e-12 of the largest entry.
    pub separable: bool,
    /// Who computes. The default is the calling thread.
    pub threads: Threads,
}

impl Default for FilterOptions {
    fn default() -> Self {
        Self {
            border: Border::Zero,
            mode: Mode::Same,
            anchor: None,
            flip: false,
            separable: true,
            threads: Threads::Seq,
        }
    }
}

impl FilterOptions {
    /// Sets the values outside of the image.
    pub const fn border(mut self, border: Border) -> Self {
        self.border = border;
        self
    }

    /// Sets the extents of the output.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the row and the column of the kernel that lie on the output's pixel.
    pub const fn anchor(mut self, row: usize, column: usize) -> Self {
        self.anchor = Some((row, column));
        self
    }

    /// Sets whether the kernel is rotated by 180 degrees.
    pub const fn flip(mut self, flip: bool) -> Self {
        self.flip = flip;
        self
    }

    /// Sets whether kernels that are a column times a row are applied as two passes.
    pub const fn separable(mut self, separable: bool) -> Self {
        self.separable = separable;
        self
    }

    /// Sets who computes.
    pub const fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }
}

/// A kernel that is prepared for images of any size.
///
/// It keeps the packed kernel, the plans of the sizes that were used last, and scratch memory for as many
/// calls as have run at the same time. It is `Send + Sync`.
///
/// ```
/// use convkernels_ndarray::{Border, Filter2d, FilterOptions};
/// use ndarray::Array2;
/// # fn main() -> Result<(), convkernels_ndarray::Error> {
/// let blur = Array2::from_elem((9, 9), 1.0 / 81.0);
/// let blur = Filter2d::new(blur.view(), &FilterOptions::default().border(Border::Reflect101))?;
/// let mut output = Array2::zeros((48, 64));
/// for brightness in [0.25, 0.5, 1.0] {
///     let image = Array2::from_elem((48, 64), brightness);
///     blur.run_into(image.view(), output.view_mut())?;
///     assert!(output.iter().all(|pixel| (pixel - brightness).abs() < 1e-5));
/// }
/// # Ok(())
/// # }
/// ```
pub struct Filter2d {
    engine: Engine,
    kernel: (usize, usize),
    mode: Mode,
}

impl fmt::Debug for Filter2d {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter2d")
            .field("kernel", &self.kernel)
            .field("mode", &self.mode)
            .field("separable", &self.is_separable())
            .finish_non_exhaustive()
    }
}

impl Filter2d {
    /// Prepares `kernel`, of any odd or even height and width.
    ///
    /// # Errors
    /// - [`Error::Empty`] if the kernel has no elements.
    /// - [`Error::Anchor`] if the anchor is outside of the kernel.
    /// - [`Error::Conv`] if the system refuses memory.
    pub fn new(kernel: ArrayView2<'_, f32>, options: &FilterOptions) -> Result<Self, Error> {
        let (h, w) = kernel.dim();
        check_filled("kernel", &[h, w])?;
        let pad = match (options.mode, options.anchor.unwrap_or((h / 2, w / 2))) {
            (Mode::Full, _) => Pad2::symmetric(h - 1, w - 1),
            (Mode::Valid, _) => Pad2::VALID,
            (Mode::Same, (y, x)) if y < h && x < w => {
                Pad2 { top: y, bottom: h - 1 - y, left: x, right: w - 1 - x }
            }
            (Mode::Same, got) => return Err(Error::Anchor { kernel: (h, w), got }),
        };
        let step = if options.flip { -1 } else { 1 };
        let kernel = kernel.slice_move(s![..;step, ..;step]);
        let engine = Engine::new(kernel, pad, (options.border, options.threads, options.separable))?;
        Ok(Self { engine, kernel: (h, w), mode: options.mode })
    }

    /// Whether the kernel is applied as a column and a row. Small kernels are not, because one pass is faster.
    pub fn is_separable(&self) -> bool {
        self.engine.is_separable()
    }

    /// Height and width of the output for an image of `h` by `w` pixels.
    ///
    /// # Errors
    /// - [`Error::Empty`] if the image has no pixels.
    /// - [`Error::KernelTooLarge`] if there is no output.
    /// - [`Error::Conv`] if a size overflows.
    pub fn output_dim(&self, (h, w): (usize, usize)) -> Result<(usize, usize), Error> {
        check_filled("image", &[h, w])?;
        if self.mode == Mode::Valid && (h < self.kernel.0 || w < self.kernel.1) {
            return Err(Error::KernelTooLarge { image: (h, w), kernel: self.kernel });
        }
        let Size2 { h, w } = self.engine.output(Size2::new(h, w))?;
        Ok((h, w))
    }

    /// Applies the kernel to an image with one channel.
    ///
    /// # Errors
    /// The errors of [`output_dim`](Self::output_dim), and [`Error::Conv`] if the system refuses memory.
    pub fn run(&self, image: ArrayView2<'_, f32>) -> Result<Array2<f32>, Error> {
        let mut output = new_array(self.output_dim(image.dim())?, 1)?;
        self.engine.run(image.insert_axis(Axis(2)), output.view_mut())?;
        Ok(output.remove_axis(Axis(2)))
    }

    /// Applies the kernel to an image with one channel and writes to the caller's memory. This is faster than
    /// [`run`](Self::run) for large images, because the system must provide the pages of a new array.
    ///
    /// # Errors
    /// The errors of [`run`](Self::run), and [`Error::Shape`] if `output` does not have the extents of
    /// [`output_dim`](Self::output_dim).
    pub fn run_into(&self, image: ArrayView2<'_, f32>, output: ArrayViewMut2<'_, f32>) -> Result<(), Error> {
        let (h, w) = self.output_dim(image.dim())?;
        check_shape("output", &[h, w], output.shape())?;
        self.engine.run(image.insert_axis(Axis(2)), output.insert_axis(Axis(2)))
    }

    /// Applies the kernel to each channel of an image with the axes height, width and channels. The output has
    /// the same axes.
    ///
    /// # Errors
    /// The errors of [`run`](Self::run).
    pub fn run_hwc(&self, image: ArrayView3<'_, f32>) -> Result<Array3<f32>, Error> {
        let (h, w, channels) = image.dim();
        check_filled("image", &[h, w, channels])?;
        let mut output = new_array(self.output_dim((h, w))?, channels)?;
        self.engine.run(image, output.view_mut())?;
        Ok(output)
    }

    /// Like [`run_hwc`](Self::run_hwc), but writes to the caller's memory.
    ///
    /// # Errors
    /// The errors of [`run_into`](Self::run_into).
    pub fn run_hwc_into(
        &self,
        image: ArrayView3<'_, f32>,
        output: ArrayViewMut3<'_, f32>,
    ) -> Result<(), Error> {
        let (h, w, channels) = image.dim();
        check_filled("image", &[h, w, channels])?;
        let (h, w) = self.output_dim((h, w))?;
        check_shape("output", &[h, w, channels], output.shape())?;
        self.engine.run(image, output)
    }

    /// Applies the kernel to each channel of an image with the axes channels, height and width. The output has
    /// the same axes.
    ///
    /// # Errors
    /// The errors of [`run`](Self::run).
    pub fn run_chw(&self, image: ArrayView3<'_, f32>) -> Result<Array3<f32>, Error> {
        let (channels, h, w) = image.dim();
        check_filled("image", &[channels, h, w])?;
        let (h, w) = self.output_dim((h, w))?;
        let mut output = new_array((channels, h), w)?;
        self.engine.run(image.permuted_axes([1, 2, 0]), output.view_mut().permuted_axes([1, 2, 0]))?;
        Ok(output)
    }

    /// Like [`run_chw`](Self::run_chw), but writes to the caller's memory.
    ///
    /// # Errors
    /// The errors of [`run_into`](Self::run_into).
    pub fn run_chw_into(
        &self,
        image: ArrayView3<'_, f32>,
        output: ArrayViewMut3<'_, f32>,
    ) -> Result<(), Error> {
        let (channels, h, w) = image.dim();
        check_filled("image", &[channels, h, w])?;
        let (h, w) = self.output_dim((h, w))?;
        check_shape("output", &[channels, h, w], output.shape())?;
        self.engine.run(image.permuted_axes([1, 2, 0]), output.permuted_axes([1, 2, 0]))
    }
}

/// A new array of three axes.
fn new_array((a, b): (usize, usize), c: usize) -> Result<Array3<f32>, Error> {
    let values = zeros(Shape4::new(1, a, b, c))?;
    Ok(Array3::from_shape_vec((a, b, c), values).expect("as many elements as the shape has"))
}

/// Correlates an image with `kernel`, as OpenCV's `filter2D` does: the output has the size of the image, and
/// the kernel's middle lies on the output's pixel.
///
/// Each call prepares the kernel. Keep a [`Filter2d`] for several images. Its options also set the anchor and
/// the threads.
///
/// # Errors
/// The errors of [`Filter2d::new`] and [`Filter2d::run`].
pub fn filter2d(
    image: ArrayView2<'_, f32>,
    kernel: ArrayView2<'_, f32>,
    border: Border,
) -> Result<Array2<f32>, Error> {
    Filter2d::new(kernel, &FilterOptions::default().border(border))?.run(image)
}

/// [`filter2d`] of each channel of an image with the axes height, width and channels.
///
/// # Errors
/// The errors of [`filter2d`].
pub fn filter2d_hwc(
    image: ArrayView3<'_, f32>,
    kernel: ArrayView2<'_, f32>,
    border: Border,
) -> Result<Array3<f32>, Error> {
    Filter2d::new(kernel, &FilterOptions::default().border(border))?.run_hwc(image)
}

/// [`filter2d`] of each channel of an image with the axes channels, height and width.
///
/// # Errors
/// The errors of [`filter2d`].
pub fn filter2d_chw(
    image: ArrayView3<'_, f32>,
    kernel: ArrayView2<'_, f32>,
    border: Border,
) -> Result<Array3<f32>, Error> {
    Filter2d::new(kernel, &FilterOptions::default().border(border))?.run_chw(image)
}
