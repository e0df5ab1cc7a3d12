//! Operators whose outputs read windows of an image: convolutions and pooling.

use super::{Attr, Draw, DrawOp, Id, Value, Walk, offset_in};
use arbitrary::Result;

pub const OPS: &[(&str, DrawOp)] = &[
    ("Conv", conv),
    ("ConvTranspose", conv_transpose),
    ("MaxPool", max_pool),
    ("AveragePool", average_pool),
    ("LpPool", lp_pool),
    ("GlobalAveragePool", global_average_pool),
    ("GlobalMaxPool", global_max_pool),
    ("GlobalLpPool", global_lp_pool),
];

/// Products of one convolution. The loops compute them one by one.
const MOST_PRODUCTS: usize = 60_000;

/// One axis of an image and of the windows that move over it.
#[derive(Clone, Copy)]
struct Axis {
    size: usize,
    taps: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
    outputs: usize,
}

impl Axis {
    /// Elements from the first tap of a window to its last.
    fn reach(&self) -> usize {
        (self.taps - 1) * self.dilation + 1
    }

    /// The element that tap `tap` of output `at` reads; `None` in the padding.
    fn read(&self, at: usize, tap: usize) -> Option<usize> {
        let place = (at * self.stride + tap * self.dilation).checked_sub(self.before)?;
        (place < self.size).then_some(place)
    }

    /// Whether every window reads an element.
    fn reads(&self) -> bool {
        (0..self.outputs).all(|at| (0..self.taps).any(|tap| self.read(at, tap).is_some()))
    }
}

/// Draws the windows of an image: at least one fits. Padding is narrower than a window.
fn axes(draw: &mut Draw<'_, '_>, image: &[usize], dilates: bool) -> Result<Vec<Axis>> {
    let mut axes = Vec::new();
    for &size in image {
        let mut taps = 1 + draw.below(4)?;
        let mut dilation = if dilates { 1 + draw.below(2)? } else { 1 };
        let (mut before, mut after) = (draw.below(taps)?, draw.below(taps)?);
        if (taps - 1) * dilation + 1 > size + before + after {
            (taps, dilation, before, after) = (1, 1, 0, 0);
        }
        let mut axis = Axis { size, taps, stride: 1 + draw.below(3)?, dilation, before, after, outputs: 0 };
        axis.outputs = (size + before + after - axis.reach()) / axis.stride + 1;
        axes.push(axis);
    }
    Ok(axes)
}

fn ints(axes: &[Axis], of: fn(&Axis) -> usize) -> Attr {
    Attr::Ints(axes.iter().map(|axis| of(axis) as i64).collect())
}

fn pads(axes: &[Axis]) -> Attr {
    let (before, after) = (axes.iter().map(|axis| axis.before), axes.iter().map(|axis| axis.after));
    Attr::Ints(before.chain(after).map(|pad| pad as i64).collect())
}

/// The elements of an image that a window reads, each with its tap, both in row-major order.
fn window(axes: &[Axis], at: &[usize], mut read: impl FnMut(usize, usize)) {
    let taps: Vec<usize> = axes.iter().map(|axis| axis.taps).collect();
    let sizes: Vec<usize> = axes.iter().map(|axis| axis.size).collect();
    for tap in Walk::new(&taps) {
        let places = axes.iter().zip(at).zip(&tap).map(|((axis, &at), &tap)| axis.read(at, tap));
        if let Some(places) = places.collect::<Option<Vec<_>>>() {
            read(offset_in(&sizes, &places), offset_in(&taps, &tap));
        }
    }
}

/// An image of one to three axes whose elements are not so large that rounding matters.
pub fn image(draw: &mut Draw<'_, '_>) -> Result<Option<Id>> {
    draw.pick(|value| (3..=5).contains(&value.dims.len()) && value.data.iter().all(|x| x.abs() <= 30.0))
}

pub fn product(extents: &[usize]) -> usize {
    extents.iter().product()
}

fn outputs(axes: &[Axis]) -> Vec<usize> {
    axes.iter().map(|axis| axis.outputs).collect()
}

/// A number of groups that divides the channels, and the outputs of a group.
fn groups(draw: &mut Draw<'_, '_>, channels: usize) -> Result<(usize, usize)> {
    let divisors: Vec<usize> = (1..=channels).filter(|groups| channels.is_multiple_of(*groups)).collect();
    let groups = if draw.below(2)? == 0 { 1 } else { divisors[draw.below(divisors.len())?] };
    let most = if groups == 1 { 18 } else { 3 };
    Ok((groups, 1 + draw.below(most)?))
}

fn conv(draw: &mut Draw<'_, '_>) -> Result<()> {
    let Some(x) = image(draw)? else { return Ok(()) };
    let dims = draw.value(x).dims.clone();
    let axes = axes(draw, &dims[2..], true)?;
    let (groups, outs) = groups(draw, dims[1])?;
    let (ins, out) = (dims[1] / groups, [&[dims[0], groups * outs][..], &outputs(&axes)].concat());
    let taps: Vec<usize> = axes.iter().map(|axis| axis.taps).collect();
    if product(&out) * ins * product(&taps) > MOST_PRODUCTS {
        return Ok(());
    }
    let w = draw.constant(&[&[groups * outs, ins][..], &taps].concat(), -1.0, 1.0)?;
    let b = if draw.below(2)? == 0 { Some(draw.constant(&[groups * outs], -1.0, 1.0)?) } else { None };
    let (image, window_len) = (product(&dims[2..]), product(&taps));
    let mut y = Vec::new();
    for at in Walk::new(&out) {
        let (n, o) = (at[0], at[1]);
        let mut sum = b.map_or(0.0, |b| draw.value(b).data[o]);
        for c in 0..ins {
            let (from, weights) = ((n * dims[1] + o / outs * ins + c) * image, (o * ins + c) * window_len);
            window(&axes, &at[2..], |place, tap| {
                sum += draw.value(x).data[from + place] * draw.value(w).data[weights + tap];
            });
        }
        y.push(sum);
    }
    let attrs = [
        ("kernel_shape", ints(&axes, |axis| axis.taps)),
        ("strides", ints(&axes, |axis| axis.stride)),
        ("dilations", ints(&axes, |axis| axis.dilation)),
        ("pads", pads(&axes)),
        ("group", Attr::Int(groups as i64)),
    ];
    draw.node("Conv", &[Some(x), Some(w), b], &attrs, Value::new(out, y));
    Ok(())
}

/// The convolution run backwards: element `at` of the input adds to output `at * stride + tap * dilation - before`.
fn conv_transpose(draw: &mut Draw<'_, '_>) -> Result<()> {
    let Some(x) = image(draw)? else { return Ok(()) };
    let dims = draw.value(x).dims.clone();
    let (groups, outs) = groups(draw, dims[1])?;
    let (mut axes, mut more) = (Vec::new(), Vec::new());
    for &size in &dims[2..] {
        let (taps, stride, dilation) = (1 + draw.below(4)?, 1 + draw.below(3)?, 1 + draw.below(2)?);
        let (extra, full) = (draw.below(stride)?, (size - 1) * stride + (taps - 1) * dilation + 1);
        let before = draw.below(taps)?.min(full - 1);
        let after = draw.below(taps)?.min(full - 1 - before);
        // As a convolution, it reads the output and writes the input.
        axes.push(Axis {
            size: full + extra - before - after,
            taps,
            stride,
            dilation,
            before,
            after,
            outputs: size,
        });
        more.push(extra as i64);
    }
    let taps: Vec<usize> = axes.iter().map(|axis| axis.taps).collect();
    let sizes: Vec<usize> = axes.iter().map(|axis| axis.size).collect();
    let out = [&[dims[0], groups * outs][..], &sizes].concat();
    if product(&dims) * outs * product(&taps) > MOST_PRODUCTS || product(&out) > MOST_PRODUCTS {
        return Ok(());
    }
    let w = draw.constant(&[&[dims[1], outs][..], &taps].concat(), -1.0, 1.0)?;
    let b = if draw.below(2)? == 0 { Some(draw.constant(&[groups * outs], -1.0, 1.0)?) } else { None };
    let (ins, to_len, window_len) = (dims[1] / groups, product(&sizes), product(&taps));
    let mut y: Vec<f64> = (0..product(&out))
        .map(|at| b.map_or(0.0, |b| draw.value(b).data[at / to_len % (groups * outs)]))
        .collect();
    for (from, at) in Walk::new(&dims).enumerate() {
        let (n, c) = (at[0], at[1]);
        for o in 0..outs {
            let to = (n * groups * outs + c / ins * outs + o) * to_len;
            window(&axes, &at[2..], |place, tap| {
                y[to + place] +=
                    draw.value(x).data[from] * draw.value(w).data[(c * outs + o) * window_len + tap];
            });
        }
    }
    let attrs = [
        ("kernel_shape", ints(&axes, |axis| axis.taps)),
        ("strides", ints(&axes, |axis| axis.stride)),
        ("dilations", ints(&axes, |axis| axis.dilation)),
        ("pads", pads(&axes)),
        ("output_padding", Attr::Ints(more)),
        ("group", Attr::Int(groups as i64)),
    ];
    draw.node("ConvTranspose", &[Some(x), Some(w), b], &attrs, Value::new(out, y));
    Ok(())
}

/// Applies `of` to the elements under each window. `of` also gets the number of taps that are inside the padded image.
fn pooled(x: &Value, axes: &[Axis], of: impl Fn(&[f64], usize) -> f64) -> Value {
    let out = [&x.dims[..2], &outputs(axes)].concat();
    let image = product(&x.dims[2..]);
    let mut y = Vec::new();
    for at in Walk::new(&out) {
        let from = (at[0] * x.dims[1] + at[1]) * image;
        let mut elements = Vec::new();
        window(axes, &at[2..], |place, _| elements.push(x.data[from + place]));
        let padded = axes.iter().zip(&at[2..]).map(|(axis, at)| {
            let end = axis.size + axis.before + axis.after;
            (0..axis.taps).filter(|tap| at * axis.stride + tap * axis.dilation < end).count()
        });
        y.push(of(&elements, padded.product()));
    }
    Value::new(out, y)
}

/// Rounds the number of outputs up, as long as the last window begins in the image or in the padding before it.
fn round_up(axes: &mut [Axis]) {
    for axis in axes {
        let rest = axis.size + axis.before + axis.after - axis.reach();
        axis.outputs = rest.div_ceil(axis.stride) + 1;
        if (axis.outputs - 1) * axis.stride >= axis.size + axis.before {
            axis.outputs -= 1;
        }
    }
}

/// An image and the windows of a pool. `None` if a window would read nothing.
fn pool(draw: &mut Draw<'_, '_>, dilates: bool, ceil: bool) -> Result<Option<(Id, Vec<Axis>)>> {
    let Some(x) = image(draw)? else { return Ok(None) };
    let dims = draw.value(x).dims.clone();
    let mut axes = axes(draw, &dims[2..], dilates)?;
    if ceil {
        round_up(&mut axes);
    }
    Ok(axes.iter().all(Axis::reads).then_some((x, axes)))
}

fn max_pool(draw: &mut Draw<'_, '_>) -> Result<()> {
    let ceil = draw.below(2)? == 1;
    let Some((x, axes)) = pool(draw, true, ceil)? else { return Ok(()) };
    let y = pooled(draw.value(x), &axes, |elements, _| {
        elements.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    });
    let attrs = [
        ("kernel_shape", ints(&axes, |axis| axis.taps)),
        ("strides", ints(&axes, |axis| axis.stride)),
        ("dilations", ints(&axes, |axis| axis.dilation)),
        ("pads", pads(&axes)),
        ("ceil_mode", Attr::Int(ceil.into())),
    ];
    draw.node("MaxPool", &[Some(x)], &attrs, y);
    Ok(())
}

fn average_pool(draw: &mut Draw<'_, '_>) -> Result<()> {
    let (ceil, all) = (draw.below(2)? == 1, draw.below(2)? == 1);
    let Some((x, axes)) = pool(draw, false, ceil)? else { return Ok(()) };
    let y = pooled(draw.value(x), &axes, |elements, padded| {
        elements.iter().sum::<f64>() / if all { padded } else { elements.len() } as f64
    });
    let attrs = [
        ("kernel_shape", ints(&axes, |axis| axis.taps)),
        ("strides", ints(&axes, |axis| axis.stride)),
        ("pads", pads(&axes)),
        ("ceil_mode", Attr::Int(ceil.into())),
        ("count_include_pad", Attr::Int(all.into())),
    ];
    draw.node("AveragePool", &[Some(x)], &attrs, y);
    Ok(())
}

/// `(sum |x|^p)^(1/p)`
fn norm(elements: &[f64], p: usize) -> f64 {
    elements.iter().map(|x| x.abs().powi(p as i32)).sum::<f64>().powf(1.0 / p as f64)
}

fn lp_pool(draw: &mut Draw<'_, '_>) -> Result<()> {
    let p = 1 + draw.below(3)?;
    let Some((x, axes)) = pool(draw, false, false)? else { return Ok(()) };
    let y = pooled(draw.value(x), &axes, |elements, _| norm(elements, p));
    let attrs = [
        ("kernel_shape", ints(&axes, |axis| axis.taps)),
        ("strides", ints(&axes, |axis| axis.stride)),
        ("pads", pads(&axes)),
        ("p", Attr::Int(p as i64)),
    ];
    draw.node("LpPool", &[Some(x)], &attrs, y);
    Ok(())
}

/// Applies `of` to each channel of an image.
fn global(
    draw: &mut Draw<'_, '_>,
    op: &'static str,
    attrs: &[(&'static str, Attr)],
    of: impl Fn(&[f64]) -> f64,
) -> Result<()> {
    let Some(x) = image(draw)? else { return Ok(()) };
    let Value { dims, data, .. } = draw.value(x);
    let mut out = dims.clone();
    out[2..].fill(1);
    let y = data.chunks_exact(product(&dims[2..])).map(of).collect();
    draw.node(op, &[Some(x)], attrs, Value::new(out, y));
    Ok(())
}

fn global_average_pool(draw: &mut Draw<'_, '_>) -> Result<()> {
    global(draw, "GlobalAveragePool", &[], |elements| elements.iter().sum::<f64>() / elements.len() as f64)
}

fn global_max_pool(draw: &mut Draw<'_, '_>) -> Result<()> {
    global(draw, "GlobalMaxPool", &[], |elements| elements.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

fn global_lp_pool(draw: &mut Draw<'_, '_>) -> Result<()> {
    let p = 1 + draw.below(3)?;
    global(draw, "GlobalLpPool", &[("p", Attr::Int(p as i64))], |elements| norm(elements, p))
}
