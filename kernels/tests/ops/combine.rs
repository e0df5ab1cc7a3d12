//! Sums and products of two tensors, against `f64`.

use crate::cases::{Case, cases, config, error_of, field_of, large_cases, on_every_isa};
use crate::{Noise, Tensor, UNIT, indices};
use kernels::{Activation, ConvError, Layout, Shape4, TensorRef, Threads};
use proptest::prelude::*;

const ACTIVATIONS: [Activation; 9] = [
    Activation::None,
    Activation::Relu,
    Activation::LeakyRelu { alpha: 0.1 },
    Activation::RELU6,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Elu { alpha: 1.0 },
    Activation::HardSwish,
    Activation::Silu,
];

fn check(case: Case, activation: Activation) {
    let before = case.input(3.0, 0.0);
    let mut noise = Noise::new(!case.seed);
    let addend = Tensor::from_fn(case.shape, case.layout, case.gaps[1], |_| 3.0 * noise.next());
    let results = on_every_isa(&before, false, |ops, tensor, threads| {
        ops.add(addend.view(), tensor, activation, threads)
    });
    for result in results {
        for (n, c, y, x) in indices(case.shape) {
            let (a, b) = (before.get(n, c, y, x), addend.get(n, c, y, x));
            // The sum in f32 is the argument; bounds of the functions are in tests/ops/activation.rs.
            let want = activation.eval(f64::from(a + b), 0.0);
            let error = (f64::from(result.get(n, c, y, x)) - want).abs();
            assert!(error <= 7.0 * UNIT * want.abs(), "{case:?} {activation:?}: {want}, error {error:e}");
        }
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn random_sums_agree(case in cases(), activation in prop::sample::select(ACTIVATIONS.to_vec())) {
        check(case, activation);
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for case in large_cases() {
        check(case, Activation::Relu);
    }
}

#[test]
fn worked_example() {
    for layout in Layout::ALL {
        let of =
            |values: [f32; 3]| Tensor::from_fn(Shape4::new(1, 1, 1, 3), layout, 0, |[_, _, _, x]| values[x]);
        let (tensor, addend) = (of([1.0, -5.0, f32::NAN]), of([0.5, 2.0, 1.0]));
        for result in on_every_isa(&tensor, false, |ops, tensor, threads| {
            ops.add(addend.view(), tensor, Activation::Relu, threads)
        }) {
            assert_eq!((result.get(0, 0, 0, 0), result.get(0, 0, 0, 1)), (1.5, 0.0));
            assert!(result.get(0, 0, 0, 2).is_nan());
        }
    }
}

fn error_with(addend: (Shape4, Layout), activation: Activation) -> ConvError {
    let data = vec![0.0; addend.0.len(addend.1).unwrap()];
    error_of([1, 2, 3, 4], Layout::Nchw, |ops, tensor| {
        let addend = TensorRef::packed(&data, addend.0, addend.1).unwrap();
        ops.add(addend, tensor, activation, Threads::Seq)
    })
}

/// A product with a tensor of the same shape, or with one pixel per image.
fn check_product(case: Case, one_pixel: bool) {
    let before = case.input(3.0, 0.0);
    let mut noise = Noise::new(!case.seed);
    let shape = if one_pixel { Shape4 { h: 1, w: 1, ..case.shape } } else { case.shape };
    let factor = Tensor::from_fn(shape, case.layout, case.gaps[1], |_| 3.0 * noise.next());
    let results =
        on_every_isa(&before, false, |ops, tensor, threads| ops.multiply(factor.view(), tensor, threads));
    for result in results {
        for (n, c, y, x) in indices(case.shape) {
            let (fy, fx) = if one_pixel { (0, 0) } else { (y, x) };
            let want = before.get(n, c, y, x) * factor.get(n, c, fy, fx);
            assert_eq!(result.get(n, c, y, x), want, "{case:?} at {n} {c} {y} {x}");
        }
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn random_products_agree(case in cases(), one_pixel in any::<bool>()) {
        check_product(case, one_pixel);
    }
}

#[test]
fn bits_of_products_do_not_depend_on_threads() {
    for case in large_cases() {
        check_product(case, false);
        check_product(case, true);
    }
}

#[test]
fn a_factor_of_another_shape_is_an_error() {
    let multiply = |shape: Shape4, layout| {
        let data = vec![0.0; shape.len(layout).unwrap()];
        error_of([1, 2, 3, 4], Layout::Nchw, |ops, tensor| {
            ops.multiply(TensorRef::packed(&data, shape, layout).unwrap(), tensor, Threads::Seq)
        })
    };
    for got in [Shape4::new(1, 2, 4, 3), Shape4::new(1, 1, 1, 1), Shape4::new(2, 2, 1, 1)] {
        let expected = ConvError::ShapeMismatch { what: "factor", expected: SHAPE, got };
        assert_eq!(multiply(got, Layout::Nchw), expected);
    }
    for shape in [SHAPE, Shape4::new(1, 2, 1, 1)] {
        let (expected, got) = (Layout::Nchw, Layout::Nchw16c);
        assert_eq!(multiply(shape, got), ConvError::LayoutMismatch { what: "factor", expected, got });
    }
}

const SHAPE: Shape4 = Shape4::new(1, 2, 3, 4);

#[test]
fn an_addend_of_another_shape_is_an_error() {
    let got = Shape4::new(1, 2, 4, 3);
    let expected = ConvError::ShapeMismatch { what: "addend", expected: SHAPE, got };
    assert_eq!(error_with((got, Layout::Nchw), Activation::None), expected);
}

#[test]
fn an_addend_of_another_layout_is_an_error() {
    let (expected, got) = (Layout::Nchw, Layout::Nhwc);
    let expected = ConvError::LayoutMismatch { what: "addend", expected, got };
    assert_eq!(error_with((SHAPE, Layout::Nhwc), Activation::None), expected);
}

#[test]
fn prelu_is_an_error() {
    assert_eq!(field_of(error_with((SHAPE, Layout::Nchw), Activation::PRelu)), "activation");
}

#[test]
fn parameters_that_make_no_sense_are_an_error() {
    let clip = Activation::Clip { lo: 1.0, hi: 0.0 };
    assert_eq!(field_of(error_with((SHAPE, Layout::Nchw), clip)), "activation.clip");
}
