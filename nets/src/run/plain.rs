//! Layers that only move numbers, or are too small to need kernels: plain loops over NCHW images.

use crate::layer::AdaptivePool;
use kernels::{Pad2, Shape4};

/// The image in the middle of zeros.
pub(super) fn pad(source: &[f32], input: Shape4, pad: Pad2, target: &mut [f32], output: Shape4) {
    target.fill(0.0);
    let maps = source.chunks_exact(input.h * input.w).zip(target.chunks_exact_mut(output.h * output.w));
    for (source, target) in maps {
        let rows = source.chunks_exact(input.w).zip(target.chunks_exact_mut(output.w).skip(pad.top));
        for (source, target) in rows {
            target[pad.left..pad.left + input.w].copy_from_slice(source);
        }
    }
}

/// Every `stride`-th pixel; the channels that are new are zero.
pub(super) fn shortcut(source: &[f32], input: Shape4, stride: usize, target: &mut [f32], output: Shape4) {
    target.fill(0.0);
    let (from, to) = (input.h * input.w, output.h * output.w);
    let images = source.chunks_exact(input.c * from).zip(target.chunks_exact_mut(output.c * to));
    let maps = images.flat_map(|(source, target)| source.chunks_exact(from).zip(target.chunks_exact_mut(to)));
    for (source, target) in maps {
        let rows = source.chunks_exact(input.w).step_by(stride).zip(target.chunks_exact_mut(output.w));
        for (source, target) in rows {
            source.iter().step_by(stride).zip(target).for_each(|(&x, y)| *y = x);
        }
    }
}

/// Element by element; `factor` may have one pixel per map, which is used for all of the map's.
pub(super) fn multiply(factor: &[f32], target: &mut [f32]) {
    let run = target.len() / factor.len().max(1);
    for (run, &factor) in target.chunks_exact_mut(run.max(1)).zip(factor) {
        run.iter_mut().for_each(|x| *x *= factor);
    }
}

/// Squared distances of each row of `source` to each of the codes.
pub(super) fn rbf(source: &[f32], codes: &[f32], inputs: usize, target: &mut [f32]) {
    let outputs = codes.len() / inputs;
    for (row, distances) in source.chunks_exact(inputs).zip(target.chunks_exact_mut(outputs)) {
        for (code, distance) in codes.chunks_exact(inputs).zip(distances) {
            *distance = row.iter().zip(code).map(|(x, c)| (x - c) * (x - c)).sum();
        }
    }
}

/// Averages over windows of unequal extents.
pub(super) fn adaptive(source: &[f32], input: Shape4, target: &mut [f32], output: Shape4) {
    let maps = source.chunks_exact(input.h * input.w).zip(target.chunks_exact_mut(output.h * output.w));
    for (source, target) in maps {
        for (place, average) in target.iter_mut().enumerate() {
            let rows = AdaptivePool::window(place / output.w, output.h, input.h);
            let columns = AdaptivePool::window(place % output.w, output.w, input.w);
            let elements = (rows.len() * columns.len()) as f32;
            let sum: f32 = rows.flat_map(|row| &source[row * input.w..][columns.clone()]).sum();
            *average = sum / elements;
        }
    }
}
