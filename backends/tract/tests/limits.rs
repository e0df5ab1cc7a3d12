//! Models at the limits of what is replaced: unusual windows, shapes and readers.

mod builder;
mod common;

use builder::{Builder, POINT, SAME, image};
use common::{Numbers, check, check_with};
use convkernels_tract::{NAME, Options};
use tract_core::internal::*;
use tract_core::ops::array::TypedConcat;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::nn::DataFormat;
use tract_core::ops::{math, nn};
use tract_core::transform::get_transform;

/// A convolution, three kinds of pooling with the padding of ONNX, and a convolution after each. Returns the number
/// of layers that were replaced.
fn pools(size: (usize, usize), window: (usize, usize, usize), ceil: bool) -> usize {
    let mut b = Builder::new();
    let shape = [2, 3, size.0, size.1];
    let x = b.input(shape);
    let x = b.conv(x, 20, SAME, 1);
    let pads = tvec!(window.2, window.2);
    let padding = PaddingSpec::ExplicitOnnxPool(pads.clone(), pads, ceil);
    let spec = PoolSpec { padding, ..b.spec(x, 20, window) };
    let average = |count_include_pad| {
        Box::new(SumPool { pool_spec: spec.clone(), count_include_pad, normalize: true }) as Box<dyn TypedOp>
    };
    let max = Box::new(MaxPool { pool_spec: spec.clone(), with_index_outputs: None });
    let pools = [max as Box<dyn TypedOp>, average(true), average(false)].map(|op| b.wire(op, &[x]));
    let outputs = pools.map(|x| b.conv(x, 4, SAME, 1));
    check(b.build(&outputs), &[image(&shape)]).replaced.len()
}

#[test]
fn pooling_that_rounds_up_agrees() {
    for window in [(2, 2, 0), (2, 2, 1), (3, 2, 0), (3, 2, 1), (2, 3, 1), (5, 4, 1)] {
        for size in [(16, 16), (16, 17), (17, 19), (18, 15), (6, 5)] {
            assert_eq!(pools(size, window, true), 7, "{size:?} {window:?}");
        }
    }
}

#[test]
fn pooling_with_a_window_larger_than_the_image_agrees() {
    for window in [(3, 1, 0), (3, 2, 0), (5, 2, 1)] {
        for size in [(1, 1), (2, 1), (1, 7)] {
            assert_eq!(pools(size, window, false), 7, "{size:?} {window:?}");
            // tract divides by the elements that are inside the padding, the library by those of the window.
            assert!(pools(size, window, true) >= 6, "{size:?} {window:?}");
        }
    }
}

#[test]
fn a_constant_that_broadcasts_the_output_is_not_fused() {
    for is_max in [true, false] {
        let mut b = Builder::new();
        let x = b.input([1, 3, 5, 5]);
        let conv = b.conv(x, 20, (5, 1, 0), 1);
        let left = b.conv(x, 20, (5, 1, 0), 1);
        let right = b.conv(x, 20, (5, 1, 0), 1);
        let sum = b.wire(math::add(), &[left, right]);
        let large = b.constant(Tensor::zero::<f32>(&[1, 20, 8, 8]).unwrap());
        let bounded = [conv, sum].map(|x| {
            let op = if is_max { math::max() } else { math::min() };
            b.wire(op, &[x, large])
        });
        // The summands are outputs, so that the sum is a layer of its own.
        let outputs = [bounded[0], bounded[1], left, right];
        let report = check(b.build(&outputs), &[image(&[1, 3, 5, 5])]);
        assert!(report.replaced.len() >= 3, "{report}");
    }
}

#[test]
fn without_blocks_only_convolutions_are_replaced() {
    let mut b = Builder::new();
    let x = b.input([1, 3, 12, 12]);
    let (left, right) = (b.conv(x, 16, SAME, 1), b.conv(x, 16, SAME, 1));
    let both = b.wire(TypedConcat { axis: 1 }, &[left, right]);
    let both = b.relu(both);
    let pool_spec = b.spec(both, 32, (2, 2, 0));
    let pooled = b.wire(MaxPool { pool_spec, with_index_outputs: None }, &[both]);
    let last = b.conv(pooled, 16, SAME, 1);
    let model = b.build(&[last]);
    let inputs = [image(&[1, 3, 12, 12])];
    let report = check(model.clone(), &inputs);
    assert_eq!(report.replaced.len(), 6, "{report}");
    let mut options = Options::default();
    options.blocks = false;
    let report = check_with(model, &options, &inputs);
    assert_eq!((report.replaced.len(), report.reorders), (3, 0), "{report}");
}

/// A convolution over `[channels, rows, columns]`.
fn chw_conv(b: &mut Builder, x: OutletId, ins: usize, outs: usize) -> OutletId {
    let kernel = b.numbers.tensor(&[outs, ins, 3, 3]);
    let (kernel, bias) = (b.constant(kernel), b.constant(tensor0(0f32)));
    let pool_spec = PoolSpec {
        data_format: DataFormat::CHW,
        kernel_shape: tvec!(3, 3),
        padding: PaddingSpec::SameUpper,
        dilations: None,
        strides: None,
        input_channels: ins,
        output_channels: outs,
    };
    let op = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
    b.wire(op, &[x, kernel, bias])
}

fn einsum(b: &mut Builder, axes: &str, x: OutletId, weights: &[usize]) -> OutletId {
    let weights = b.numbers.tensor(weights);
    let weights = b.constant(weights);
    let axes: AxesMapping = axes.parse().unwrap();
    b.wire(EinSum { axes, operating_dt: f32::datum_type(), q_params: None }, &[x, weights])
}

/// A product sees rows as channels where a convolution and a pooling layer see channels.
#[test]
fn readers_that_see_other_axes_agree() {
    let mut b = Builder::new();
    let x = b.input([3, 18, 10]);
    let x = chw_conv(&mut b, x, 3, 20);
    let product = einsum(&mut b, "chw,oh->cow", x, &[24, 18]);
    let product = chw_conv(&mut b, product, 20, 16);
    let spec = PoolSpec {
        data_format: DataFormat::CHW,
        kernel_shape: tvec!(2, 2),
        padding: PaddingSpec::Valid,
        dilations: None,
        strides: Some(tvec!(2, 2)),
        input_channels: 20,
        output_channels: 20,
    };
    let pooled = b.wire(MaxPool { pool_spec: spec, with_index_outputs: None }, &[x]);
    let pooled = chw_conv(&mut b, pooled, 20, 16);
    // tract's nodes outvote them, so the first convolution makes a plain tensor.
    let mut outputs = vec![product, pooled];
    for op in [math::square(), math::abs(), math::exp(), math::neg(), math::cos()] {
        outputs.push(b.wire(op, &[x]));
    }
    let report = check(b.build(&outputs), &[image(&[3, 18, 10])]);
    assert_eq!(report.replaced.len(), 5, "{report}");
}

#[test]
fn products_with_unequal_extents_stay_with_tract() {
    let mut b = Builder::new();
    let symbol = b.model.symbols.sym("S");
    let one = b.input([2, 1, 5]);
    let symbolic = b.input(&[2.to_dim(), symbol.to_dim(), 5.to_dim()]);
    let split = b.input([2, 1, 16, 5]);
    let outputs = [
        einsum(&mut b, "ncw,oc->now", one, &[8, 16]),
        einsum(&mut b, "ncw,oc->now", symbolic, &[8, 16]),
        einsum(&mut b, "ncdw,ocd->now", split, &[8, 16, 1]),
    ];
    let mut numbers = Numbers::new(4);
    let inputs = [&[2, 1, 5][..], &[2, 16, 5], &[2, 1, 16, 5]].map(|shape| numbers.tensor(shape));
    let report = check(b.build(&outputs), &[inputs.into_iter().collect()]);
    assert_eq!((report.replaced.len(), report.fell_back.len()), (0, 3), "{report}");
}

#[test]
fn a_failed_transformation_keeps_the_model() {
    let mut b = Builder::new();
    let x = b.input([1, 3, 8, 8]);
    let x = b.conv(x, 16, SAME, 1);
    let mut model = b.build(&[x]);
    // A source that is no input.
    model.inputs.clear();
    let before = model.nodes().len();
    let transform = get_transform(NAME).unwrap().expect("the transformation is registered");
    let error = transform.transform(&mut model).unwrap_err();
    assert!(format!("{error:#}").contains("not an input of the model"), "{error:#}");
    assert_eq!((model.nodes().len(), model.outputs.len()), (before, 1));
}

#[test]
fn a_sigmoid_whose_shape_changes_before_the_output_stays_with_tract() {
    let mut b = Builder::new();
    let x = b.input([1, 3, 8, 8]);
    let conv = b.conv(x, 16, SAME, 1);
    let flat = AxisOp::Reshape(2, tvec!(8.to_dim(), 8.to_dim()), tvec!(64.to_dim()));
    let sigmoid = b.wire(nn::sigmoid(), &[conv]);
    let output = b.wire(flat, &[sigmoid]);
    // Of another convolution: equal nodes are merged.
    let other = b.conv(conv, 16, SAME, 1);
    let inner = b.wire(nn::sigmoid(), &[other]);
    let point = b.conv(inner, 16, POINT, 1);
    let tanh = b.wire(math::tanh(), &[point]);
    let squeezed = b.wire(AxisOp::Rm(0), &[tanh]);
    let report = check(b.build(&[output, squeezed]), &[image(&[1, 3, 8, 8])]);
    let count = |what: &str| report.replaced.iter().filter(|layer| layer.layer.contains(what)).count();
    assert_eq!((count("sigmoid"), count("tanh")), (1, 0), "{report}");
}
