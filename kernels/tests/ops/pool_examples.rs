//! Pooling examples worked by hand, for cases in which libraries differ, with PyTorch's results. Also every error.

use crate::{Tensor, UNWRITTEN};
use kernels::{
    ConvError, Isa, Layout, Ops, Pad2, PoolDesc, PoolDescBuilder, PoolKind, Shape4, Size2, TensorMut,
    TensorRef, Threads,
};

const INCLUDE: PoolKind = PoolKind::Average { count_include_pad: true };
const EXCLUDE: PoolKind = PoolKind::Average { count_include_pad: false };

/// Pools the row `1, 2, 3, ...` with windows `1 x window`, and checks the result in every layout.
fn assert_row(
    len: usize,
    window: usize,
    kind: PoolKind,
    set: impl Fn(PoolDescBuilder) -> PoolDescBuilder,
    want: &[f32],
) {
    for layout in Layout::ALL {
        let shape = Shape4::new(1, 1, 1, len);
        let desc = set(PoolDesc::builder(shape, Size2::new(1, window), kind)).layout(layout).build().unwrap();
        let input = Tensor::from_fn(shape, layout, 0, |[_, _, _, x]| x as f32 + 1.0);
        for isa in Isa::available() {
            let mut output = Tensor::filled(desc.output(), layout, 0, UNWRITTEN);
            Ops::new(Some(isa)).unwrap().pool(&desc, input.view(), output.view_mut(), Threads::Seq).unwrap();
            let got: Vec<f32> = (0..desc.output().w).map(|x| output.get(0, 0, 0, x)).collect();
            assert_eq!(got, want, "{isa} {desc}");
        }
    }
}

fn columns(stride: usize, pad: usize, ceil: bool) -> impl Fn(PoolDescBuilder) -> PoolDescBuilder {
    move |builder| builder.stride(Size2::new(1, stride)).pad(Pad2::symmetric(0, pad)).ceil_mode(ceil)
}

#[test]
fn floor_mode_drops_the_rest() {
    assert_row(5, 2, PoolKind::Max, columns(2, 0, false), &[2.0, 4.0]);
    assert_row(5, 2, INCLUDE, columns(2, 0, false), &[1.5, 3.5]);
}

#[test]
fn ceil_mode_keeps_a_cut_window_and_divides_by_what_is_left_of_it() {
    assert_row(5, 2, PoolKind::Max, columns(2, 0, true), &[2.0, 4.0, 5.0]);
    assert_row(5, 2, INCLUDE, columns(2, 0, true), &[1.5, 3.5, 5.0]);
}

/// The windows are -1..2, 1..4 and 3..6 of 1, 2, 3, 4, padded to -1..5. The last window is clipped to two
/// elements, one of which is padding.
#[test]
fn count_include_pad_counts_padding_but_not_what_ceil_mode_adds() {
    assert_row(4, 3, INCLUDE, columns(2, 1, true), &[1.0, 3.0, 2.0]);
    assert_row(4, 3, EXCLUDE, columns(2, 1, true), &[1.5, 3.0, 4.0]);
    assert_row(4, 3, PoolKind::Max, columns(2, 1, true), &[2.0, 4.0, 4.0]);
}

/// A third window would begin at 3, in the padding after the input.
#[test]
fn ceil_mode_drops_a_window_that_begins_in_the_padding() {
    assert_row(3, 2, PoolKind::Max, columns(2, 1, true), &[1.0, 3.0]);
    assert_row(3, 2, INCLUDE, columns(2, 1, true), &[0.5, 2.5]);
}

#[test]
fn ceil_mode_allows_a_window_larger_than_the_input() {
    assert_row(2, 3, PoolKind::Max, columns(2, 0, true), &[2.0]);
    assert_row(2, 3, INCLUDE, columns(2, 0, true), &[1.5]);
}

#[test]
fn max_of_negatives_is_not_the_padding() {
    let shape = Shape4::new(1, 1, 1, 1);
    for layout in Layout::ALL {
        let input = Tensor::from_fn(shape, layout, 0, |_| -3.0);
        let desc = PoolDesc::builder(shape, Size2::square(3), PoolKind::Max).pad(Pad2::all(1)).layout(layout);
        let mut output = Tensor::filled(shape, layout, 0, UNWRITTEN);
        let ops = Ops::new(None).unwrap();
        ops.pool(&desc.build().unwrap(), input.view(), output.view_mut(), Threads::Seq).unwrap();
        assert_eq!(output.get(0, 0, 0, 0), -3.0);
    }
}

#[test]
fn known_networks_have_their_sizes() {
    let size = |side: usize, window: usize, stride: usize, pad: usize, ceil: bool| {
        let builder = PoolDesc::builder(Shape4::new(1, 1, side, side), Size2::square(window), PoolKind::Max);
        let builder = builder.stride(Size2::square(stride)).pad(Pad2::all(pad)).ceil_mode(ceil);
        builder.build().unwrap().output().h
    };
    assert_eq!(size(55, 3, 2, 0, false), 27, "AlexNet");
    assert_eq!(size(112, 3, 2, 1, false), 56, "ResNet");
    assert_eq!(size(112, 3, 2, 0, true), 56, "GoogLeNet");
    assert_eq!(size(28, 3, 1, 1, true), 28, "Inception");
    assert_eq!(size(224, 2, 2, 0, false), 112, "VGG");
}

fn builder() -> PoolDescBuilder {
    PoolDesc::builder(Shape4::new(1, 2, 5, 6), Size2::square(3), PoolKind::Max)
}

fn assert_field(builder: PoolDescBuilder, name: &str) {
    match builder.build() {
        Err(ConvError::InvalidField { field, .. }) => assert_eq!(field, name),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn zero_extents_are_errors() {
    let of = |input, window| PoolDesc::builder(input, window, INCLUDE);
    let window = Size2::square(1);
    assert_field(of(Shape4::new(0, 1, 1, 1), window), "input.n");
    assert_field(of(Shape4::new(1, 0, 1, 1), window), "input.c");
    assert_field(of(Shape4::new(1, 1, 0, 1), window), "input.h");
    assert_field(of(Shape4::new(1, 1, 1, 0), window), "input.w");
    assert_field(of(Shape4::new(1, 1, 1, 1), Size2::new(0, 1)), "window.h");
    assert_field(of(Shape4::new(1, 1, 1, 1), Size2::new(1, 0)), "window.w");
    assert_field(builder().stride(Size2::new(0, 1)), "stride.h");
    assert_field(builder().stride(Size2::new(1, 0)), "stride.w");
    assert_field(builder().dilation(Size2::new(0, 1)), "dilation.h");
    assert_field(builder().dilation(Size2::new(1, 0)), "dilation.w");
}

#[test]
fn padding_as_large_as_the_window_is_an_error() {
    let sides = ["pad.top", "pad.bottom", "pad.left", "pad.right"];
    for (i, name) in sides.into_iter().enumerate() {
        let p = |side| if side == i { 3 } else { 0 };
        assert_field(builder().pad(Pad2 { top: p(0), bottom: p(1), left: p(2), right: p(3) }), name);
    }
    assert!(builder().pad(Pad2::all(2)).build().is_ok());
    assert!(builder().pad(Pad2::all(4)).dilation(Size2::square(2)).build().is_ok());
}

/// The taps are at -1 and 1 of an input with one element.
#[test]
fn a_dilation_that_steps_over_the_input_is_an_error() {
    let one = PoolDesc::builder(Shape4::new(1, 1, 1, 1), Size2::new(2, 1), PoolKind::Max);
    let pad = Pad2 { top: 1, bottom: 2, ..Pad2::VALID };
    assert_field(one.pad(pad).dilation(Size2::new(2, 1)), "dilation.h");
}

#[test]
fn a_window_that_does_not_fit_is_an_error() {
    let big = PoolDesc::builder(Shape4::new(1, 1, 5, 5), Size2::new(6, 2), PoolKind::Max);
    let (padded_input, dilated_kernel) = (Size2::square(5), Size2::new(6, 2));
    assert_eq!(big.build(), Err(ConvError::EmptyOutput { padded_input, dilated_kernel }));
}

#[test]
fn absurd_sizes_are_errors() {
    let overflows = |builder: PoolDescBuilder| match builder.build() {
        Err(ConvError::SizeOverflow { .. }) => {}
        other => panic!("{other:?}"),
    };
    const MAX: usize = usize::MAX;
    let of = |input, window| PoolDesc::builder(input, window, PoolKind::Max);
    overflows(of(Shape4::new(MAX, 2, 5, 5), Size2::square(1)));
    overflows(of(Shape4::new(1, MAX, 5, 5), Size2::square(1)));
    overflows(of(Shape4::new(1, 1, MAX, 1), Size2::square(1)));
    overflows(of(Shape4::new(1, 1, 5, 5), Size2::square(MAX)));
    overflows(builder().pad(Pad2::all(MAX)));
    overflows(builder().dilation(Size2::square(MAX)));
    // A stride larger than the input leaves one window, in both modes.
    for ceil in [false, true] {
        let desc = builder().stride(Size2::square(MAX)).ceil_mode(ceil).build().unwrap();
        assert_eq!(desc.output().size(), Size2::square(1));
    }
}

#[test]
fn tensors_that_are_not_the_descriptors_are_errors() {
    let desc = builder().build().unwrap();
    let ops = Ops::new(None).unwrap();
    let (input, output) = (vec![0.0; 60], desc.output());
    let run = |in_shape, in_layout, out_shape: Shape4, out_layout| {
        let mut data = vec![UNWRITTEN; out_shape.len(out_layout).unwrap()];
        let input = TensorRef::packed(&input, in_shape, in_layout).unwrap();
        let output = TensorMut::packed(&mut data, out_shape, out_layout).unwrap();
        let result = ops.pool(&desc, input, output, Threads::Seq);
        assert!(data.iter().all(|x| x.is_nan()), "the output was touched");
        result.unwrap_err()
    };
    let (nchw, nhwc) = (Layout::Nchw, Layout::Nhwc);
    let (got, other) = (Shape4::new(1, 2, 6, 5), Shape4::new(1, 1, 3, 4));
    assert_eq!(
        run(got, nchw, output, nchw),
        ConvError::ShapeMismatch { what: "input", expected: desc.input(), got }
    );
    assert_eq!(
        run(desc.input(), nhwc, output, nchw),
        ConvError::LayoutMismatch { what: "input", expected: nchw, got: nhwc }
    );
    assert_eq!(
        run(desc.input(), nchw, other, nchw),
        ConvError::ShapeMismatch { what: "output", expected: output, got: other }
    );
    assert_eq!(
        run(desc.input(), nchw, output, nhwc),
        ConvError::LayoutMismatch { what: "output", expected: nchw, got: nhwc }
    );
}
