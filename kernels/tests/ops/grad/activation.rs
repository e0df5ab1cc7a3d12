//! Gradients of activations: on a dense sample against the derivative in `f64`, and in every layout.

use super::{Params, check_difference, check_one, write_and_add};
use crate::cases::{Case, cases, config, error_of, field_of, large_cases};
use crate::{Noise, Tensor, UNIT, indices, three_threads};
use kernels::{
    Activation, ActivationValue, ConvError, Isa, Layout, Ops, Shape4, SliceGradient, TensorMut, TensorRef,
    Threads,
};
use proptest::prelude::*;

/// The derivative, from its definition. Where the function bends, it is the one of PyTorch.
fn derivative(activation: Activation, x: f64, slope: f64) -> f64 {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Relu => f64::from(u8::from(x > 0.0)),
        Activation::LeakyRelu { alpha } => {
            if x > 0.0 {
                1.0
            } else {
                f64::from(alpha)
            }
        }
        Activation::PRelu => {
            if x > 0.0 {
                1.0
            } else {
                slope
            }
        }
        Activation::Clip { lo, hi } => f64::from(u8::from(x > f64::from(lo) && x < f64::from(hi))),
        Activation::Sigmoid => logistic(x) * logistic(-x),
        Activation::Tanh => 4.0 * logistic(2.0 * x) * logistic(-2.0 * x),
        Activation::Elu { alpha } => {
            if x > 0.0 {
                1.0
            } else {
                f64::from(alpha) * x.exp()
            }
        }
        Activation::HardSwish if x < -3.0 => 0.0,
        Activation::HardSwish if x > 3.0 => 1.0,
        Activation::HardSwish => x / 3.0 + 0.5,
        Activation::Silu => logistic(x) * (1.0 + x * logistic(-x)),
        _ => 1.0,
    }
}

/// Every activation with the error bound of its derivative: relative in units of 2^-24, and absolute.
///
/// - Selections are exact. A product adds one rounding, and every case has one more, with the gradient.
/// - HardSwish: two roundings relative to the larger of its two terms, at most 1.5.
/// - `exp` has 4 units. Sigmoid and tanh square `1 + e` and divide, which adds 5.
/// - SiLU: 8 units of its two terms, of which the second is at most 0.3 in magnitude below zero.
/// - Exponentials below 2^-126 are flushed to zero: 1.2e-38, times |x| < 88 in SiLU, and 4 in tanh.
const BOUNDS: [(Activation, f64, f64); 11] = [
    (Activation::None, 0.0, 0.0),
    (Activation::Relu, 0.0, 0.0),
    (Activation::RELU6, 0.0, 0.0),
    (Activation::Clip { lo: -1.5, hi: 1e30 }, 0.0, 0.0),
    (Activation::LeakyRelu { alpha: 0.01 }, 1.0, 0.0),
    (Activation::Elu { alpha: 1.5 }, 7.0, 2e-38),
    (Activation::HardSwish, 2.0, 3.0 * UNIT),
    (Activation::Sigmoid, 12.0, 1.2e-38),
    (Activation::Tanh, 13.0, 5e-38),
    (Activation::Silu, 14.0, 12.0 * UNIT),
    (Activation::LeakyRelu { alpha: -0.5 }, 1.0, 0.0),
];

fn sample() -> Vec<f32> {
    let mut noise = Noise::new(21);
    let mut values = vec![0.0, -0.0, 3.0, -3.0, 6.0, -1.5, 1e30, f32::MIN_POSITIVE, -1e-45, 1e-45];
    for _ in 0..20_000 {
        let wide = f32::from_bits((noise.bits() >> 32) as u32);
        values.extend([8.0 * noise.next(), 95.0 * noise.next()]);
        values.extend((wide.abs() < 1e36).then_some(wide));
    }
    values
}

fn tensor(data: &[f32]) -> TensorRef<'_> {
    TensorRef::packed(data, Shape4::new(1, 1, 1, data.len()), Layout::Nchw).unwrap()
}

fn run(ops: Ops, activation: Activation, value: ActivationValue<'_>, gradient: &[f32]) -> Vec<f32> {
    let mut dx = vec![f32::NAN; gradient.len()];
    let out = TensorMut::packed(&mut dx, Shape4::new(1, 1, 1, gradient.len()), Layout::Nchw).unwrap();
    ops.activate_gradient(activation, value, tensor(gradient), out, Threads::Seq).unwrap();
    dx
}

#[test]
fn gradients_by_input_are_accurate_everywhere() {
    let x = sample();
    let g = Noise::new(22).vec(x.len());
    for isa in Isa::available() {
        let ops = Ops::new(Some(isa)).unwrap();
        for (activation, relative, absolute) in BOUNDS {
            let dx = run(ops, activation, ActivationValue::Input(tensor(&x)), &g);
            for ((x, g), got) in x.iter().zip(&g).zip(dx) {
                let slope = derivative(activation, f64::from(*x), 0.0);
                let bound = (relative * UNIT * slope.abs() + absolute) * f64::from(g.abs());
                check_one(f64::from(got), None, (slope * f64::from(*g), bound + 1e-45), || {
                    format!("{isa} {activation:?} of {x:e}")
                });
            }
        }
    }
}

/// In place, the gradient has the bits of the gradient that is written elsewhere.
#[test]
fn gradients_in_place_are_those_by_output() {
    for layout in Layout::ALL {
        let case = Case::packed([3, 21, 5, 7], layout);
        let (output, mut noise) = (case.input(1.0, 0.0), Noise::new(24));
        let gradient = Tensor::from_fn(case.shape, layout, case.gaps[1], |_| noise.next());
        for activation in [Activation::Relu, Activation::Tanh, Activation::Sigmoid] {
            for isa in Isa::available() {
                let ops = Ops::new(Some(isa)).unwrap();
                let (mut elsewhere, mut in_place) = (gradient.clone(), gradient.clone());
                let (value, of) = (ActivationValue::Output(output.view()), gradient.view());
                ops.activate_gradient(activation, value, of, elsewhere.view_mut(), Threads::Seq).unwrap();
                let to = in_place.view_mut();
                ops.activate_gradient_in_place(activation, output.view(), to, Threads::Seq).unwrap();
                for (n, c, y, x) in indices(case.shape) {
                    let [got, want] = [&in_place, &elsewhere].map(|tensor| tensor.get(n, c, y, x));
                    assert_eq!(got.to_bits(), want.to_bits(), "{isa} {activation:?} in {layout}");
                }
            }
        }
    }
    let (shape, layout) = ([1, 3, 2, 2], Layout::Nchw);
    let value = Tensor::filled(Case::packed(shape, layout).shape, layout, 0, 0.5);
    let error = error_of(shape, layout, |ops, dx| {
        ops.activate_gradient_in_place(Activation::Silu, value.view(), dx, Threads::Seq)
    });
    assert_eq!(field_of(error), "value");
}

/// From the output of the library's own activation. The rounding of the output counts: `y (1 - y)`, `1 - y^2` and
/// `y + alpha` change by up to `units` of their terms, which are at most 1.5.
#[test]
fn gradients_by_output_agree() {
    let x: Vec<f32> = sample().into_iter().filter(|x| x.abs() < 80.0).collect();
    let g = Noise::new(23).vec(x.len());
    let kinds = [
        (Activation::None, 0.0),
        (Activation::Relu, 0.0),
        (Activation::RELU6, 0.0),
        (Activation::LeakyRelu { alpha: 0.01 }, 1.0),
        (Activation::Sigmoid, 12.0),
        (Activation::Tanh, 16.0),
        (Activation::Elu { alpha: 1.5 }, 16.0),
    ];
    for isa in Isa::available() {
        let ops = Ops::new(Some(isa)).unwrap();
        for (activation, units) in kinds {
            let mut y = x.clone();
            let shape = Shape4::new(1, 1, 1, y.len());
            let in_place = TensorMut::packed(&mut y, shape, Layout::Nchw).unwrap();
            ops.activate(activation, None, in_place, Threads::Seq).unwrap();
            let dx = run(ops, activation, ActivationValue::Output(tensor(&y)), &g);
            for ((x, g), got) in x.iter().zip(&g).zip(dx) {
                // An output that was rounded to a bend of the function is on its lower side.
                let slope = derivative(activation, f64::from(*x), 0.0);
                let bound = units * UNIT * 1.5 * f64::from(g.abs()) + 1e-45;
                check_one(f64::from(got), None, (slope * f64::from(*g), bound), || {
                    format!("{isa} {activation:?} of {x:e}")
                });
            }
        }
    }
}

#[test]
fn a_nan_is_below_the_bends_and_propagates_elsewhere() {
    let (x, g) = ([f32::NAN; 40], [2.0; 40]);
    for isa in Isa::available() {
        let ops = Ops::new(Some(isa)).unwrap();
        for (activation, _, _) in BOUNDS {
            let got = run(ops, activation, ActivationValue::Input(tensor(&x)), &g);
            let want = match activation {
                Activation::None => 2.0,
                Activation::Relu | Activation::Clip { .. } => 0.0,
                Activation::LeakyRelu { alpha } => 2.0 * alpha,
                _ => f32::NAN,
            };
            let same = |got: &f32| *got == want || (got.is_nan() && want.is_nan());
            assert!(got.iter().all(same), "{isa} {activation:?}: {want}, got {got:?}");
        }
    }
}

fn check_layouts(case: Case, activation: Activation) {
    let input = case.input(3.0, 0.0);
    let mut noise = Noise::new(!case.seed);
    let gradient = Tensor::from_fn(case.shape, case.layout, case.gaps[1], |_| noise.next());
    let found = write_and_add(case.shape, case.layout, case.gaps[1], |ops, dx, threads| {
        let value = ActivationValue::Input(input.view());
        ops.activate_gradient(activation, value, gradient.view(), dx, threads)
    });
    for found in found {
        let want = |[n, c, y, x]: [usize; 4]| {
            let g = f64::from(gradient.get(n, c, y, x));
            let slope = derivative(activation, f64::from(input.get(n, c, y, x)), 0.0);
            (slope * g, 14.0 * UNIT * g.abs() + 1e-37)
        };
        found.check(want, &format!("{case:?} {activation:?}"));
    }
}

fn check_prelu(case: Case) {
    let input = case.input(1.0, 0.0);
    let mut noise = Noise::new(!case.seed);
    let gradient = Tensor::from_fn(case.shape, case.layout, case.gaps[1], |_| noise.next());
    let slope = noise.vec(case.shape.c);
    let terms = |c: usize| {
        let (mut sum, mut magnitude) = (0.0, 0.0);
        for (n, _, y, x) in indices(Shape4 { c: 1, ..case.shape }) {
            let term = f64::from(gradient.get(n, c, y, x)) * f64::from(input.get(n, c, y, x).min(0.0));
            sum += term;
            magnitude += f64::abs(term);
        }
        // Parts of about the square root of all terms, and the rounding of each product without FMA.
        let terms = (case.shape.n * case.shape.h * case.shape.w) as f64;
        (sum, (2.0 * terms.sqrt() + 40.0) * UNIT * magnitude)
    };
    let sums: Vec<_> = (0..case.shape.c).map(terms).collect();
    for adds in [false, true] {
        let params = Params::new(case.shape.c, adds);
        let context = format!("{case:?} adds: {adds}");
        let found = write_and_add(case.shape, case.layout, case.gaps[1], |ops, dx, threads| {
            let mut dslope = params.before.clone();
            let into = params.gradient(&mut dslope);
            ops.prelu_gradient(&slope, input.view(), gradient.view(), dx, into, threads)?;
            params.check(&dslope, |c| sums[c], &context);
            Ok(())
        });
        for found in found {
            let want = |[n, c, y, x]: [usize; 4]| {
                let g = f64::from(gradient.get(n, c, y, x));
                let by = derivative(Activation::PRelu, f64::from(input.get(n, c, y, x)), f64::from(slope[c]));
                (g * by, UNIT * (g * by).abs())
            };
            found.check(want, &context);
        }
    }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn random_activations_agree(
        case in cases(),
        activation in prop::sample::select(BOUNDS.map(|(activation, _, _)| activation).to_vec()),
    ) {
        check_layouts(case, activation);
    }

    #[test]
    fn random_prelus_agree(case in cases()) {
        check_prelu(case);
    }
}

#[test]
fn large_tensors_agree() {
    for case in large_cases() {
        check_layouts(case, Activation::Silu);
        check_prelu(case);
    }
}

/// The bits of the sums, which threads share by channels.
#[test]
fn bits_of_slopes_do_not_depend_on_threads() {
    let pool = three_threads();
    for case in large_cases() {
        let (input, slope) = (case.input(1.0, 0.0), vec![0.25; case.shape.c]);
        for isa in Isa::available() {
            let ops = Ops::new(Some(isa)).unwrap();
            let [one, three] = [Threads::Seq, Threads::Pool(&pool)].map(|threads| {
                let (mut dx, mut dslope) = (input.clone(), vec![f32::NAN; case.shape.c]);
                let into = SliceGradient::Write(&mut dslope);
                ops.prelu_gradient(&slope, input.view(), input.view(), dx.view_mut(), into, threads).unwrap();
                dslope.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            });
            assert!(one == three, "{isa} {case:?}: the bits depend on the threads");
        }
    }
}

#[test]
fn gradients_are_the_differences_of_the_layers() {
    let case = Case::packed([2, 5, 3, 4], Layout::Nhwc);
    // No element is within a step of a bend at zero or at the ends of a clip.
    let mut noise = Noise::new(24);
    let away = |x: f32| x + 0.01f32.copysign(x);
    let input = Tensor::from_fn(case.shape, case.layout, 0, |_| away(2.5 * noise.next()));
    let gradient = Tensor::from_fn(case.shape, case.layout, 0, |_| noise.next());
    for (activation, _, _) in BOUNDS {
        let mut dx = Tensor::filled(case.shape, case.layout, 0, f32::NAN);
        let value = ActivationValue::Input(input.view());
        let ops = Ops::new(None).unwrap();
        ops.activate_gradient(activation, value, gradient.view(), dx.view_mut(), Threads::Seq).unwrap();
        check_difference(&input, &dx, |at| {
            indices(case.shape)
                .map(|(n, c, y, x)| {
                    activation.eval(at([n, c, y, x]), 0.0) * f64::from(gradient.get(n, c, y, x))
                })
                .sum()
        });
    }
}

#[test]
fn wrong_arguments_are_errors() {
    let (shape, layout) = ([1, 4, 2, 2], Layout::Nchw);
    let (good, narrow) = ([0.0; 16], [0.0; 12]);
    let of = |data, c| TensorRef::packed(data, Shape4::new(1, c, 2, 2), layout).unwrap();
    let (good, narrow) = (of(&good[..], 4), of(&narrow[..], 3));
    let error = |activation, value, gradient| {
        error_of(shape, layout, |ops, dx| {
            ops.activate_gradient(activation, value, gradient, dx, Threads::Seq)
        })
    };
    let by_input = ActivationValue::Input(good);
    assert_eq!(field_of(error(Activation::PRelu, by_input, good)), "activation");
    for kind in [
        Activation::Silu,
        Activation::HardSwish,
        Activation::LeakyRelu { alpha: 0.0 },
        Activation::Elu { alpha: -1.0 },
    ] {
        assert_eq!(field_of(error(kind, ActivationValue::Output(good), good)), "value");
    }
    let mismatch = |error| match error {
        ConvError::ShapeMismatch { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(mismatch(error(Activation::Relu, by_input, narrow)), "gradient of the output");
    assert_eq!(
        mismatch(error(Activation::Relu, ActivationValue::Input(narrow), narrow)),
        "gradient of the input"
    );
    for (slopes, gradients) in [(3, 4), (4, 5)] {
        let error = error_of(shape, layout, |ops, dx| {
            let mut dslope = vec![0.0; gradients];
            let into = SliceGradient::Write(&mut dslope);
            ops.prelu_gradient(&vec![0.0; slopes], good, good, dx, into, Threads::Seq)
        });
        assert!(matches!(error, ConvError::BufferLen { expected: 4, .. }), "{error}");
    }
}
