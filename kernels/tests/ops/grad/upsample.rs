//! Upsampling and its gradient, and the gradients that are copies and sums: of concatenation, addition and dropout.

use super::check_one;
use crate::cases::{Case, cases, config, error_of, field_of, on_every_isa};
use crate::{Noise, Tensor, UNIT, UNWRITTEN, indices};
use kernels::{Activation, ConvError, Layout, Ops, Pitch, Shape4, Size2, TensorRef, Threads};
use proptest::prelude::*;

fn upsampled(shape: Shape4, factor: Size2) -> Shape4 {
    Shape4 { h: shape.h * factor.h, w: shape.w * factor.w, ..shape }
}

fn check_forward(case: Case, factor: Size2) {
    let input = case.input(1.0, 0.0);
    let output = Tensor::filled(upsampled(case.shape, factor), case.layout, case.gaps[1], UNWRITTEN);
    let results = on_every_isa(&output, true, |ops, output, threads| {
        ops.upsample(factor, input.view(), output, threads)
    });
    for result in results {
        for (n, c, y, x) in indices(result.shape) {
            assert_eq!(
                result.get(n, c, y, x),
                input.get(n, c, y / factor.h, x / factor.w),
                "{case:?} {factor}"
            );
        }
    }
}

fn check_backward(case: Case, factor: Size2) {
    let mut noise = Noise::new(case.seed);
    let large = upsampled(case.shape, factor);
    let gradient = Tensor::from_fn(large, case.layout, case.gaps[0], |_| noise.next());
    let dx = Tensor::filled(case.shape, case.layout, case.gaps[1], UNWRITTEN);
    let results = on_every_isa(&dx, true, |ops, dx, threads| {
        ops.upsample_gradient(factor, gradient.view(), dx, threads)
    });
    for result in results {
        for (n, c, y, x) in indices(case.shape) {
            let (mut sum, mut magnitude) = (0.0, 0.0);
            for (i, j) in (0..factor.h).flat_map(|i| (0..factor.w).map(move |j| (i, j))) {
                let g = f64::from(gradient.get(n, c, y * factor.h + i, x * factor.w + j));
                sum += g;
                magnitude += g.abs();
            }
            let bound = (factor.h * factor.w) as f64 * UNIT * magnitude;
            let got = f64::from(result.get(n, c, y, x));
            check_one(got, None, (sum, bound), || format!("{case:?} {factor} at {n} {c} {y} {x}"));
        }
    }
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn random_factors_agree(case in cases(), h in 1usize..5, w in 1usize..5) {
        check_forward(case, Size2::new(h, w));
        check_backward(case, Size2::new(h, w));
    }
}

/// One pixel becomes the whole image, whose sum is that of a global pooling.
#[test]
fn single_pixels_agree() {
    for layout in Layout::ALL {
        for c in [3, 16, 70, 130] {
            let case = Case::packed([2, c, 1, 1], layout);
            check_forward(case, Size2::new(7, 9));
            check_backward(case, Size2::new(7, 9));
        }
    }
}

#[test]
fn wrong_arguments_are_errors() {
    let (shape, layout) = ([1, 3, 4, 6], Layout::Nchw);
    let small = Tensor::filled(Shape4::new(1, 3, 2, 3), layout, 0, 0.0);
    let error = |factor| {
        error_of(shape, layout, |ops, output| ops.upsample(factor, small.view(), output, Threads::Seq))
    };
    assert_eq!(field_of(error(Size2::new(0, 2))), "factor.h");
    let expected = Shape4::new(1, 3, 6, 6);
    let got = Shape4::new(1, 3, 4, 6);
    assert_eq!(error(Size2::new(3, 2)), ConvError::ShapeMismatch { what: "output", expected, got });
    assert!(matches!(error(Size2::new(usize::MAX, 2)), ConvError::SizeOverflow { .. }));
    let error = error_of(shape, layout, |ops, dx| {
        ops.upsample_gradient(Size2::square(2), small.view(), dx, Threads::Seq)
    });
    assert!(matches!(error, ConvError::ShapeMismatch { what: "gradient of the output", .. }), "{error}");
}

/// The gradient of a concatenation is split by channel slices, which `copy` writes and `add` adds.
#[test]
fn the_gradient_of_a_concatenation_is_its_slices() {
    for layout in Layout::ALL {
        let whole = Tensor::from_fn(Shape4::new(2, 48, 3, 5), layout, 0, |[n, c, y, x]| {
            (n * 1000 + c * 20 + y * 5 + x) as f32
        });
        let part = Shape4 { c: 16, ..whole.shape };
        let view = whole.view();
        let pixel = match layout {
            Layout::Nhwc => 48,
            Layout::Nchw16c => 16,
            _ => 1,
        };
        let pitch = Pitch { image: whole.data.len() / 2, pixel };
        let slice = &whole.data[view.offset(0, 16, 0, 0)..];
        let slice = TensorRef::with_pitch(slice, part, layout, pitch).unwrap();
        let mut dx = Tensor::filled(part, layout, 0, UNWRITTEN);
        let ops = Ops::new(None).unwrap();
        ops.copy(slice, dx.view_mut(), Threads::Seq).unwrap();
        ops.add(slice, dx.view_mut(), Activation::None, Threads::Seq).unwrap();
        for (n, c, y, x) in indices(part) {
            assert_eq!(dx.get(n, c, y, x), 2.0 * whole.get(n, c + 16, y, x));
        }
    }
}
