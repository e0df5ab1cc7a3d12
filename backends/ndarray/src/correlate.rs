//! Correlation and convolution with the conventions of SciPy and NumPy.

use crate::error::{Error, check_filled};
use crate::filter::{Filter2d, FilterOptions, Mode};
use ndarray::{Array, Array1, Array2, ArrayView1, ArrayView2, Axis, Dimension};

/// Correlates two arrays with zeros outside of `image`, as SciPy's `correlate2d` does.
///
/// In [`Mode::Same`] the output has the size of `image`. In [`Mode::Valid`] one of the arrays must be at least
/// as large as the other on both axes. If that is the kernel, it is the one that stands still.
///
/// Each call prepares the kernel. Keep a [`Filter2d`] for several images.
///
/// # Errors
/// - [`Error::Empty`] if an array has no elements.
/// - [`Error::KernelTooLarge`] in [`Mode::Valid`] if neither array fits into the other.
/// - [`Error::Conv`] if a size overflows, or if the system refuses memory.
pub fn correlate2d(
    image: ArrayView2<'_, f32>,
    kernel: ArrayView2<'_, f32>,
    mode: Mode,
) -> Result<Array2<f32>, Error> {
    if swaps(image.dim(), kernel.dim(), mode) {
        return correlate2d(kernel, image, mode).map(rotated);
    }
    let (h, w) = kernel.dim();
    let options =
        FilterOptions::default().mode(mode).anchor(h.saturating_sub(1) / 2, w.saturating_sub(1) / 2);
    Filter2d::new(kernel, &options)?.run(image)
}

/// Convolves two arrays with zeros outside of `image`, as SciPy's `convolve2d` does.
///
/// The sizes are those of [`correlate2d`]. The kernel is rotated by 180 degrees.
///
/// # Errors
/// The errors of [`correlate2d`].
pub fn convolve2d(
    image: ArrayView2<'_, f32>,
    kernel: ArrayView2<'_, f32>,
    mode: Mode,
) -> Result<Array2<f32>, Error> {
    if swaps(image.dim(), kernel.dim(), mode) {
        return convolve2d(kernel, image, mode);
    }
    let (h, w) = kernel.dim();
    Filter2d::new(kernel, &FilterOptions::default().mode(mode).anchor(h / 2, w / 2).flip(true))?.run(image)
}

/// Whether the result is the same, up to a rotation, with the roles of the arrays exchanged, and only so
/// possible or much faster.
fn swaps(image: (usize, usize), kernel: (usize, usize), mode: Mode) -> bool {
    mode != Mode::Same && kernel.0 >= image.0 && kernel.1 >= image.1 && kernel != image
}

/// Reverses every axis of a new array in place.
fn rotated<D: Dimension>(mut array: Array<f32, D>) -> Array<f32, D> {
    array.as_slice_mut().expect("a new array in standard order").reverse();
    array
}

/// Correlates two sequences, as NumPy's `correlate` does: output `k` of [`Mode::Full`] is the sum of
/// `a[i + k - (v.len() - 1)] * v[i]`.
///
/// The lengths are `a.len() + v.len() - 1` in [`Mode::Full`], the length of the longer sequence in
/// [`Mode::Same`], and the difference of the lengths plus one in [`Mode::Valid`].
///
/// # Errors
/// - [`Error::Empty`] if a sequence has no elements.
/// - [`Error::Conv`] if a size overflows, or if the system refuses memory.
pub fn correlate1d(a: ArrayView1<'_, f32>, v: ArrayView1<'_, f32>, mode: Mode) -> Result<Array1<f32>, Error> {
    if v.len() > a.len() {
        return correlate1d(v, a, mode).map(rotated);
    }
    filter1d(a, v, mode, false)
}

/// Convolves two sequences, as NumPy's `convolve` does. The lengths are those of [`correlate1d`].
///
/// # Errors
/// The errors of [`correlate1d`].
pub fn convolve1d(a: ArrayView1<'_, f32>, v: ArrayView1<'_, f32>, mode: Mode) -> Result<Array1<f32>, Error> {
    let (longer, shorter) = if v.len() > a.len() { (v, a) } else { (a, v) };
    filter1d(longer, shorter, mode, true)
}

fn filter1d(
    longer: ArrayView1<'_, f32>,
    shorter: ArrayView1<'_, f32>,
    mode: Mode,
    flip: bool,
) -> Result<Array1<f32>, Error> {
    check_filled("sequence", shorter.shape())?;
    let options = FilterOptions::default().mode(mode).flip(flip);
    let filter = Filter2d::new(shorter.insert_axis(Axis(0)), &options)?;
    Ok(filter.run(longer.insert_axis(Axis(0)))?.remove_axis(Axis(0)))
}
