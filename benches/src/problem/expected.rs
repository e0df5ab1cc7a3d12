//! The definition of a layer in each direction, in `f64`. It shares no code with the library that it checks.

use super::Problem;
use crate::direction::Direction;
use crate::layers::LayerSpec;
use kernels::Size2;

impl Problem {
    /// Element `index` of the result by the definition.
    pub(super) fn expected(&self, index: usize) -> f64 {
        let [_, c, h, w] = self.result_shape();
        let (row, x) = (index / w, index % w);
        let (channel, y) = (row / h, row % h);
        let at = [channel / c, channel % c, y, x];
        match self.direction {
            Direction::Forward => self.of_output(at),
            Direction::Data | Direction::Transposed => self.of_input(at),
            Direction::Weights => match index.checked_sub(self.desc.filter_len()) {
                None => self.of_filter(at),
                Some(channel) => self.of_bias(channel),
            },
        }
    }

    /// An output at image, channel, row and column.
    fn of_output(&self, [image, channel, y, x]: [usize; 4]) -> f64 {
        let LayerSpec { c, h, w, o, kh, kw, stride, pad, dilation, groups, .. } = self.spec;
        let channels = c / groups;
        let first = image * c + channel / (o / groups) * channels;
        let mut sum = self.bias.get(channel).map_or(0.0, |&bias| f64::from(bias));
        for from in 0..channels {
            for ky in 0..kh {
                let Some(row) = inside(y * stride + ky * dilation, pad, h) else { continue };
                let pixels = &self.input[((first + from) * h + row) * w..][..w];
                let weights = &self.filter[((channel * channels + from) * kh + ky) * kw..][..kw];
                for (kx, &weight) in weights.iter().enumerate() {
                    if let Some(column) = inside(x * stride + kx * dilation, pad, w) {
                        sum += f64::from(pixels[column]) * f64::from(weight);
                    }
                }
            }
        }
        self.desc.epilogue().activation.eval(sum, 0.0)
    }

    /// The gradient of an input, or an output of the transposed convolution: the sum over all outputs that read it.
    fn of_input(&self, [image, channel, y, x]: [usize; 4]) -> f64 {
        let LayerSpec { c, o, kh, kw, stride, pad, dilation, groups, .. } = self.spec;
        let Size2 { h, w } = self.desc.output().size();
        let (ins, outs) = (c / groups, o / groups);
        let (group, within) = (channel / ins, channel % ins);
        // The output that reads row or column `at` with tap `tap`.
        let reader = |at: usize, tap: usize, len: usize| {
            let ahead = (at + pad).checked_sub(tap * dilation).filter(|ahead| ahead % stride == 0)?;
            Some(ahead / stride).filter(|&reader| reader < len)
        };
        let mut sum = 0.0;
        for out in group * outs..(group + 1) * outs {
            for (ky, row) in (0..kh).filter_map(|ky| Some((ky, reader(y, ky, h)?))) {
                let pixels = &self.output[((image * o + out) * h + row) * w..][..w];
                let weights = &self.filter[((out * ins + within) * kh + ky) * kw..][..kw];
                for (kx, &weight) in weights.iter().enumerate() {
                    if let Some(column) = reader(x, kx, w) {
                        sum += f64::from(pixels[column]) * f64::from(weight);
                    }
                }
            }
        }
        sum
    }

    /// The gradient of a weight: the sum over all outputs.
    fn of_filter(&self, [out, within, ky, kx]: [usize; 4]) -> f64 {
        let LayerSpec { n, c, h, w, o, stride, pad, dilation, groups, .. } = self.spec;
        let channel = out / (o / groups) * (c / groups) + within;
        let size = self.desc.output().size();
        let mut sum = 0.0;
        for (image, y) in (0..n).flat_map(|image| (0..size.h).map(move |y| (image, y))) {
            let Some(row) = inside(y * stride + ky * dilation, pad, h) else { continue };
            let pixels = &self.input[((image * c + channel) * h + row) * w..][..w];
            let gradients = &self.output[((image * o + out) * size.h + y) * size.w..][..size.w];
            for (x, &gradient) in gradients.iter().enumerate() {
                if let Some(column) = inside(x * stride + kx * dilation, pad, w) {
                    sum += f64::from(pixels[column]) * f64::from(gradient);
                }
            }
        }
        sum
    }

    /// The gradient of a bias.
    fn of_bias(&self, channel: usize) -> f64 {
        let Size2 { h, w } = self.desc.output().size();
        let maps = self.output.chunks_exact(h * w).skip(channel).step_by(self.spec.o);
        maps.flatten().map(|&gradient| f64::from(gradient)).sum()
    }
}

/// The position without padding on an axis of `len` elements, or `None` inside the padding.
fn inside(padded: usize, pad: usize, len: usize) -> Option<usize> {
    padded.checked_sub(pad).filter(|&position| position < len)
}
