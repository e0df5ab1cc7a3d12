//! Normalisation: batch norm at inference, and group norm, which includes layer norm and instance norm.

use super::{Ops, elements, elementwise_split_units, merges, split, tiles};
use crate::describe::{Activation, BLOCK, ConvError, Layout, PixelRef, TensorMut, TensorOut, TensorRef};
use crate::run::elementwise::cost;
use crate::run::{Threads, check};
use crate::tile::copy_table::InputTile;
use crate::tile::layer_table::Lines;
use crate::tile::output::OutputRegion;
use crate::work::parts::SplitUnits;
use std::ops::Range;

/// Parameters of group normalisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormSpec {
    /// Number of channel groups: 1 is layer norm over channels and pixels; the number of channels is instance
    /// norm.
    pub groups: usize,
    /// Added to the variance; at least 0. Most networks use 1e-5.
    pub eps: f32,
}

impl NormSpec {
    /// Checks the parameters, and returns the number of channels per group.
    pub(crate) fn check(&self, channels: usize) -> Result<usize, ConvError> {
        let Self { groups, eps } = *self;
        if groups == 0 || !channels.is_multiple_of(groups) {
            let expected = format!("a divisor of the {channels} channels");
            return Err(ConvError::field("norm.groups", expected, groups));
        }
        if !(eps.is_finite() && eps >= 0.0) {
            return Err(ConvError::field("norm.eps", "a finite number, at least 0", eps));
        }
        Ok(channels / groups)
    }
}

/// A checked problem.
pub(crate) struct Norm<'a> {
    pub(crate) input: PixelRef<'a>,
    /// Channels per group.
    pub(crate) size: usize,
    pub(crate) eps: f64,
    pub(crate) scale: Option<&'a [f32]>,
    pub(crate) shift: Option<&'a [f32]>,
}

/// Mean and deviation of up to 16 groups, one per array element.
pub(crate) struct Moments {
    /// The mean rounded to `f32`. It is subtracted before squaring.
    pub(crate) centre: [f32; BLOCK],
    /// The mean of the deviations from `centre`.
    pub(crate) rest: [f64; BLOCK],
    /// `1 / sqrt(variance + eps)`.
    pub(crate) inverse: [f64; BLOCK],
}

/// Checks that `numbers`, if given, has one element per channel.
pub(crate) fn check_len(
    what: &'static str,
    numbers: Option<&[f32]>,
    channels: usize,
) -> Result<(), ConvError> {
    match numbers.map_or(channels, <[f32]>::len) {
        got if got == channels => Ok(()),
        got => Err(ConvError::BufferLen { what, expected: channels, got }),
    }
}

impl Ops {
    /// Computes `x = x * scale[c] + shift[c]` in place: batch normalisation at inference (Ioffe and Szegedy
    /// 2015, algorithm 2), with `scale = gamma / sqrt(variance + eps)` and `shift = beta - mean * scale`.
    ///
    /// If it follows a convolution, fold it into the weights and the bias instead. The padding lanes of
    /// Nchw16c keep their values.
    ///
    /// # Errors
    /// [`ConvError::BufferLen`] unless `scale` and `shift` have one element per channel. The tensor is
    /// unchanged then.
    pub fn scale_shift(
        &self,
        scale: &[f32],
        shift: &[f32],
        tensor: TensorMut<'_>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let channels = tensor.shape().c;
        check_len("scale", Some(scale), channels)?;
        check_len("shift", Some(shift), channels)?;
        super::check_layout(tensor.layout())?;
        let work = elements(tensor.shape()).saturating_mul(2);
        let merge = merges(&tensor.view());
        let region = OutputRegion::new(tensor, merge);
        let split_units = elementwise_split_units(region.layout());
        split(region, split_units, work, threads, &|mut region| {
            tiles(&mut region, usize::MAX, |tile, at| {
                let (factor, shift) = (&scale[at.channels.clone()], &shift[at.channels]);
                let lines = Lines { shift: Some(shift), ..Lines::of_factor(factor) };
                self.kernels.ops.layers.normalize_in_place(lines, at.per_row, tile);
            });
        });
        Ok(())
    }

    /// Computes `output = activation(input * scale[c] + shift[c])` in one pass: batch normalisation that no convolution
    /// can absorb because other layers read its input too, as in dense blocks (Huang et al. 2017, section 3).
    ///
    /// `scale` and `shift` are as in [`scale_shift`](Self::scale_shift). The padding lanes of Nchw16c are set to zero.
    ///
    /// # Errors
    /// - [`ConvError::BufferLen`] unless `scale` and `shift` have one element per channel.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless the output has the shape and layout of
    ///   the input.
    /// - [`ConvError::InvalidField`] for PReLU, which has no slopes here, and for invalid activation parameters.
    ///
    /// On an error the output is unchanged.
    pub fn affine<'a>(
        &self,
        (scale, shift): (&[f32], &[f32]),
        activation: Activation,
        input: TensorRef<'_>,
        output: impl Into<TensorOut<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let output = output.into();
        super::check_without_slopes(activation)?;
        super::check_layout(input.layout())?;
        check_len("scale", Some(scale), input.shape().c)?;
        check_len("shift", Some(shift), input.shape().c)?;
        check("output", (input.shape(), input.layout()), (output.shape(), output.layout()))?;
        let work = elements(input.shape()).saturating_mul(2 + cost(activation));
        let merge = merges(&input.view()) && merges(&output.view());
        let input = input.pixels().merged_if(merge);
        let region = OutputRegion::new(output, merge);
        let split_units = elementwise_split_units(region.layout());
        split(region, split_units, work, threads, &|mut region| {
            tiles(&mut region, usize::MAX, |tile, at| {
                let source = InputTile::new(&input, at.n, at.channels.start, at.p);
                let (factor, shift) = (&scale[at.channels.clone()], Some(&shift[at.channels]));
                let lines = Lines { centre: None, factor, shift, activation };
                self.kernels.ops.layers.normalize(source, lines, at.per_row, tile);
            });
            region.zero_padding_lanes();
        });
        Ok(())
    }

    /// Group normalisation (Wu and He 2018, section 3). Within each image and group of adjacent channels,
    /// `y = (x - mean) / sqrt(variance + eps) * scale[c] + shift[c]`, with the biased variance.
    ///
    /// A missing `scale` means 1, a missing `shift` means 0. The padding lanes of Nchw16c are set to zero.
    ///
    /// The mean is computed first, and the squared deviations from it in a second pass, so a mean that is
    /// large compared with the deviations does not cost accuracy. Threads divide images and groups; one
    /// thread computes all of one group of one image.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] unless `groups` divides the channels, and for `eps` that is negative or
    ///   not finite.
    /// - [`ConvError::BufferLen`] unless `scale` and `shift` have one element per channel.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless the output has the shape and
    ///   layout of the input.
    ///
    /// On an error the output is unchanged.
    pub fn normalize<'a>(
        &self,
        spec: NormSpec,
        scale: Option<&[f32]>,
        shift: Option<&[f32]>,
        input: TensorRef<'_>,
        output: impl Into<TensorOut<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let output = output.into();
        let shape = input.shape();
        let size = spec.check(shape.c)?;
        check_len("scale", scale, shape.c)?;
        check_len("shift", shift, shape.c)?;
        super::check_layout(input.layout())?;
        check("output", (shape, input.layout()), (output.shape(), output.layout()))?;
        let norm = Norm { input: input.pixels(), size, eps: f64::from(spec.eps), scale, shift };
        let work = elements(shape).saturating_mul(6);
        let region = OutputRegion::new(output, false);
        let split_units = SplitUnits::new(region.pixels.end, size);
        split(region, split_units, work, threads, &|mut region| {
            // As many whole groups at once as the arrays of `BLOCK` elements can hold.
            let step = (BLOCK / size).max(1) * size;
            let Range { start, end } = region.channels.clone();
            for n in region.images.clone() {
                for c in (start..end).step_by(step) {
                    self.normalize_groups(&norm, n, c..end.min(c + step), &mut region);
                }
            }
            region.zero_padding_lanes();
        });
        Ok(())
    }

    /// Normalizes the groups of `channels` of image `n`, at most 16 groups.
    fn normalize_groups(
        &self,
        norm: &Norm<'_>,
        n: usize,
        channels: Range<usize>,
        region: &mut OutputRegion<'_>,
    ) {
        let moments = self.moments(norm, n, channels.clone());
        let per_row = region.layout() == Layout::Nchw;
        for part in runs(&channels) {
            let (mut centre, mut factor, mut shift) = ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
            for (i, c) in part.clone().enumerate() {
                let group = (c - channels.start) / norm.size;
                let scale = norm.scale.map_or(1.0, |scale| f64::from(scale[c])) * moments.inverse[group];
                centre[i] = moments.centre[group];
                factor[i] = scale as f32;
                let shifted = norm.shift.map_or(0.0, |shift| f64::from(shift[c]));
                shift[i] = (shifted - moments.rest[group] * scale) as f32;
            }
            let lines = Lines {
                centre: Some(&centre),
                factor: &factor,
                shift: Some(&shift),
                activation: Activation::None,
            };
            let pixels = region.pixels.clone();
            let source = InputTile::new(&norm.input, n, part.start, 0);
            let tile = if per_row {
                region.channels_as_rows(n, part, pixels)
            } else {
                region.channels_as_columns(n, pixels, part.start, 0..part.len())
            };
            self.kernels.ops.layers.normalize(source, lines, per_row, tile);
        }
    }

    /// The corrected two-pass algorithm (Chan, Golub and LeVeque 1983, eq. 1.7): the second pass also
    /// averages the deviations from the rounded mean, and subtracts that error from both results.
    pub(crate) fn moments(&self, norm: &Norm<'_>, n: usize, channels: Range<usize>) -> Moments {
        let count = norm.size as f64 * norm.input.view.pixels as f64;
        let [means, _] = self.group_sums(norm, n, &channels, None);
        let centre = means.map(|sum| (sum / count) as f32);
        let [rests, squares] = self.group_sums(norm, n, &channels, Some(&centre));
        let rest = rests.map(|sum| sum / count);
        let variance = |group: usize| (squares[group] / count - rest[group] * rest[group]).max(0.0);
        let inverse = std::array::from_fn(|group| 1.0 / (variance(group) + norm.eps).sqrt());
        Moments { centre, rest, inverse }
    }

    /// Sums of the deviations from `centre` and of their squares, for each group of `channels`.
    fn group_sums(
        &self,
        norm: &Norm<'_>,
        n: usize,
        channels: &Range<usize>,
        centre: Option<&[f32; BLOCK]>,
    ) -> [[f64; BLOCK]; 2] {
        let (view, layers) = (&norm.input.view, &self.kernels.ops.layers);
        let (mut plain, mut squares) = ([0.0; BLOCK], [0.0; BLOCK]);
        if view.layout == Layout::Nchw {
            // A group is contiguous.
            for (group, c) in channels.clone().step_by(norm.size).enumerate() {
                let run = &norm.input.data[view.offset(n, c, 0)..][..norm.size * view.pixels];
                let sums = layers.run_moments(run, centre.map(|centre| centre[group]));
                (plain[group], squares[group]) = (f64::from(sums.0), f64::from(sums.1));
            }
            return [plain, squares];
        }
        for part in runs(channels) {
            let group = |i: usize| (part.start + i - channels.start) / norm.size;
            let centre = centre
                .map(|centre| std::array::from_fn(|i| if i < part.len() { centre[group(i)] } else { 0.0 }));
            let source = InputTile::new(&norm.input, n, part.start, 0);
            let sums = layers.column_moments(source, view.pixels, part.len(), centre);
            for i in 0..part.len() {
                plain[group(i)] += f64::from(sums.plain[i]);
                squares[group(i)] += f64::from(sums.squares[i]);
            }
        }
        [plain, squares]
    }
}

/// Splits `channels` at block boundaries. The channels of a run are adjacent in every channels-last layout.
pub(crate) fn runs(channels: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let Range { mut start, end } = *channels;
    std::iter::from_fn(move || {
        let run = start..end.min((start / BLOCK + 1) * BLOCK);
        start = run.end;
        (!run.is_empty()).then_some(run)
    })
}
