//! Gradients and transposed convolution against their definition.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{config, random};
use convkernels_ndarray::*;
use ndarray::{Array1, Array4, ArrayView4, s};
use proptest::prelude::*;

/// One term of a convolution's sums: a place of the output, of the weights and of the input.
type Term = ([usize; 4], [usize; 4], [usize; 4]);

#[derive(Debug, Clone, Copy)]
struct Problem {
    batch: usize,
    groups: usize,
    ins: usize,
    outs: usize,
    size: (usize, usize),
    kernel: (usize, usize),
    stride: Size2,
    dilation: Size2,
    padding: Pad2,
    seed: u64,
    /// Whether input and gradient are NHWC, and whether they have gaps.
    nhwc: bool,
    gaps: bool,
    rayon: bool,
}

fn problem() -> impl Strategy<Value = Problem> {
    let shape = (1..4usize, 1..4usize, 1..6usize, 1..6usize, (1..9usize, 1..9usize), (1..5usize, 1..5usize));
    let steps =
        ((1..4usize, 1..4usize), (1..3usize, 1..3usize), (0..3usize, 0..3usize, 0..3usize, 0..3usize));
    let rest = (0..1000u64, any::<bool>(), any::<bool>(), any::<bool>());
    (shape, steps, rest).prop_map(|(shape, steps, rest)| {
        let (batch, groups, ins, outs, size, kernel) = shape;
        let (stride, dilation, (top, bottom, left, right)) = steps;
        let (seed, nhwc, gaps, rayon) = rest;
        Problem {
            batch,
            groups,
            ins,
            outs,
            size,
            kernel,
            stride: Size2::new(stride.0, stride.1),
            dilation: Size2::new(dilation.0, dilation.1),
            padding: Pad2 { top, bottom, left, right },
            seed,
            nhwc,
            gaps,
            rayon,
        }
    })
}

impl Problem {
    fn options<'a>(&self) -> ConvOptions<'a> {
        ConvOptions::default()
            .stride(self.stride)
            .dilation(self.dilation)
            .padding(self.padding)
            .groups(self.groups)
            .threads(if self.rayon { Threads::Rayon } else { Threads::Seq })
    }

    /// Rows and columns that the window covers.
    fn reach(&self) -> (usize, usize) {
        ((self.kernel.0 - 1) * self.dilation.h + 1, (self.kernel.1 - 1) * self.dilation.w + 1)
    }

    /// The size of the output of a convolution of `size`.
    fn output(&self) -> Option<(usize, usize)> {
        let (h, w) = self.reach();
        let Pad2 { top, bottom, left, right } = self.padding;
        let rows = (self.size.0 + top + bottom).checked_sub(h)? / self.stride.h + 1;
        Some((rows, (self.size.1 + left + right).checked_sub(w)? / self.stride.w + 1))
    }

    /// Calls `term` with every product of a convolution from images of size `large` to images of size `small`.
    fn terms(&self, large: (usize, usize), small: (usize, usize), mut term: impl FnMut(Term)) {
        let (outs, (kh, kw)) = (self.outs * self.groups, self.kernel);
        for (n, o, y, x) in ndarray::indices((self.batch, outs, small.0, small.1)) {
            for (i, j, k) in ndarray::indices((self.ins, kh, kw)) {
                let row = (y * self.stride.h + j * self.dilation.h).wrapping_sub(self.padding.top);
                let column = (x * self.stride.w + k * self.dilation.w).wrapping_sub(self.padding.left);
                if row < large.0 && column < large.1 {
                    term(([n, o, y, x], [o, i, j, k], [n, o / self.outs * self.ins + i, row, column]));
                }
            }
        }
    }

    /// An array whose memory is as the problem says, of these numbers.
    fn stored(&self, values: &Array4<f32>) -> (Array4<f32>, bool) {
        let (n, c, h, w) = values.dim();
        let extra = usize::from(self.gaps);
        let mut base = match self.nhwc {
            false => Array4::zeros((n, c + extra, h, w)),
            true => Array4::zeros((n, h, w, c + extra)).permuted_axes([0, 3, 1, 2]),
        };
        base.slice_mut(s![.., ..c, .., ..]).assign(values);
        (base, self.gaps)
    }
}

fn view(stored: &(Array4<f32>, bool)) -> ArrayView4<'_, f32> {
    let channels = stored.0.dim().1 - usize::from(stored.1);
    stored.0.slice(s![.., ..channels, .., ..])
}

fn numbers(dim: (usize, usize, usize, usize), seed: u64) -> Array4<f32> {
    random((dim.0 * dim.1, dim.2 * dim.3), seed).into_shape_with_order(dim).unwrap()
}

/// Sums in `f64`, the sums of the magnitudes of their terms, and the number of terms.
struct Sums(Array4<(f64, f64, f64)>);

impl Sums {
    fn new(dim: (usize, usize, usize, usize)) -> Self {
        Self(Array4::from_elem(dim, (0.0, 0.0, 0.0)))
    }

    fn add(&mut self, at: [usize; 4], one: f32, other: f32) {
        let (product, sum) = (f64::from(one) * f64::from(other), &mut self.0[at]);
        *sum = (sum.0 + product, sum.1 + product.abs(), sum.2 + 1.0);
    }

    /// Within the bound of a sum in `f32` of so many products. Transforms spread their errors over a tile, so that the bound
    /// is that of the largest sum of the tensor: see docs/numerics.md.
    fn check(&self, got: ArrayView4<'_, f32>, what: &str) {
        assert_eq!(got.dim(), self.0.dim(), "{what}");
        let bound = |magnitude: f64, terms: f64| (terms + 4.0) * f64::from(f32::EPSILON) * magnitude;
        let largest = self.0.iter().fold(0.0, |most: f64, sum| most.max(bound(sum.1, sum.2)));
        for ((at, got), (sum, ..)) in got.indexed_iter().zip(&self.0) {
            let error = (f64::from(*got) - sum).abs();
            assert!(
                error <= 8.0 * largest + 1e-30,
                "{what}: {got} at {at:?}, expected {sum} within {largest}"
            );
        }
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn gradients_are_their_definition(problem in problem()) {
        let Some(size) = problem.output() else { return Ok(()) };
        let (ins, outs) = (problem.ins * problem.groups, problem.outs * problem.groups);
        let input = numbers((problem.batch, ins, problem.size.0, problem.size.1), problem.seed);
        let weights = numbers((outs, problem.ins, problem.kernel.0, problem.kernel.1), problem.seed + 1);
        let gradient = numbers((problem.batch, outs, size.0, size.1), problem.seed + 2);
        let (mut of_input, mut of_weights) = (Sums::new(input.dim()), Sums::new(weights.dim()));
        problem.terms(problem.size, size, |(output, weight, place)| {
            of_input.add(place, gradient[output], weights[weight]);
            of_weights.add(weight, gradient[output], input[place]);
        });
        let mut of_bias = Sums::new((1, outs, 1, 1));
        gradient.indexed_iter().for_each(|((_, o, _, _), value)| of_bias.add([0, o, 0, 0], *value, 1.0));

        let (stored, stored_gradient) = (problem.stored(&input), problem.stored(&gradient));
        let (options, kernel) = (problem.options(), Size2::new(problem.kernel.0, problem.kernel.1));
        let got = conv2d_input_gradient(view(&stored_gradient), weights.view(), input.dim(), &options).unwrap();
        of_input.check(got.view(), "input");
        let got = conv2d_weight_gradients(view(&stored), view(&stored_gradient), kernel, &options).unwrap();
        of_weights.check(got.weights.view(), "weights");
        of_bias.check(got.bias.view().into_shape_with_order((1, outs, 1, 1)).unwrap(), "bias");
        let seq = options.threads(Threads::Seq);
        prop_assert_eq!(conv2d_weight_gradients(view(&stored), view(&stored_gradient), kernel, &seq).unwrap(), got);
    }

    #[test]
    fn transposed_convolutions_are_their_definition(problem in problem(), extra in (0..3usize, 0..3usize)) {
        // The convolution goes from the output to the input.
        let small = problem.size;
        let most = |stride: usize, dilation: usize| stride.max(dilation) - 1;
        let added = Size2::new(
            extra.0.min(most(problem.stride.h, problem.dilation.h)),
            extra.1.min(most(problem.stride.w, problem.dilation.w)),
        );
        let ((reach_h, reach_w), Pad2 { top, bottom, left, right }) = (problem.reach(), problem.padding);
        let extent = |small: usize, stride: usize, reach: usize, added: usize, cut: usize| {
            ((small - 1) * stride + reach + added).checked_sub(cut).filter(|&extent| extent > 0)
        };
        let rows = extent(small.0, problem.stride.h, reach_h, added.h, top + bottom);
        let columns = extent(small.1, problem.stride.w, reach_w, added.w, left + right);
        let (Some(rows), Some(columns)) = (rows, columns) else { return Ok(()) };
        let (ins, outs) = (problem.outs * problem.groups, problem.ins * problem.groups);
        let input = numbers((problem.batch, ins, small.0, small.1), problem.seed);
        let weights = numbers((ins, problem.ins, problem.kernel.0, problem.kernel.1), problem.seed + 1);
        let bias = Array1::from_iter(random((1, outs), problem.seed + 2).iter().copied());
        let mut sums = Sums::new((problem.batch, outs, rows, columns));
        problem.terms((rows, columns), small, |(place, weight, output)| {
            sums.add(output, input[place], weights[weight]);
        });
        for (n, o, y, x) in ndarray::indices(sums.0.dim()) {
            sums.add([n, o, y, x], bias[o], 1.0);
        }
        let stored = problem.stored(&input);
        let options = problem.options();
        let got = conv_transpose2d(view(&stored), weights.view(), added, &options.bias(bias.view())).unwrap();
        sums.check(got.view(), "output");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let ones = |dim| Array4::<f32>::ones(dim);
    let options = ConvOptions::default();
    let input = |gradient, weights, dim, options: &ConvOptions<'_>| {
        conv2d_input_gradient(ones(gradient).view(), ones(weights).view(), dim, options)
            .unwrap_err()
            .to_string()
    };
    let weights = |dim, gradient, options: &ConvOptions<'_>| {
        let (dim, gradient) = (ones(dim), ones(gradient));
        conv2d_weight_gradients(dim.view(), gradient.view(), Size2::square(3), options)
            .unwrap_err()
            .to_string()
    };
    let up = |dim, weights, options: &ConvOptions<'_>| {
        let added = Size2::square(1);
        conv_transpose2d(ones(dim).view(), ones(weights).view(), added, options).unwrap_err().to_string()
    };
    let cases = [
        (
            input((1, 4, 3, 3), (4, 2, 3, 3), (1, 2, 4, 5), &options),
            "grad_output: expected shape [1, 4, 2, 3]",
        ),
        (input((1, 4, 3, 3), (4, 3, 3, 3), (1, 2, 5, 5), &options), "weights: expected the 2 input channels"),
        (input((1, 4, 3, 3), (4, 2, 3, 3), (0, 2, 5, 5), &options), "input: expected at least one element"),
        (
            input((1, 4, 3, 3), (4, 2, 3, 3), (1, 2, 5, 5), &options.activation(Activation::Relu)),
            "multiply the gradient of the output",
        ),
        (
            weights((1, 3, 5, 5), (1, 4, 3, 3), &options.groups(2)),
            "groups: expected a divisor of the 3 input",
        ),
        (
            weights((1, 3, 5, 5), (1, 4, 3, 3), &options.groups(0)),
            "groups: expected a divisor of the 3 input",
        ),
        (weights((1, 3, 2, 5), (1, 4, 3, 3), &options), "the output is empty"),
        (
            up((1, 3, 5, 5), (4, 2, 3, 3), &options),
            "weights: expected the 3 input channels on the first axis",
        ),
        (up((1, 3, 5, 5), (3, 2, 3, 3), &options), "output_pad: expected less than 1x1"),
        (up((1, 3, 5, 5), (3, 2, 3, 3), &options.groups(usize::MAX)), "output channels"),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
}
