//! Pooling.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, unsupported, wrong};
use super::super::spatial;
use super::super::value::Tap;
use crate::layer::{Layer, Pool};
use kernels::PoolKind;

pub(super) fn windows(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let image = spatial::image(tap)?;
    if !call.has("kernel_shape") {
        return wrong("expected an attribute `kernel_shape`, got none");
    }
    let kernel = call.extents("kernel_shape", image.len(), 1, 1)?;
    let window = spatial::window(call, image, &kernel)?;
    let kind = match call.def.op.as_str() {
        "MaxPool" => PoolKind::Max,
        _ => PoolKind::Average { count_include_pad: call.flag("count_include_pad")? },
    };
    let (extents, ceil_mode) = (spatial::size(image), call.flag("ceil_mode")?);
    let reach = |kernel: usize, dilation: usize| (kernel - 1).saturating_mul(dilation).saturating_add(1);
    let is_larger = reach(window.kernel.h, window.dilation.h)
        > extents.h + window.pad.top + window.pad.bottom
        || reach(window.kernel.w, window.dilation.w) > extents.w + window.pad.left + window.pad.right;
    if ceil_mode && is_larger {
        return unsupported("a window that ends beyond the padding");
    }
    let is_over = |dilation: usize, extent: usize, pad: usize| pad > 0 && dilation > extent;
    if is_over(window.dilation.h, extents.h, window.pad.top)
        || is_over(window.dilation.w, extents.w, window.pad.left)
    {
        return unsupported("a window that steps over the image");
    }
    importer.only_first(call, "the places of the maxima")?;
    let layer = Layer::Pool(Pool {
        kind,
        window: Some(window.kernel),
        stride: window.stride,
        pad: window.pad,
        dilation: window.dilation,
        ceil_mode,
    });
    importer.layer(call, layer, &[tap], &[])
}

pub(super) fn global(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    spatial::image(tap)?;
    let pool = if call.def.op == "GlobalMaxPool" { Pool::global_max() } else { Pool::global_average() };
    importer.layer(call, Layer::Pool(pool), &[tap], &[])
}

/// A mean or maximum over all axes of an image, which is global pooling.
pub(super) fn reduce(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let rank = tap.dims.len();
    let Some(axes) = call.ints_or_input("axes", 1)? else { return unsupported("a mean over everything") };
    let mut axes: Vec<usize> = axes.into_iter().map(|along| axis(along, rank)).collect::<Outcome<_>>()?;
    axes.sort_unstable();
    if !axes.iter().copied().eq(2..rank) || !matches!(rank, 3 | 4) {
        return unsupported(format!("a reduction of {:?} over the axes {axes:?}", tap.dims));
    }
    let pool = if call.def.op == "ReduceMax" { Pool::global_max() } else { Pool::global_average() };
    let pooled = importer.layer(call, Layer::Pool(pool), &[tap], &[])?;
    if call.int("keepdims")?.unwrap_or(1) != 0 {
        return Ok(pooled);
    }
    let dims = pooled.dims[..2].to_vec();
    importer.view(call, &pooled, dims)
}
