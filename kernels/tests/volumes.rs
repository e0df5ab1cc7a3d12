//! 3-D convolution, its gradients and transposed convolution agree with the definition, for every algorithm, layout and number
//! of threads.

mod common;

use common::persist::config;
use common::spatial::strategy::spatial;
use common::spatial::volume::{
    check_data, check_forward, check_transposed, check_weights, placed, plain, shape,
};
use common::spatial::{Spatial, SpatialData, junk};
use common::{JUNK, Pool, Rng, Values, pools};
use kernels::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn check(
    problem: impl Strategy<Value = Spatial>,
    cases: u32,
    of: impl Fn(&Spatial, &[Pool]) -> Result<(), String>,
) {
    let pools = pools();
    let config = ProptestConfig { max_shrink_iters: 300, source_file: Some(file!()), ..config(cases) };
    let outcome =
        TestRunner::new(config).run(&problem, |problem| of(&problem, &pools).map_err(TestCaseError::fail));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn any_volume() {
    check(spatial([7, 8, 9], 4), 80, check_forward);
}

#[test]
fn any_gradient_of_the_input() {
    check(spatial([6, 7, 8], 4), 60, check_data);
}

#[test]
fn any_gradient_of_weights() {
    check(spatial([6, 7, 8], 3), 80, check_weights);
}

#[test]
fn any_transposed_volume() {
    check(spatial([5, 6, 7], 4), 60, check_transposed);
}

/// Slices of one pixel: all algorithms see the images as pixels of one row, if they can.
#[test]
fn any_column_of_pixels() {
    let pixels = || {
        spatial([9, 3, 3], 3).prop_map(|problem| Spatial {
            size: [problem.size[0], 1, 1],
            kernel: [problem.kernel[0].min(problem.size[0]), 1, 1],
            dilation: [1; 3],
            before: [problem.before[0], 0, 0],
            after: [problem.after[0], 0, 0],
            ..problem
        })
    };
    check(pixels(), 40, check_forward);
    check(pixels(), 30, check_data);
    check(pixels(), 30, check_weights);
}

/// The plain layout and no epilogue.
fn in_plain_order(problem: &Spatial) -> Spatial {
    Spatial { layouts: (0, 0), epilogue: EpilogueSpec::NONE, accumulate: false, ..*problem }
}

fn forward(desc: &Conv3dDesc, x: &[f32], filter: &[f32]) -> Vec<f32> {
    let plan = Conv3dPlan::new(desc, Weights::filter(filter), &PlanOptions::default()).unwrap();
    let mut y = vec![JUNK; desc.output().len(desc.output_layout()).unwrap()];
    let io = Conv3dIo::new(
        VolumeRef::packed(x, desc.input(), desc.layout()).unwrap(),
        VolumeMut::packed(&mut y, desc.output(), desc.output_layout()).unwrap(),
    );
    plan.run(io, &mut junk(plan.workspace_req()), Threads::Seq).unwrap();
    y
}

fn gradients(desc: &Conv3dDesc, data: &SpatialData) -> (Vec<f32>, Vec<f32>) {
    let options = PlanOptions::default();
    let plan = BackwardData3d::new(desc, &data.filter, DataSpec::default(), &options).unwrap();
    let go = VolumeRef::packed(&data.output, desc.output(), desc.output_layout()).unwrap();
    let (mut gx, mut gw) = (vec![JUNK; data.input.len()], vec![JUNK; data.filter.len()]);
    let grad_input = VolumeMut::packed(&mut gx, desc.input(), desc.layout()).unwrap();
    let io = BackwardData3dIo::new(go, grad_input);
    plan.run(io, &mut junk(plan.workspace_req()), Threads::Seq).unwrap();
    let plan = BackwardWeights3d::new(desc, &WeightsSpec::default(), &options).unwrap();
    let x = VolumeRef::packed(&data.input, desc.input(), desc.layout()).unwrap();
    let io = BackwardWeights3dIo::new(x, go, &mut gw);
    plan.run(io, &mut junk(plan.workspace_req()), Threads::Seq).unwrap();
    (gx, gw)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// `<conv(x, w), y> = <x, data(y)> = <w, weights(x, y)>`: both gradients are transposes of the convolution, whatever the
/// definition in `common/spatial` says.
#[test]
fn gradients_are_adjoints_of_the_convolution() {
    check(spatial([6, 7, 8], 3), 80, |problem, _| {
        let desc = in_plain_order(problem).conv3d(EpilogueSpec::NONE).map_err(|error| error.to_string())?;
        let data = problem.data();
        let y = forward(&desc, &data.input, &data.filter);
        let (gx, gw) = gradients(&desc, &data);
        let norm = |a: &[f32]| dot(a, a).sqrt();
        let left = dot(&y, &data.output);
        for (right, size) in [
            (dot(&data.input, &gx), norm(&data.input) * norm(&gx)),
            (dot(&data.filter, &gw), norm(&data.filter) * norm(&gw)),
        ] {
            let most = 1e-5 * (norm(&y) * norm(&data.output) + size + 1e-3);
            if (left - right).abs() > most {
                return Err(format!("{desc}: {left} and {right}"));
            }
        }
        Ok(())
    });
}

/// The convolution is linear in `x` and in `w`. So a difference of any width is exact, but for rounding.
#[test]
fn gradients_are_differences() {
    check(spatial([5, 5, 6], 3), 40, |problem, _| {
        let desc = in_plain_order(problem).conv3d(EpilogueSpec::NONE).map_err(|error| error.to_string())?;
        let data = problem.data();
        let (gx, gw) = gradients(&desc, &data);
        let loss = |x: &[f32], w: &[f32]| dot(&forward(&desc, x, w), &data.output);
        let mut rng = Rng(problem.seed ^ 7);
        let width = 2.0;
        for _ in 0..3 {
            let at = rng.next() as usize % data.input.len();
            let (mut up, mut down) = (data.input.clone(), data.input.clone());
            up[at] += width;
            down[at] -= width;
            let slope = (loss(&up, &data.filter) - loss(&down, &data.filter)) / f64::from(2.0 * width);
            let other = rng.next() as usize % data.filter.len();
            let (mut high, mut low) = (data.filter.clone(), data.filter.clone());
            high[other] += width;
            low[other] -= width;
            let steep = (loss(&data.input, &high) - loss(&data.input, &low)) / f64::from(2.0 * width);
            let scale =
                1e-5 * (1.0 + data.output.len() as f64 * desc.filter_len() as f64 / desc.output().c as f64);
            for (slope, gradient) in [(slope, gx[at]), (steep, gw[other])] {
                if (slope - f64::from(gradient)).abs() > scale {
                    return Err(format!("{desc}: the difference is {slope}, the gradient {gradient}"));
                }
            }
        }
        Ok(())
    });
}

/// Batches, slices and channels as in networks, with the choices of the cost model.
#[test]
fn layers_of_networks() {
    let pools = pools();
    let base = Spatial {
        n: 2,
        ins: 16,
        outs: 32,
        groups: 1,
        size: [6, 9, 9],
        kernel: [3; 3],
        stride: [1; 3],
        dilation: [1; 3],
        before: [1; 3],
        after: [1; 3],
        layouts: (4, 4),
        epilogue: EpilogueSpec::bias(Activation::Relu),
        accumulate: false,
        seed: 3,
    };
    let problems = [
        base,
        Spatial { ins: 3, layouts: (0, 0), ..base },
        Spatial { stride: [2; 3], layouts: (3, 3), ..base },
        Spatial { groups: 32, ins: 1, outs: 1, ..base },
        Spatial { groups: 32, ins: 1, outs: 1, layouts: (0, 0), ..base },
        Spatial { kernel: [1; 3], stride: [2; 3], before: [0; 3], after: [0; 3], ..base },
        Spatial { dilation: [2; 3], before: [2; 3], after: [2; 3], ..base },
    ];
    for problem in problems {
        for check in [check_forward, check_data, check_weights, check_transposed] {
            check(&problem, &pools).unwrap();
        }
    }
}

/// The default numerics keep the error of 3x3x3 layers below 9e-7, in the 2-norm, as in two dimensions.
#[test]
fn layers_are_accurate() {
    for channels in [32, 64] {
        let problem = Spatial {
            n: 1,
            ins: channels,
            outs: channels,
            groups: 1,
            size: [4, 12, 12],
            kernel: [3; 3],
            stride: [1; 3],
            dilation: [1; 3],
            before: [1; 3],
            after: [1; 3],
            layouts: (0, 0),
            epilogue: EpilogueSpec::NONE,
            accumulate: false,
            seed: 11,
        };
        let (desc, data) = (problem.conv3d(EpilogueSpec::NONE).unwrap(), problem.data());
        let (gx, gw) = gradients(&desc, &data);
        let results = [
            (problem.forward(&data), forward(&desc, &data.input, &data.filter)),
            (problem.backward_data(&data), gx),
            (problem.backward_weights(&data), gw),
        ];
        for (what, (truth, got)) in
            ["output", "gradient of the input", "gradient of weights"].iter().zip(results)
        {
            let error = truth.relative_error(&got);
            println!("{channels} channels, {what}: {error:.1e}");
            assert!(error < 9e-7, "{channels} channels, {what}: {error:e}");
        }
    }
}

/// Outputs of one pixel, whose kernel covers the whole slice in NCDHW: plans see such images as the pixels of one row, which
/// slices whose planes are far apart are not.
#[test]
fn kernels_that_cover_a_slice() {
    let problem = Spatial {
        n: 2,
        ins: 3,
        outs: 5,
        groups: 1,
        size: [2, 1, 1],
        kernel: [1, 4, 2],
        stride: [1, 1, 3],
        dilation: [1; 3],
        before: [0, 2, 0],
        after: [0, 2, 1],
        layouts: (0, 0),
        epilogue: EpilogueSpec::NONE,
        accumulate: false,
        seed: 0,
    };
    let covering = Spatial {
        size: [4, 3, 5],
        kernel: [2, 3, 5],
        stride: [1; 3],
        before: [0; 3],
        after: [0; 3],
        ..problem
    };
    for problem in [problem, covering] {
        for check in [check_forward, check_data, check_weights, check_transposed] {
            check(&problem, &[]).unwrap();
        }
    }
}

/// An infinite element reaches the outputs whose windows have it, and no others: no algorithm that Auto may not choose here
/// multiplies it by a padding of zeros.
#[test]
fn infinite_slices_reach_their_readers_only() {
    let desc = Conv3dDesc::builder(Shape5::new(1, 16, 6, 4, 4), 16, Size3::new(3, 1, 1))
        .pad(Pad3::symmetric(1, 0, 0))
        .layout(VolumeLayout::Ncdhw)
        .build()
        .unwrap();
    let mut x = vec![1.0; 16 * 6 * 16];
    x[0] = f32::INFINITY; // channel 0 of slice 0
    let y = forward(&desc, &x, &vec![1.0; desc.filter_len()]);
    for (at, value) in y.iter().enumerate() {
        let (z, p) = (at / 16 % 6, at % 16);
        assert_eq!(value.is_finite(), z > 1 || p > 0, "slice {z}, pixel {p}: {value}");
    }
}

/// Between layers in this layout nothing is copied.
#[test]
fn slices_of_whole_blocks_are_read_in_place() {
    let desc = Conv3dDesc::builder(Shape5::new(2, 32, 8, 8, 8), 32, Size3::cube(3))
        .pad(Pad3::all(1))
        .layout(VolumeLayout::Ndchw16c)
        .build()
        .unwrap();
    let filter = vec![0.5; desc.filter_len()];
    let plan = Conv3dPlan::new(&desc, Weights::filter(&filter), &PlanOptions::default()).unwrap();
    let explained = plan.explain().to_string();
    assert!(explained.contains("copies    0 elements of input, 0 of gathered"), "{explained}");
    assert!(explained.contains(", 0 of output"), "{explained}");
    // The first and the last slice read two slices each.
    assert_eq!(plan.explain().plans().count(), 3);
}

#[test]
fn layouts_are_what_their_documentation_says() {
    let mut rng = Rng(3);
    let extents = common::spatial::Extents { n: 2, c: 19, size: [3, 4, 5] };
    let values = rng.values(Values::Uniform, extents.elements());
    for layout in VolumeLayout::ALL {
        let data = placed(layout, extents, &values);
        assert_eq!(plain(layout, extents, &data, false).unwrap(), values);
        let volumes = VolumeRef::packed(&data, shape(extents), layout).unwrap();
        for ((n, c, [z, y, x]), value) in extents.each().zip(&values) {
            assert_eq!(data[volumes.offset(n, c, z, y, x)], *value, "{layout}");
        }
    }
}

#[test]
fn bad_volumes_are_refused() {
    let builder = Conv3dDesc::builder(Shape5::new(1, 4, 3, 6, 6), 8, Size3::cube(3));
    let flat = ConvError::EmptyDepth { padded_input: 3, dilated_kernel: 5 };
    assert_eq!(builder.dilation(Size3::cube(2)).build(), Err(flat));
    assert!(matches!(
        builder.stride(Size3::new(0, 1, 1)).build(),
        Err(ConvError::InvalidField { field: "stride.d", .. })
    ));
    assert!(matches!(builder.groups(3).build(), Err(ConvError::InvalidField { field: "groups", .. })));
    for pad in [usize::MAX, usize::MAX / 4] {
        let far = builder.pad(Pad3 { front: pad, ..Pad3::VALID }).build();
        assert!(matches!(far, Err(ConvError::SizeOverflow { .. })), "{far:?}");
    }
    let huge = Conv3dDesc::builder(Shape5::new(1, 1 << 40, 1 << 20, 6, 6), 8, Size3::cube(3)).build();
    assert!(matches!(huge, Err(ConvError::SizeOverflow { .. })), "{huge:?}");
    let transposed = Transposed3dDesc::builder(Shape5::new(1, 4, 3, 6, 6), 8, Size3::cube(2));
    assert!(
        transposed.output_pad(Size3::new(1, 0, 0)).build().unwrap_err().to_string().contains("output_pad.d")
    );
    assert!(transposed.pad(Pad3 { front: 4, ..Pad3::VALID }).build().is_err());

    let desc = builder.build().unwrap();
    let options = PlanOptions::default();
    let filter = vec![0.0; desc.filter_len()];
    let short = Conv3dPlan::new(&desc, Weights::filter(&filter[1..]), &options).unwrap_err();
    assert_eq!(short, ConvError::BufferLen { what: "filter", expected: 864, got: 863 });
    let bias = Weights { bias: Some(&[0.0; 8]), ..Weights::filter(&filter) };
    let unplanned = Conv3dPlan::new(&desc, bias, &options).unwrap_err();
    assert_eq!(unplanned, ConvError::EpilogueMismatch { what: "bias", planned: false });
    let plan = Conv3dPlan::new(&desc, Weights::filter(&filter), &options).unwrap();
    let (x, mut y) = (vec![0.0; 4 * 108], vec![7.0; 8 * 16]);
    let mut run = |input: Shape5, layout, scratch: &mut [f32]| {
        let io = Conv3dIo::new(
            VolumeRef::packed(&x, input, layout).unwrap(),
            VolumeMut::packed(&mut y, desc.output(), VolumeLayout::Ncdhw).unwrap(),
        );
        plan.run(io, scratch, Threads::Seq)
    };
    let mut scratch = vec![0.0; plan.workspace_req().len()];
    let (expected, got) = (desc.input(), Shape5::new(1, 4, 6, 3, 6));
    let wrong = ConvError::VolumeMismatch { what: "input", expected: expected.into(), got: got.into() };
    assert_eq!(run(got, VolumeLayout::Ncdhw, &mut scratch), Err(wrong));
    let (expected, got) = (VolumeLayout::Ncdhw, VolumeLayout::Ndhwc);
    let wrong = ConvError::VolumeLayoutMismatch { what: "input", expected, got };
    assert_eq!(run(desc.input(), got, &mut scratch), Err(wrong));
    let expected = scratch.len();
    let short = ConvError::WorkspaceTooSmall { expected, got: expected - 1 };
    assert_eq!(run(desc.input(), VolumeLayout::Ncdhw, &mut scratch[1..]), Err(short));
    assert_eq!(run(desc.input(), VolumeLayout::Ncdhw, &mut scratch), Ok(()));
    assert!(VolumeRef::packed(&x, Shape5::new(0, 4, 3, 6, 6), VolumeLayout::Ncdhw).is_err());
    assert_eq!(y, [0.0; 128]);
}
