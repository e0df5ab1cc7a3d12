//! Convolution, its transpose, and pooling over any number of axes, as plain loops.

use super::walk::strides;
use crate::error::LayerError;
use crate::layer::{ConvNd, PoolOp, Windows};
use crate::shape::TensorShape;

/// The row-major index of a flat number.
fn unravel(mut number: usize, dims: &[usize], index: &mut [usize]) {
    for (place, &dim) in index.iter_mut().zip(dims).rev() {
        *place = number % dim;
        number /= dim;
    }
}

/// Maximum number of axes of an image.
const AXES: usize = TensorShape::MAX_RANK;

/// The extents of a convolution or pooling.
#[derive(Debug)]
pub(super) struct Images {
    batch: usize,
    channels: usize,
    out_channels: usize,
    /// What windows lie on, and how many there are: the input and the output, or the other way round in a transposed
    /// convolution.
    image: Vec<usize>,
    grid: Vec<usize>,
    /// The distance between neighbours along each axis of the image.
    steps: Vec<usize>,
    is_transposed: bool,
}

impl Images {
    pub(super) fn new(input: &[usize], output: &[usize], is_transposed: bool) -> Self {
        let (on, of) = if is_transposed { (output, input) } else { (input, output) };
        let (image, grid) = (on[2..].to_vec(), of[2..].to_vec());
        let steps = strides(&image);
        Self {
            batch: input[0],
            channels: input[1],
            out_channels: output[1],
            image,
            grid,
            steps,
            is_transposed,
        }
    }

    /// The windows on an output whose elements are sums of windows.
    pub(super) fn grid(windows: &Windows, output: &[usize]) -> Result<Self, LayerError> {
        let grid = windows.outputs(&output[2..])?;
        Ok(Self::new(&[&output[..2], &grid].concat(), output, true))
    }

    /// Elements of a map of the input and of the output.
    fn sizes(&self) -> (usize, usize) {
        let (image, grid) = (self.image.iter().product(), self.grid.iter().product());
        if self.is_transposed { (grid, image) } else { (image, grid) }
    }

    /// Calls `visit` with the number of each tap and its place in the image, for the window at this index of the grid.
    fn taps(&self, windows: &Windows, window: &[usize], mut visit: impl FnMut(usize, usize)) {
        let mut tap = [0usize; AXES];
        let axes = self.image.len();
        'taps: for number in 0..windows.kernel.iter().product() {
            unravel(number, &windows.kernel, &mut tap[..axes]);
            let mut at = 0;
            for axis in 0..axes {
                match windows.place(axis, window[axis], tap[axis], self.image[axis]) {
                    Some(place) => at += place * self.steps[axis],
                    None => continue 'taps,
                }
            }
            visit(number, at);
        }
    }
}

/// A convolution, or a transposed one: there the windows lie on the output, and every input element is spread over one.
pub(super) fn conv(
    conv: &ConvNd,
    images: &Images,
    (input, filter, bias): (&[f32], &[f32], Option<&[f32]>),
    to: &mut [f32],
) {
    let Images { batch, channels, out_channels, is_transposed, .. } = *images;
    let ((inputs, outputs), count) = (images.sizes(), conv.windows.kernel.iter().product::<usize>());
    let (per_group, out_per_group) = (channels / conv.groups, out_channels / conv.groups);
    for (number, to) in to.chunks_exact_mut(outputs.max(1)).enumerate() {
        to.fill(bias.map_or(0.0, |bias| bias[number % out_channels]));
    }
    let mut index = [0usize; AXES];
    for window in 0..images.grid.iter().product() {
        unravel(window, &images.grid, &mut index[..images.grid.len()]);
        images.taps(&conv.windows, &index, |tap, place| {
            let (from, into) = if is_transposed { (window, place) } else { (place, window) };
            for number in 0..batch * out_channels {
                let (n, o) = (number / out_channels, number % out_channels);
                let start = o / out_per_group * per_group;
                let weight = |c: usize| match is_transposed {
                    true => filter[((start + c) * out_per_group + o % out_per_group) * count + tap],
                    false => filter[(o * per_group + c) * count + tap],
                };
                let product = |c| weight(c) * input[(n * channels + start + c) * inputs + from];
                to[number * outputs + into] += (0..per_group).map(product).sum::<f32>();
            }
        });
    }
}

/// The sum of windows at their places; elements in the padding are left out.
pub(super) fn overlap(windows: &Windows, images: &Images, input: &[f32], to: &mut [f32]) {
    let ((places, pixels), taps) = (images.sizes(), windows.kernel.iter().product::<usize>());
    to.fill(0.0);
    let mut index = [0usize; AXES];
    for window in 0..places {
        unravel(window, &images.grid, &mut index[..images.grid.len()]);
        images.taps(windows, &index, |tap, place| {
            for (number, to) in to.chunks_exact_mut(pixels).enumerate() {
                to[place] += input[(number * taps + tap) * places + window];
            }
        });
    }
}

pub(super) fn pool(kind: PoolOp, windows: &Windows, images: &Images, input: &[f32], to: &mut [f32]) {
    let (inputs, outputs) = images.sizes();
    let mut index = [0usize; AXES];
    let axes = images.image.len();
    for (number, to) in to.iter_mut().enumerate() {
        let (plane, pixel) = (number / outputs, number % outputs);
        unravel(pixel, &images.grid, &mut index[..axes]);
        let from = &input[plane * inputs..(plane + 1) * inputs];
        let (mut max, mut place, mut sum, mut count) = (f32::NEG_INFINITY, None, 0.0f64, 0usize);
        images.taps(windows, &index, |_, at| {
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
    let mut index = [0usize; AXES];
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
