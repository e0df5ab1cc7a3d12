//! Kernels, strides and padding along the axes of an image. A single axis is the width of an image of one row.

use super::node::{Call, Outcome, unsupported, wrong};
use super::value::Tap;
use crate::layer::Windows;
use kernels::{Pad2, Size2};

/// The window attributes of convolution and pooling.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) kernel: Size2,
    pub(super) stride: Size2,
    pub(super) dilation: Size2,
    pub(super) pad: Pad2,
}

/// The way padding is specified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AutoPad {
    /// The attribute `pads`.
    Explicit,
    Valid,
    /// `ceil(input / stride)` outputs. An odd padding element is added at the end if `upper`, else at the beginning.
    Same {
        upper: bool,
    },
}

/// The one or two extents of an image, without batch and channels.
pub(super) fn image(tap: &Tap) -> Outcome<&[usize]> {
    match tap.dims.len() {
        3 | 4 => Ok(&tap.dims[2..]),
        0..=2 => wrong(format!("expected batch, channels and an image as input, got {:?}", tap.dims)),
        rank => unsupported(format!("an image of {} axes", rank - 2)),
    }
}

/// Converts `[w]` or `[h, w]`.
pub(super) fn size(values: &[usize]) -> Size2 {
    match *values {
        [w] => Size2::new(1, w),
        [h, w, ..] => Size2::new(h, w),
        [] => Size2::square(1),
    }
}

/// Reads the attributes for an image of one or two axes.
pub(super) fn window(call: &Call<'_>, image: &[usize], kernel: &[usize]) -> Outcome<Window> {
    let Windows { kernel, stride, dilation, pad, .. } = windows(call, image, kernel.to_vec())?;
    Ok(Window { kernel: size(&kernel), stride: size(&stride), dilation: size(&dilation), pad: pad2(&pad) })
}

/// Reads the attributes for an image of these extents.
pub(super) fn windows(call: &Call<'_>, image: &[usize], kernel: Vec<usize>) -> Outcome<Windows> {
    let axes = image.len();
    let (stride, dilation) = (call.extents("strides", axes, 1, 1)?, call.extents("dilations", axes, 1, 1)?);
    let pad = match auto_pad(call)? {
        AutoPad::Explicit => pads(call, axes)?,
        AutoPad::Valid => vec![(0, 0); axes],
        AutoPad::Same { upper } => (0..axes)
            .map(|axis| same(image[axis], kernel[axis], stride[axis], dilation[axis], upper))
            .collect::<Outcome<_>>()?,
    };
    Ok(Windows { kernel, stride, dilation, pad, ceil: call.flag("ceil_mode")? })
}

pub(super) fn auto_pad(call: &Call<'_>) -> Outcome<AutoPad> {
    Ok(match call.text("auto_pad")? {
        None | Some("NOTSET" | "") => AutoPad::Explicit,
        Some("VALID") => AutoPad::Valid,
        Some("SAME_UPPER") => AutoPad::Same { upper: true },
        Some("SAME_LOWER") => AutoPad::Same { upper: false },
        Some(other) => {
            return wrong(format!(
                "expected NOTSET, VALID, SAME_UPPER or SAME_LOWER as auto_pad, got `{other}`"
            ));
        }
    })
}

/// The attribute `pads`, as padding before and after each axis.
pub(super) fn pads(call: &Call<'_>, axes: usize) -> Outcome<Vec<(usize, usize)>> {
    let pads = call.extents("pads", 2 * axes, 0, 0)?;
    Ok(pads[..axes].iter().copied().zip(pads[axes..].iter().copied()).collect())
}

pub(super) fn pad2(pads: &[(usize, usize)]) -> Pad2 {
    let ((top, bottom), (left, right)) = match *pads {
        [w] => ((0, 0), w),
        [h, w, ..] => (h, w),
        [] => ((0, 0), (0, 0)),
    };
    Pad2 { top, bottom, left, right }
}

/// The padding that leads to `ceil(input / stride)` outputs.
pub(super) fn same(
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    upper: bool,
) -> Outcome<(usize, usize)> {
    let outputs = input.div_ceil(stride).max(1);
    let reach = kernel.saturating_sub(1).checked_mul(dilation).and_then(|reach| reach.checked_add(1));
    let needed =
        (outputs - 1).checked_mul(stride).zip(reach).and_then(|(first, reach)| first.checked_add(reach));
    match needed {
        Some(needed) => Ok(halves(needed.saturating_sub(input), upper)),
        None => wrong("expected a window that can be addressed, got a larger one"),
    }
}

/// The extents of a kernel and the number of groups, for filters of these extents over an image of `axes` axes.
pub(super) fn filter(call: &Call<'_>, dims: &[usize], axes: usize) -> Outcome<(Vec<usize>, usize)> {
    if dims.len() != axes + 2 {
        return wrong(format!("expected weights of {} extents for this input, got {dims:?}", axes + 2));
    }
    let kernel = dims[2..].to_vec();
    let same = |given: &&[i64]| given.iter().copied().eq(kernel.iter().map(|&extent| extent as i64));
    if let Some(given) = call.ints("kernel_shape")?.filter(|given| !same(given)) {
        return wrong(format!("expected kernel_shape {kernel:?} as in the weights, got {given:?}"));
    }
    let groups = call.int("group")?.unwrap_or(1);
    match usize::try_from(groups) {
        Ok(groups @ 1..) => Ok((kernel, groups)),
        _ => wrong(format!("expected at least 1 group, got {groups}")),
    }
}

/// The attributes of a transposed convolution along each axis.
#[derive(Debug)]
pub(super) struct Spread {
    pub(super) stride: Vec<usize>,
    pub(super) dilation: Vec<usize>,
    pub(super) output_pad: Vec<usize>,
    /// The extents of the output before anything is cut off; `None` if they overflow.
    pub(super) full: Option<Vec<usize>>,
    /// The extents that the node states instead of the padding.
    pub(super) wanted: Option<Vec<usize>>,
}

/// Reads the attributes of a transposed convolution of this image.
pub(super) fn spread(call: &Call<'_>, image: &[usize], kernel: &[usize]) -> Outcome<Spread> {
    let axes = image.len();
    let (stride, dilation) = (call.extents("strides", axes, 1, 1)?, call.extents("dilations", axes, 1, 1)?);
    let output_pad = call.extents("output_padding", axes, 0, 0)?;
    let full = |axis: usize| {
        let reach = kernel[axis].checked_sub(1)?.checked_mul(dilation[axis])?.checked_add(1)?;
        let full = image[axis].checked_sub(1)?.checked_mul(stride[axis])?.checked_add(reach)?;
        full.checked_add(output_pad[axis])
    };
    let full = (0..axes).map(full).collect();
    let wanted = match (call.ints("output_shape")?, auto_pad(call)?) {
        // Some exporters also write batch and channels.
        (Some(shape), _) if shape.len() >= axes => {
            let extents = shape[shape.len() - axes..].iter();
            match extents.map(|&extent| usize::try_from(extent).ok().filter(|&extent| extent > 0)).collect() {
                Some(extents) => Some(extents),
                None => return wrong(format!("expected an output_shape of at least 1, got {shape:?}")),
            }
        }
        (Some(shape), _) => return wrong(format!("expected {axes} extents as output_shape, got {shape:?}")),
        (None, AutoPad::Same { .. }) => {
            match image.iter().zip(&stride).map(|(&n, &s)| n.checked_mul(s)).collect() {
                Some(extents) => Some(extents),
                None => return wrong("expected an output that can be addressed"),
            }
        }
        (None, _) => None,
    };
    Ok(Spread { stride, dilation, output_pad, full, wanted })
}

/// Two halves. The odd element is in the second if `upper`, else in the first.
pub(super) fn halves(total: usize, upper: bool) -> (usize, usize) {
    if upper { (total / 2, total.div_ceil(2)) } else { (total.div_ceil(2), total / 2) }
}
