//! Convolution and pooling over any number of axes, also with filters that are activations.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, unsupported, wrong};
use super::super::spatial::{self, AutoPad};
use super::super::value::Value;
use super::{Results, dims_of};
use crate::layer::{Binary, ConvNd, PoolOp, Reduction, TensorOp, Windows};

/// The extents of the image: the axes after batch and channels.
fn image(call: &Call<'_>) -> Outcome<(Vec<usize>, Vec<usize>)> {
    let dims = dims_of(call, 0)?;
    match dims.len() {
        0..=2 => wrong(format!("opset {}: expected batch, channels and an image, got {dims:?}", call.opset)),
        _ => Ok((dims[2..].to_vec(), dims)),
    }
}

/// The input, the filter and the bias, and the extents of the filter's kernel.
fn operands(call: &Call<'_>, axes: usize) -> Outcome<(Vec<Value>, Vec<usize>, usize)> {
    let filter = dims_of(call, 1)?;
    if filter.len() != axes + 2 {
        return wrong(format!("expected weights of {} extents, got {filter:?}", axes + 2));
    }
    let groups = call.int("group")?.unwrap_or(1);
    let Some(groups @ 1..) = usize::try_from(groups).ok() else {
        return wrong(format!("expected at least 1 group, got {groups}"));
    };
    let mut operands = vec![call.value(0)?.clone(), call.value(1)?.clone()];
    operands.extend(call.input(2).cloned());
    let kernel = filter[2..].to_vec();
    let same = |given: &&[i64]| given.iter().copied().eq(kernel.iter().map(|&extent| extent as i64));
    if let Some(given) = call.ints("kernel_shape")?.filter(|given| !same(given)) {
        return wrong(format!("expected kernel_shape {kernel:?} as in the weights, got {given:?}"));
    }
    Ok((operands, kernel, groups))
}

pub(super) fn conv<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let (image, _) = image(call)?;
    let (operands, kernel, groups) = operands(call, image.len())?;
    bias_fits(call, &operands, dims_of(call, 1)?[0])?;
    let windows = spatial::windows(call, &image, kernel)?;
    importer.emit(call, TensorOp::Conv(ConvNd { windows, groups, output: Vec::new() }), &operands)
}

fn bias_fits(call: &Call<'_>, operands: &[Value], channels: usize) -> Outcome<()> {
    if operands.len() > 2 && dims_of(call, 2)? != [channels] {
        return wrong(format!("expected a bias of [{channels}], got {:?}", dims_of(call, 2)?));
    }
    Ok(())
}

pub(super) fn transposed<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let (image, _) = image(call)?;
    let axes = image.len();
    let (operands, kernel, groups) = operands(call, axes)?;
    bias_fits(call, &operands, dims_of(call, 1)?[1].saturating_mul(groups))?;
    let (stride, dilation) = (call.extents("strides", axes, 1, 1)?, call.extents("dilations", axes, 1, 1)?);
    let output_pad = call.extents("output_padding", axes, 0, 0)?;
    let full = |axis: usize| -> Option<usize> {
        let reach = kernel[axis].checked_sub(1)?.checked_mul(dilation[axis])?.checked_add(1)?;
        let full = image[axis].checked_sub(1)?.checked_mul(stride[axis])?.checked_add(reach)?;
        full.checked_add(output_pad[axis])
    };
    let Some(full) = (0..axes).map(full).collect::<Option<Vec<usize>>>() else {
        return wrong("expected an output that can be addressed");
    };
    let auto = spatial::auto_pad(call)?;
    let wanted: Option<Vec<usize>> = match (call.ints("output_shape")?, auto) {
        // Some exporters also write batch and channels.
        (Some(shape), _) if shape.len() >= axes => {
            shape[shape.len() - axes..].iter().map(|&extent| usize::try_from(extent).ok()).collect()
        }
        (Some(shape), _) => return wrong(format!("expected {axes} extents as output_shape, got {shape:?}")),
        (None, AutoPad::Same { .. }) => image.iter().zip(&stride).map(|(&n, &s)| n.checked_mul(s)).collect(),
        (None, _) => None,
    };
    let (pad, output): (Vec<(usize, usize)>, Vec<usize>) = match wanted {
        None => {
            let pads = spatial::pads(call, axes)?;
            let cut = |axis: usize| full[axis].checked_sub(pads[axis].0.checked_add(pads[axis].1)?);
            match (0..axes).map(cut).collect::<Option<Vec<usize>>>() {
                Some(output) => (pads, output),
                None => return wrong(format!("expected pads below the output {full:?}, got {pads:?}")),
            }
        }
        Some(output) => {
            let upper = auto == AutoPad::Same { upper: true };
            let halves = |axis: usize| spatial::halves(full[axis].saturating_sub(output[axis]), upper);
            ((0..axes).map(halves).collect(), output)
        }
    };
    if output.contains(&0) {
        return unsupported(format!("an output of {output:?}"));
    }
    let windows = Windows { kernel, stride, dilation, pad, ceil: false };
    importer.emit(call, TensorOp::ConvTranspose(ConvNd { windows, groups, output }), &operands)
}

pub(super) fn pool<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Results> {
    let (image, _) = image(call)?;
    if !call.has("kernel_shape") {
        return wrong("expected an attribute `kernel_shape`, got none");
    }
    let kernel = call.extents("kernel_shape", image.len(), 1, 1)?;
    let windows = spatial::windows(call, &image, kernel)?;
    // A window that lies in the padding alone has no maximum.
    let covered = (0..image.len()).all(|axis| {
        let reach = windows.reach(axis).unwrap_or(usize::MAX);
        windows.pad[axis].0 < reach && windows.pad[axis].1 < reach
    });
    if !covered {
        return wrong(format!("expected padding below the window, got {:?}", windows.pad));
    }
    let kind = match call.def.op.as_str() {
        "MaxPool" => PoolOp::Max,
        "LpPool" => PoolOp::Lp(call.int("p")?.unwrap_or(2) as f32),
        _ => PoolOp::Average { count_include_pad: call.flag("count_include_pad")? },
    };
    let value = call.value(0)?.clone();
    let mut results = vec![importer.emit(
        call,
        TensorOp::Pool { kind, windows: windows.clone() },
        std::slice::from_ref(&value),
    )?];
    if importer.reads(call, 1) {
        let kind = PoolOp::MaxPlace { column_major: call.flag("storage_order")? };
        results.push(importer.emit(call, TensorOp::Pool { kind, windows }, &[value])?);
    }
    Ok(results)
}

/// A reduction of the whole image.
pub(super) fn global<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let (_, dims) = image(call)?;
    let axes = (0..dims.len()).map(|axis| axis >= 2).collect();
    let value = call.value(0)?.clone();
    let kind = match (call.def.op.as_str(), call.int("p")?.unwrap_or(2)) {
        ("GlobalMaxPool", _) => Reduction::Max,
        ("GlobalAveragePool", _) => Reduction::Mean,
        (_, 1) => Reduction::L1,
        (_, 2) => Reduction::L2,
        (_, p) => {
            let p = super::axes::number(p as f64);
            let size = importer.emit(call, TensorOp::Map(crate::layer::Unary::Abs), &[value])?;
            let powers = importer.emit(call, TensorOp::Zip(Binary::Pow), &[size, p.clone()])?;
            let sum = importer.emit(
                call,
                TensorOp::Reduce { kind: Reduction::Sum, axes, keep: true },
                &[powers],
            )?;
            let one = super::axes::number(1.0);
            let inverse = importer.emit(call, TensorOp::Zip(Binary::Div), &[one, p])?;
            return importer.emit(call, TensorOp::Zip(Binary::Pow), &[sum, inverse]);
        }
    };
    importer.emit(call, TensorOp::Reduce { kind, axes, keep: true }, &[value])
}
