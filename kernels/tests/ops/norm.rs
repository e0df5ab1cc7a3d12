//! Batch norm at inference and group normalisation, against the definition in `f64`.

use crate::cases::{Case, cases, config, error_of, field_of, large_cases, on_every_isa};
use crate::{Noise, Tensor, UNIT, UNWRITTEN, indices};
use kernels::{Activation, ConvError, Layout, NormSpec, Shape4, TensorRef, Threads};
use proptest::prelude::*;

fn check_scale_shift(case: Case) {
    let before = case.input(3.0, 0.0);
    let mut noise = Noise::new(!case.seed);
    let (scale, shift) = (noise.vec(case.shape.c), noise.vec(case.shape.c));
    let results =
        on_every_isa(&before, false, |ops, tensor, threads| ops.scale_shift(&scale, &shift, tensor, threads));
    for result in results {
        for (n, c, y, x) in indices(case.shape) {
            let product = f64::from(before.get(n, c, y, x)) * f64::from(scale[c]);
            let want = product + f64::from(shift[c]);
            // Two roundings without FMA.
            let bound = UNIT * (want.abs() + 2.0 * product.abs());
            let error = (f64::from(result.get(n, c, y, x)) - want).abs();
            assert!(error <= bound, "{case:?} at {n} {c} {y} {x}: {want}, error {error:e}");
        }
    }
}

/// The affine map with an activation, to another tensor.
fn check_affine(case: Case, activation: Activation) {
    let input = case.input(3.0, 0.0);
    let mut noise = Noise::new(!case.seed);
    let (scale, shift) = (noise.vec(case.shape.c), noise.vec(case.shape.c));
    let output = Tensor::filled(case.shape, case.layout, case.gaps[1], UNWRITTEN);
    let results = on_every_isa(&output, true, |ops, tensor, threads| {
        ops.affine((&scale, &shift), activation, input.view(), tensor, threads)
    });
    for result in results {
        for (n, c, y, x) in indices(case.shape) {
            let product = f64::from(input.get(n, c, y, x)) * f64::from(scale[c]);
            let sum = product + f64::from(shift[c]);
            let want = activation.eval(sum, 0.0);
            // Two roundings without FMA, which no activation here enlarges by more than a tenth, and its own.
            let bound = 1.1 * UNIT * (sum.abs() + 2.0 * product.abs()) + 7.0 * UNIT * want.abs();
            let error = (f64::from(result.get(n, c, y, x)) - want).abs();
            assert!(error <= bound, "{case:?} {activation:?} at {n} {c} {y} {x}: {want}, error {error:e}");
        }
    }
}

/// Mean and biased variance of a group of `size` channels.
fn moments(input: &Tensor, n: usize, group: usize, size: usize) -> (f64, f64) {
    let all = Shape4 { n: 1, c: size, ..input.shape };
    let values = || indices(all).map(|(_, c, y, x)| f64::from(input.get(n, group * size + c, y, x)));
    let count = (size * all.h * all.w) as f64;
    let mean = values().sum::<f64>() / count;
    (mean, values().map(|x| (x - mean).powi(2)).sum::<f64>() / count)
}

fn check_normalize(case: Case, spec: NormSpec, affine: bool, mean: f32) {
    let input = case.input(1.0, mean);
    let mut noise = Noise::new(!case.seed);
    let (scale, shift) = (noise.vec(case.shape.c), noise.vec(case.shape.c));
    let output = Tensor::filled(case.shape, case.layout, case.gaps[1], UNWRITTEN);
    let (some_scale, some_shift) = (affine.then_some(&scale[..]), affine.then_some(&shift[..]));
    let results = on_every_isa(&output, true, |ops, output, threads| {
        ops.normalize(spec, some_scale, some_shift, input.view(), output, threads)
    });
    let size = case.shape.c / spec.groups;
    let mut truth = Vec::new();
    for n in 0..case.shape.n {
        truth.extend((0..spec.groups).map(|group| moments(&input, n, group, size)));
    }
    for (n, c, y, x) in indices(case.shape) {
        let (mean, variance) = truth[n * spec.groups + c / size];
        let deviation = (variance + f64::from(spec.eps)).sqrt();
        let factor = if affine { f64::from(scale[c]) } else { 1.0 } / deviation;
        let from = f64::from(input.get(n, c, y, x));
        let plain = (from - mean) * factor;
        let want = plain + if affine { f64::from(shift[c]) } else { 0.0 };
        // Mean: blocked sums of deviations of at most 2 (the error of the first mean is subtracted again),
        // and the rounding of the difference. Variance: the same, times 1/2. Then factor and product, the
        // shift, which is rounded after correction, and the sum.
        let terms = 4.0 + 2.0 * ((size * case.shape.h * case.shape.w) as f64).sqrt();
        let shifted = want.abs() + if affine { f64::from(shift[c]).abs() } else { 0.0 };
        let bound = UNIT * (terms * (plain.abs() + 2.0 * factor.abs()) + shifted);
        for result in &results {
            let got = f64::from(result.get(n, c, y, x));
            assert!(
                (got - want).abs() <= bound,
                "{case:?} {spec:?} {n} {c} {y} {x}: {want}, got {got}, {bound:e}"
            );
        }
    }
}

/// A divisor of `channels`; 1 and `channels` occur too.
fn groups_of(channels: usize, choice: usize) -> usize {
    let divisors: Vec<_> = (1..=channels).filter(|&groups| channels.is_multiple_of(groups)).collect();
    divisors[choice % divisors.len()]
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn random_scales_agree(case in cases()) {
        check_scale_shift(case);
    }

    #[test]
    fn random_affine_maps_agree(
        case in cases(),
        activation in prop::sample::select(vec![Activation::None, Activation::Relu, Activation::RELU6, Activation::Silu]),
    ) {
        check_affine(case, activation);
    }

    #[test]
    fn random_norms_agree(
        case in cases(),
        choice in 0usize..10,
        affine in any::<bool>(),
        eps in prop::sample::select(vec![1e-5f32, 1e-3, 1.0]),
        mean in prop::sample::select(vec![0.0f32, 1.0, 1000.0]),
    ) {
        let spec = NormSpec { groups: groups_of(case.shape.c, choice), eps };
        check_normalize(case, spec, affine, mean);
    }
}

#[test]
fn bits_of_scales_do_not_depend_on_threads() {
    large_cases().for_each(check_scale_shift);
}

#[test]
fn bits_of_affine_maps_do_not_depend_on_threads() {
    large_cases().for_each(|case| check_affine(case, Activation::Relu));
}

#[test]
fn affine_maps_that_do_not_fit_are_errors() {
    let shape = Shape4::new(1, 2, 3, 4);
    let data = vec![0.0; shape.len(Layout::Nchw).unwrap()];
    let affine = |of: Shape4, lens: [usize; 2], activation| {
        let numbers = [1.0; 9];
        error_of([1, 2, 3, 4], Layout::Nchw, |ops, tensor| {
            let input = TensorRef::packed(&data[..of.len(Layout::Nchw).unwrap()], of, Layout::Nchw).unwrap();
            ops.affine((&numbers[..lens[0]], &numbers[..lens[1]]), activation, input, tensor, Threads::Seq)
        })
    };
    let len = |what, got| ConvError::BufferLen { what, expected: 2, got };
    assert_eq!(affine(shape, [3, 2], Activation::Relu), len("scale", 3));
    assert_eq!(affine(shape, [2, 1], Activation::Relu), len("shift", 1));
    assert_eq!(field_of(affine(shape, [2, 2], Activation::PRelu)), "activation");
    let other = Shape4::new(1, 2, 4, 3);
    let expected = ConvError::ShapeMismatch { what: "output", expected: other, got: shape };
    assert_eq!(affine(other, [2, 2], Activation::Relu), expected);
}

#[test]
fn bits_of_norms_do_not_depend_on_threads() {
    for case in large_cases() {
        for groups in [1, groups_of(case.shape.c, 3), case.shape.c] {
            check_normalize(case, NormSpec { groups, eps: 1e-5 }, true, 0.5);
        }
    }
}

/// Twice the channel plus one, minus the channel.
#[test]
fn worked_example_of_scales() {
    for layout in Layout::ALL {
        let before = Tensor::from_fn(Shape4::new(1, 2, 1, 3), layout, 0, |[_, c, _, x]| (10 * c + x) as f32);
        for result in on_every_isa(&before, false, |ops, tensor, threads| {
            ops.scale_shift(&[2.0, -1.0], &[1.0, 0.0], tensor, threads)
        }) {
            let row = |c| [0, 1, 2].map(|x| result.get(0, c, 0, x));
            assert_eq!((row(0), row(1)), ([1.0, 3.0, 5.0], [-10.0, -11.0, -12.0]));
        }
    }
}

/// Channels `1 3` and `5 7` have means 2 and 6 and variance 1; together they have mean 4 and variance 5.
#[test]
fn worked_example_of_norms() {
    for layout in Layout::ALL {
        let input =
            Tensor::from_fn(Shape4::new(1, 2, 1, 2), layout, 0, |[_, c, _, x]| (1 + 4 * c + 2 * x) as f32);
        let output = Tensor::filled(input.shape, layout, 0, UNWRITTEN);
        let run = |groups, eps, scale, shift| {
            on_every_isa(&output, true, |ops, output, threads| {
                ops.normalize(NormSpec { groups, eps }, scale, shift, input.view(), output, threads)
            })
        };
        let values = |result: &Tensor| [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(c, x)| result.get(0, c, 0, x));
        for result in run(2, 0.0, None, None) {
            assert_eq!(values(&result), [-1.0, 1.0, -1.0, 1.0]);
        }
        for result in run(2, 3.0, Some(&[2.0, 4.0][..]), Some(&[0.0, 10.0][..])) {
            assert_eq!(values(&result), [-1.0, 1.0, 8.0, 12.0]);
        }
        for result in run(1, 4.0, None, None) {
            assert_eq!(values(&result), [-1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0]);
        }
    }
}

/// With a single pass, the variance would be the difference of two numbers near 1e8 and lose all digits.
#[test]
fn a_large_mean_does_no_harm() {
    for layout in Layout::ALL {
        let input = Tensor::from_fn(Shape4::new(1, 32, 40, 50), layout, 0, |[_, c, y, x]| {
            10_000.0 + ((c + y + x) % 2) as f32
        });
        let output = Tensor::filled(input.shape, layout, 0, UNWRITTEN);
        for groups in [1, 4, 32] {
            for result in on_every_isa(&output, true, |ops, output, threads| {
                ops.normalize(NormSpec { groups, eps: 0.0 }, None, None, input.view(), output, threads)
            }) {
                for (n, c, y, x) in indices(input.shape) {
                    let want = if (c + y + x) % 2 == 0 { -1.0 } else { 1.0 };
                    let error = (result.get(n, c, y, x) - want).abs();
                    assert!(error < 1e-5, "{layout} {groups}: {error:e}");
                }
            }
        }
    }
}

/// Groups and images must not affect each other.
#[test]
fn nan_stays_in_its_group() {
    for layout in Layout::ALL {
        let input = Tensor::from_fn(Shape4::new(2, 36, 3, 5), layout, 0, |[n, c, y, x]| {
            if (n, c, y, x) == (1, 14, 2, 2) { f32::NAN } else { (x % 2) as f32 }
        });
        let output = Tensor::filled(input.shape, layout, 0, UNWRITTEN);
        for result in on_every_isa(&output, true, |ops, output, threads| {
            ops.normalize(NormSpec { groups: 12, eps: 1e-5 }, None, None, input.view(), output, threads)
        }) {
            for (n, c, y, x) in indices(input.shape) {
                assert_eq!(result.get(n, c, y, x).is_nan(), n == 1 && c / 3 == 14 / 3, "{layout} {n} {c}");
            }
        }
    }
}

fn scale_error(scale: usize, shift: usize) -> ConvError {
    error_of([1, 2, 3, 4], Layout::Nchw, |ops, tensor| {
        ops.scale_shift(&vec![0.0; scale], &vec![0.0; shift], tensor, Threads::Seq)
    })
}

#[test]
fn a_scale_of_another_length_is_an_error() {
    assert_eq!(scale_error(3, 2), ConvError::BufferLen { what: "scale", expected: 2, got: 3 });
}

#[test]
fn a_shift_of_another_length_is_an_error() {
    assert_eq!(scale_error(2, 0), ConvError::BufferLen { what: "shift", expected: 2, got: 0 });
}

fn norm_error(spec: NormSpec, numbers: [Option<&[f32]>; 2], input: (Shape4, Layout)) -> ConvError {
    let data = vec![0.0; input.0.len(input.1).unwrap()];
    error_of([1, 2, 3, 4], Layout::Nchw, |ops, output| {
        let input = TensorRef::packed(&data, input.0, input.1).unwrap();
        ops.normalize(spec, numbers[0], numbers[1], input, output, Threads::Seq)
    })
}

const SHAPE: Shape4 = Shape4::new(1, 2, 3, 4);
const SPEC: NormSpec = NormSpec { groups: 1, eps: 1e-5 };

#[test]
fn groups_that_do_not_divide_the_channels_are_an_error() {
    for groups in [0, 3, usize::MAX] {
        let error = norm_error(NormSpec { groups, ..SPEC }, [None, None], (SHAPE, Layout::Nchw));
        assert_eq!(field_of(error), "norm.groups");
    }
}

#[test]
fn eps_that_makes_no_sense_is_an_error() {
    for eps in [-1.0, f32::NAN, f32::INFINITY] {
        let error = norm_error(NormSpec { eps, ..SPEC }, [None, None], (SHAPE, Layout::Nchw));
        assert_eq!(field_of(error), "norm.eps");
    }
}

#[test]
fn numbers_of_another_length_are_errors() {
    let error = |scale, shift| norm_error(SPEC, [scale, shift], (SHAPE, Layout::Nchw));
    let three = Some(&[1.0; 3][..]);
    assert_eq!(error(three, None), ConvError::BufferLen { what: "scale", expected: 2, got: 3 });
    assert_eq!(error(None, three), ConvError::BufferLen { what: "shift", expected: 2, got: 3 });
}

#[test]
fn an_output_of_another_shape_is_an_error() {
    let input = Shape4::new(1, 2, 4, 3);
    let expected = ConvError::ShapeMismatch { what: "output", expected: input, got: SHAPE };
    assert_eq!(norm_error(SPEC, [None, None], (input, Layout::Nchw)), expected);
}

#[test]
fn an_output_of_another_layout_is_an_error() {
    let (expected, got) = (Layout::Nhwc, Layout::Nchw);
    let expected = ConvError::LayoutMismatch { what: "output", expected, got };
    assert_eq!(norm_error(SPEC, [None, None], (SHAPE, Layout::Nhwc)), expected);
}
