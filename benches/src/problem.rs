//! The data of one layer, and the expected outputs.

use crate::layers::LayerSpec;
use crate::values;
use clap::ValueEnum;
use kernels::{Activation, ConvDesc, EpilogueSpec, Numerics};
use std::f64::consts::TAU;

/// Maximum products computed for the expected outputs of one layer. Small layers are checked at every
/// element, larger ones at as many random elements as the limit allows.
const PRODUCTS: u64 = 60_000_000;

/// The distribution of weights and inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Numbers {
    /// Uniform in -1..1
    Uniform,
    /// As in networks: weights normal with variance 2 / K, inputs absolute values of normal numbers
    Network,
}

impl Numbers {
    /// Draws an input and a filter with the given numbers of elements. `products` is the number of products
    /// per output.
    fn draw(self, (input, filter): (usize, usize), products: usize) -> (Vec<f32>, Vec<f32>) {
        match self {
            Self::Uniform => (values(input, 1), values(filter, 2)),
            Self::Network => {
                let deviation = (2.0 / products as f64).sqrt();
                let input = normal(input, 1).map(|x| x.abs() as f32);
                (input.collect(), normal(filter, 2).map(|x| (deviation * x) as f32).collect())
            }
        }
    }
}

/// Normal numbers with variance 1 (Box and Muller 1958).
fn normal(len: usize, seed: u64) -> impl Iterator<Item = f64> {
    // Uniform in 0..1, excluding 0.
    let uniform = |value: f32| f64::from(value) / 2.0 + 0.5 + f64::from(f32::EPSILON);
    let pairs = values(len, seed).into_iter().zip(values(len, seed + 10));
    pairs.map(move |(a, b)| (-2.0 * uniform(a).min(1.0).ln()).sqrt() * (TAU * uniform(b)).cos())
}

/// The deviation of an output from the expected one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// Relative L2 error.
    pub l2: f64,
    /// The largest absolute error, as a fraction of the largest expected value.
    pub largest: f64,
}

impl Errors {
    /// The same value for both errors: NaN or infinity.
    pub const fn all(error: f64) -> Self {
        Self { l2: error, largest: error }
    }
}

/// A layer with input, filter and bias, and the expected outputs at some or all positions.
pub struct Problem {
    /// The layer.
    pub spec: LayerSpec,
    /// The descriptor, in NCHW.
    pub desc: ConvDesc,
    /// The input, in NCHW.
    pub input: Vec<f32>,
    /// The filter, in OIHW.
    pub filter: Vec<f32>,
    /// One element per output channel; empty if the layer has no bias.
    pub bias: Vec<f32>,
    samples: Vec<ExpectedOutput>,
}

/// One expected output element.
#[derive(Debug, Clone, Copy)]
struct ExpectedOutput {
    /// Image, channel, row and column.
    at: [usize; 4],
    expected: f64,
}

impl Problem {
    /// The bare convolution, which every engine supports, with numbers uniform in -1..1.
    ///
    /// # Panics
    /// If the layer is invalid. The layers of the list are valid.
    pub fn bare(spec: &LayerSpec) -> Self {
        Self::of(spec, Numbers::Uniform)
    }

    /// The bare convolution with the given distribution of numbers.
    ///
    /// # Panics
    /// As [`bare`](Self::bare).
    pub fn of(spec: &LayerSpec, numbers: Numbers) -> Self {
        Self::new(spec, EpilogueSpec::NONE, numbers)
    }

    /// The convolution with bias and ReLU, as in networks, with numbers uniform in -1..1.
    ///
    /// # Panics
    /// As [`bare`](Self::bare).
    pub fn with_relu(spec: &LayerSpec) -> Self {
        Self::new(spec, EpilogueSpec::bias(Activation::Relu), Numbers::Uniform)
    }

    fn new(spec: &LayerSpec, epilogue: EpilogueSpec, numbers: Numbers) -> Self {
        let desc = spec.builder().epilogue(epilogue).build().expect("a valid layer");
        let (input, filter) =
            numbers.draw((spec.n * spec.c * spec.h * spec.w, desc.filter_len()), desc.filter_len() / spec.o);
        let mut problem = Self {
            spec: spec.clone(),
            desc,
            input,
            filter,
            bias: if epilogue.bias { values(spec.o, 3) } else { Vec::new() },
            samples: Vec::new(),
        };
        problem.samples = problem.positions().into_iter().map(|at| problem.sample(at)).collect();
        problem
    }

    /// All output positions, or random ones if there are too many.
    fn positions(&self) -> Vec<[usize; 4]> {
        let output = self.desc.output();
        let position = |index: usize| {
            let (row, x) = (index / output.w, index % output.w);
            let (channel, y) = (row / output.h, row % output.h);
            [channel / output.c, channel % output.c, y, x]
        };
        let all = output.n * output.c * output.h * output.w;
        if self.spec.macs <= PRODUCTS {
            return (0..all).map(position).collect();
        }
        // One output alone can have more products than the limit.
        let count = ((PRODUCTS as f64 / self.spec.macs as f64 * all as f64) as usize).max(1);
        let random = values(count, 4).into_iter().map(|value| (f64::from(value) + 1.0) / 2.0);
        random.map(|value| position(((value * all as f64) as usize).min(all - 1))).collect()
    }

    /// Computes one output by the definition, in `f64`. It does not share code with the library that it checks.
    fn sample(&self, at: [usize; 4]) -> ExpectedOutput {
        let [image, channel, y, x] = at;
        let LayerSpec { c, h, w, o, kh, kw, stride, pad, dilation, groups, .. } = self.spec;
        let channels = c / groups;
        let first = image * c + channel / (o / groups) * channels;
        let mut sum = self.bias.get(channel).map_or(0.0, |&bias| f64::from(bias));
        for from in 0..channels {
            for ky in 0..kh {
                let Some(row) = inside(y * stride + ky * dilation, pad, h) else { continue };
                let pixels = &self.input[((first + from) * h + row) * w..][..w];
                let weights = &self.filter[((channel * channels + from) * kh + ky) * kw..][..kw];
                for (kx, &weight) in weights.iter().enumerate() {
                    if let Some(column) = inside(x * stride + kx * dilation, pad, w) {
                        sum += f64::from(pixels[column]) * f64::from(weight);
                    }
                }
            }
        }
        ExpectedOutput { at, expected: self.desc.epilogue().activation.eval(sum, 0.0) }
    }

    /// The relative L2 error above which an output is wrong, if its algorithm promises `numerics`.
    ///
    /// The tolerance is the promise plus the error of a plain sum of K products with random signs, about
    /// `2^-24 * sqrt(K / 6)`: each partial sum is rounded, and the i-th partial sum has the size of `sqrt(i)`
    /// products.
    pub fn tolerance(&self, numerics: Numerics) -> f64 {
        let promised = match numerics {
            Numerics::Strict | Numerics::Default => 2e-6,
            Numerics::Fast => 6e-6,
            Numerics::Tf32 => 5e-4,
            _ => 4e-3,
        };
        let products = self.spec.c / self.spec.groups * self.spec.kh * self.spec.kw;
        promised + f64::from(f32::EPSILON) / 2.0 * (products as f64 / 6.0).sqrt()
    }

    /// The errors of an output. `value` returns its element at image, channel, row and column. They are NaN
    /// if an inspected element is NaN.
    pub fn errors(&self, value: impl Fn([usize; 4]) -> f32) -> Errors {
        let (mut difference, mut size) = (0.0, 0.0);
        let (mut worst, mut largest) = (0.0f64, 0.0f64);
        for sample in &self.samples {
            let error = f64::from(value(sample.at)) - sample.expected;
            difference += error.powi(2);
            size += sample.expected.powi(2);
            worst = worst.max(error.abs());
            largest = largest.max(sample.expected.abs());
        }
        let l2 = (difference / size).sqrt();
        // `f64::max` ignores NaN; the sum keeps it.
        Errors { l2, largest: if l2.is_nan() { l2 } else { worst / largest } }
    }

    /// [`errors`](Self::errors) of a packed NCHW output; infinite if its length is wrong.
    pub fn errors_of_nchw(&self, output: &[f32]) -> Errors {
        let shape = self.desc.output();
        if output.len() != shape.n * shape.c * shape.h * shape.w {
            return Errors::all(f64::INFINITY);
        }
        self.errors(|[n, c, y, x]| output[((n * shape.c + c) * shape.h + y) * shape.w + x])
    }
}

/// The position without padding on an axis of `len` elements, or `None` inside the padding.
fn inside(padded: usize, pad: usize, len: usize) -> Option<usize> {
    padded.checked_sub(pad).filter(|&position| position < len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::by_id;
    use kernels::{
        Algorithm, ConvIo, ConvPlan, PlanOptions, TensorMut, TensorRef, Threads, Weights, Workspace,
    };

    /// The output of the library's oracle, in NCHW.
    fn reference(problem: &Problem) -> Vec<f32> {
        let desc = &problem.desc;
        let options = PlanOptions::default().force(Algorithm::Reference).max_threads(1);
        let weights = if problem.bias.is_empty() {
            Weights::filter(&problem.filter)
        } else {
            Weights::with_bias(&problem.filter, &problem.bias)
        };
        let plan = ConvPlan::new(desc, weights, &options).unwrap();
        let mut output = vec![f32::NAN; desc.output().len(desc.layout()).unwrap()];
        let io = ConvIo::new(
            TensorRef::packed(&problem.input, desc.input(), desc.layout()).unwrap(),
            TensorMut::packed(&mut output, desc.output(), desc.layout()).unwrap(),
        );
        plan.run(io, &mut Workspace::for_req(plan.workspace_req()).unwrap(), Threads::Seq).unwrap();
        output
    }

    #[test]
    fn both_oracles_agree() {
        for id in ["lenet5.c3", "googlenet.4a.5x5", "resnet18.s4.down", "dw3x3m2.64.56", "group64.3x3.256.28"]
        {
            for problem in [Problem::bare(by_id(id)), Problem::with_relu(by_id(id))] {
                let error = problem.errors_of_nchw(&reference(&problem)).l2;
                assert!(error < 1e-7, "{id}: {error}");
            }
        }
    }

    #[test]
    fn wrong_outputs_are_found() {
        let problem = Problem::bare(by_id("lenet5.c3"));
        let mut output = reference(&problem);
        output[17] += 0.1;
        assert!(problem.errors_of_nchw(&output).l2 > 1e-4);
        output[17] = f32::NAN;
        assert!(problem.errors_of_nchw(&output).l2.is_nan());
        assert!(problem.errors_of_nchw(&output[1..]).l2.is_infinite());
    }

    #[test]
    fn large_layers_are_checked_at_random_positions() {
        let problem = Problem::bare(by_id("vgg.conv5_1"));
        let channels: std::collections::HashSet<usize> = problem.samples.iter().map(|s| s.at[1]).collect();
        assert!((10_000..100_000).contains(&problem.samples.len()), "{}", problem.samples.len());
        assert_eq!(channels.len(), 512);
        let zeros = vec![0.0; 512 * 14 * 14];
        assert!((problem.errors_of_nchw(&zeros).l2 - 1.0).abs() < 1e-12);
    }
}
