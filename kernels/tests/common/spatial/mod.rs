//! Random convolutions of three axes, and their definition in `f64`. Signals have one slice and one row.

pub mod signal;
pub mod strategy;
pub mod volume;

use super::oracle::{evaluation, spread};
use super::{JUNK, Rng, Values, isas_of_f32};
use kernels::*;

/// Extents along depth, height and width.
pub type Axes = [usize; 3];

/// A convolution, with everything that its result depends on.
#[derive(Debug, Clone, Copy)]
pub struct Spatial {
    pub n: usize,
    /// Channels of a group.
    pub ins: usize,
    pub outs: usize,
    pub groups: usize,
    pub size: Axes,
    pub kernel: Axes,
    pub stride: Axes,
    pub dilation: Axes,
    pub before: Axes,
    pub after: Axes,
    /// Numbers of layouts.
    pub layouts: (usize, usize),
    pub epilogue: EpilogueSpec,
    pub accumulate: bool,
    pub seed: u64,
}

/// Values in plain order.
pub struct SpatialData {
    pub input: Vec<f32>,
    pub filter: Vec<f32>,
    /// As long as the output.
    pub output: Vec<f32>,
    pub bias: Vec<f32>,
    pub slope: Vec<f32>,
}

/// A shape in plain order: images, channels and extents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extents {
    pub n: usize,
    pub c: usize,
    pub size: Axes,
}

impl Extents {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.n * self.c * self.size.iter().product::<usize>()
    }

    pub fn index(&self, n: usize, c: usize, at: Axes) -> usize {
        at.iter().zip(self.size).fold(n * self.c + c, |index, (at, extent)| index * extent + at)
    }

    /// Every element, as image, channel and place.
    pub fn each(self) -> impl Iterator<Item = (usize, usize, Axes)> {
        (0..self.elements()).map(move |index| {
            let [_, h, w] = self.size;
            let pixels: usize = self.size.iter().product();
            let (place, channel) = (index % pixels, index / pixels);
            (channel / self.c, channel % self.c, [place / (h * w), place / w % h, place % w])
        })
    }
}

impl Spatial {
    pub fn input(&self) -> Extents {
        Extents { n: self.n, c: self.ins * self.groups, size: self.size }
    }

    /// The output; `None` if it is empty.
    pub fn output(&self) -> Option<Extents> {
        let mut size = [0; 3];
        for (axis, extent) in size.iter_mut().enumerate() {
            let padded = self.size[axis] + self.before[axis] + self.after[axis];
            let reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            *extent = padded.checked_sub(reach)? / self.stride[axis] + 1;
        }
        Some(Extents { n: self.n, c: self.outs * self.groups, size })
    }

    pub fn filter_len(&self) -> usize {
        self.outs * self.groups * self.ins * self.kernel.iter().product::<usize>()
    }

    /// Products, those with padding included.
    pub fn most_products(&self) -> usize {
        let outputs = self.output().map_or(0, |output| output.elements());
        outputs * self.ins * self.kernel.iter().product::<usize>()
    }

    pub fn data(&self) -> SpatialData {
        let mut rng = Rng(self.seed);
        let output = self.output().expect("a valid problem");
        let mut values = |len| rng.values(Values::Uniform, len);
        SpatialData {
            input: values(self.input().elements()),
            filter: values(self.filter_len()),
            output: values(output.elements()),
            bias: values(output.c),
            slope: values(output.c),
        }
    }

    /// Calls `visit` with the indices of input, filter and output of every product, by the definition.
    pub fn products(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (input, output) = (self.input(), self.output().expect("a valid problem"));
        let kernel = Extents { n: output.c, c: self.ins, size: self.kernel };
        for (n, o, at) in output.each() {
            let group = o / self.outs;
            for (_, c, tap) in (Extents { n: 1, ..kernel }).each() {
                let mut place = [0; 3];
                let inside = (0..3).all(|axis| {
                    let ahead = at[axis] * self.stride[axis] + tap[axis] * self.dilation[axis];
                    place[axis] = ahead.wrapping_sub(self.before[axis]);
                    place[axis] < self.size[axis]
                });
                if inside {
                    let channel = group * self.ins + c;
                    visit(input.index(n, channel, place), kernel.index(o, c, tap), output.index(n, o, at));
                }
            }
        }
    }

    /// Sums of products and of their magnitudes. `which` picks the operands and the place of a sum from the indices.
    fn sums(&self, len: usize, mut of: impl FnMut(usize, usize, usize) -> (usize, f32, f32)) -> Sums {
        let mut sums = Sums { of: vec![(0.0, 0.0); len], products: 0 };
        let mut counts = vec![0; len];
        self.products(|x, w, y| {
            let (to, a, b) = of(x, w, y);
            let product = f64::from(a) * f64::from(b);
            sums.of[to].0 += product;
            sums.of[to].1 += product.abs();
            counts[to] += 1;
        });
        sums.products = counts.into_iter().max().unwrap_or(0);
        sums
    }

    pub fn forward(&self, data: &SpatialData) -> Sums {
        self.sums(data.output.len(), |x, w, y| (y, data.input[x], data.filter[w]))
    }

    pub fn backward_data(&self, data: &SpatialData) -> Sums {
        self.sums(data.input.len(), |x, w, y| (x, data.output[y], data.filter[w]))
    }

    pub fn backward_weights(&self, data: &SpatialData) -> Sums {
        self.sums(data.filter.len(), |x, w, y| (w, data.output[y], data.input[x]))
    }
}

/// The results of the definition.
pub struct Sums {
    of: Vec<(f64, f64)>,
    /// Number of products of an element, at most.
    products: usize,
}

/// What is done after a sum. The residual is in plain order.
#[derive(Clone, Copy)]
pub struct After<'a> {
    pub bias: Option<&'a [f32]>,
    pub residual: Option<&'a [f32]>,
    pub slope: Option<&'a [f32]>,
    pub activation: Activation,
    pub extents: Extents,
}

impl<'a> After<'a> {
    /// Adds to `old`, or nothing.
    pub fn adding(extents: Extents, old: Option<&'a [f32]>) -> Self {
        Self { bias: None, residual: old, slope: None, activation: Activation::None, extents }
    }
}

impl Sums {
    /// Compares `got` with the definition. `transforms` tells whether an algorithm sums neighbours of its operands, whose
    /// errors are tested closely for 2-D convolutions. All operands are smaller than one.
    pub fn compare(&self, after: After<'_>, transforms: bool, got: &[f32]) -> Result<(), String> {
        assert_eq!(got.len(), self.of.len());
        let (k, eps) = (self.products as f64, f64::from(f32::EPSILON));
        let apart = if transforms { 100.0 * eps * k } else { 0.0 };
        for ((at, (n, c, place)), &got) in after.extents.each().enumerate().zip(got) {
            let (sum, magnitude) = self.of[at];
            let of = |values: Option<&[f32]>, at: usize| values.map_or(0.0, |values| f64::from(values[at]));
            let (bias, residual, slope) = (of(after.bias, c), of(after.residual, at), of(after.slope, c));
            let expected = after.activation.eval(sum + bias + residual, slope);
            let rounding = (k + 5.0) * eps * (magnitude + bias.abs() + residual.abs());
            let flushed = k * f64::from(f32::MIN_POSITIVE) * 2.0;
            let tolerance = spread(after.activation, slope) * (rounding + flushed + apart)
                + evaluation(after.activation, expected);
            let error = (f64::from(got) - expected).abs();
            if error.is_nan() || error > tolerance {
                return Err(format!(
                    "image {n}, channel {c}, place {place:?} is {got}, expected {expected}: off by {error:e}, \
                     tolerance {tolerance:e}"
                ));
            }
        }
        Ok(())
    }
}

impl Sums {
    /// The relative error in the 2-norm.
    pub fn relative_error(&self, got: &[f32]) -> f64 {
        assert_eq!(got.len(), self.of.len());
        let of = |each: fn(f64, f64) -> f64| {
            self.of.iter().zip(got).map(|(&(sum, _), &got)| each(sum, f64::from(got)).powi(2)).sum::<f64>()
        };
        (of(|sum, got| sum - got) / of(|sum, _| sum)).sqrt()
    }
}

/// A workspace of junk.
pub fn junk(req: WorkspaceReq) -> Workspace {
    let mut workspace = Workspace::for_req(req).expect("memory");
    workspace.as_mut_slice().fill(JUNK);
    workspace
}

/// Whether an algorithm transforms its operands.
pub fn transforms(algorithm: Algorithm) -> bool {
    algorithm == Algorithm::Fft || algorithm.to_string().starts_with("winograd")
}

/// The same numbers, bit by bit.
pub fn same_bits(one: &[f32], other: &[f32]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// What a method gives for a problem: nothing if it does not support it.
pub fn supported<T>(planned: Result<T, ConvError>) -> Result<Option<T>, String> {
    match planned {
        Ok(plan) => Ok(Some(plan)),
        Err(ConvError::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Auto on every instruction set, and every algorithm that can be forced.
pub fn selections() -> impl Iterator<Item = PlanOptions> {
    let base = PlanOptions::default().max_threads(8).macs_per_thread(1);
    let auto = isas_of_f32().map(move |isa| base.isa(isa));
    auto.chain(Algorithm::ALL.into_iter().map(move |algorithm| base.force(algorithm)))
}
