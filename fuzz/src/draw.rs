//! The values that the targets draw from the fuzzer's bytes.

use crate::common::{ACTIVATIONS, ConvProblem, Values};
use arbitrary::{Result, Unstructured};
use kernels::{EpilogueSpec, Layout, Pad2, Shape4, Size2};

/// Maximum number of products of one problem. The reference computes them one by one, under a sanitizer.
const MOST_MACS: usize = 30_000;

/// Draws any number. Most draws are critical ones: small, close to a power of two, or close to the largest
/// number.
pub fn any_usize(u: &mut Unstructured<'_>) -> Result<usize> {
    let near = |u: &mut Unstructured<'_>, x: usize| {
        Ok(x.wrapping_add_signed(u.int_in_range(-3isize..=3)?)) // wraps on purpose, to reach both ends of the range
    };
    match u.int_in_range(0..=7u8)? {
        0..=2 => u.int_in_range(0..=9usize),
        3 => u.int_in_range(0..=300usize),
        4 => {
            let bit = u.int_in_range(0..=usize::BITS - 1)?;
            near(u, 1 << bit)
        }
        5 => near(u, 0),
        6 => {
            let divisor = u.int_in_range(1..=16usize)?;
            near(u, usize::MAX / divisor)
        }
        _ => u.arbitrary(),
    }
}

pub fn layout(u: &mut Unstructured<'_>) -> Result<Layout> {
    Ok(*u.choose(&Layout::ALL)?)
}

/// Extents with a limited product. Each extent takes its part of what the earlier ones have left.
struct Budget(usize);

impl Budget {
    fn extent(&mut self, u: &mut Unstructured<'_>, most: usize) -> Result<usize> {
        let extent = u.int_in_range(1..=most.min(self.0))?;
        self.0 /= extent;
        Ok(extent)
    }
}

/// One axis, computed from its output back to its input, so that every draw is a valid problem.
struct Axis {
    input: usize,
    before: usize,
    after: usize,
    stride: usize,
    dilation: usize,
}

fn axis(u: &mut Unstructured<'_>, output: usize, kernel: usize) -> Result<Axis> {
    let (stride, dilation) = (u.int_in_range(1..=4usize)?, u.int_in_range(1..=3usize)?);
    let unused = u.int_in_range(0..=stride - 1)?;
    let padded = (output - 1) * stride + dilation * (kernel - 1) + 1 + unused;
    // At least one element belongs to the input. Padding can be wider than the kernel.
    let before = u.int_in_range(0..=8usize)?.min(padded - 1);
    let after = u.int_in_range(0..=8usize)?.min(padded - 1 - before);
    Ok(Axis { input: padded - before - after, before, after, stride, dilation })
}

/// Draws a small convolution from the whole parameter space.
pub fn conv_problem(u: &mut Unstructured<'_>) -> Result<ConvProblem> {
    let layout = layout(u)?;
    let output_layout = if u.ratio(1, 4)? { Some(Layout::Nchw16c) } else { None };
    let epilogue =
        EpilogueSpec { bias: u.arbitrary()?, residual: u.arbitrary()?, activation: *u.choose(&ACTIVATIONS)? };
    let values = *u.choose(&[Values::Uniform, Values::Sparse, Values::Wide])?;
    let slack = if u.arbitrary()? { u.int_in_range(1..=20)? } else { 0 };
    let pointwise = u.ratio(1, 3)?;

    let mut budget = Budget(MOST_MACS);
    let side = if pointwise { 1 } else { 7 };
    let (kernel_h, kernel_w) = (budget.extent(u, side)?, budget.extent(u, side)?);
    let groups = if u.arbitrary()? { budget.extent(u, 40)? } else { 1 };
    // Up to more than twice the width of the widest tile. Fewer channels if there are many groups.
    let most = if groups == 1 { 140 } else { 36 };
    let (channels, out_channels) = (budget.extent(u, most)?, budget.extent(u, most)?);
    let (out_h, out_w) = (budget.extent(u, 70)?, budget.extent(u, 70)?);
    let images = budget.extent(u, 4)?;

    let (h, w) = (axis(u, out_h, kernel_h)?, axis(u, out_w, kernel_w)?);
    Ok(ConvProblem {
        input: Shape4::new(images, channels * groups, h.input, w.input),
        out_channels: out_channels * groups,
        kernel: Size2::new(kernel_h, kernel_w),
        stride: Size2::new(h.stride, w.stride),
        pad: Pad2 { top: h.before, bottom: h.after, left: w.before, right: w.after },
        dilation: Size2::new(h.dilation, w.dilation),
        groups,
        layout,
        output_layout,
        epilogue,
        slack,
        values,
        seed: u.arbitrary()?,
    })
}
