//! Kernels of rank 1: outer products of a column and a row, such as box and Gaussian blurs.

use ndarray::{ArrayView1, ArrayView2};

/// Maximum sum of the deviations from an outer product, as a fraction of the sum of the kernel's magnitudes.
///
/// Two passes change an output by at most this fraction of what the kernel can return for pixels of the same
/// magnitude. Entries that were rounded to `f32` deviate by up to 1.2e-7 of themselves, and the factors are
/// rounded too.
const MOST_DEVIATION: f64 = 5e-7;

/// A column and a row whose outer product is the kernel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Factors {
    pub(crate) column: Vec<f32>,
    pub(crate) row: Vec<f32>,
}

/// Returns the factors of `kernel` if it has rank 1 within the rounding of `f32`.
pub(crate) fn factors(kernel: ArrayView2<'_, f32>) -> Option<Factors> {
    let ((pivot, _), &peak) = kernel.indexed_iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
    let magnitude: f64 = kernel.iter().map(|w| f64::from(w.abs())).sum();
    if peak == 0.0 || !magnitude.is_finite() {
        return None;
    }
    // Least squares for one factor and then for the other: the pivot's row alone would have its rounding
    // errors in every entry of the product.
    let first: Vec<f64> = kernel.row(pivot).iter().map(|&w| f64::from(w) / f64::from(peak)).collect();
    let row = fitted(kernel.t(), &fitted(kernel, &first));
    let column = fitted(kernel, &row);

    // The factors get similar magnitudes, so that neither overflows. A power of two changes no digit.
    let largest = |values: &[f64]| values.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    let scale = (largest(&column) / largest(&row)).sqrt().log2().round().exp2();
    let column: Vec<f32> = column.iter().map(|v| (v / scale) as f32).collect();
    let row: Vec<f32> = row.iter().map(|v| (v * scale) as f32).collect();
    let deviation = |((y, x), &w): ((usize, usize), &f32)| {
        (f64::from(w) - f64::from(column[y]) * f64::from(row[x])).abs()
    };
    let deviations: f64 = kernel.indexed_iter().map(deviation).sum();
    (deviations <= MOST_DEVIATION * magnitude).then_some(Factors { column, row })
}

/// The column whose outer product with `row` is nearest to `kernel`.
fn fitted(kernel: ArrayView2<'_, f32>, row: &[f64]) -> Vec<f64> {
    let norm: f64 = row.iter().map(|v| v * v).sum();
    let product = |weights: ArrayView1<'_, f32>| -> f64 {
        weights.iter().zip(row).map(|(&w, v)| f64::from(w) * v).sum()
    };
    kernel.rows().into_iter().map(|weights| product(weights) / norm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn finds_the_factors_of_usual_kernels() {
        let sobel = array![[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]];
        let Factors { column, row } = factors(sobel.view()).expect("an outer product");
        for ((y, x), w) in sobel.indexed_iter() {
            assert_eq!(column[y] * row[x], *w, "small integers stay exact");
        }
        // Computed in two dimensions and rounded, as users do.
        let gaussian = Array2::from_shape_fn((61, 61), |(y, x)| {
            let (y, x) = (y as f32 - 30.0, x as f32 - 30.0);
            (-(y * y + x * x) / 200.0).exp()
        });
        assert!(factors((&gaussian / gaussian.sum()).view()).is_some());
        assert!(factors(Array2::from_elem((5, 9), 1.0 / 45.0).view()).is_some());
        assert!(factors(Array2::from_elem((3, 3), 1e-30).view()).is_some());
        assert!(factors(Array2::from_elem((3, 3), 1e30).view()).is_some());
    }

    #[test]
    fn refuses_kernels_of_higher_rank() {
        let laplacian = array![[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]];
        assert_eq!(factors(laplacian.view()), None);
        let mut nearly = Array2::from_elem((3, 3), 1.0);
        nearly[(0, 0)] = 1.0001;
        assert_eq!(factors(nearly.view()), None);
        assert_eq!(factors(Array2::zeros((3, 3)).view()), None);
        for odd in [f32::NAN, f32::INFINITY] {
            nearly[(1, 2)] = odd;
            assert_eq!(factors(nearly.view()), None);
        }
    }
}
