//! Random problems, with sizes drawn around the edges of every tile of every instruction set.

use super::{ACTIVATIONS, ConvProblem, Values};
use kernels::internal::KernelSet;
use kernels::{Activation, EpilogueSpec, Isa, Layout, Pad2, Shape4, Size2};
use proptest::prelude::*;
use proptest::sample::select;

/// Maximum products of a problem: the oracle computes them one by one.
const MOST_MACS: usize = 150_000;

/// The tile extents of all kernels, and the numbers next to them.
fn edges() -> Vec<usize> {
    let sets = Isa::available().filter_map(KernelSet::get);
    let tiles = sets.flat_map(|set| set.gemm_tiles().iter().flat_map(|tile| [tile.rows(), tile.columns()]));
    let depthwise = Isa::available().filter_map(KernelSet::get).map(KernelSet::depthwise);
    let tiles =
        tiles.chain(depthwise.flat_map(|tile| [tile.outputs(), tile.outputs() * tile.lines(), tile.lanes()]));
    let mut edges: Vec<usize> = tiles.flat_map(|edge| [edge.saturating_sub(1), edge, edge + 1]).collect();
    edges.extend([15, 16, 17]); // a block of channels, a chunk of K
    edges.retain(|&edge| edge > 0 && edge <= 66);
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// An extent that is small or at a tile edge.
fn extent() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1..=9usize, 2 => select(edges())]
}

fn activation() -> impl Strategy<Value = Activation> {
    select(ACTIVATIONS.to_vec())
}

fn epilogue() -> impl Strategy<Value = EpilogueSpec> {
    let spec = |(bias, residual, activation)| EpilogueSpec { bias, residual, activation };
    (any::<bool>(), any::<bool>(), activation()).prop_map(spec)
}

fn layout() -> impl Strategy<Value = Layout> {
    select(Layout::ALL.to_vec())
}

/// Input and output layouts, sometimes with a conversion to the blocked layout.
fn layouts() -> impl Strategy<Value = (Layout, Option<Layout>)> {
    prop_oneof![3 => Just(None), 1 => Just(Some(Layout::Nchw16c))]
        .prop_flat_map(|output| layout().prop_map(move |input| (input, output)))
}

fn values() -> impl Strategy<Value = Values> {
    prop_oneof![4 => Just(Values::Uniform), 1 => Just(Values::Sparse), 1 => Just(Values::Wide)]
}

fn slack() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(0usize), 1 => 1..=20usize]
}

fn size(side: impl Strategy<Value = usize> + Clone) -> impl Strategy<Value = Size2> {
    (side.clone(), side).prop_map(|(h, w)| Size2 { h, w })
}

fn pad() -> impl Strategy<Value = Pad2> {
    let side = || prop_oneof![1 => Just(0usize), 1 => 0..=3usize];
    let each = |(top, bottom, left, right)| Pad2 { top, bottom, left, right };
    (side(), side(), side(), side()).prop_map(each)
}

/// Halves extents until the oracle can afford the problem.
fn affordable(mut p: ConvProblem) -> ConvProblem {
    let macs = |p: &ConvProblem| p.desc().map_or(0, |d| d.cost().macs as usize);
    while macs(&p) > MOST_MACS {
        let groups = p.groups;
        let halve = |x: &mut usize, least: usize| *x = (*x / 2).max(least);
        match p.seed % 4 {
            0 if p.input.n > 1 => halve(&mut p.input.n, 1),
            1 if p.input.h > p.kernel.h * p.dilation.h => halve(&mut p.input.h, p.kernel.h * p.dilation.h),
            2 if p.input.c > groups => p.input.c = (p.input.c / groups / 2).max(1) * groups,
            3 if p.out_channels > groups => p.out_channels = (p.out_channels / groups / 2).max(1) * groups,
            _ if p.input.w > p.kernel.w * p.dilation.w => halve(&mut p.input.w, p.kernel.w * p.dilation.w),
            _ => {}
        }
        p.seed = p.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(17).wrapping_add(1);
    }
    p
}

/// Any convolution of the parameter space.
pub fn conv_problem() -> impl Strategy<Value = ConvProblem> {
    let groups = prop_oneof![3 => Just(1usize), 1 => 2..=5usize, 1 => select(vec![8usize, 16, 32])];
    let extents = (1..=3usize, extent(), extent(), extent(), extent(), groups);
    let window = (size(1..=5usize), size(1..=3usize), size(1..=3usize), pad());
    let rest = (layouts(), epilogue(), slack(), values(), any::<u64>());
    (extents, window, rest).prop_map(|(extents, window, rest)| {
        let (n, c, h, w, o, groups) = extents;
        let (kernel, stride, dilation, pad) = window;
        let ((layout, output_layout), epilogue, slack, values, seed) = rest;
        // With many groups, a few channels per group are enough; with one, `c` and `o` are at the edges.
        let per_group =
            |channels: usize| if groups == 1 { channels } else { channels.div_ceil(groups).max(1) * groups };
        let fits =
            |extent: usize, k: usize, d: usize, pad: usize| extent.max((d * (k - 1) + 1).saturating_sub(pad));
        let h = fits(h, kernel.h, dilation.h, pad.top + pad.bottom).max(1);
        let w = fits(w, kernel.w, dilation.w, pad.left + pad.right).max(1);
        affordable(ConvProblem {
            input: Shape4 { n, c: per_group(c), h, w },
            out_channels: per_group(o),
            kernel,
            stride,
            pad,
            dilation,
            groups,
            layout,
            output_layout,
            epilogue,
            slack,
            values,
            seed,
        })
    })
}

/// Convolutions that the pointwise algorithm supports: 1x1 kernels, and kernels that cover the whole image.
pub fn pointwise_problem() -> impl Strategy<Value = ConvProblem> {
    (conv_problem(), 0..8usize, size(1..=3usize)).prop_map(|(mut p, kind, stride)| {
        (p.pad, p.dilation, p.stride) = (Pad2::VALID, Size2::square(1), stride);
        if kind == 0 {
            (p.input.h, p.input.w) = (p.input.h.min(7), p.input.w.min(7));
            (p.input.c, p.out_channels, p.groups) = (p.input.c.min(40), p.out_channels.min(40), 1);
            (p.kernel, p.layout, p.output_layout) = (p.input.size(), Layout::Nchw, None);
        } else {
            p.kernel = Size2::square(1);
            let chunk = 16 * p.groups;
            if p.layout == Layout::Nchw16c && p.groups > 1 && kind % 2 == 0 {
                p.input.c = p.input.c.next_multiple_of(chunk);
            }
        }
        affordable(p)
    })
}

/// Convolutions that Winograd supports.
pub fn winograd_problem() -> impl Strategy<Value = ConvProblem> {
    prop_oneof![3 => square_winograd_problem(), 2 => thin_winograd_problem()]
}

/// Kernels of one row or one column: in maps, and in signals of one row or one column. They can have a stride or a dilation.
/// Folded by the dilation, the last row of a map can be partial.
fn thin_winograd_problem() -> impl Strategy<Value = ConvProblem> {
    let step = prop_oneof![2 => Just((1usize, 1usize)), 2 => (Just(1usize), 2..=9usize), 1 => (2..=4usize, Just(1usize))];
    let pads = (0..=3usize, 0..=3usize, any::<bool>());
    (conv_problem(), 2..=7usize, step, any::<bool>(), any::<bool>(), (1..=60usize, 1..=12usize), pads)
        .prop_map(
            |(mut p, taps, (stride, dilation), is_row, is_signal, (along, across), (before, after, any))| {
                let kernel = taps * stride;
                let pads = if any { (before, after) } else { (before * dilation, after * dilation) };
                let reach = dilation * (kernel - 1) + 1;
                let along = along.max(reach.saturating_sub(pads.0 + pads.1)).max(1);
                let across = if is_signal { 1 } else { across };
                let of = |along, across| {
                    if is_row { Size2::new(across, along) } else { Size2::new(along, across) }
                };
                (p.kernel, p.stride, p.dilation) = (of(kernel, 1), of(stride, 1), of(dilation, 1));
                let size = of(along, across);
                (p.input.h, p.input.w) = (size.h, size.w);
                p.pad = match is_row {
                    true => Pad2 { left: pads.0, right: pads.1, ..Pad2::VALID },
                    false => Pad2 { top: pads.0, bottom: pads.1, ..Pad2::VALID },
                };
                affordable(p)
            },
        )
}

/// Square kernels at every stride, with every remainder of every tile on both axes.
fn square_winograd_problem() -> impl Strategy<Value = ConvProblem> {
    // Taps at stride 1, or per phase at larger strides; the last phase can have one less.
    let taps = prop_oneof![1 => Just(2usize), 2 => Just(3usize), 1 => Just(4usize), 1 => Just(5usize)];
    let stride = prop_oneof![3 => Just(1usize), 2 => 2..=4usize];
    let extents = (1..=20usize, 1..=20usize, prop_oneof![3 => Just(0usize), 1 => 0..=5usize]);
    (conv_problem(), taps, stride, 0..4usize, extents).prop_map(
        |(mut p, taps, stride, less, (h, w, more))| {
            let kernel = taps * stride - less % stride;
            (p.kernel, p.stride, p.dilation) =
                (Size2::square(kernel), Size2::square(stride), Size2::square(1));
            p.pad = Pad2 { left: p.pad.left + more, bottom: p.pad.bottom + more, ..p.pad };
            let fits = |extent: usize, pad: usize| extent.max(kernel.saturating_sub(pad));
            p.input.h = fits(h * stride, p.pad.top + p.pad.bottom).max(1);
            p.input.w = fits(w * stride, p.pad.left + p.pad.right).max(1);
            if p.groups > 1 && p.layout_out() == Layout::Nchw16c || p.layout == Layout::Nchw16c {
                let chunk = 16 * p.groups;
                (p.input.c, p.out_channels) =
                    (p.input.c.next_multiple_of(chunk), p.out_channels.next_multiple_of(chunk));
            }
            affordable(p)
        },
    )
}

/// Convolutions with few output channels and many input channels. Long rows are summed in several blocks of channels.
/// Groups begin and end anywhere in a block.
pub fn few_outputs_problem() -> impl Strategy<Value = ConvProblem> {
    let map = prop_oneof![3 => (1..=9usize, 1..=20usize), 1 => (Just(1usize), 600..=900usize)];
    let groups = prop_oneof![1 => Just(1usize), 1 => 2..=18usize];
    (conv_problem(), 16..=70usize, 1..=9usize, groups, map).prop_map(
        |(mut p, channels, outputs, groups, (h, w))| {
            // Many groups have few channels each.
            let channels = if groups > 4 { channels.div_ceil(2) } else { channels };
            let outputs = if groups > 4 { outputs.div_ceil(2) } else { outputs };
            (p.input.c, p.out_channels, p.groups) = (groups * channels, groups * outputs, groups);
            let reach = |k: usize, d: usize, pad: usize| (d * (k - 1) + 1).saturating_sub(pad).max(1);
            p.input.h = h.max(reach(p.kernel.h, p.dilation.h, p.pad.top + p.pad.bottom));
            p.input.w = w.max(reach(p.kernel.w, p.dilation.w, p.pad.left + p.pad.right));
            affordable(p)
        },
    )
}

/// Convolutions that the depthwise algorithm supports: one or a few channels per group, with any number of outputs.
pub fn depthwise_problem() -> impl Strategy<Value = ConvProblem> {
    let kernel = prop_oneof![
        4 => select(vec![3usize, 5, 7]).prop_map(Size2::square),
        1 => size(1..=11usize),
    ];
    let stride = prop_oneof![3 => (1..=3usize).prop_map(Size2::square), 1 => size(1..=3usize)];
    let dilation = prop_oneof![3 => Just(Size2::square(1)), 1 => size(1..=3usize)];
    let channels = prop_oneof![
        3 => (Just(1usize), 1..=3usize),
        2 => select(vec![2usize, 3, 4, 6, 8, 16]).prop_map(|c| (c, c)),
        1 => (1..=16usize, 1..=16usize),
    ];
    (conv_problem(), kernel, stride, dilation, channels, extent()).prop_map(
        |(mut p, kernel, stride, dilation, (ins, outs), channels)| {
            p.groups = channels.div_ceil(ins);
            (p.input.c, p.out_channels) = (p.groups * ins, p.groups * outs);
            (p.kernel, p.stride, p.dilation) = (kernel, stride, dilation);
            if p.layout != Layout::Nchw {
                p.output_layout = None;
            }
            let fits = |extent: usize, k: usize, d: usize, pad: usize| {
                extent.max((d * (k - 1) + 1).saturating_sub(pad)).max(1)
            };
            p.input.h = fits(p.input.h, kernel.h, dilation.h, p.pad.top + p.pad.bottom);
            p.input.w = fits(p.input.w, kernel.w, dilation.w, p.pad.left + p.pad.right);
            affordable(p)
        },
    )
}

/// Maximum products of a problem with a large kernel.
const MOST_MACS_OF_LARGE: u64 = 1_000_000;

/// One axis of a large kernel.
#[derive(Debug, Clone, Copy)]
struct LargeAxis {
    taps: usize,
    outputs: usize,
    before: usize,
    after: usize,
}

impl LargeAxis {
    /// The input extent for this many outputs. If padding leaves none, it is 1, and there are more outputs.
    fn input(&self) -> usize {
        (self.outputs + self.taps - 1).saturating_sub(self.before + self.after).max(1)
    }

    /// Halves the outputs or the taps, whichever is larger.
    fn halve(&mut self) {
        let extent = if self.outputs > self.taps { &mut self.outputs } else { &mut self.taps };
        *extent = extent.div_ceil(2);
        (self.before, self.after) = (self.before.min(self.taps), self.after.min(self.taps));
    }
}

fn large_axis() -> impl Strategy<Value = LargeAxis> {
    let taps = prop_oneof![2 => 1..=12usize, 2 => 13..=40usize, 1 => 41..=63usize];
    let outputs = prop_oneof![2 => 1..=9usize, 2 => 10..=70usize];
    (taps, outputs, 0..5usize, 0..=66usize, 0..=66usize).prop_map(|(taps, outputs, kind, before, after)| {
        let (before, after) = match kind {
            0 => (0, 0),
            1 | 2 => ((taps - 1) / 2, taps / 2),
            // The padding can also be wider than the kernel.
            _ => (before % (taps + 4), after % (taps + 4)),
        };
        LargeAxis { taps, outputs, before, after }
    })
}

/// Convolutions with large kernels that Fourier transforms support. Taps, outputs and padding of the two axes
/// are independent.
pub fn large_kernel_problem() -> impl Strategy<Value = ConvProblem> {
    let channels = prop_oneof![
        2 => (Just(1usize), 1..=40usize, 1..=40usize),
        1 => (2..=40usize, Just(1usize), 1..=3usize),
        1 => (2..=5usize, 1..=20usize, 1..=20usize),
    ];
    (conv_problem(), large_axis(), large_axis(), channels).prop_map(|(base, mut y, mut x, channels)| {
        let (mut groups, mut ins, mut outs) = channels;
        let mut n = base.input.n;
        let mut turn = base.seed as usize;
        loop {
            let problem = ConvProblem {
                input: Shape4::new(n, groups * ins, y.input(), x.input()),
                out_channels: groups * outs,
                kernel: Size2::new(y.taps, x.taps),
                stride: Size2::square(1),
                dilation: Size2::square(1),
                pad: Pad2 { top: y.before, bottom: y.after, left: x.before, right: x.after },
                groups,
                ..base
            };
            if problem.desc().map_or(0, |d| d.cost().macs) <= MOST_MACS_OF_LARGE {
                return problem;
            }
            match turn % 6 {
                0 => n = n.div_ceil(2),
                1 => ins = ins.div_ceil(2),
                2 => outs = outs.div_ceil(2),
                3 => groups = groups.div_ceil(2),
                4 => y.halve(),
                _ => x.halve(),
            }
            turn += 1;
        }
    })
}
