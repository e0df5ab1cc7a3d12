//! `Conv2d` against its definition.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{config, random};
use convkernels_ndarray::*;
use ndarray::{Array1, Array2, Array4, ArrayView4, ArrayViewMut4, Axis, s};
use proptest::prelude::*;

/// Each output and the error that it may have: see docs/numerics.md.
fn definition(
    input: ArrayView4<'_, f32>,
    weights: ArrayView4<'_, f32>,
    options: &ConvOptions<'_>,
) -> Array4<(f64, f64)> {
    let (n, _, h, w) = input.dim();
    let (outs, ins, kh, kw) = weights.dim();
    let ConvOptions { stride, padding, dilation, groups, .. } = *options;
    let extent = |size: usize, before: usize, after: usize, k: usize, dilation: usize, stride: usize| {
        (size + before + after - dilation * (k - 1) - 1) / stride + 1
    };
    let oh = extent(h, padding.top, padding.bottom, kh, dilation.h, stride.h);
    let ow = extent(w, padding.left, padding.right, kw, dilation.w, stride.w);
    let largest = input.iter().fold(0f32, |most, v| most.max(v.abs()));
    Array4::from_shape_fn((n, outs, oh, ow), |(n, o, y, x)| {
        let (mut value, mut magnitude, mut squares) = (0.0, 0.0, 0.0);
        for (i, j, k) in ndarray::indices((ins, kh, kw)) {
            let channel = o / (outs / groups) * ins + i;
            let weight = f64::from(weights[(o, i, j, k)]);
            squares += weight * weight;
            let row = (y * stride.h + j * dilation.h).wrapping_sub(padding.top);
            let column = (x * stride.w + k * dilation.w).wrapping_sub(padding.left);
            if row < h && column < w {
                let product = weight * f64::from(input[(n, channel, row, column)]);
                value += product;
                magnitude += product.abs();
            }
        }
        let bias = options.bias.map_or(0.0, |bias| f64::from(bias[o]));
        let slope = options.slopes.map_or(0.0, |slopes| f64::from(slopes[o]));
        let eps = f64::from(f32::EPSILON);
        let taps = (ins * kh * kw) as f64;
        let summed = (taps + 4.0) * eps * (magnitude + bias.abs());
        // Winograd and Fourier transforms spread errors over their tiles.
        let spread = if kh * kw > 1 {
            64.0 * eps * squares.sqrt() * f64::from(largest) * taps.sqrt() * 8.0
        } else {
            0.0
        };
        (options.activation.eval(value + bias, slope), summed + spread + 1e-30)
    })
}

fn assert_close(got: ArrayView4<'_, f32>, expected: &Array4<(f64, f64)>, what: &str) {
    assert_eq!(got.dim(), expected.dim(), "{what}");
    for ((at, got), (value, bound)) in got.indexed_iter().zip(expected) {
        let error = (f64::from(*got) - value).abs();
        assert!(error <= *bound, "{what}: {got} at {at:?}, expected {value} within {bound}");
    }
}

/// How a batch lies in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Nchw,
    Nhwc,
    BatchReversed,
    SomeChannels,
    NhwcSomeChannels,
    Cropped,
    OneImage,
    RowsReversed,
}

const ORDERS: [Order; 8] = [
    Order::Nchw,
    Order::Nhwc,
    Order::BatchReversed,
    Order::SomeChannels,
    Order::NhwcSomeChannels,
    Order::Cropped,
    Order::OneImage,
    Order::RowsReversed,
];

type Dim = (usize, usize, usize, usize);

impl Order {
    fn base(self, (n, c, h, w): Dim) -> Dim {
        match self {
            Self::Nhwc => (n, h, w, c),
            Self::SomeChannels => (n, c + 2, h, w),
            Self::NhwcSomeChannels => (n, h, w, c + 2),
            Self::Cropped => (n, c, h + 2, w + 1),
            Self::OneImage => (1, c, h, w),
            _ => (n, c, h, w),
        }
    }

    fn view(self, base: &Array4<f32>, dim: Dim) -> ArrayView4<'_, f32> {
        match self {
            Self::Nchw => base.view(),
            Self::Nhwc => base.view().permuted_axes([0, 3, 1, 2]),
            Self::BatchReversed => base.slice(s![..;-1, .., .., ..]),
            Self::SomeChannels => base.slice(s![.., 1..=dim.1, .., ..]),
            Self::NhwcSomeChannels => base.slice(s![.., .., .., 2..]).permuted_axes([0, 3, 1, 2]),
            Self::Cropped => base.slice(s![.., .., 2.., 1..]),
            Self::OneImage => base.broadcast(dim).unwrap(),
            Self::RowsReversed => base.slice(s![.., .., ..;-1, ..]),
        }
    }

    fn view_mut(self, base: &mut Array4<f32>, dim: Dim) -> ArrayViewMut4<'_, f32> {
        match self {
            Self::Nchw | Self::OneImage => base.view_mut(),
            Self::Nhwc => base.view_mut().permuted_axes([0, 3, 1, 2]),
            Self::BatchReversed => base.slice_mut(s![..;-1, .., .., ..]),
            Self::SomeChannels => base.slice_mut(s![.., 1..=dim.1, .., ..]),
            Self::NhwcSomeChannels => base.slice_mut(s![.., .., .., 2..]).permuted_axes([0, 3, 1, 2]),
            Self::Cropped => base.slice_mut(s![.., .., 2.., 1..]),
            Self::RowsReversed => base.slice_mut(s![.., .., ..;-1, ..]),
        }
    }
}

fn random4(dim: Dim, seed: u64) -> Array4<f32> {
    random((dim.0 * dim.1, dim.2 * dim.3), seed).into_shape_with_order(dim).unwrap()
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::None),
        Just(Activation::Relu),
        Just(Activation::PRelu),
        Just(Activation::LeakyRelu { alpha: 0.25 }),
    ]
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_convolution(
        (n, groups, ins, outs) in (1usize..4, 1usize..4, 1usize..5, 1usize..5),
        (h, w) in (1usize..14, 1usize..14),
        (kh, kw) in (1usize..5, 1usize..5),
        (top, bottom, left, right) in (0usize..4, 0usize..4, 0usize..4, 0usize..4),
        (stride, dilation) in ((1usize..4, 1usize..4), (1usize..3, 1usize..3)),
        (activation, has_bias, seed) in (activation(), any::<bool>(), any::<u64>()),
        (from, to) in (prop::sample::select(&ORDERS[..]), prop::sample::select(&ORDERS[..])),
        weights_transposed in any::<bool>(),
    ) {
        let dilation = Size2::new(dilation.0, dilation.1);
        prop_assume!(dilation.h * (kh - 1) < h + top + bottom && dilation.w * (kw - 1) < w + left + right);
        let dim = (n, groups * ins, h, w);
        let input = random4(from.base(dim), seed);
        let input = from.view(&input, dim);
        let weights = random4(if weights_transposed { (groups * outs, ins, kw, kh) } else { (groups * outs, ins, kh, kw) }, seed ^ 1);
        let weights = if weights_transposed { weights.view().permuted_axes([0, 1, 3, 2]) } else { weights.view() };
        let per_channel = random((2, groups * outs), seed ^ 2);
        let mut options = ConvOptions::default()
            .stride(Size2::new(stride.0, stride.1))
            .padding(Pad2 { top, bottom, left, right })
            .dilation(dilation)
            .groups(groups)
            .activation(activation);
        if has_bias {
            options = options.bias(per_channel.row(0));
        }
        if activation == Activation::PRelu {
            options = options.slopes(per_channel.row(1));
        }
        let expected = definition(input, weights, &options);
        let conv = Conv2d::new(weights, &options).unwrap();
        let output = conv.run(input).unwrap();
        assert_close(output.view(), &expected, "run");

        let dim = output.dim();
        let to = if to == Order::OneImage { Order::Nchw } else { to };
        let mut base = Array4::from_elem(to.base(dim), f32::NAN);
        conv.run_into(input, to.view_mut(&mut base, dim)).unwrap();
        assert_close(to.view(&base, dim), &expected, "run_into");
        prop_assert_eq!(base.iter().filter(|v| !v.is_nan()).count(), output.len(), "nothing else is written");
    }
}

#[test]
fn the_output_has_the_memory_order_of_the_input() {
    let weights = random4((5, 3, 3, 3), 1);
    let nhwc = random4((2, 8, 9, 3), 2);
    let input = nhwc.view().permuted_axes([0, 3, 1, 2]);
    let output = conv2d(input, weights.view(), &ConvOptions::default()).unwrap();
    assert!(output.view().permuted_axes([0, 2, 3, 1]).is_standard_layout());
    let standard = input.as_standard_layout();
    let output = conv2d(standard.view(), weights.view(), &ConvOptions::default()).unwrap();
    assert!(output.is_standard_layout());
}

#[test]
fn the_same_bits_on_any_threads() {
    let weights = random4((32, 16, 3, 3), 1);
    let input = random4((3, 16, 40, 50), 2);
    for padding in [Pad2::all(1), Pad2 { top: 2, bottom: 0, left: 1, right: 3 }] {
        let options = ConvOptions::default().padding(padding);
        let alone = conv2d(input.view(), weights.view(), &options).unwrap();
        let conv =
            Conv2d::new(weights.view(), &options.threads(Threads::Rayon)).unwrap().into_owned().unwrap();
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| conv.run(input.view())).unwrap(), alone, "{threads} threads");
        }
    }
}

#[test]
fn bad_arguments() {
    let (input, weights) = (random4((1, 4, 5, 6), 1), random4((6, 4, 3, 3), 2));
    let run = |input: &Array4<f32>, weights: &Array4<f32>, options: ConvOptions<'_>| {
        conv2d(input.view(), weights.view(), &options).unwrap_err().to_string()
    };
    let short = Array1::zeros(5);
    let options = ConvOptions::default();
    assert_eq!(
        run(&random4((1, 3, 5, 6), 1), &weights, options),
        "input: expected 4 channels on the second axis, as the weights have in all groups, got [1, 3, 5, 6]"
    );
    assert_eq!(
        run(&Array4::zeros((0, 4, 5, 6)), &weights, options),
        "input: expected at least one element on every axis, got shape [0, 4, 5, 6]"
    );
    assert_eq!(
        run(&input, &Array4::zeros((6, 4, 0, 3)), options),
        "weights: expected at least one element on every axis, got shape [6, 4, 0, 3]"
    );
    assert_eq!(run(&input, &weights, options.bias(short.view())), "bias: expected shape [6], got [5]");
    assert_eq!(
        run(&input, &weights, options.activation(Activation::PRelu)),
        "PReLU slopes: expected one, because the descriptor asks for it, got none"
    );
    assert_eq!(
        run(&input, &weights, options.groups(4)),
        "groups: expected a divisor of the 6 output channels, got 4"
    );
    assert_eq!(
        run(&input, &weights, options.stride(Size2::new(0, 1))),
        "stride.h: expected at least 1, got 0"
    );
    assert!(run(&input, &weights, options.dilation(Size2::square(3))).contains("the output is empty"));
    assert!(Conv2d::new(weights.view(), &options.stride(Size2::new(0, 1))).is_err(), "without any input");

    let conv = Conv2d::new(weights.view(), &options).unwrap();
    let error = conv.run_into(input.view(), Array4::zeros((1, 6, 5, 6)).view_mut()).unwrap_err();
    assert_eq!(error.to_string(), "output: expected shape [1, 6, 3, 4], got [1, 6, 5, 6]");
    let one = Array2::<f32>::zeros((1, 1)).insert_axis(Axis(0)).insert_axis(Axis(0));
    let endless = one.broadcast((1 << 15, 4, 1 << 20, 1 << 20)).unwrap();
    assert!(matches!(conv.run(endless).unwrap_err(), Error::Conv(_)));
    assert!(matches!(Conv2d::new(endless, &options).unwrap_err(), Error::Conv(_)));
}
