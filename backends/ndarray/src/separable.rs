//! Kernels of rank 1: outer products of a column and a row, such as box and Gaussian blurs.

use crate::memory::collected;
use kernels::ConvError;
use ndarray::{ArrayView1, ArrayView2};

/// Maximum sum of the deviations from an outer product, as a fraction of the sum of the kernel's magnitudes.
///
/// Two passes change an output by at most this fraction of what the kernel can return for pixels of the same
/// magnitude. Entries that were rounded to `f32` deviate by up to 1.2e-7 of themselves, and the factors are
/// rounded too.
const MOST_DEVIATION: f64 = 5e-7;

/// Maximum deviation of one entry: a fraction of itself, plus a fraction of the largest entry.
///
/// The sum alone would let a tap vanish that is small beside the others. A Gaussian computed in `f32` deviates
/// more than its rounding: `exp` has the rounding error of its argument, 1.7e-6 of an entry that is 1e-12 of the
/// largest.
const MOST_OF_ENTRY: f64 = 1e-5;
const MOST_OF_PEAK: f64 = 1e-12;

/// The names of the factors in errors.
const COLUMN: &str = "column of the kernel";
const ROW: &str = "row of the kernel";

/// A column and a row whose outer product is the kernel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Factors {
    pub(crate) column: Vec<f32>,
    pub(crate) row: Vec<f32>,
}

/// Returns the factors of `kernel` if it has rank 1 within the rounding of `f32`.
pub(crate) fn factors(kernel: ArrayView2<'_, f32>) -> Result<Option<Factors>, ConvError> {
    let largest = kernel.indexed_iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    let Some(((pivot, _), &peak)) = largest else {
        return Ok(None);
    };
    let magnitude: f64 = kernel.iter().map(|w| f64::from(w.abs())).sum();
    if peak == 0.0 || !magnitude.is_finite() {
        return Ok(None);
    }
    // Least squares for one factor and then for the other: the pivot's row alone would have its rounding
    // errors in every entry of the product.
    let first = kernel.row(pivot);
    let first = collected(ROW, first.iter().map(|&w| f64::from(w) / f64::from(peak)))?;
    let row = fitted(kernel.t(), &fitted(kernel, &first)?)?;
    let column = fitted(kernel, &row)?;

    // The factors get similar magnitudes, so that neither overflows. A power of two changes no digit.
    let largest = |values: &[f64]| values.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    let scale = (largest(&column) / largest(&row)).sqrt().log2().round().exp2();
    let column = collected(COLUMN, column.iter().map(|v| (v / scale) as f32))?;
    let row = collected(ROW, row.iter().map(|v| (v * scale) as f32))?;
    let negligible = MOST_OF_PEAK * f64::from(peak.abs());
    let mut deviations = 0.0;
    for ((y, x), &w) in kernel.indexed_iter() {
        let w = f64::from(w);
        let deviation = (w - f64::from(column[y]) * f64::from(row[x])).abs();
        if deviation > MOST_OF_ENTRY * w.abs() + negligible {
            return Ok(None);
        }
        deviations += deviation;
    }
    Ok((deviations <= MOST_DEVIATION * magnitude).then_some(Factors { column, row }))
}

/// The column whose outer product with `row` is nearest to `kernel`.
fn fitted(kernel: ArrayView2<'_, f32>, row: &[f64]) -> Result<Vec<f64>, ConvError> {
    let norm: f64 = row.iter().map(|v| v * v).sum();
    let product = |weights: ArrayView1<'_, f32>| -> f64 {
        weights.iter().zip(row).map(|(&w, v)| f64::from(w) * v).sum()
    };
    collected(COLUMN, kernel.rows().into_iter().map(|weights| product(weights) / norm))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    fn factors(kernel: &Array2<f32>) -> Option<Factors> {
        super::factors(kernel.view()).unwrap()
    }

    #[test]
    fn finds_the_factors_of_usual_kernels() {
        let sobel = array![[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]];
        let Factors { column, row } = factors(&sobel).expect("an outer product");
        for ((y, x), w) in sobel.indexed_iter() {
            assert_eq!(column[y] * row[x], *w, "small integers stay exact");
        }
        assert!(factors(&Array2::from_elem((5, 9), 1.0 / 45.0)).is_some());
        assert!(factors(&Array2::from_elem((3, 3), 1e-30)).is_some());
        assert!(factors(&Array2::from_elem((3, 3), 1e30)).is_some());
    }

    #[test]
    fn finds_the_factors_of_gaussians_in_single_precision() {
        for side in [5, 6, 9, 15, 31, 61, 101, 255] {
            for sigma in [0.3, 0.5, 0.8, 1.0, 1.7, 3.0, 5.0, 10.0, 17.3, 60.0f32] {
                let middle = (side - 1) as f32 / 2.0;
                let one = Array2::from_shape_fn((side, 1), |(y, _)| {
                    (-(y as f32 - middle).powi(2) / (2.0 * sigma * sigma)).exp()
                });
                let normalised = &one / one.sum();
                let two = Array2::from_shape_fn((side, side), |(y, x)| {
                    let (y, x) = (y as f32 - middle, x as f32 - middle);
                    (-(y * y + x * x) / (2.0 * sigma * sigma)).exp()
                });
                let kernels = [one.dot(&one.t()), normalised.dot(&normalised.t()), &two / two.sum(), two];
                for (way, kernel) in kernels.iter().enumerate() {
                    assert!(factors(kernel).is_some(), "{side}x{side}, sigma {sigma}, computed in way {way}");
                }
            }
        }
    }

    #[test]
    fn keeps_small_taps() {
        let mut kernel = Array2::zeros((7, 7));
        kernel[(3, 3)] = 1.0;
        assert!(factors(&kernel).is_some());
        for tap in [4e-7, -1e-9, 1e-11] {
            kernel[(0, 6)] = tap;
            assert_eq!(factors(&kernel), None, "{tap} beside 1");
        }
        let mut blur = Array2::from_elem((7, 7), 1.0);
        blur[(0, 6)] = 1.00002;
        assert_eq!(factors(&blur), None, "2e-5 of an entry, but only 4e-7 of the sum");
    }

    #[test]
    fn refuses_kernels_of_higher_rank() {
        let laplacian = array![[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]];
        assert_eq!(factors(&laplacian), None);
        let mut nearly = Array2::from_elem((3, 3), 1.0);
        nearly[(0, 0)] = 1.0001;
        assert_eq!(factors(&nearly), None);
        assert_eq!(factors(&Array2::zeros((3, 3))), None);
        for odd in [f32::NAN, f32::INFINITY] {
            nearly[(1, 2)] = odd;
            assert_eq!(factors(&nearly), None);
        }
    }
}
