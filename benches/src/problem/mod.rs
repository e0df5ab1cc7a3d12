//! The data of one layer in one direction, and the expected results.

mod expected;

use crate::direction::Direction;
use crate::layers::LayerSpec;
use crate::values;
use clap::ValueEnum;
use kernels::{Activation, ConvDesc, EpilogueSpec, Numerics};
use std::f64::consts::TAU;

/// Maximum products computed for the expected results of one layer. Small layers are checked at every
/// element, larger ones at as many random elements as the limit allows.
const PRODUCTS: u64 = 60_000_000;
/// Number of elements of a result below which its error is larger by chance.
const FEW: usize = 64;

/// The distribution of weights, inputs and gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Numbers {
    /// Uniform in -1..1
    Uniform,
    /// As in networks: weights normal with variance 2 / K, inputs absolute values of normal numbers, gradients normal
    Network,
}

impl Numbers {
    /// Inputs of a layer.
    pub(crate) fn activations(self, len: usize) -> Vec<f32> {
        self.drawn((len, 1), f64::abs)
    }

    /// Weights of a layer that sums `products` products for each result.
    pub(crate) fn weights(self, len: usize, products: usize) -> Vec<f32> {
        let deviation = (2.0 / products as f64).sqrt();
        self.drawn((len, 2), |x| deviation * x)
    }

    /// Gradients of the outputs of a layer.
    pub(crate) fn gradients(self, len: usize) -> Vec<f32> {
        self.drawn((len, 5), |x| x)
    }

    /// `as_in_network` makes the numbers of a network from normal ones.
    fn drawn(self, (len, seed): (usize, u64), as_in_network: impl Fn(f64) -> f64) -> Vec<f32> {
        match self {
            Self::Uniform => values(len, seed),
            Self::Network => normal(len, seed).map(|x| as_in_network(x) as f32).collect(),
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

/// The deviation of a result from the expected one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// Relative L2 error.
    pub l2: f64,
    /// The largest absolute error, as a fraction of the largest expected value.
    pub largest: f64,
}

impl Errors {
    /// The errors of elements beside what they should be. They are NaN if an element is NaN.
    pub(crate) fn of(elements: impl Iterator<Item = (f32, f64)>) -> Self {
        let (mut difference, mut size) = (0.0, 0.0);
        let (mut worst, mut largest) = (0.0f64, 0.0f64);
        for (value, expected) in elements {
            let error = f64::from(value) - expected;
            difference += error.powi(2);
            size += expected.powi(2);
            worst = worst.max(error.abs());
            largest = largest.max(expected.abs());
        }
        // An input that no output reads has the gradient zero.
        let l2 = if difference == 0.0 { 0.0 } else { (difference / size).sqrt() };
        // `f64::max` ignores NaN; the sum keeps it.
        let largest = if worst == 0.0 { 0.0 } else { worst / largest };
        Self { l2, largest: if l2.is_nan() { l2 } else { largest } }
    }

    /// The same value for both errors: NaN or infinity.
    pub const fn all(error: f64) -> Self {
        Self { l2: error, largest: error }
    }
}

/// A layer in one direction, with the tensors that it reads, and the expected results at some or all positions.
///
/// The tensor that the direction computes is empty. A *plain* result is packed in NCHW, or in OIHW if it is the gradient
/// of a filter. The gradient of the bias follows that of the filter.
pub struct Problem {
    /// The layer.
    pub spec: LayerSpec,
    /// What is computed.
    pub direction: Direction,
    /// The descriptor of the convolution, in NCHW.
    pub desc: ConvDesc,
    /// The input of the convolution, in NCHW.
    pub input: Vec<f32>,
    /// The filter of the convolution, in OIHW.
    pub filter: Vec<f32>,
    /// The gradient of the output of the convolution, or the input of the transposed one, in NCHW.
    pub output: Vec<f32>,
    /// One element per output channel; empty if the layer has no bias.
    pub bias: Vec<f32>,
    samples: Vec<ExpectedResult>,
}

/// One expected element of the plain result.
#[derive(Debug, Clone, Copy)]
struct ExpectedResult {
    index: usize,
    expected: f64,
}

impl Problem {
    /// The bare convolution, which every engine supports, with numbers uniform in -1..1.
    ///
    /// # Panics
    /// If the layer is invalid. The layers of the lists are valid.
    pub fn bare(spec: &LayerSpec) -> Self {
        Self::of(spec, Direction::Forward, Numbers::Uniform)
    }

    /// The bare layer in `direction` with the given distribution of numbers.
    ///
    /// # Panics
    /// As [`bare`](Self::bare).
    pub fn of(spec: &LayerSpec, direction: Direction, numbers: Numbers) -> Self {
        Self::new(spec, direction, EpilogueSpec::NONE, numbers)
    }

    /// The convolution with bias and ReLU, as in networks, with numbers uniform in -1..1.
    ///
    /// # Panics
    /// As [`bare`](Self::bare).
    pub fn with_relu(spec: &LayerSpec) -> Self {
        Self::new(spec, Direction::Forward, EpilogueSpec::bias(Activation::Relu), Numbers::Uniform)
    }

    fn new(spec: &LayerSpec, direction: Direction, epilogue: EpilogueSpec, numbers: Numbers) -> Self {
        let desc = spec.builder().epilogue(epilogue).build().expect("a valid layer");
        let bias = if epilogue.bias { values(spec.o, 3) } else { Vec::new() };
        let (input, filter, output, samples) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut problem = Self { spec: spec.clone(), direction, desc, input, filter, output, bias, samples };
        if !direction.has_phases() {
            problem.input = numbers.activations(spec.n * spec.c * spec.h * spec.w);
        }
        if direction != Direction::Weights {
            problem.filter = numbers.weights(desc.filter_len(), problem.products());
        }
        if direction != Direction::Forward {
            let size = desc.output().size();
            let len = spec.n * spec.o * size.h * size.w;
            problem.output = match direction {
                Direction::Transposed => numbers.activations(len),
                _ => numbers.gradients(len),
            };
        }
        let expected = |index| ExpectedResult { index, expected: problem.expected(index) };
        problem.samples = problem.indices().into_iter().map(expected).collect();
        problem
    }

    /// The two tensors that are read, in the order of the peers' requests.
    pub(crate) fn operands(&self) -> [&[f32]; 2] {
        self.direction.operands([&self.input, &self.filter, &self.output])
    }

    /// The extents of the plain result, without the gradient of a bias.
    pub(crate) fn result_shape(&self) -> [usize; 4] {
        let LayerSpec { n, c, h, w, o, kh, kw, groups, .. } = self.spec;
        let output = self.desc.output().size();
        match self.direction {
            Direction::Forward => [n, o, output.h, output.w],
            Direction::Data | Direction::Transposed => [n, c, h, w],
            Direction::Weights => [o, c / groups, kh, kw],
        }
    }

    /// Elements of the plain result.
    pub(crate) fn result_len(&self) -> usize {
        let bias = if self.direction == Direction::Weights { self.spec.o } else { 0 };
        self.result_shape().iter().product::<usize>() + bias
    }

    /// The most products that are summed for one element of the result.
    fn products(&self) -> usize {
        let LayerSpec { n, c, o, kh, kw, stride, dilation, groups, .. } = self.spec;
        let output = self.desc.output().size();
        match self.direction {
            Direction::Forward => c / groups * kh * kw,
            Direction::Weights => n * output.h * output.w,
            // The taps that read the same input are so far apart.
            Direction::Data | Direction::Transposed => {
                let apart = stride / gcd(stride, dilation);
                o / groups * kh.div_ceil(apart) * kw.div_ceil(apart)
            }
        }
    }

    /// All positions of the plain result, or random ones if there are too many.
    fn indices(&self) -> Vec<usize> {
        let all = self.result_len();
        if self.spec.macs <= PRODUCTS {
            return (0..all).collect();
        }
        // One result alone can have more products than the limit.
        let count = ((PRODUCTS as f64 / self.spec.macs as f64 * all as f64) as usize).max(1);
        let random = values(count, 4).into_iter().map(|value| (f64::from(value) + 1.0) / 2.0);
        random.map(|value| ((value * all as f64) as usize).min(all - 1)).collect()
    }

    /// The relative L2 error above which a result is wrong, if its algorithm promises `numerics`.
    ///
    /// The tolerance is the promise plus the error of a plain sum of K products with random signs, about
    /// `2^-24 * sqrt(K / 6)`: each partial sum is rounded, and the i-th partial sum has the size of `sqrt(i)`
    /// products.
    ///
    /// The promise is about the errors of many elements. The error of few can be larger by chance, because some of their sums
    /// cancel: with bf16 products, that of a gradient of 16 weights was 4.4e-3.
    pub fn tolerance(&self, numerics: Numerics) -> f64 {
        let chance = if self.result_len() < FEW { 2.0 } else { 1.0 };
        chance * tolerance(numerics, self.products())
    }

    /// The errors of a result. `value` returns an element of the plain result. They are NaN if an inspected element is
    /// NaN.
    pub fn errors(&self, value: impl Fn(usize) -> f32) -> Errors {
        Errors::of(self.samples.iter().map(|sample| (value(sample.index), sample.expected)))
    }

    /// [`errors`](Self::errors) of a plain result; infinite if its length is wrong.
    pub fn errors_of_plain(&self, result: &[f32]) -> Errors {
        if result.len() != self.result_len() {
            return Errors::all(f64::INFINITY);
        }
        self.errors(|index| result[index])
    }
}

/// [`Problem::tolerance`] of a layer that sums `products` products for each result.
pub(crate) fn tolerance(numerics: Numerics, products: usize) -> f64 {
    let promised = match numerics {
        Numerics::Strict | Numerics::Default => 2e-6,
        Numerics::Fast => 6e-6,
        Numerics::Tf32 => 5e-4,
        _ => 4e-3,
    };
    promised + f64::from(f32::EPSILON) / 2.0 * (products as f64 / 6.0).sqrt()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::described::by_text;
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
                let error = problem.errors_of_plain(&reference(&problem)).l2;
                assert!(error < 1e-7, "{id}: {error}");
            }
        }
    }

    #[test]
    fn wrong_outputs_are_found() {
        let problem = Problem::bare(by_id("lenet5.c3"));
        let mut output = reference(&problem);
        output[17] += 0.1;
        assert!(problem.errors_of_plain(&output).l2 > 1e-4);
        output[17] = f32::NAN;
        assert!(problem.errors_of_plain(&output).l2.is_nan());
        assert!(problem.errors_of_plain(&output[1..]).l2.is_infinite());
    }

    #[test]
    fn large_layers_are_checked_at_random_positions() {
        let problem = Problem::bare(by_id("vgg.conv5_1"));
        let channels: std::collections::HashSet<usize> =
            problem.samples.iter().map(|s| s.index / (14 * 14)).collect();
        assert!((10_000..100_000).contains(&problem.samples.len()), "{}", problem.samples.len());
        assert_eq!(channels.len(), 512);
        let zeros = vec![0.0; 512 * 14 * 14];
        assert!((problem.errors_of_plain(&zeros).l2 - 1.0).abs() < 1e-12);
    }

    /// With `<a, b>` for the sum of all products of elements, `<go, conv(x, w)>` is `<gx, x>` and `<gw, w>`, because a
    /// convolution is linear in both operands.
    #[test]
    fn gradients_are_adjoint_to_the_convolution() {
        let layers = [
            "2x4x9x8 -> 6 3x2 s2 p1 g2",
            "1x3x10x7 -> 5 3x3 p2 d2 s2",
            "2x6x7x7 -> 6 3x3 s3 g6",
            "1x2x5x6 -> 3 1x1 s2",
        ];
        for text in layers {
            let spec = by_text(text).unwrap();
            let problem = |direction| Problem::of(&spec, direction, Numbers::Uniform);
            let [forward, data, weights, transposed] = Direction::ALL.map(problem);
            let product = |problem: &Problem, other: &[f32]| -> f64 {
                let expected = problem.samples.iter().map(|sample| sample.expected);
                expected.zip(other).map(|(a, &b)| a * f64::from(b)).sum()
            };
            let equal =
                |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * a.abs().max(1.0), "{text}: {a} and {b}");
            let sum = product(&forward, &data.output);
            equal(sum, product(&data, &forward.input));
            equal(sum, product(&weights, &forward.filter));
            equal(product(&forward, &transposed.output), product(&transposed, &forward.input));
            // A bias is added to every output of its channel.
            let bias = weights.samples[weights.desc.filter_len()..].iter().map(|sample| sample.expected);
            assert_eq!(bias.len(), spec.o);
            equal(bias.sum(), data.output.iter().map(|&gradient| f64::from(gradient)).sum());
        }
    }
}
