//! One channel of a picture as numbers, and its resizing.

use kernels::Size2;

/// Rows of numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plane {
    pub(crate) size: Size2,
    pub(crate) values: Vec<f32>,
}

impl Plane {
    /// Makes a plane from the value at each column and row.
    pub(crate) fn from_fn(size: Size2, value: impl Fn(usize, usize) -> f32) -> Self {
        let places = (0..size.h).flat_map(|y| (0..size.w).map(move |x| (x, y)));
        Self { size, values: places.map(|(x, y)| value(x, y)).collect() }
    }

    pub(crate) fn at(&self, x: usize, y: usize) -> f32 {
        self.values[y * self.size.w + x]
    }
}

/// Resizes the picture whose pixel at a column and row is `value`. It is bilinear, and averages over all
/// source pixels when it shrinks. Rows come first, so that a large picture is never held as numbers in full.
pub(crate) fn resized(from: Size2, value: impl Fn(usize, usize) -> f32, to: Size2) -> Plane {
    let mut rows = vec![0.0; to.h * from.w];
    for (row, taps) in rows.chunks_exact_mut(from.w).zip(taps(from.h, to.h)) {
        for (y, weight) in taps {
            row.iter_mut().enumerate().for_each(|(x, sum)| *sum += weight * value(x, y));
        }
    }
    let columns: Vec<Vec<(usize, f32)>> = taps(from.w, to.w).collect();
    Plane::from_fn(to, |x, y| columns[x].iter().map(|&(x, weight)| weight * rows[y * from.w + x]).sum())
}

/// Returns, for each of `to` places along one axis, the source places and their weights. The weights form a
/// triangle over the centre of the place. The triangle is as wide as two source pixels or, when shrinking, as
/// two places. The weights sum to one.
fn taps(from: usize, to: usize) -> impl Iterator<Item = Vec<(usize, f32)>> {
    let step = from as f64 / to as f64;
    let reach = step.max(1.0);
    (0..to).map(move |place| {
        let centre = (place as f64 + 0.5) * step;
        let first = (centre - reach).floor().max(0.0) as usize;
        let last = ((centre + reach).ceil() as usize).min(from);
        let weight = |source: usize| 1.0 - (source as f64 + 0.5 - centre).abs() / reach;
        let taps = (first..last).map(|source| (source, weight(source))).filter(|&(_, weight)| weight > 0.0);
        let taps: Vec<(usize, f64)> = taps.collect();
        let sum: f64 = taps.iter().map(|&(_, weight)| weight).sum();
        taps.into_iter().map(|(source, weight)| (source, (weight / sum) as f32)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by hand: the second of two places covers all of four sources except the first, with weights
    /// 1/4, 3/4 and 3/4.
    #[test]
    fn weights_are_those_of_a_triangle() {
        let row = |values: &[f32], to: usize| {
            let from = Size2::new(1, values.len());
            resized(from, |x, _| values[x], Size2::new(1, to)).values
        };
        assert_eq!(row(&[0.0, 7.0, 14.0, 28.0], 2), [5.0, 19.0]);
        assert_eq!(row(&[4.0, 8.0], 4), [4.0, 5.0, 7.0, 8.0]);
        assert_eq!(row(&[1.0, 2.0, 3.0], 3), [1.0, 2.0, 3.0]);
        assert_eq!(row(&[6.0], 3), [6.0; 3]);
    }

    #[test]
    fn axes_are_resized_apart() {
        let from = Size2::new(2, 3);
        let plane = resized(from, |x, y| (10 * x + y) as f32, Size2::new(4, 3));
        let expected = [0.0, 0.25, 0.75, 1.0].into_iter().flat_map(|y| [0.0, 10.0, 20.0].map(|x| x + y));
        assert_eq!(plane.values, expected.collect::<Vec<f32>>());
    }
}
