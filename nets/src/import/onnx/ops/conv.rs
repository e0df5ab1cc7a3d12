//! Convolutions and transposed convolutions.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, unsupported, wrong};
use super::super::spatial::{self, AutoPad};
use super::super::value::{Constant, Tap};
use crate::layer::{Conv, ConvTranspose, Layer};
use kernels::Size2;

/// The common parts of both directions.
struct Filter<'a> {
    weight: &'a Constant,
    bias: Option<&'a Constant>,
    kernel: Vec<usize>,
    groups: usize,
}

pub(super) fn conv(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let image = spatial::image(tap)?;
    let Filter { weight, bias, kernel, groups } = filter(call, image.len())?;
    let (channels, dims) = (tap.dims[1], &weight.dims);
    if dims[1].checked_mul(groups) != Some(channels) {
        let per_group = dims[1];
        return wrong(format!(
            "expected {channels} input channels in {groups} groups, got filters of {per_group}"
        ));
    }
    let bias = bias.map(|_| call.vector(2, "bias", dims[0])).transpose()?;
    let window = spatial::window(call, image, &kernel)?;
    let layer = Layer::Conv(Conv {
        out_channels: dims[0],
        kernel: window.kernel,
        stride: window.stride,
        pad: window.pad,
        dilation: window.dilation,
        groups,
        bias: bias.is_some(),
    });
    let weight = planes(weight);
    importer.layer(call, layer, &[tap], &[("weight", Some(&weight)), ("bias", bias)])
}

pub(super) fn transpose(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let image = spatial::image(tap)?;
    let axes = image.len();
    let Filter { weight, bias, kernel, groups } = filter(call, axes)?;
    let (channels, dims) = (tap.dims[1], &weight.dims);
    let out_channels = dims[1].checked_mul(groups);
    let Some(out_channels) = out_channels.filter(|_| dims[0] == channels) else {
        return wrong(format!(
            "expected filters for {channels} input channels, got {dims:?} in {groups} groups"
        ));
    };
    let bias = bias.map(|_| call.vector(2, "bias", out_channels)).transpose()?;
    let stride = call.extents("strides", axes, 1, 1)?;
    let dilation = call.extents("dilations", axes, 1, 1)?;
    let output_pad = call.extents("output_padding", axes, 0, 0)?;
    let pads = match wanted(call, image, &stride)? {
        None => spatial::pads(call, axes)?,
        Some(outputs) => {
            let upper = spatial::auto_pad(call)? == AutoPad::Same { upper: true };
            let total = |axis: usize| {
                let reach = kernel[axis].checked_sub(1)?.checked_mul(dilation[axis])?.checked_add(1)?;
                let full = image[axis].checked_sub(1)?.checked_mul(stride[axis])?.checked_add(reach)?;
                full.checked_add(output_pad[axis])?.checked_sub(outputs[axis])
            };
            let totals: Option<Vec<usize>> = (0..axes).map(total).collect();
            let Some(totals) = totals else { return unsupported("an output larger than the kernel reaches") };
            totals.into_iter().map(|total| spatial::halves(total, upper)).collect()
        }
    };
    let layer = Layer::ConvTranspose(ConvTranspose {
        out_channels,
        kernel: spatial::size(&kernel),
        stride: spatial::size(&stride),
        pad: spatial::pad2(&pads),
        output_pad: if axes == 1 { Size2::new(0, output_pad[0]) } else { spatial::size(&output_pad) },
        dilation: spatial::size(&dilation),
        groups,
        bias: bias.is_some(),
    });
    let weight = planes(weight);
    importer.layer(call, layer, &[tap], &[("weight", Some(&weight)), ("bias", bias)])
}

/// The output extents of a transposed convolution, if the node states them instead of the padding.
fn wanted(call: &Call<'_>, image: &[usize], stride: &[usize]) -> Outcome<Option<Vec<usize>>> {
    if call.has("output_shape") {
        return call.extents("output_shape", image.len(), 1, 1).map(Some);
    }
    match spatial::auto_pad(call)? {
        AutoPad::Same { .. } => {
            let outputs: Option<Vec<usize>> =
                image.iter().zip(stride).map(|(&n, &s)| n.checked_mul(s)).collect();
            outputs.map_or_else(
                || wrong("expected an output that can be addressed"),
                |outputs| Ok(Some(outputs)),
            )
        }
        _ => Ok(None),
    }
}

/// Filters with one axis, reshaped to filters for an image of one row.
fn planes(weight: &Constant) -> Constant {
    match *weight.dims {
        [o, i, w] => weight.reshaped(vec![o, i, 1, w]),
        _ => weight.clone(),
    }
}

fn filter<'a>(call: &'a Call<'_>, axes: usize) -> Outcome<Filter<'a>> {
    let (weight, bias) = (call.weight(1)?, call.constant(2)?);
    if weight.dims.len() != axes + 2 {
        return wrong(format!(
            "expected weights of {} extents for this input, got {:?}",
            axes + 2,
            weight.dims
        ));
    }
    let kernel = weight.dims[2..].to_vec();
    let same = |given: &&[i64]| given.iter().copied().eq(kernel.iter().map(|&extent| extent as i64));
    if let Some(given) = call.ints("kernel_shape")?.filter(|given| !same(given)) {
        return wrong(format!("expected kernel_shape {kernel:?} as in the weights, got {given:?}"));
    }
    let groups = call.int("group")?.unwrap_or(1);
    match usize::try_from(groups) {
        Ok(groups @ 1..) => Ok(Filter { weight, bias, kernel, groups }),
        _ => wrong(format!("expected at least 1 group, got {groups}")),
    }
}
