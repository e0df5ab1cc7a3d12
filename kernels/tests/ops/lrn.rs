//! Local response normalisation, against the definition in `f64`.

use crate::cases::{Case, cases, config, error_of, field_of, large_cases, on_every_isa};
use crate::{Tensor, UNIT, UNWRITTEN, indices};
use kernels::{ConvError, Layout, LrnSpec, Shape4, TensorRef, Threads};
use proptest::prelude::*;

const ALEXNET: LrnSpec = LrnSpec { size: 5, alpha: 5e-4, beta: 0.75, k: 2.0 };

/// ONNX: `max(0, c - floor((size - 1) / 2)) <= i <= min(C - 1, c + ceil((size - 1) / 2))`.
fn eval(spec: LrnSpec, input: &Tensor, at: (usize, usize, usize, usize)) -> f64 {
    let (n, c, y, x) = at;
    let (below, above) = ((spec.size - 1) / 2, spec.size / 2);
    let window = c.saturating_sub(below)..=(c.saturating_add(above)).min(input.shape.c - 1);
    let sum: f64 = window.map(|i| f64::from(input.get(n, i, y, x)).powi(2)).sum();
    let base = f64::from(spec.k) + f64::from(spec.alpha) / spec.size as f64 * sum;
    f64::from(input.get(n, c, y, x)) / base.powf(f64::from(spec.beta))
}

fn check(case: Case, spec: LrnSpec) {
    let input = case.input(5.0, 0.0);
    let output = Tensor::filled(case.shape, case.layout, case.gaps[1], UNWRITTEN);
    let results =
        on_every_isa(&output, true, |ops, output, threads| ops.lrn(spec, input.view(), output, threads));
    for result in results {
        for at in indices(case.shape) {
            let (want, got) = (eval(spec, &input, at), f64::from(result.get(at.0, at.1, at.2, at.3)));
            // One or two roundings per term of the sum and four for the rest of the base, times beta. Then at
            // most five: two roots (the inner one counts half), product, quotient, or `powf`.
            let terms = spec.size.min(case.shape.c) as f64;
            let bound = UNIT * want.abs() * ((2.0 * terms + 4.0) * f64::from(spec.beta).abs() + 5.0);
            assert!((got - want).abs() <= bound, "{case:?} {spec:?} at {at:?}: {want}, got {got}");
        }
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn random_responses_agree(
        case in cases(),
        size in prop::sample::select(vec![1usize, 2, 3, 4, 5, 7, 16, 17, 33, 200, usize::MAX]),
        alpha in prop::sample::select(vec![0.0f32, 1e-4, 1.0]),
        beta in prop::sample::select(vec![0.75f32, 0.5, 1.0, 0.6, 0.0, -0.25]),
        k in prop::sample::select(vec![1.0f32, 2.0, 0.25]),
    ) {
        check(case, LrnSpec { size, alpha, beta, k });
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for case in large_cases() {
        check(case, ALEXNET);
    }
}

/// All layouts compute the same sums in the same order, so they agree bit by bit.
#[test]
fn layouts_agree() {
    let value = |[n, c, y, x]: [usize; 4]| ((n * 7 + c * 5 + y * 3 + x) % 11) as f32 * 0.37 - 2.0;
    let shape = Shape4::new(2, 37, 5, 19);
    let run = |layout| {
        let input = Tensor::from_fn(shape, layout, 0, value);
        let output = Tensor::filled(shape, layout, 0, UNWRITTEN);
        on_every_isa(&output, true, |ops, output, threads| ops.lrn(ALEXNET, input.view(), output, threads))
    };
    let [first, others @ ..] = Layout::ALL.map(run);
    for other in others {
        for (a, b) in first.iter().zip(&other) {
            assert!(indices(shape).all(|(n, c, y, x)| a.get(n, c, y, x) == b.get(n, c, y, x)));
        }
    }
}

/// Channels 1, 2, 3 with alpha = size and k = 1: the divisors are 1 + 1 + 4, 1 + 1 + 4 + 9 and 1 + 4 + 9.
/// With size 2 the window contains the channel and the next one.
#[test]
fn worked_example() {
    for layout in Layout::ALL {
        let input = Tensor::from_fn(Shape4::new(1, 3, 1, 1), layout, 0, |[_, c, _, _]| c as f32 + 1.0);
        let output = Tensor::filled(input.shape, layout, 0, UNWRITTEN);
        for (size, divisors) in [(3, [6.0, 15.0, 14.0]), (2, [6.0, 14.0, 10.0]), (1, [2.0, 5.0, 10.0])] {
            let spec = LrnSpec { size, alpha: size as f32, beta: 1.0, k: 1.0 };
            for result in on_every_isa(&output, true, |ops, output, threads| {
                ops.lrn(spec, input.view(), output, threads)
            }) {
                for (c, divisor) in divisors.into_iter().enumerate() {
                    assert_eq!(result.get(0, c, 0, 0), (c as f32 + 1.0) / divisor, "{layout} {size}");
                }
            }
        }
    }
}

/// A NaN or an infinity affects only the windows that contain it.
#[test]
fn extremes_stay_in_their_windows() {
    for layout in Layout::ALL {
        for bad in [f32::NAN, f32::INFINITY] {
            let input = Tensor::from_fn(Shape4::new(1, 40, 1, 20), layout, 0, |[_, c, _, x]| {
                if (c, x) == (16, 7) { bad } else { 1.0 }
            });
            let output = Tensor::filled(input.shape, layout, 0, UNWRITTEN);
            let results = on_every_isa(&output, true, |ops, output, threads| {
                ops.lrn(ALEXNET, input.view(), output, threads)
            });
            for result in results {
                for (_, c, _, x) in indices(input.shape) {
                    let got = result.get(0, c, 0, x);
                    let near = x == 7 && (14..=18).contains(&c);
                    let expected =
                        if !near { got > 0.5 } else { got.is_nan() || (bad > 1.0 && c != 16 && got == 0.0) };
                    assert!(expected, "{layout} {bad} {c} {x}: {got}");
                }
            }
        }
    }
}

fn error_with(spec: LrnSpec, input: (Shape4, Layout)) -> ConvError {
    let data = vec![0.0; input.0.len(input.1).unwrap()];
    error_of([1, 2, 3, 4], Layout::Nchw, |ops, output| {
        ops.lrn(spec, TensorRef::packed(&data, input.0, input.1).unwrap(), output, Threads::Seq)
    })
}

const SHAPE: Shape4 = Shape4::new(1, 2, 3, 4);

#[test]
fn parameters_that_make_no_sense_are_errors() {
    let field = |spec| field_of(error_with(spec, (SHAPE, Layout::Nchw)));
    assert_eq!(field(LrnSpec { size: 0, ..ALEXNET }), "lrn.size");
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        assert_eq!(field(LrnSpec { alpha: bad, ..ALEXNET }), "lrn.alpha");
        assert_eq!(field(LrnSpec { k: bad, ..ALEXNET }), "lrn.k");
    }
    assert_eq!(field(LrnSpec { beta: f32::NAN, ..ALEXNET }), "lrn.beta");
}

#[test]
fn an_output_of_another_shape_is_an_error() {
    let input = Shape4::new(1, 2, 4, 3);
    let expected = ConvError::ShapeMismatch { what: "output", expected: input, got: SHAPE };
    assert_eq!(error_with(ALEXNET, (input, Layout::Nchw)), expected);
}

#[test]
fn an_output_of_another_layout_is_an_error() {
    let (expected, got) = (Layout::Nchw16c, Layout::Nchw);
    let expected = ConvError::LayoutMismatch { what: "output", expected, got };
    assert_eq!(error_with(ALEXNET, (SHAPE, Layout::Nchw16c)), expected);
}
