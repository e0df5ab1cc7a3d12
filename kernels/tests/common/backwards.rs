//! The definition of a convolution that is run backwards, in `f64`: every value of the small tensor is scattered.

use super::oracle::{evaluation, spread};
use kernels::{Activation, Algorithm, ConvDesc, ConvPlan, Layout, Shape4, Size2, TransposedDesc};

/// The extents. It shares no code with the library.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    pub small: Shape4,
    pub large: Shape4,
    pub kernel: Size2,
    pub stride: Size2,
    pub dilation: Size2,
    pub top: usize,
    pub left: usize,
    pub groups: usize,
}

/// What is added to the sums, and applied to them.
#[derive(Debug, Clone, Copy)]
pub struct After<'a> {
    pub bias: Option<&'a [f32]>,
    pub slope: Option<&'a [f32]>,
    /// In NCHW.
    pub addend: Option<&'a [f32]>,
    pub activation: Activation,
}

impl After<'_> {
    pub const NOTHING: Self = Self { bias: None, slope: None, addend: None, activation: Activation::None };
}

impl From<&ConvDesc> for Geometry {
    fn from(desc: &ConvDesc) -> Self {
        Self {
            small: desc.output(),
            large: desc.input(),
            kernel: desc.kernel(),
            stride: desc.stride(),
            dilation: desc.dilation(),
            top: desc.pad().top,
            left: desc.pad().left,
            groups: desc.groups(),
        }
    }
}

impl From<&TransposedDesc> for Geometry {
    fn from(desc: &TransposedDesc) -> Self {
        Self {
            small: desc.input(),
            large: desc.output(),
            kernel: desc.kernel(),
            stride: desc.stride(),
            dilation: desc.dilation(),
            top: desc.pad().top,
            left: desc.pad().left,
            groups: desc.groups(),
        }
    }
}

impl Geometry {
    /// Calls `visit` with the indices in the large tensor, the small tensor and the filter, for every product.
    pub fn products(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let Self { small, large, kernel, stride, dilation, .. } = *self;
        let (smalls, larges) = (small.c / self.groups, large.c / self.groups);
        for (n, o) in (0..small.n).flat_map(|n| (0..small.c).map(move |o| (n, o))) {
            for (y, x) in (0..small.h).flat_map(|y| (0..small.w).map(move |x| (y, x))) {
                let value = ((n * small.c + o) * small.h + y) * small.w + x;
                for (i, j) in (0..kernel.h).flat_map(|i| (0..kernel.w).map(move |j| (i, j))) {
                    let row = (y * stride.h + i * dilation.h).checked_sub(self.top);
                    let column = (x * stride.w + j * dilation.w).checked_sub(self.left);
                    let (Some(row), Some(column)) = (row, column) else { continue };
                    if row >= large.h || column >= large.w {
                        continue;
                    }
                    for c in 0..larges {
                        let channel = o / smalls * larges + c;
                        let to = ((n * large.c + channel) * large.h + row) * large.w + column;
                        visit(to, value, ((o * larges + c) * kernel.h + i) * kernel.w + j);
                    }
                }
            }
        }
    }

    /// The sums, and those of the magnitudes, by the definition.
    pub fn sums(self, small: &[f32], filter: &[f32]) -> Sums {
        let mut sums = vec![(0.0f64, 0.0f64); len(self.large)];
        self.products(|to, value, weight| {
            let product = f64::from(small[value]) * f64::from(filter[weight]);
            sums[to].0 += product;
            sums[to].1 += product.abs();
        });
        let norm = |values: &[f32]| values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let largest = |values: &[f32]| values.iter().fold(0.0, |most, &v| f64::from(v).abs().max(most));
        let (norms, largest) = (norm(small) * norm(filter), (largest(small), largest(filter)));
        let k = self.small.c / self.groups * self.kernel.h * self.kernel.w;
        Sums { sums, norms, largest, k: k as f64, large: self.large }
    }
}

/// The results of the definition, without what is done after it.
pub struct Sums {
    sums: Vec<(f64, f64)>,
    /// The product of the norms of the operands, and the largest magnitude of each.
    norms: f64,
    largest: (f64, f64),
    /// Number of products of an element, at most.
    k: f64,
    large: Shape4,
}

impl Sums {
    /// Compares `got` with the definition. `plans` compute the phases.
    pub fn compare<'a>(
        &self,
        after: After<'_>,
        plans: impl Iterator<Item = &'a ConvPlan>,
        got: &[f32],
    ) -> Result<(), String> {
        let (large, k, largest) = (self.large, self.k, self.largest);
        let eps = f64::from(f32::EPSILON);
        // Winograd and Fourier transforms sum neighbours of the values that an element depends on. Their errors are
        // tested closely for forward convolutions, which the phases are; here, by the norms of both operands.
        let apart = plans.fold(0.0f64, |most, plan| match plan.algorithm() {
            Algorithm::Fft => most.max(100.0 * eps * self.norms),
            algorithm if algorithm.to_string().starts_with("winograd") => {
                most.max(100.0 * eps * k * largest.0 * largest.1)
            }
            _ => most,
        });
        assert_eq!(got.len(), self.sums.len());
        for (at, (&got, (sum, magnitude))) in got.iter().zip(&self.sums).enumerate() {
            let channel = at / (large.h * large.w) % large.c;
            let of = |values: Option<&[f32]>, at: usize| values.map_or(0.0, |values| f64::from(values[at]));
            let (bias, addend, slope) =
                (of(after.bias, channel), of(after.addend, at), of(after.slope, channel));
            let expected = after.activation.eval(sum + bias + addend, slope);
            let rounding = (k + 5.0) * eps * (magnitude + bias.abs() + addend.abs());
            let flushed = k * f64::from(f32::MIN_POSITIVE) * (largest.0 + 1.0);
            let tolerance = spread(after.activation, slope) * (rounding + flushed + apart)
                + evaluation(after.activation, expected);
            let error = (f64::from(got) - expected).abs();
            if error.is_nan() || error > tolerance {
                return Err(format!(
                    "element {at} is {got}, expected {expected}: off by {error:e}, tolerance {tolerance:e}"
                ));
            }
        }
        Ok(())
    }
}

/// Elements of a packed NCHW tensor.
pub fn len(shape: Shape4) -> usize {
    shape.len(Layout::Nchw).expect("a small shape")
}
