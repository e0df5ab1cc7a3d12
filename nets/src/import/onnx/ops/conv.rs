//! Convolutions and transposed convolutions.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, unsupported, wrong};
use super::super::spatial::{self, AutoPad, Spread};
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
    let Spread { stride, dilation, output_pad, full, wanted } = spatial::spread(call, image, &kernel)?;
    let pads = match wanted {
        None => spatial::pads(call, axes)?,
        Some(outputs) => {
            let upper = spatial::auto_pad(call)? == AutoPad::Same { upper: true };
            let cut = |full: Vec<usize>| -> Option<Vec<usize>> {
                full.iter().zip(&outputs).map(|(full, output)| full.checked_sub(*output)).collect()
            };
            let Some(totals) = full.and_then(cut) else {
                return unsupported("an output larger than the kernel reaches");
            };
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

/// Filters with one axis, reshaped to filters for an image of one row.
fn planes(weight: &Constant) -> Constant {
    match *weight.dims {
        [o, i, w] => weight.reshaped(vec![o, i, 1, w]),
        _ => weight.clone(),
    }
}

fn filter<'a>(call: &'a Call<'_>, axes: usize) -> Outcome<Filter<'a>> {
    let (weight, bias) = (call.weight(1)?, call.constant(2)?);
    let (kernel, groups) = spatial::filter(call, &weight.dims, axes)?;
    Ok(Filter { weight, bias, kernel, groups })
}
