//! Copies, bit by bit.

use crate::cases::{Case, cases, config, error_of, large_cases, on_every_isa};
use crate::{Tensor, UNWRITTEN, indices};
use kernels::{ConvError, Isa, Layout, Ops, Pitch, Shape4, TensorMut, TensorRef, Threads};
use proptest::prelude::*;

fn check(case: Case, to: Layout) {
    let input = case.input(1.0, 0.0);
    let output = Tensor::filled(case.shape, to, case.gaps[1], UNWRITTEN);
    let results = on_every_isa(&output, true, |ops, output, threads| ops.copy(input.view(), output, threads));
    for result in results {
        for (n, c, y, x) in indices(case.shape) {
            let (want, got) = (input.get(n, c, y, x), result.get(n, c, y, x));
            assert!(
                want.to_bits() == got.to_bits(),
                "{case:?} to {to} at {n} {c} {y} {x}: {want}, got {got}"
            );
        }
    }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn random_copies_agree(case in cases(), to in prop::sample::select(Layout::ALL.to_vec())) {
        check(case, to);
    }
}

#[test]
fn large_copies_agree() {
    for case in large_cases() {
        Layout::ALL.into_iter().for_each(|to| check(case, to));
    }
}

/// NaN payloads, negative zero and subnormals must be copied bit by bit.
#[test]
fn every_value_is_copied_as_it_is() {
    let values = [f32::from_bits(0x7fa5_a5a5), -0.0, f32::from_bits(1), f32::NEG_INFINITY, -f32::NAN];
    for from in Layout::ALL {
        let shape = Shape4::new(1, 20, 1, 20);
        let input = Tensor::from_fn(shape, from, 0, |[_, c, _, x]| values[(c + x) % values.len()]);
        for to in Layout::ALL {
            let output = Tensor::filled(shape, to, 0, UNWRITTEN);
            for result in
                on_every_isa(&output, true, |ops, output, threads| ops.copy(input.view(), output, threads))
            {
                for (n, c, y, x) in indices(shape) {
                    assert_eq!(
                        result.get(n, c, y, x).to_bits(),
                        input.get(n, c, y, x).to_bits(),
                        "{from} {to}"
                    );
                }
            }
        }
    }
}

/// Copies two tensors into channel slices of a third one.
#[test]
fn concatenation_by_slices() {
    let part = |c: usize, first: f32| {
        Tensor::from_fn(Shape4::new(2, c, 2, 2), Layout::Nhwc, 0, |[n, c, y, x]| {
            first + (100 * n + 10 * c + 2 * y + x) as f32
        })
    };
    let (a, b) = (part(3, 0.0), part(2, 1000.0));
    for isa in Isa::available() {
        let ops = Ops::new(Some(isa)).unwrap();
        let mut wide = [UNWRITTEN; 2 * 4 * 5];
        let pitch = Pitch { image: 20, pixel: 5 };
        for (first, tensor) in [(0, &a), (3, &b)] {
            let slice = TensorMut::with_pitch(&mut wide[first..], tensor.shape, Layout::Nhwc, pitch).unwrap();
            ops.copy(tensor.view(), slice, Threads::Seq).unwrap();
        }
        assert_eq!(wide[..10], [0.0, 10.0, 20.0, 1000.0, 1010.0, 1.0, 11.0, 21.0, 1001.0, 1011.0]);
        assert_eq!(wide[35..], [103.0, 113.0, 123.0, 1103.0, 1113.0]);
    }
}

#[test]
fn another_shape_is_an_error() {
    let (expected, got) = (Shape4::new(1, 2, 4, 3), Shape4::new(1, 2, 3, 4));
    let error = error_of([1, 2, 3, 4], Layout::Nhwc, |ops, output| {
        ops.copy(TensorRef::packed(&[0.0; 24], expected, Layout::Nchw).unwrap(), output, Threads::Seq)
    });
    assert_eq!(error, ConvError::ShapeMismatch { what: "output", expected, got });
}
