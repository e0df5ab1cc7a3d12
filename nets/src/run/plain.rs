//! Plain loops over one image at a time, for layers that only move elements or are too small to need kernels.
//!
//! An image consists of planes of pixels, and a pixel of `lanes` adjacent elements: one channel in NCHW, a
//! block of 16 in Nchw16c. The loops are the same for both.

use crate::layer::{AdaptivePool, FractionalPool};
use kernels::{Pad2, Size2};

/// The extents of an image, and the number of elements per pixel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Image {
    pub(crate) size: Size2,
    pub(crate) lanes: usize,
}

impl Image {
    fn row(self) -> usize {
        self.size.w * self.lanes
    }

    fn plane(self) -> usize {
        self.size.h * self.row()
    }
}

/// Copies the image into the middle of zeros.
pub(crate) fn pad(source: (&[f32], Image), pad: Pad2, target: (&mut [f32], Image)) {
    let ((source, from), (target, to)) = (source, target);
    target.fill(0.0);
    let left = pad.left * to.lanes;
    for (source, target) in source.chunks_exact(from.plane()).zip(target.chunks_exact_mut(to.plane())) {
        let rows = source.chunks_exact(from.row()).zip(target.chunks_exact_mut(to.row()).skip(pad.top));
        for (source, target) in rows {
            target[left..left + source.len()].copy_from_slice(source);
        }
    }
}

/// Copies every `stride`-th pixel and fills the additional channels with zeros.
pub(crate) fn shortcut(source: (&[f32], Image), stride: usize, target: (&mut [f32], Image)) {
    let ((source, from), (target, to)) = (source, target);
    let (old, new) = target.split_at_mut(source.len() / from.plane() * to.plane());
    new.fill(0.0);
    for (source, target) in source.chunks_exact(from.plane()).zip(old.chunks_exact_mut(to.plane())) {
        let rows = source.chunks_exact(from.row()).step_by(stride).zip(target.chunks_exact_mut(to.row()));
        for (source, target) in rows {
            let pixels = source.chunks_exact(from.lanes).step_by(stride);
            for (source, target) in pixels.zip(target.chunks_exact_mut(to.lanes)) {
                target.copy_from_slice(source);
            }
        }
    }
}

/// Squared distances from a row to each of the codes.
pub(crate) fn rbf(row: &[f32], codes: &[f32], distances: &mut [f32]) {
    for (code, distance) in codes.chunks_exact(row.len()).zip(distances) {
        *distance = row.iter().zip(code).map(|(x, c)| (x - c) * (x - c)).sum();
    }
}

/// Averages over windows of unequal extents.
pub(crate) fn adaptive(source: (&[f32], Image), target: (&mut [f32], Image)) {
    let ((source, from), (target, to)) = (source, target);
    for (source, target) in source.chunks_exact(from.plane()).zip(target.chunks_exact_mut(to.plane())) {
        for (place, pixel) in target.chunks_exact_mut(to.lanes).enumerate() {
            let rows = AdaptivePool::window(place / to.size.w, to.size.h, from.size.h);
            let columns = AdaptivePool::window(place % to.size.w, to.size.w, from.size.w);
            let elements = (rows.len() * columns.len()) as f32;
            pixel.fill(0.0);
            for row in rows {
                let row = &source[row * from.row()..][columns.start * from.lanes..columns.end * from.lanes];
                for x in row.chunks_exact(from.lanes) {
                    pixel.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
                }
            }
            pixel.iter_mut().for_each(|sum| *sum /= elements);
        }
    }
}

/// The random numbers of fractional max-pooling for each channel of an image: of its columns and of its rows. Channels without
/// numbers, as all are at inference, have the mean windows.
pub(crate) type Samples<'a> = &'a [[f32; 2]];

/// Calls `each` with the place of every output of fractional max-pooling in the target, and with the place of the largest element
/// of its window in the source. The first of equals is the largest.
fn largest(
    source: (&[f32], Image),
    (pool, samples): (FractionalPool, Samples<'_>),
    to: Image,
    mut each: impl FnMut(usize, usize),
) {
    let (source, from) = source;
    let [rows, columns] = pool.axes(from.size);
    for (number, plane) in source.chunks_exact(from.plane()).enumerate() {
        for place in 0..to.size.h * to.size.w * to.lanes {
            let (pixel, lane) = (place / to.lanes, place % to.lanes);
            let sample = |axis: usize| samples.get(number * from.lanes + lane).map(|sample| sample[axis]);
            let row = rows.start(pixel / to.size.w, sample(1));
            let column = columns.start(pixel % to.size.w, sample(0));
            let first = row * from.row() + column * from.lanes + lane;
            let at = |i: usize| first + i / pool.window.w * from.row() + i % pool.window.w * from.lanes;
            let most = (1..pool.window.h * pool.window.w)
                .map(at)
                .fold(first, |most, at| if plane[at] > plane[most] { at } else { most });
            each(number * to.plane() + place, number * from.plane() + most);
        }
    }
}

/// Fractional max-pooling.
pub(crate) fn fractional(
    source: (&[f32], Image),
    pool: (FractionalPool, Samples<'_>),
    target: (&mut [f32], Image),
) {
    let (target, to) = target;
    largest(source, pool, to, |place, most| target[place] = source.0[most]);
}

/// Adds the gradient of the output of [`fractional`] to that of the largest element of each window.
pub(crate) fn add_to_largest(
    source: (&[f32], Image),
    pool: (FractionalPool, Samples<'_>),
    gradient: (&[f32], Image),
    target: &mut [f32],
) {
    largest(source, pool, gradient.1, |place, most| target[most] += gradient.0[place]);
}

/// Adds the middle of the source to the image: the gradient of [`pad`].
pub(crate) fn add_middle(source: (&[f32], Image), pad: Pad2, target: (&mut [f32], Image)) {
    let ((source, from), (target, to)) = (source, target);
    let left = pad.left * from.lanes;
    for (source, target) in source.chunks_exact(from.plane()).zip(target.chunks_exact_mut(to.plane())) {
        let rows = source.chunks_exact(from.row()).skip(pad.top).zip(target.chunks_exact_mut(to.row()));
        for (source, target) in rows {
            target.iter_mut().zip(&source[left..]).for_each(|(sum, x)| *sum += x);
        }
    }
}

/// Adds each pixel of the source to every `stride`-th pixel of the image: the gradient of [`shortcut`].
pub(crate) fn add_strided(source: (&[f32], Image), stride: usize, target: (&mut [f32], Image)) {
    let ((source, from), (target, to)) = (source, target);
    for (source, target) in source.chunks_exact(from.plane()).zip(target.chunks_exact_mut(to.plane())) {
        let rows = source.chunks_exact(from.row()).zip(target.chunks_exact_mut(to.row()).step_by(stride));
        for (source, target) in rows {
            let pixels = target.chunks_exact_mut(to.lanes).step_by(stride);
            for (source, target) in source.chunks_exact(from.lanes).zip(pixels) {
                target.iter_mut().zip(source).for_each(|(sum, x)| *sum += x);
            }
        }
    }
}
