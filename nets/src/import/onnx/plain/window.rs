//! Convolution and pooling over any number of axes, also with filters that are activations.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, unsupported, wrong};
use super::super::spatial::{self, AutoPad, Spread};
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
    let (kernel, groups) = spatial::filter(call, &dims_of(call, 1)?, axes)?;
    let mut operands = vec![call.value(0)?.clone(), call.value(1)?.clone()];
    operands.extend(call.input(2).cloned());
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
    let Spread { stride, dilation, full, wanted, .. } = spatial::spread(call, &image, &kernel)?;
    let Some(full) = full else { return wrong("expected an output that can be addressed") };
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
            let upper = spatial::auto_pad(call)? == AutoPad::Same { upper: true };
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
