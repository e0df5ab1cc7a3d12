//! Convolution, its transpose, and pooling over any number of axes, as plain loops.

use super::walk::strides;
use crate::layer::{ConvNd, PoolOp, Windows};

/// The row-major index of a flat number.
fn unravel(mut number: usize, dims: &[usize], index: &mut [usize]) {
    for (place, &dim) in index.iter_mut().zip(dims).rev() {
        *place = number % dim;
        number /= dim;
    }
}

/// The extents of a convolution or pooling.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) image: Vec<usize>,
    pub(super) out_channels: usize,
    pub(super) output: Vec<usize>,
}

impl Images {
    pub(super) fn new(input: &[usize], output: &[usize]) -> Self {
        Self {
            batch: input[0],
            channels: input[1],
            image: input[2..].to_vec(),
            out_channels: output[1],
            output: output[2..].to_vec(),
        }
    }

    fn sizes(&self) -> (usize, usize) {
        (self.image.iter().product(), self.output.iter().product())
    }
}

/// Calls `visit` with the number of each tap and the place that it reads, for the window at `output`.
fn taps(windows: &Windows, image: &[usize], output: &[usize], mut visit: impl FnMut(usize, usize)) {
    let steps = strides(image);
    let mut tap = [0usize; 8];
    let axes = image.len();
    'taps: for number in 0..windows.kernel.iter().product() {
        unravel(number, &windows.kernel, &mut tap[..axes]);
        let mut at = 0;
        for axis in 0..axes {
            match windows.place(axis, output[axis], tap[axis], image[axis]) {
                Some(place) => at += place * steps[axis],
                None => continue 'taps,
            }
        }
        visit(number, at);
    }
}

pub(super) fn conv(
    conv: &ConvNd,
    images: &Images,
    (input, filter, bias): (&[f32], &[f32], Option<&[f32]>),
    to: &mut [f32],
) {
    let ((inputs, outputs), count) = (images.sizes(), conv.windows.kernel.iter().product::<usize>());
    let (per_group, out_per_group) = (images.channels / conv.groups, images.out_channels / conv.groups);
    fill(images, outputs, bias, to);
    let mut index = [0usize; 8];
    for pixel in 0..outputs {
        unravel(pixel, &images.output, &mut index[..images.image.len()]);
        taps(&conv.windows, &images.image, &index, |tap, at| {
            for number in 0..images.batch * images.out_channels {
                let (n, o) = (number / images.out_channels, number % images.out_channels);
                let first = n * images.channels + o / out_per_group * per_group;
                let products = (0..per_group)
                    .map(|c| filter[(o * per_group + c) * count + tap] * input[(first + c) * inputs + at]);
                to[number * outputs + pixel] += products.sum::<f32>();
            }
        });
    }
}

/// Writes the bias of each output map, or zeros.
fn fill(images: &Images, outputs: usize, bias: Option<&[f32]>, to: &mut [f32]) {
    for (number, to) in to.chunks_exact_mut(outputs.max(1)).enumerate() {
        to.fill(bias.map_or(0.0, |bias| bias[number % images.out_channels]));
    }
}

/// The windows lie on the output: every input element is spread over one.
pub(super) fn transposed(
    conv: &ConvNd,
    images: &Images,
    (input, filter, bias): (&[f32], &[f32], Option<&[f32]>),
    to: &mut [f32],
) {
    let ((inputs, outputs), count) = (images.sizes(), conv.windows.kernel.iter().product::<usize>());
    let (per_group, out_per_group) = (images.channels / conv.groups, images.out_channels / conv.groups);
    fill(images, outputs, bias, to);
    let mut index = [0usize; 8];
    for pixel in 0..inputs {
        unravel(pixel, &images.image, &mut index[..images.image.len()]);
        taps(&conv.windows, &images.output, &index, |tap, at| {
            for n in 0..images.batch {
                for c in 0..images.channels {
                    let x = input[(n * images.channels + c) * inputs + pixel];
                    for o in 0..out_per_group {
                        let channel = n * images.out_channels + c / per_group * out_per_group + o;
                        to[channel * outputs + at] += x * filter[(c * out_per_group + o) * count + tap];
                    }
                }
            }
        });
    }
}

pub(super) fn pool(kind: PoolOp, windows: &Windows, images: &Images, input: &[f32], to: &mut [f32]) {
    let (inputs, outputs) = images.sizes();
    let mut index = [0usize; 8];
    let axes = images.image.len();
    for (number, to) in to.iter_mut().enumerate() {
        let (plane, pixel) = (number / outputs, number % outputs);
        unravel(pixel, &images.output, &mut index[..axes]);
        let from = &input[plane * inputs..(plane + 1) * inputs];
        let (mut max, mut place, mut sum, mut count) = (f32::NEG_INFINITY, None, 0.0f64, 0usize);
        taps(windows, &images.image, &index, |_, at| {
            let x = from[at];
            if place.is_none() || x > max || x.is_nan() {
                (max, place) = (x, Some(at));
            }
            sum += match kind {
                PoolOp::Lp(p) => f64::from(x.abs()).powf(f64::from(p)),
                _ => f64::from(x),
            };
            count += 1;
        });
        *to = match kind {
            PoolOp::Max => max,
            PoolOp::MaxPlace { column_major } => {
                let at = place.unwrap_or(0);
                let at = if column_major { column_major_place(at, &images.image) } else { at };
                (plane * inputs + at) as f32
            }
            PoolOp::Average { count_include_pad: false } => (sum / count.max(1) as f64) as f32,
            PoolOp::Average { .. } => (sum / padded_count(windows, &images.image, &index) as f64) as f32,
            PoolOp::Lp(p) => sum.powf(1.0 / f64::from(p)) as f32,
        };
    }
}

/// The place in column-major order of the element at a row-major place.
fn column_major_place(at: usize, image: &[usize]) -> usize {
    let mut index = [0usize; 8];
    unravel(at, image, &mut index[..image.len()]);
    index.iter().zip(image).rev().fold(0, |sum, (&place, &dim)| sum * dim + place)
}

/// The elements of a window in the input and its padding, without those beyond that a rounded-up extent adds.
fn padded_count(windows: &Windows, image: &[usize], output: &[usize]) -> usize {
    let on_axis = |axis: usize| {
        let end = image[axis] + windows.pad[axis].0 + windows.pad[axis].1;
        let inside = |tap: &usize| output[axis] * windows.stride[axis] + tap * windows.dilation[axis] < end;
        (0..windows.kernel[axis]).filter(inside).count()
    };
    (0..image.len()).map(on_axis).product::<usize>().max(1)
}
