//! The definition of a filter, computed in `f64`, and arrays in every memory order.
#![allow(dead_code, missing_docs, clippy::unwrap_used)] // each test uses a part of it

use convkernels_ndarray::Border;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use proptest::prelude::*;

/// The value at a place that can be outside of the image, found by walking back one step at a time.
pub fn pixel(image: &ArrayView2<'_, f32>, (y, x): (isize, isize), border: Border) -> f64 {
    let (h, w) = image.dim();
    let inside = |mut at: isize, len: usize| -> Option<usize> {
        let n = len as isize;
        while !(0..n).contains(&at) {
            at = match border {
                Border::Zero | Border::Constant(_) => return None,
                Border::Replicate => at.max(0).min(n - 1),
                Border::Wrap => at + if at < 0 { n } else { -n },
                Border::Reflect => {
                    if at < 0 {
                        -1 - at
                    } else {
                        2 * n - 1 - at
                    }
                }
                Border::Reflect101 if n == 1 => 0,
                Border::Reflect101 => {
                    if at < 0 {
                        -at
                    } else {
                        2 * (n - 1) - at
                    }
                }
            };
        }
        Some(at as usize)
    };
    match (inside(y, h), inside(x, w), border) {
        (Some(y), Some(x), _) => f64::from(image[(y, x)]),
        (.., Border::Constant(value)) => f64::from(value),
        _ => 0.0,
    }
}

/// Each output and the error that it may have. The window of output `(y, x)` begins at
/// `(y - before.0, x - before.1)`.
pub fn correlated(
    image: ArrayView2<'_, f32>,
    kernel: ArrayView2<'_, f32>,
    before: (usize, usize),
    output: (usize, usize),
    border: Border,
) -> Array2<(f64, f64)> {
    Array2::from_shape_fn(output, correlation(image, kernel, before, border))
}

/// Computes one output of [`correlated`].
pub fn correlation(
    image: ArrayView2<'_, f32>,
    kernel: ArrayView2<'_, f32>,
    before: (usize, usize),
    border: Border,
) -> impl Fn((usize, usize)) -> (f64, f64) {
    let kernel64 = kernel.mapv(f64::from);
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |most: f64, v| most.max(v.abs()));
    let constant = if let Border::Constant(value) = border { f64::from(value) } else { 0.0 };
    let brightest = most(&mut image.iter().map(|&v| f64::from(v))).max(constant.abs());
    let sum: f64 = kernel64.iter().map(|w| w.abs()).sum();
    let norm = kernel64.iter().map(|w| w * w).sum::<f64>().sqrt();
    let taps = kernel.len() as f64;
    move |(y, x)| {
        let (mut value, mut magnitude) = (0.0, 0.0);
        for ((j, i), w) in kernel64.indexed_iter() {
            let at = ((y + j) as isize - before.0 as isize, (x + i) as isize - before.1 as isize);
            let product = w * pixel(&image, at, border);
            value += product;
            magnitude += product.abs();
        }
        let eps = f64::from(f32::EPSILON);
        // docs/numerics.md: sums in any order. Then what two passes may deviate, and what Fourier transforms
        // may add. The images of these tests are small, and their transforms have up to 128x128 numbers.
        let summed = (taps + 4.0) * eps * magnitude;
        let two_passes = 5e-7 * sum * brightest;
        let transforms = if taps > 30.0 { 43.0 * eps * norm * brightest * 128.0 } else { 0.0 };
        (value, summed + two_passes + transforms + f64::from(f32::MIN_POSITIVE))
    }
}

pub fn assert_close(got: ArrayView2<'_, f32>, expected: &Array2<(f64, f64)>, what: &str) {
    assert_eq!(got.dim(), expected.dim(), "{what}");
    for ((at, got), (value, bound)) in got.indexed_iter().zip(expected) {
        let error = (f64::from(*got) - value).abs();
        assert!(error <= *bound, "{what}: {got} at {at:?}, expected {value} within {bound}");
    }
}

/// Numbers between -1 and 1 that depend on `seed`.
pub fn random(shape: (usize, usize), seed: u64) -> Array2<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Array2::from_shape_simple_fn(shape, || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

/// A column times a row, rounded to `f32`.
pub fn separable((h, w): (usize, usize), seed: u64) -> Array2<f32> {
    random((h, 1), seed).dot(&random((1, w), seed + 1))
}

/// How an array of two axes lies in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    Standard,
    Transposed,
    RowsReversed,
    ColumnsReversed,
    EverySecond,
    Cropped,
    /// All rows are the same memory. Only for inputs.
    Broadcast,
}

pub const ORDERS: [Order; 7] = [
    Order::Standard,
    Order::Transposed,
    Order::RowsReversed,
    Order::ColumnsReversed,
    Order::EverySecond,
    Order::Cropped,
    Order::Broadcast,
];

impl Order {
    /// The shape of an array in which an array of this shape lies.
    pub fn base(self, (h, w): (usize, usize)) -> (usize, usize) {
        match self {
            Self::Standard | Self::RowsReversed | Self::ColumnsReversed => (h, w),
            Self::Transposed => (w, h),
            Self::EverySecond => (2 * h, 2 * w),
            Self::Cropped => (h + 3, w + 2),
            Self::Broadcast => (1, w),
        }
    }

    pub fn view(self, base: &Array2<f32>, (h, w): (usize, usize)) -> ArrayView2<'_, f32> {
        match self {
            Self::Standard => base.view(),
            Self::Transposed => base.t(),
            Self::RowsReversed => base.slice(s![..;-1, ..]),
            Self::ColumnsReversed => base.slice(s![.., ..;-1]),
            Self::EverySecond => base.slice(s![..;2, ..;-2]),
            Self::Cropped => base.slice(s![1..h + 1, 2..w + 2]),
            Self::Broadcast => base.broadcast((h, w)).unwrap(),
        }
    }

    pub fn view_mut(self, base: &mut Array2<f32>, (h, w): (usize, usize)) -> ArrayViewMut2<'_, f32> {
        match self {
            Self::Standard | Self::Broadcast => base.view_mut(),
            Self::Transposed => base.view_mut().reversed_axes(),
            Self::RowsReversed => base.slice_mut(s![..;-1, ..]),
            Self::ColumnsReversed => base.slice_mut(s![.., ..;-1]),
            Self::EverySecond => base.slice_mut(s![..;2, ..;-2]),
            Self::Cropped => base.slice_mut(s![1..h + 1, 2..w + 2]),
        }
    }
}

/// `cases` random cases, or as many as the environment variable `PROPTEST_CASES` says.
pub fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases, ..default } }
}

pub fn order() -> impl Strategy<Value = Order> {
    prop::sample::select(&ORDERS[..])
}

pub fn border() -> impl Strategy<Value = Border> {
    prop_oneof![
        Just(Border::Zero),
        Just(Border::Constant(-0.75)),
        Just(Border::Reflect101),
        Just(Border::Reflect),
        Just(Border::Replicate),
        Just(Border::Wrap),
    ]
}
