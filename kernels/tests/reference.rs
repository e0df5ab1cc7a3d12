//! Checks the oracle, which all other tests trust, against examples worked by hand.

mod common;

use kernels::{
    Activation, Algorithm, ConvDesc, ConvIo, ConvPlan, EpilogueSpec, Isa, Layout, Numerics, Pad2,
    PlanOptions, Shape4, Size2, TensorMut, TensorRef, Threads, Weights, Workspace,
};

/// Runs `desc` in NCHW with every algorithm on every instruction set. All must compute the same exact
/// integers, except algorithms whose transforms divide.
fn everywhere(desc: &ConvDesc, input: &[f32], filter: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let mut first: Option<Vec<f32>> = None;
    for algorithm in Algorithm::ALL.into_iter().filter(|a| a.supports(desc).is_ok()) {
        for isa in Isa::available() {
            let weights = Weights { filter, bias, slope: None };
            let plan =
                ConvPlan::new(desc, weights, &PlanOptions::default().force(algorithm).isa(isa)).unwrap();
            let mut output = vec![f32::NAN; desc.output().len(Layout::Nchw).unwrap()];
            let io = ConvIo::new(
                TensorRef::packed(input, desc.input(), Layout::Nchw).unwrap(),
                TensorMut::packed(&mut output, desc.output(), Layout::Nchw).unwrap(),
            );
            plan.run(io, &mut Workspace::for_req(plan.workspace_req()).unwrap(), Threads::Seq).unwrap();
            match &first {
                None => first = Some(output),
                Some(first) if algorithm.numerics(desc) == Numerics::Strict => {
                    assert_eq!(first, &output, "{algorithm} on {isa}");
                }
                Some(first) => {
                    let rounded: Vec<f32> = output.iter().map(|x| (x * 64.0).round() / 64.0).collect();
                    assert_eq!(first, &rounded, "{algorithm} on {isa}");
                }
            }
        }
    }
    first.expect("the reference supports everything")
}

fn one_channel(size: Size2, kernel: Size2) -> kernels::ConvDescBuilder {
    ConvDesc::builder(Shape4::new(1, 1, size.h, size.w), 1, kernel)
}

const IMAGE: [f32; 25] = [
    3., 3., 2., 1., 0., //
    0., 0., 1., 3., 1., //
    3., 1., 2., 2., 3., //
    2., 0., 0., 2., 2., //
    2., 0., 0., 0., 1.,
];

#[test]
fn the_3x3_example_of_dumoulin_and_visin() {
    // Figure 1.1 of "A guide to convolution arithmetic for deep learning", 2016.
    let filter = [0., 1., 2., 2., 2., 0., 0., 1., 2.];
    let desc = one_channel(Size2::square(5), Size2::square(3)).build().unwrap();
    let output = everywhere(&desc, &IMAGE, &filter, None);
    assert_eq!(output, [12., 12., 17., 10., 17., 19., 9., 6., 14.]);
}

#[test]
fn padding_one_and_stride_two_give_3x3_from_5x5() {
    // The same image and filter, worked by hand: corners see four taps, edges six.
    let filter = [0., 1., 2., 2., 2., 0., 0., 1., 2.];
    let desc = one_channel(Size2::square(5), Size2::square(3))
        .pad(Pad2::all(1))
        .stride(Size2::square(2))
        .build()
        .unwrap();
    assert_eq!(desc.output(), Shape4::new(1, 1, 3, 3));
    let output = everywhere(&desc, &IMAGE, &filter, None);
    assert_eq!(output, [6., 17., 3., 8., 17., 13., 6., 4., 4.]);
}

#[test]
fn image_filters_of_the_notes() {
    // A constant image: the Gaussian keeps it, emboss keeps it (its taps sum to 1), the edge filter cancels it.
    let gauss = [1., 2., 1., 2., 4., 2., 1., 2., 1.];
    let emboss = [-2., -1., 0., -1., 1., 1., 0., 1., 2.];
    let edge = [-1., -1., -1., -1., 8., -1., -1., -1., -1.];
    let flat = [7.0; 16];
    let desc = one_channel(Size2::square(4), Size2::square(3)).build().unwrap();
    assert_eq!(everywhere(&desc, &flat, &gauss, None), [7. * 16.; 4]);
    assert_eq!(everywhere(&desc, &flat, &emboss, None), [7.; 4]);
    assert_eq!(everywhere(&desc, &flat, &edge, None), [0.; 4]);
    // A vertical step from 0 to 1 between columns 1 and 2.
    let step: Vec<f32> = (0..16).map(|i| f32::from(i % 4 >= 2)).collect();
    assert_eq!(everywhere(&desc, &step, &edge, None), [-3., 3., -3., 3.]);
}

#[test]
fn the_kernel_is_not_flipped() {
    let filter = [1., 0., 0., 0.];
    let desc = one_channel(Size2::square(3), Size2::square(2)).build().unwrap();
    let output = everywhere(&desc, &[1., 2., 3., 4., 5., 6., 7., 8., 9.], &filter, None);
    assert_eq!(output, [1., 2., 4., 5.]);
}

#[test]
fn groups_dilation_bias_and_relu_by_hand() {
    // Two groups of one channel, 1x2 kernels with a hole: out[o][x] = in[o][x] * w[o][0] + in[o][x + 2] * w[o][1] + bias.
    let desc = ConvDesc::builder(Shape4::new(1, 2, 1, 4), 2, Size2::new(1, 2))
        .dilation(Size2::new(1, 2))
        .groups(2)
        .epilogue(EpilogueSpec::bias(Activation::Relu))
        .build()
        .unwrap();
    let (input, filter) = ([1., 2., 3., 4., 10., 20., 30., 40.], [1., 1., -1., 1.]);
    let output = everywhere(&desc, &input, &filter, Some(&[0., -20.]));
    assert_eq!(output, [4., 6., 0., 0.]);
    let output = everywhere(&desc, &input, &filter, Some(&[-5., -19.]));
    assert_eq!(output, [0., 1., 1., 1.]);
}

#[test]
fn same_padding_keeps_the_size_and_leans_the_right_way() {
    let (size, kernel, one) = (Size2::new(5, 6), Size2::new(4, 3), Size2::square(1));
    let upper = Pad2::same_upper(size, kernel, one, one);
    assert_eq!(upper, Pad2 { top: 1, bottom: 2, left: 1, right: 1 });
    assert_eq!(Pad2::same_lower(size, kernel, one, one), Pad2 { top: 2, bottom: 1, left: 1, right: 1 });
    let desc = one_channel(size, kernel).pad(upper).build().unwrap();
    assert_eq!(desc.output().size(), size);
    // With a stride the extent is ceil(in / stride): 5 -> 3, 6 -> 3.
    let two = Size2::square(2);
    let desc =
        one_channel(size, kernel).stride(two).pad(Pad2::same_upper(size, kernel, two, one)).build().unwrap();
    assert_eq!(desc.output().size(), Size2::square(3));
}

#[test]
fn costs_are_exact() {
    // VGG-16 conv3_2: 256 channels of 56x56, 3x3: 1.85 GMAC.
    let desc = ConvDesc::builder(Shape4::new(1, 256, 56, 56), 256, Size2::square(3))
        .pad(Pad2::all(1))
        .build()
        .unwrap();
    let cost = desc.cost();
    assert_eq!(cost.macs, 56 * 56 * 256 * 256 * 9);
    assert_eq!(cost.flops, 2 * cost.macs);
    assert_eq!(cost.min_bytes, 4 * (2 * 256 * 56 * 56 + 256 * 256 * 9));
}
