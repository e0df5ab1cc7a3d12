//! Reading an image at places between its elements: grid sampling and deformable convolution.

use super::product::Matrices;
use super::walk::strides;
use crate::layer::{Deform, GridSample, Interpolation, Outside, cubic};

/// Maximum elements from which one value is computed: four along each of three axes.
const MOST: usize = 4usize.pow(GridSample::MOST_AXES as u32);

/// Places beyond are as far outside as this one, so that indices are exact.
const BEYOND: f32 = 1e7;

/// Weighted elements, of which `len` are used.
struct Sources {
    list: [(usize, f32); MOST],
    len: usize,
}

impl Sources {
    fn new() -> Self {
        Self { list: [(0, 1.0); MOST], len: 1 }
    }

    /// Replaces each source by one for each of `taps`, the places and weights along one more axis.
    fn spread(&mut self, taps: &[(Option<usize>, f32)]) {
        let (old, mut len) = (self.list, 0);
        for &(start, factor) in &old[..self.len] {
            for &(place, weight) in taps {
                if let Some(place) = place {
                    self.list[len] = (start + place, factor * weight);
                    len += 1;
                }
            }
        }
        self.len = len;
    }

    fn value(&self, image: &[f32]) -> f32 {
        self.list[..self.len].iter().map(|&(place, weight)| image[place] * weight).sum()
    }
}

/// The extents of a sampled image.
#[derive(Debug)]
pub(super) struct Sampled {
    channels: usize,
    /// The extent of each axis of the image, and the distance between neighbours.
    axes: Vec<(usize, usize)>,
    places: usize,
}

impl Sampled {
    pub(super) fn new(input: &[usize], output: &[usize]) -> Self {
        let image = &input[2..];
        Self {
            channels: input[1],
            axes: image.iter().copied().zip(strides(image)).collect(),
            places: output[2..].iter().product(),
        }
    }

    fn pixels(&self) -> usize {
        self.axes.iter().map(|&(extent, _)| extent).product()
    }

    pub(super) fn run(&self, layer: GridSample, (input, grid): (&[f32], &[f32]), to: &mut [f32]) {
        let (pixels, rank) = (self.pixels(), self.axes.len());
        let images = input.chunks_exact(self.channels * pixels);
        let grids = grid.chunks_exact(self.places * rank);
        for ((image, grid), to) in images.zip(grids).zip(to.chunks_exact_mut(self.channels * self.places)) {
            for (number, place) in grid.chunks_exact(rank).enumerate() {
                let mut sources = Sources::new();
                // The numbers of a place begin with the last axis.
                for (&(extent, stride), &at) in self.axes.iter().zip(place.iter().rev()) {
                    let mut taps = layer.taps(at, extent);
                    taps.iter_mut().for_each(|(place, _)| *place = place.map(|place| place * stride));
                    sources.spread(&taps[..layer.how.reach()]);
                }
                for (image, to) in image.chunks_exact(pixels).zip(to.chunks_exact_mut(self.places)) {
                    to[number] = sources.value(image);
                }
            }
        }
    }
}

impl GridSample {
    /// The centres of the outermost elements, or their edges.
    fn limits(self, extent: usize) -> (f64, f64) {
        let last = extent as f64 - 1.0;
        if self.align_corners { (0.0, last) } else { (-0.5, last + 0.5) }
    }

    /// Elements of an axis, and their weights, for the value at a place from -1 to 1. The first [`Interpolation::reach`] count.
    fn taps(self, at: f32, extent: usize) -> [(Option<usize>, f32); 4] {
        let len = extent as f32;
        let x =
            if self.align_corners { (at + 1.0) / 2.0 * (len - 1.0) } else { ((at + 1.0) * len - 1.0) / 2.0 };
        let x = if self.how == Interpolation::Nearest { x.round_ties_even() } else { x };
        let x = if x.is_nan() { -BEYOND } else { x.clamp(-BEYOND, BEYOND) };
        let (lo, hi) = self.limits(extent);
        let is_inside = (lo..=hi).contains(&f64::from(x));
        let x = match self.outside {
            // A cubic sum moves its elements to the border, and not its place, as in PyTorch and ONNX Runtime.
            Outside::Border if !is_inside && self.how != Interpolation::Cubic => x.clamp(0.0, len - 1.0),
            Outside::Reflection if !is_inside => reflected(f64::from(x), (lo, hi)) as f32,
            _ => x,
        };
        let first = x.floor();
        let part = x - first;
        let place = |shift: i64| self.place(first as i64 + shift, extent);
        let none = (None, 0.0);
        match self.how {
            Interpolation::Nearest => [(place(0), 1.0), none, none, none],
            Interpolation::Linear => [(place(0), 1.0 - part), (place(1), part), none, none],
            Interpolation::Cubic => [-1, 0, 1, 2].map(|shift| {
                let distance = (f64::from(part) - shift as f64).abs();
                (place(shift), cubic(distance, -0.75) as f32)
            }),
        }
    }

    /// The element in the place of an index that can be outside.
    fn place(self, index: i64, extent: usize) -> Option<usize> {
        let last = extent as i64 - 1;
        if (0..=last).contains(&index) {
            return Some(index as usize);
        }
        match self.outside {
            Outside::Zeros => None,
            Outside::Border => Some(index.clamp(0, last) as usize),
            Outside::Reflection => {
                let index = reflected(index as f64, self.limits(extent)) as i64;
                Some(index.clamp(0, last) as usize)
            }
        }
    }
}

/// A number reflected at both limits until it is between them.
fn reflected(x: f64, (lo, hi): (f64, f64)) -> f64 {
    let period = 2.0 * (hi - lo);
    if period <= 0.0 {
        return lo;
    }
    let along = (x - lo).rem_euclid(period);
    lo + along.min(period - along)
}

/// The extents of a deformable convolution.
#[derive(Debug)]
pub(super) struct Displaced {
    channels: usize,
    out_channels: usize,
    input: [usize; 2],
    output: [usize; 2],
    taps: usize,
}

impl Displaced {
    pub(super) fn new(layer: &Deform, input: &[usize], output: &[usize]) -> Self {
        Self {
            channels: input[1],
            out_channels: output[1],
            input: [input[2], input[3]],
            output: [output[2], output[3]],
            taps: layer.windows.kernel.iter().product(),
        }
    }

    /// Elements of the columns: for each channel and tap, the sampled value of each output pixel.
    pub(super) fn columns(&self) -> usize {
        self.channels.saturating_mul(self.taps).saturating_mul(self.output[0].saturating_mul(self.output[1]))
    }

    /// Samples the columns of one image after another, and multiplies them by the filters.
    pub(super) fn run<'a>(
        &self,
        layer: &Deform,
        get: &dyn Fn(usize) -> &'a [f32],
        columns: &mut [f32],
        to: &mut [f32],
    ) {
        let (input, filter, bias) = (get(0), get(1), get(3));
        let pixels = self.output[0] * self.output[1];
        let (per_group, outputs) = (self.channels / layer.groups, self.out_channels / layer.groups);
        let inner = per_group * self.taps;
        let product = Matrices { rows: outputs, inner, columns: pixels, a: [inner, 1], b: [pixels, 1] };
        let images = input.chunks_exact(self.channels * self.input[0] * self.input[1]);
        for (n, (image, to)) in images.zip(to.chunks_exact_mut(self.out_channels * pixels)).enumerate() {
            self.sample(layer, image, (get, n), columns);
            let groups = filter.chunks_exact(outputs * inner).zip(columns.chunks_exact(inner * pixels));
            for ((filter, columns), to) in groups.zip(to.chunks_exact_mut(outputs * pixels)) {
                product.multiply(filter, columns, to);
            }
            for (to, &bias) in to.chunks_exact_mut(pixels).zip(bias.iter().cycle()) {
                to.iter_mut().for_each(|to| *to += bias);
            }
        }
    }

    /// Writes the columns of image `n`.
    fn sample<'a>(
        &self,
        layer: &Deform,
        image: &[f32],
        (get, n): (&dyn Fn(usize) -> &'a [f32], usize),
        columns: &mut [f32],
    ) {
        let [rows, width] = self.input;
        let Windows2 { stride, dilation, pad, kernel_width } = Windows2::of(layer);
        let (taps, out_width) = (self.taps, self.output[1]);
        let pixels = self.output[0] * out_width;
        let per_offset_group = self.channels / layer.offset_groups;
        let (offsets, mask) = (get(2), get(4));
        for group in 0..layer.offset_groups {
            let channels = group * per_offset_group..(group + 1) * per_offset_group;
            for tap in 0..taps {
                let number = (n * layer.offset_groups + group) * taps + tap;
                let (dy, dx) = offsets[2 * number * pixels..2 * (number + 1) * pixels].split_at(pixels);
                let tap_at = [tap / kernel_width * dilation[0], tap % kernel_width * dilation[1]];
                for pixel in 0..pixels {
                    // A mask that is absent is one number.
                    let factor = mask.get(number * pixels + pixel).or(mask.first()).copied().unwrap_or(1.0);
                    let window = [pixel / out_width * stride[0], pixel % out_width * stride[1]];
                    let at = |axis: usize, shift: f32| {
                        (window[axis] + tap_at[axis]) as f32 - pad[axis] as f32 + shift
                    };
                    let mut sources = Sources::new();
                    sources.spread(&between(at(0, dy[pixel]), (rows, width)));
                    sources.spread(&between(at(1, dx[pixel]), (width, 1)));
                    for channel in channels.clone() {
                        let image = &image[channel * rows * width..(channel + 1) * rows * width];
                        columns[(channel * taps + tap) * pixels + pixel] = factor * sources.value(image);
                    }
                }
            }
        }
    }
}

/// The windows of a deformable convolution along rows and columns.
struct Windows2 {
    stride: [usize; 2],
    dilation: [usize; 2],
    pad: [usize; 2],
    kernel_width: usize,
}

impl Windows2 {
    fn of(layer: &Deform) -> Self {
        let windows = &layer.windows;
        let two = |values: &[usize]| [values[0], values[1]];
        Self {
            stride: two(&windows.stride),
            dilation: two(&windows.dilation),
            pad: [windows.pad[0].0, windows.pad[1].0],
            kernel_width: windows.kernel[1],
        }
    }
}

/// The two elements around a place on an axis, which are 0 outside, and their weights.
fn between(x: f32, (extent, stride): (usize, usize)) -> [(Option<usize>, f32); 2] {
    let x = if x.is_nan() { -BEYOND } else { x.clamp(-BEYOND, BEYOND) };
    let first = x.floor();
    let part = x - first;
    let place = |shift: i64| usize::try_from(first as i64 + shift).ok().filter(|&place| place < extent);
    [(place(0).map(|place| place * stride), 1.0 - part), (place(1).map(|place| place * stride), part)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_reflected_until_it_is_inside() {
        for (x, limits, expected) in [
            (-1.0, (0.0, 3.0), 1.0),
            (4.0, (0.0, 3.0), 2.0),
            (7.0, (0.0, 3.0), 1.0),
            (-1.0, (-0.5, 2.5), 0.0),
            (3.0, (-0.5, 2.5), 2.0),
            (1.25, (0.0, 3.0), 1.25),
            (5.0, (0.0, 0.0), 0.0),
        ] {
            assert_eq!(reflected(x, limits), expected, "{x} in {limits:?}");
        }
    }

    #[test]
    fn places_that_are_no_numbers_are_outside() {
        let layer = GridSample { how: Interpolation::Cubic, outside: Outside::Zeros, align_corners: false };
        for at in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            assert!(layer.taps(at, 5).iter().all(|(place, _)| place.is_none()), "{at}");
            let border = GridSample { outside: Outside::Border, ..layer };
            assert!(border.taps(at, 5).iter().all(|(place, _)| place.is_some_and(|place| place < 5)), "{at}");
        }
    }
}
