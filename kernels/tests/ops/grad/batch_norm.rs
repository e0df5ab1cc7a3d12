//! Batch normalisation in training and its gradient, against the definition in `f64`.

use super::{Params, check_difference, check_one, write_and_add};
use crate::cases::{Case, cases, config, error_of, field_of, large_cases, on_every_isa};
use crate::{Noise, Tensor, UNIT, UNWRITTEN, indices};
use kernels::{
    Activation, BatchNormSpec, BatchStatistics, ConvError, Layout, NormGradients, Ops, Shape4, Threads,
};
use proptest::prelude::*;

const SPEC: BatchNormSpec = BatchNormSpec { eps: 1e-3, momentum: 0.25, activation: Activation::None };

/// The activations that can follow.
const ACTIVATIONS: [Activation; 3] =
    [Activation::None, Activation::Relu, Activation::Clip { lo: -0.25, hi: 0.5 }];

/// A channel of a tensor as numbers.
fn channel(of: &Tensor, c: usize) -> Vec<f64> {
    indices(Shape4 { c: 1, ..of.shape }).map(|(n, _, y, x)| f64::from(of.get(n, c, y, x))).collect()
}

/// Mean and biased variance.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count)
}

/// The roundings of a sum of `count` terms in parts of about the square root.
fn roundings(count: usize) -> f64 {
    2.0 * (count as f64).sqrt() + 40.0
}

fn check_forward(case: Case, affine: bool, mean: f32, activation: Activation) {
    let input = case.input(1.0, mean);
    let channels = case.shape.c;
    let mut noise = Noise::new(!case.seed);
    let (scale, shift) = (noise.vec(channels), noise.vec(channels));
    let average = noise.vec(channels);
    let params = (affine.then_some(&scale[..]), affine.then_some(&shift[..]));
    let truth: Vec<_> = (0..channels).map(|c| moments(&channel(&input, c))).collect();
    let count = case.shape.n * case.shape.h * case.shape.w;
    let units = roundings(count) * UNIT;
    let output = Tensor::filled(case.shape, case.layout, case.gaps[1], UNWRITTEN);
    let results = on_every_isa(&output, true, |ops, output, threads| {
        let [mut mean, mut inverse] = [(); 2].map(|()| vec![f32::NAN; channels]);
        let (mut running_mean, mut running_variance) = (average.clone(), average.clone());
        let statistics = BatchStatistics {
            mean: &mut mean,
            inverse: &mut inverse,
            running: Some((&mut running_mean, &mut running_variance)),
        };
        let spec = BatchNormSpec { activation, ..SPEC };
        ops.batch_norm(spec, params, input.view(), output, statistics, threads)?;
        for (c, (true_mean, variance)) in truth.iter().enumerate() {
            let context = format!("{case:?} channel {c}");
            // The deviations are at most 2 in magnitude, and are summed in f32.
            check_one(f64::from(mean[c]), None, (*true_mean, UNIT * true_mean.abs() + 2.0 * units), || {
                context.clone()
            });
            let want = 1.0 / (variance + f64::from(SPEC.eps)).sqrt();
            let of_variance = units * (variance + 4.0 * units);
            let bound = want * (UNIT + of_variance / (variance + f64::from(SPEC.eps)));
            check_one(f64::from(inverse[c]), None, (want, bound), || context.clone());
            let unbiased = variance * count as f64 / (count as f64 - 1.0);
            for (got, new, bound) in [
                (running_mean[c], *true_mean, UNIT * true_mean.abs() + 2.0 * units),
                (running_variance[c], unbiased, 2.0 * of_variance),
            ] {
                let want = 0.75 * f64::from(average[c]) + 0.25 * new;
                check_one(f64::from(got), None, (want, bound + UNIT * want.abs()), || context.clone());
            }
        }
        Ok(())
    });
    for result in results {
        for (n, c, y, x) in indices(case.shape) {
            let (mean, variance) = truth[c];
            let inverse = 1.0 / (variance + f64::from(SPEC.eps)).sqrt();
            let line = if affine { f64::from(scale[c]) } else { 1.0 } * inverse;
            let plain = (f64::from(input.get(n, c, y, x)) - mean) * line;
            let before = plain + if affine { f64::from(shift[c]) } else { 0.0 };
            // No activation here increases a difference.
            let want = activation.eval(before, 0.0);
            let of_variance = units * (variance + 4.0 * units) / (variance + f64::from(SPEC.eps));
            let bound = (of_variance + 4.0 * UNIT) * plain.abs()
                + 2.0 * units * line.abs()
                + 3.0 * UNIT * before.abs();
            check_one(f64::from(result.get(n, c, y, x)), None, (want, bound), || {
                format!("{case:?} mean {mean} {activation:?} at {n} {c} {y} {x}")
            });
        }
    }
}

/// The gradients of one channel from given statistics, without the factor of the input's gradient.
struct Channel {
    factor: f64,
    of_z: f64,
    of_one: f64,
    mean: f64,
    inverse: f64,
    /// Sums of `g * z` and of `g`, and of their magnitudes.
    sums: [(f64, f64); 2],
}

impl Channel {
    fn new(x: &[f64], g: &[f64], (mean, inverse): (f64, f64), scale: f64) -> Self {
        let sum = |term: &dyn Fn((&f64, &f64)) -> f64| {
            x.iter().zip(g).map(term).fold((0.0, 0.0), |(s, m), t| (s + t, m + f64::abs(t)))
        };
        let sums = [sum(&|(x, g)| g * (x - mean) * inverse), sum(&|(_, g)| *g)];
        let count = x.len() as f64;
        Self {
            factor: scale * inverse,
            of_z: sums[0].0 / count,
            of_one: sums[1].0 / count,
            mean,
            inverse,
            sums,
        }
    }

    /// The gradient of an element, and the bound of its error.
    fn dx(&self, x: f64, g: f64, count: usize) -> (f64, f64) {
        let z = (x - self.mean) * self.inverse;
        let terms = [g, z * self.of_z, self.of_one];
        let of_sums = [0, 1].map(|i| self.sums[i].1 / count as f64 * UNIT * (roundings(count) + 4.0));
        let magnitude = terms.iter().map(|term| term.abs()).sum::<f64>();
        let bound = 8.0 * UNIT * magnitude + z.abs() * of_sums[0] + of_sums[1];
        (self.factor * (g - terms[1] - terms[2]), self.factor.abs() * bound)
    }
}

/// The part of a gradient that an activation passes on at `y`. Near a bend, where rounding decides, the caller makes the gradient
/// zero.
fn passed(activation: Activation, y: f64) -> f64 {
    match activation {
        Activation::Relu => f64::from(u8::from(y > 0.0)),
        Activation::Clip { lo, hi } => f64::from(u8::from(y > f64::from(lo) && y < f64::from(hi))),
        _ => 1.0,
    }
}

fn check_backward(case: Case, affine: bool, adds: bool, activation: Activation) {
    let input = case.input(1.0, 0.5);
    let channels = case.shape.c;
    let count = case.shape.n * case.shape.h * case.shape.w;
    let mut noise = Noise::new(!case.seed);
    let (scale, shift) = (noise.vec(channels), noise.vec(channels));
    // The statistics that were saved. Any numbers do.
    let mean: Vec<f32> = (0..channels).map(|_| 0.5 + 0.1 * noise.next()).collect();
    let inverse: Vec<f32> = (0..channels).map(|_| 1.5 + noise.next()).collect();
    let y = |[n, c, y, x]: [usize; 4]| {
        let z = (f64::from(input.get(n, c, y, x)) - f64::from(mean[c])) * f64::from(inverse[c]);
        if affine { z * f64::from(scale[c]) + f64::from(shift[c]) } else { z }
    };
    let is_near_a_bend = |y: f64| passed(activation, y - 1e-5) != passed(activation, y + 1e-5);
    let gradient = Tensor::from_fn(case.shape, case.layout, case.gaps[1], |at| {
        let g = noise.next();
        if is_near_a_bend(y(at)) { 0.0 } else { g }
    });
    let behind = Tensor::from_fn(case.shape, case.layout, 0, |[n, c, i, j]| {
        gradient.get(n, c, i, j) * passed(activation, y([n, c, i, j])) as f32
    });
    let truth: Vec<_> = (0..channels)
        .map(|c| {
            let saved = (f64::from(mean[c]), f64::from(inverse[c]));
            let scale = if affine { f64::from(scale[c]) } else { 1.0 };
            Channel::new(&channel(&input, c), &channel(&behind, c), saved, scale)
        })
        .collect();
    let params = Params::new(channels, adds);
    let context = format!("{case:?} affine: {affine}, adds: {adds}, {activation:?}");
    let found = write_and_add(case.shape, case.layout, case.gaps[1], |ops, dx, threads| {
        let (mut dscale, mut dshift) = (params.before.clone(), params.before.clone());
        let into = NormGradients {
            input: dx,
            scale: Some(params.gradient(&mut dscale)),
            shift: affine.then(|| params.gradient(&mut dshift)),
        };
        let tensors = (input.view(), gradient.view());
        let numbers = (affine.then_some(&scale[..]), affine.then_some(&shift[..]));
        let spec = BatchNormSpec { activation, ..SPEC };
        ops.batch_norm_gradient(spec, numbers, (&mean, &inverse), tensors, into, threads)?;
        for (which, after) in [&dscale, &dshift].into_iter().enumerate().take(1 + usize::from(affine)) {
            let want = |c: usize| {
                let (sum, magnitude) = truth[c].sums[which];
                (sum, UNIT * (roundings(count) + 4.0) * magnitude)
            };
            params.check(after, want, &context);
        }
        Ok(())
    });
    for found in found {
        let want = |[n, c, y, x]: [usize; 4]| {
            let [x, g] = [&input, &behind].map(|tensor| f64::from(tensor.get(n, c, y, x)));
            truth[c].dx(x, g, count)
        };
        found.check(want, &context);
    }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn random_batches_agree(
        case in cases().prop_filter("one element", |case| case.shape.n * case.shape.h * case.shape.w > 1),
        affine in any::<bool>(),
        mean in prop::sample::select(vec![0.0f32, 1.0, 100.0]),
        activation in prop::sample::select(&ACTIVATIONS[..]),
    ) {
        check_forward(case, affine, mean, activation);
    }

    #[test]
    fn random_gradients_agree(
        case in cases(),
        affine in any::<bool>(),
        adds in any::<bool>(),
        activation in prop::sample::select(&ACTIVATIONS[..]),
    ) {
        check_backward(case, affine, adds, activation);
    }
}

#[test]
fn large_batches_agree() {
    for case in large_cases() {
        check_forward(case, true, 1.0, Activation::Relu);
        check_backward(case, true, true, Activation::Relu);
    }
}

/// Large planes and images of many pixels are read in pieces whose spreads are joined.
#[test]
fn pieces_are_joined() {
    for layout in Layout::ALL {
        check_forward(Case::packed([2, 3, 181, 199], layout), true, 10.0, Activation::None);
        check_backward(Case::packed([2, 3, 181, 199], layout), true, false, Activation::None);
    }
}

#[test]
fn the_gradients_are_the_differences_of_the_layer() {
    for layout in Layout::ALL {
        let case = Case::packed([3, 4, 2, 5], layout);
        let input = case.input(1.0, 0.3);
        let mut noise = Noise::new(41);
        let gradient = Tensor::from_fn(case.shape, layout, 0, |_| noise.next());
        let scale = noise.vec(4);
        let (mut mean, mut inverse) = ([0.0; 4], [0.0; 4]);
        let ops = Ops::new(None).unwrap();
        let mut output = Tensor::filled(case.shape, layout, 0, UNWRITTEN);
        let statistics = BatchStatistics { mean: &mut mean, inverse: &mut inverse, running: None };
        let params = (Some(&scale[..]), None);
        ops.batch_norm(SPEC, params, input.view(), output.view_mut(), statistics, Threads::Seq).unwrap();
        let mut dx = Tensor::filled(case.shape, layout, 0, UNWRITTEN);
        let into = NormGradients { input: dx.view_mut().into(), scale: None, shift: None };
        let tensors = (input.view(), gradient.view());
        ops.batch_norm_gradient(SPEC, params, (&mean, &inverse), tensors, into, Threads::Seq).unwrap();
        check_difference(&input, &dx, |at| {
            let of_channel = |c: usize| {
                let places = || indices(Shape4 { c: 1, ..case.shape }).map(|(n, _, y, x)| [n, c, y, x]);
                let values: Vec<f64> = places().map(at).collect();
                let (mean, variance) = moments(&values);
                let line = f64::from(scale[c]) / (variance + f64::from(SPEC.eps)).sqrt();
                let terms = places()
                    .zip(&values)
                    .map(|([n, c, y, x], value)| (value - mean) * line * f64::from(gradient.get(n, c, y, x)));
                terms.sum::<f64>()
            };
            (0..4).map(of_channel).sum()
        });
    }
}

#[test]
fn wrong_arguments_are_errors() {
    let (shape, layout) = ([2, 3, 2, 2], Layout::Nchw);
    let run = |spec: BatchNormSpec, shape: [usize; 4], [scale, mean, running]: [usize; 3]| {
        let input = Tensor::filled(Case::packed(shape, layout).shape, layout, 0, 0.0);
        error_of(shape, layout, |ops, output| {
            let [mut of_mean, mut inverse] = [mean, 3].map(|len| vec![0.0; len]);
            let [mut running_mean, mut running_variance] = [running, 3].map(|len| vec![0.0; len]);
            let statistics = BatchStatistics {
                mean: &mut of_mean,
                inverse: &mut inverse,
                running: Some((&mut running_mean, &mut running_variance)),
            };
            let params = (Some(&[0.0; 9][..scale]), None);
            ops.batch_norm(spec, params, input.view(), output, statistics, Threads::Seq)
        })
    };
    for eps in [-1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(field_of(run(BatchNormSpec { eps, ..SPEC }, shape, [3; 3])), "norm.eps");
    }
    for momentum in [-0.1, 1.1, f32::NAN] {
        assert_eq!(field_of(run(BatchNormSpec { momentum, ..SPEC }, shape, [3; 3])), "norm.momentum");
    }
    for activation in [Activation::PRelu, Activation::Tanh] {
        assert_eq!(field_of(run(BatchNormSpec { activation, ..SPEC }, shape, [3; 3])), "norm.activation");
    }
    assert_eq!(field_of(run(SPEC, [1, 3, 1, 1], [3; 3])), "input");
    for (lens, what) in [([2, 3, 3], "scale"), ([3, 4, 3], "mean"), ([3, 3, 1], "running mean")] {
        let got = *lens.iter().find(|len| **len != 3).expect("one is wrong");
        assert_eq!(run(SPEC, shape, lens), ConvError::BufferLen { what, expected: 3, got });
    }
    let good = Tensor::filled(Case::packed(shape, layout).shape, layout, 0, 0.0);
    let error = error_of(shape, layout, |ops, dx| {
        let into = NormGradients { input: dx.into(), scale: None, shift: None };
        let tensors = (good.view(), good.view());
        ops.batch_norm_gradient(SPEC, (None, None), (&[0.0; 3], &[0.0; 2]), tensors, into, Threads::Seq)
    });
    assert_eq!(error, ConvError::BufferLen { what: "inverse", expected: 3, got: 2 });
}
