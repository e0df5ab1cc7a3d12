//! Maxout, against the definition.

use crate::cases::{Case, cases, config, error_of, field_of, large_cases, on_every_isa};
use crate::{Tensor, UNWRITTEN, indices};
use kernels::{ConvError, Layout, Shape4, TensorRef, Threads};
use proptest::prelude::*;

/// The channels of `case` are the channels of the output.
fn check(case: Case, pieces: usize) {
    let shape = Shape4 { c: case.shape.c * pieces, ..case.shape };
    let input = Case { shape, ..case }.input(1.0, 0.0);
    let output = Tensor::filled(case.shape, case.layout, case.gaps[1], UNWRITTEN);
    let results =
        on_every_isa(&output, true, |ops, output, threads| ops.maxout(pieces, input.view(), output, threads));
    for result in results {
        for (n, c, y, x) in indices(case.shape) {
            let values = (0..pieces).map(|j| input.get(n, c * pieces + j, y, x));
            let want = values.fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(result.get(n, c, y, x), want, "{case:?} {pieces} at {n} {c} {y} {x}");
        }
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn random_maxouts_agree(case in cases(), pieces in 1usize..6) {
        check(case, pieces);
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for case in large_cases() {
        check(case, 2);
        check(case, 3);
    }
}

/// `4 -1 | 2 7 | NaN 0 | 0 NaN`.
#[test]
fn worked_example() {
    let values = [4.0, -1.0, 2.0, 7.0, f32::NAN, 0.0, 0.0, f32::NAN];
    for layout in Layout::ALL {
        // 20 pixels, and five times the same channels, so that whole vectors occur too.
        let input = Tensor::from_fn(Shape4::new(1, 40, 1, 20), layout, 0, |[_, c, _, _]| values[c % 8]);
        let output = Tensor::filled(Shape4::new(1, 20, 1, 20), layout, 0, UNWRITTEN);
        for result in
            on_every_isa(&output, true, |ops, output, threads| ops.maxout(2, input.view(), output, threads))
        {
            for (_, c, _, x) in indices(output.shape) {
                let got = result.get(0, c, 0, x);
                match c % 4 {
                    0 => assert_eq!(got, 4.0),
                    1 => assert_eq!(got, 7.0),
                    _ => assert!(got.is_nan(), "{layout} {c}: {got}"),
                }
            }
        }
    }
}

fn error_with(pieces: usize, input: (Shape4, Layout)) -> ConvError {
    let data = vec![0.0; input.0.len(input.1).unwrap()];
    error_of([1, 2, 3, 4], Layout::Nchw, |ops, output| {
        let input = TensorRef::packed(&data, input.0, input.1).unwrap();
        ops.maxout(pieces, input, output, Threads::Seq)
    })
}

#[test]
fn pieces_that_do_not_divide_the_channels_are_an_error() {
    for pieces in [0, 4, 12, usize::MAX] {
        assert_eq!(field_of(error_with(pieces, (Shape4::new(1, 6, 3, 4), Layout::Nchw))), "pieces");
    }
}

#[test]
fn an_output_of_another_shape_is_an_error() {
    let (expected, got) = (Shape4::new(1, 3, 3, 4), Shape4::new(1, 2, 3, 4));
    let error = error_with(2, (Shape4::new(1, 6, 3, 4), Layout::Nchw));
    assert_eq!(error, ConvError::ShapeMismatch { what: "output", expected, got });
}

#[test]
fn an_output_of_another_layout_is_an_error() {
    let error = error_with(3, (Shape4::new(1, 6, 3, 4), Layout::Nhwc));
    let (expected, got) = (Layout::Nhwc, Layout::Nchw);
    assert_eq!(error, ConvError::LayoutMismatch { what: "output", expected, got });
}
