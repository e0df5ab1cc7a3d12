//! The reference: the definition as loops, accumulated in `f64` and rounded once.
//!
//! It implements Goodfellow, Bengio and Courville 2016, section 9.5, with stride, dilation, padding and groups. The
//! tests compare it with an independent implementation.

use super::{GradientRegion, WeightsOperands};
use crate::describe::ConvDesc;

/// Computes a box of the gradients. There is one chunk.
pub(super) fn run(desc: &ConvDesc, operands: &WeightsOperands<'_>, region: &mut GradientRegion<'_>) {
    for o in region.filter.channels.clone() {
        for tap in region.filter.pixels.clone() {
            region.filter.put(0, o, tap, of_tap(desc, operands, o, tap) as f32);
        }
        if let Some(bias) = &mut region.bias {
            let all = pixels(desc).map(|(n, y, x)| gradient(desc, operands, n, o, (y, x)));
            bias.put(0, o, 0, all.sum::<f64>() as f32);
        }
    }
}

/// Every output pixel: image, row and column.
fn pixels(desc: &ConvDesc) -> impl Iterator<Item = (usize, usize, usize)> {
    let output = desc.output();
    let rows = move |n| (0..output.h).map(move |y| (n, y));
    (0..output.n).flat_map(rows).flat_map(move |(n, y)| (0..output.w).map(move |x| (n, y, x)))
}

fn gradient(
    desc: &ConvDesc,
    operands: &WeightsOperands<'_>,
    n: usize,
    o: usize,
    (y, x): (usize, usize),
) -> f64 {
    let go = &operands.grad_output;
    // A merged view has the images as pixels.
    let p = y * desc.output().w + x;
    let at = if go.view.images == desc.output().n { (n, p) } else { (0, n) };
    f64::from(go.data[go.view.offset(at.0, o, at.1)])
}

/// The gradient of tap `tap` of output channel `o`, in the order `(c, kh, kw)`.
fn of_tap(desc: &ConvDesc, operands: &WeightsOperands<'_>, o: usize, tap: usize) -> f64 {
    let (kernel, input) = (desc.kernel(), desc.input());
    let (c, kh, kw) = (tap / (kernel.h * kernel.w), tap / kernel.w % kernel.h, tap % kernel.w);
    let channel = o / desc.outs() * desc.ins() + c;
    let x_of = &operands.input;
    let product = |(n, y, x): (usize, usize, usize)| {
        let row = (y * desc.stride().h + kh * desc.dilation().h).checked_sub(desc.pad().top)?;
        let column = (x * desc.stride().w + kw * desc.dilation().w).checked_sub(desc.pad().left)?;
        if row >= input.h || column >= input.w {
            return None;
        }
        let p = row * input.w + column;
        let at = if x_of.view.images == input.n { (n, p) } else { (0, n) };
        let pixel = x_of.data[x_of.view.offset(at.0, channel, at.1)];
        Some(f64::from(pixel) * gradient(desc, operands, n, o, (y, x)))
    };
    pixels(desc).filter_map(product).sum()
}
