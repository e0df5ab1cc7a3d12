//! All combinations of sizes one below, at and one above the edges of every tile of every instruction set,
//! and regressions.

mod common;

use common::{ConvProblem, JUNK, Pool, Values, isas_of_f32, pools};
use kernels::internal::KernelSet;
use kernels::{
    Activation, Algorithm, ConvDesc, ConvError, ConvIo, ConvPlan, EpilogueSpec, Isa, Layout, Pad2, Pitch,
    PlanOptions, Shape4, Size2, TensorMut, TensorRef, Threads, Weights, Workspace,
};

/// Pixels and channels around the edges of each tile, exhaustively. K ends inside a chunk.
#[test]
fn around_every_tile_edge() {
    for isa in Isa::available() {
        for tile in KernelSet::get(isa).expect("available").gemm_tiles() {
            for layout in Layout::ALL {
                let (pixels, channels) = match layout {
                    Layout::Nchw => (tile.columns(), tile.rows()),
                    _ => (tile.rows(), tile.columns()),
                };
                for w in [pixels - 1, pixels, pixels + 1, 2 * pixels + 1] {
                    for o in [channels - 1, channels, channels + 1, 2 * channels + 1] {
                        let problem = ConvProblem {
                            input: Shape4::new(1, 19, 1, w.max(1)),
                            out_channels: o.max(1),
                            kernel: Size2::square(1),
                            layout,
                            epilogue: EpilogueSpec {
                                bias: true,
                                residual: true,
                                activation: Activation::PRelu,
                            },
                            ..ConvProblem::simple()
                        };
                        for algorithm in [Algorithm::Im2colGemm, Algorithm::Pointwise] {
                            problem
                                .check(algorithm, isa, &[])
                                .unwrap_or_else(|what| panic!("{problem:?}: {what}"));
                        }
                    }
                }
            }
        }
    }
}

/// Output rows of every length around the tiles of direct convolution. The windows share pixels between taps,
/// or cannot. Rows have padding at the sides, and are read in place or packed.
#[test]
fn around_every_direct_tile() {
    let window = |kernel: usize, stride: usize, dilation: usize| {
        (Size2::new(2, kernel), Size2::new(1, stride), Size2::new(1, dilation))
    };
    let windows = [window(3, 1, 1), window(5, 2, 1), window(4, 4, 2), window(2, 2, 3), window(7, 3, 1)];
    for isa in Isa::available() {
        let tile = KernelSet::get(isa).expect("available").direct_tile();
        // Tiles of one vector have the most pixels.
        let most = tile.sizes(1).last().expect("there are tiles");
        for (layout, output_layout) in Layout::ALL
            .map(|layout| (layout, None))
            .into_iter()
            .chain([(Layout::Nchw, Some(Layout::Nchw16c))])
        {
            for (kernel, stride, dilation) in windows {
                for pixels in 1..=2 * most + 1 {
                    let columns = tile.columns();
                    let o = [columns - 1, columns, columns + 1, columns / 2][pixels % 4];
                    // As wide as `pixels` outputs need, with one column of padding on the left and two on the right.
                    let w = (pixels - 1) * stride.w + dilation.w * (kernel.w - 1) + 1;
                    let problem = ConvProblem {
                        input: Shape4::new(1, 19, 3, w.saturating_sub(3).max(1)),
                        out_channels: o.max(1),
                        kernel,
                        stride,
                        dilation,
                        pad: Pad2 { top: 1, bottom: 0, left: 1, right: if w > 3 { 2 } else { w } },
                        layout,
                        output_layout,
                        epilogue: EpilogueSpec { bias: true, residual: true, activation: Activation::PRelu },
                        ..ConvProblem::simple()
                    };
                    problem
                        .check(Algorithm::Direct, isa, &[])
                        .unwrap_or_else(|what| panic!("{problem:?}: {what}"));
                }
            }
        }
    }
}

/// Every tile of direct convolution over rows: each number of outputs of a row, one vector of output channels and more,
/// outputs at each distance, in place and copied, and several short rows in one tile.
#[test]
fn around_every_tile_of_rows() {
    let epilogue = EpilogueSpec { bias: true, residual: true, activation: Activation::PRelu };
    for isa in isas_of_f32() {
        let tile = KernelSet::get(isa).expect("available").rows_tile();
        let widest = tile.longest();
        for (layout, output_layout) in Layout::ALL
            .map(|layout| (layout, None))
            .into_iter()
            .chain([(Layout::Nchw, Some(Layout::Nchw16c))])
        {
            for (pixels, stride) in (1..=widest + 2).flat_map(|pixels| [1, 2, 3, 4, 5].map(|s| (pixels, s))) {
                // Short rows are computed together.
                let rows = if pixels < 6 { 3 * widest / pixels } else { 2 };
                let pad = if pixels % 2 == 0 { Pad2::all(0) } else { Pad2::all(1) };
                let extent = |outputs: usize, kernel: usize, stride: usize| {
                    ((outputs - 1) * stride + kernel).saturating_sub(2 * pad.top).max(1)
                };
                let problem = ConvProblem {
                    input: Shape4::new(2, 1 + pixels % 3, extent(rows, 2, 1), extent(pixels, 3, stride)),
                    out_channels: [tile.lanes() - 1, tile.columns(), tile.columns() + 1][pixels % 3],
                    kernel: Size2::new(2, 3),
                    stride: Size2::new(1, stride),
                    pad,
                    layout,
                    output_layout,
                    epilogue,
                    slack: stride % 2,
                    ..ConvProblem::simple()
                };
                problem
                    .check(Algorithm::Direct, isa, &[])
                    .unwrap_or_else(|what| panic!("{problem:?}: {what}"));
            }
        }
    }
}

/// Numbers of outputs around the tiles of depthwise convolution on both axes, and channels around its
/// vectors. Some windows have a specialised kernel, others do not.
#[test]
fn around_every_depthwise_tile() {
    let epilogue = EpilogueSpec { bias: true, residual: true, activation: Activation::PRelu };
    for isa in Isa::available() {
        let tile = KernelSet::get(isa).expect("available").depthwise();
        let (outputs, lanes) = (tile.outputs(), tile.lanes());
        for (layout, kernel, stride) in Layout::ALL
            .into_iter()
            .flat_map(|layout| [1, 3, 5, 6, 7].map(|kernel| (layout, kernel)))
            .flat_map(|(layout, kernel)| [1, 2, 3].map(|stride| (layout, kernel, stride)))
        {
            let extent = |outputs: usize| (outputs - 1) * stride + 1;
            for (h, w) in [(1, outputs - 1), (2, outputs), (3, outputs + 1), (outputs + 1, 2 * outputs + 1)] {
                for (groups, ins, outs) in
                    [(lanes - 1, 1, 1), (lanes + 1, 1, 1), (lanes + 1, 1, 3), (9, 2, 2)]
                {
                    let problem = ConvProblem {
                        input: Shape4::new(1, groups * ins, extent(h), extent(w.max(1))),
                        out_channels: groups * outs,
                        groups,
                        kernel: Size2::square(kernel),
                        stride: Size2::square(stride),
                        pad: Pad2 {
                            top: kernel / 2,
                            bottom: kernel / 2,
                            left: kernel / 2,
                            right: kernel / 2 + 1,
                        },
                        layout,
                        epilogue,
                        slack: kernel % 2,
                        ..ConvProblem::simple()
                    };
                    problem
                        .check(Algorithm::Depthwise, isa, &[])
                        .unwrap_or_else(|what| panic!("{problem:?}: {what}"));
                }
            }
        }
    }
}

/// Checks a problem that direct convolution must compute with the tiles of few outputs.
fn check_few_outputs(problem: &ConvProblem, isa: Isa, pools: &[Pool]) {
    let options = PlanOptions::default().force(Algorithm::Direct).isa(isa);
    let plan = problem.plan(&problem.data(), &options).expect("a valid problem");
    assert!(plan.explain().kernel.starts_with("few_"), "{problem:?}: {}", plan.explain().kernel);
    problem.check(Algorithm::Direct, isa, pools).unwrap_or_else(|what| panic!("{problem:?}: {what}"));
}

/// Groups with few outputs that begin and end in any lane of a block, of the input and of the output. Rows are shorter and
/// longer than a tile, with padding at both sides.
#[test]
fn around_every_group_of_few_outputs() {
    for isa in isas_of_f32() {
        for (layout, ins) in
            [Layout::Nhwc, Layout::Nchw16c].into_iter().flat_map(|l| (8..=50).map(move |i| (l, i)))
        {
            let outs = 1 + ins / 12 % 4;
            let problem = ConvProblem {
                input: Shape4::new(1, 17 * ins, 4, 3 + ins % 14),
                out_channels: 17 * outs,
                groups: 17,
                kernel: Size2::new(4, 5),
                stride: Size2::new(2, 1 + ins % 2),
                pad: Pad2 { top: 1, bottom: 0, left: 2, right: 3 },
                layout,
                epilogue: EpilogueSpec { bias: true, residual: true, activation: Activation::PRelu },
                slack: ins % 3,
                ..ConvProblem::simple()
            };
            check_few_outputs(&problem, isa, &[]);
        }
    }
}

/// Lines of 1x1 layers with few outputs run on from one row to the next. Wherever the parts of threads begin, every output has the
/// same bits.
#[test]
fn lines_of_few_outputs() {
    let pools = pools();
    for isa in isas_of_f32() {
        for (layout, (h, w)) in [Layout::Nhwc, Layout::Nchw16c].into_iter().flat_map(|layout| {
            [(6, 7), (7, 8), (3, 9), (5, 33), (2, 131), (1, 40)].map(|size| (layout, size))
        }) {
            for (c, out_channels, groups) in [(16, 1, 1), (43, 2, 1), (300, 3, 1), (1100, 5, 1), (150, 6, 3)]
            {
                let problem = ConvProblem {
                    input: Shape4::new(2, c, h, w),
                    out_channels,
                    groups,
                    kernel: Size2::square(1),
                    layout,
                    epilogue: EpilogueSpec { bias: true, residual: false, activation: Activation::Relu },
                    slack: h % 2,
                    ..ConvProblem::simple()
                };
                check_few_outputs(&problem, isa, &pools);
            }
        }
    }
}

/// K is longer than one block, so partial sums wait in the output between blocks.
#[test]
fn several_blocks_of_k() {
    for layout in Layout::ALL {
        for (c, groups) in [(60, 1), (171, 1), (120, 2), (277, 1), (544, 2)] {
            let problem = ConvProblem {
                input: Shape4::new(1, c, 5, 6),
                out_channels: 18,
                groups,
                layout,
                pad: Pad2::all(1),
                epilogue: EpilogueSpec { bias: true, residual: true, activation: Activation::Silu },
                ..ConvProblem::simple()
            };
            problem.check_everything(&pools()).unwrap_or_else(|what| panic!("{problem:?}: {what}"));
        }
    }
}

fn holds(problem: ConvProblem) {
    problem.check_everything(&pools()).unwrap_or_else(|what| panic!("{problem:?}: {what}"));
}

/// NCHW images of one pixel were merged into one row of pixels by their pixels instead of their channels.
#[test]
fn regression_full_image_kernel_in_nchw() {
    for (n, c, side) in [(1, 1, 1), (3, 5, 1), (3, 5, 4), (2, 16, 5)] {
        let input = Shape4::new(n, c, side, side);
        holds(ConvProblem { input, kernel: Size2::square(side), out_channels: 7, ..ConvProblem::simple() });
        holds(ConvProblem { input, kernel: Size2::square(side), slack: 3, ..ConvProblem::simple() });
    }
}

/// The pitch of an axis of extent 1 can be any number, but was multiplied by the stride.
#[test]
fn regression_pitch_that_leads_nowhere() {
    let desc = ConvDesc::builder(Shape4::new(1, 1, 1, 1), 1, Size2::square(1))
        .stride(Size2::square(2))
        .layout(Layout::Nhwc)
        .build()
        .expect("a valid problem");
    for algorithm in Algorithm::ALL.into_iter().filter(|a| a.supports(&desc).is_ok()) {
        let plan = ConvPlan::new(&desc, Weights::filter(&[3.0]), &PlanOptions::default().force(algorithm));
        let (plan, input, mut output) = (plan.expect("a valid plan"), [2.0], [JUNK]);
        let pitch = Pitch { image: usize::MAX, pixel: usize::MAX };
        let io = ConvIo::new(
            TensorRef::with_pitch(&input, desc.input(), Layout::Nhwc, pitch).expect("one element"),
            TensorMut::with_pitch(&mut output, desc.output(), Layout::Nhwc, pitch).expect("one element"),
        );
        plan.run(io, &mut Workspace::for_req(plan.workspace_req()).unwrap(), Threads::Seq)
            .expect("a valid run");
        assert_eq!(output, [6.0], "{algorithm}");
    }
}

/// With the maximum number of groups, the size of the padded filter was multiplied without a check.
#[test]
fn regression_absurd_groups() {
    let many = 1 << 58;
    let desc = ConvDesc::builder(Shape4::new(1, many, 1, 1), many, Size2::square(1)).groups(many).build();
    assert!(matches!(desc, Err(ConvError::SizeOverflow { .. })), "{desc:?}");
}

/// If the stride exceeds the kernel height, some input rows are read by no output row. They were multiplied
/// by weights beyond the end of the filter.
#[test]
fn regression_rows_between_short_windows() {
    for layout in Layout::ALL {
        for kernel in [Size2::new(1, 3), Size2::new(3, 1), Size2::new(1, 5), Size2::new(1, 7)] {
            let input = Shape4::new(1, 20, 9, 17);
            let stride = Size2::square(2);
            holds(ConvProblem {
                input,
                out_channels: 20,
                groups: 20,
                kernel,
                stride,
                layout,
                ..ConvProblem::simple()
            });
        }
    }
}

/// For a part of the output that does not begin at the first row and has no limit on its rows, the sum of
/// both overflowed and nothing was written.
#[test]
fn regression_later_rows_in_one_stretch() {
    let input = Shape4::new(1, 1, 33, 3);
    let pad = Pad2::symmetric(1, 0);
    for layout in Layout::ALL {
        holds(ConvProblem { input, out_channels: 1, pad, layout, ..ConvProblem::simple() });
    }
}

/// Padding wider than the kernel, strides longer than the kernel, and kernels as large as the padded input.
#[test]
fn windows_at_their_limits() {
    let base = ConvProblem::simple();
    let wide = Pad2 { top: 5, bottom: 0, left: 0, right: 7 };
    for layout in Layout::ALL {
        holds(ConvProblem { pad: wide, layout, ..base });
        holds(ConvProblem { stride: Size2::new(5, 7), layout, ..base });
        holds(ConvProblem { kernel: Size2::new(8, 8), layout, ..base });
        holds(ConvProblem { kernel: Size2::new(10, 9), pad: Pad2::all(1), layout, ..base });
        holds(ConvProblem { kernel: Size2::new(1, 7), dilation: Size2::new(3, 1), layout, ..base });
        holds(ConvProblem { input: Shape4::new(1, 3, 1, 40), kernel: Size2::new(1, 3), layout, ..base });
    }
}

/// Groups of several blocks of sixteen channels that begin inside a block, and maps of several tiles. The channels of the last
/// are summed in several blocks of K.
#[test]
fn groups_that_begin_inside_blocks() {
    for layout in Layout::ALL {
        for (groups, c, o) in [(7, 168, 168), (3, 60, 27), (2, 26, 50), (3, 1002, 12)] {
            let base = ConvProblem {
                input: Shape4::new(1, c, 9, 11),
                out_channels: o,
                groups,
                layout,
                values: Values::Wide,
                pad: Pad2::all(1),
                ..ConvProblem::simple()
            };
            holds(base);
            holds(ConvProblem { stride: Size2::square(2), ..base });
            holds(ConvProblem { kernel: Size2::square(1), pad: Pad2::all(0), ..base });
        }
    }
}

/// Depthwise convolution with a multiplier, and groups that begin inside a block of sixteen channels.
#[test]
fn groups_of_every_kind() {
    for layout in Layout::ALL {
        for (groups, c, o) in [
            (6, 6, 12),
            (17, 17, 17),
            (4, 12, 20),
            (2, 32, 64),
            (32, 128, 128),
            (3, 48, 51),
            (11, 33, 33),
            (8, 96, 8),
        ] {
            let input = Shape4::new(1, c, 4, 5);
            let values = Values::Wide;
            holds(ConvProblem {
                input,
                out_channels: o,
                groups,
                layout,
                values,
                pad: Pad2::all(1),
                ..ConvProblem::simple()
            });
            holds(ConvProblem {
                input,
                out_channels: o,
                groups,
                layout,
                kernel: Size2::square(1),
                ..ConvProblem::simple()
            });
        }
    }
}
