//! Batch normalisation in training: with the statistics of the batch, and its gradient.

use super::channels::{BAND, bands, channels_alone, pieces};
use super::{NormGradients, Shared, Sources, finish, tile_of};
use crate::describe::{Activation, BLOCK, ConvError, Layout, PixelRef, TensorOut, TensorRef};
use crate::ops::norm::check_len;
use crate::ops::{Ops, check_layout};
use crate::run::elementwise::{elements, merges, split};
use crate::run::{Threads, check};
use crate::tile::copy_table::InputTile;
use crate::tile::grad::table::{GateLines, GradLines, SumLines, SumOf};
use crate::tile::layer_table::Lines;
use crate::tile::output::OutputRegion;
use std::ops::Range;

/// Parameters of batch normalisation in training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormSpec {
    /// Added to the variance; at least 0. Most networks use 1e-5.
    pub eps: f32,
    /// The part of the batch in the running averages, from 0 to 1: `average = (1 - momentum) * average + momentum * of the
    /// batch`. Most networks use 0.1.
    pub momentum: f32,
    /// The activation that follows, which costs nothing here: none, ReLU or a clip.
    pub activation: Activation,
}

/// The statistics of a batch, which [`Ops::batch_norm`] writes, and the averages that it updates. Each has one element per
/// channel.
#[derive(Debug)]
pub struct BatchStatistics<'a> {
    /// The mean, for the gradient.
    pub mean: &'a mut [f32],
    /// `1 / sqrt(variance + eps)` with the biased variance, for the gradient.
    pub inverse: &'a mut [f32],
    /// The running averages of the mean and of the unbiased variance, for inference.
    pub running: Option<(&'a mut [f32], &'a mut [f32])>,
}

/// Number of elements, mean, and sum of squared deviations from it.
#[derive(Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    /// The spread of all elements of both (Chan, Golub and LeVeque 1983, eq. 2.1).
    fn with(self, other: Self) -> Self {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + delta * other.count / count,
            squares: self.squares + other.squares + delta * delta * self.count * other.count / count,
        }
    }
}

impl BatchNormSpec {
    fn check(&self) -> Result<(), ConvError> {
        let Self { eps, momentum, activation } = *self;
        if !(eps.is_finite() && eps >= 0.0) {
            return Err(ConvError::field("norm.eps", "a finite number, at least 0", eps));
        }
        if !(0.0..=1.0).contains(&momentum) {
            return Err(ConvError::field("norm.momentum", "a number from 0 to 1", momentum));
        }
        activation.check()?;
        match activation {
            Activation::None | Activation::Relu | Activation::Clip { .. } => Ok(()),
            _ => Err(ConvError::field("norm.activation", "none, ReLU or a clip", activation.name())),
        }
    }

    /// The open interval of outputs through which the activation passes gradients; `None` without an activation.
    fn limits(&self) -> Option<[f32; 2]> {
        match self.activation {
            Activation::Relu => Some([0.0, f32::INFINITY]),
            Activation::Clip { lo, hi } => Some([lo, hi]),
            _ => None,
        }
    }
}

impl BatchStatistics<'_> {
    fn check(&self, channels: usize) -> Result<(), ConvError> {
        check_len("mean", Some(self.mean), channels)?;
        check_len("inverse", Some(self.inverse), channels)?;
        let (mean, variance) = self.running.as_ref().map(|(mean, variance)| (&**mean, &**variance)).unzip();
        check_len("running mean", mean, channels)?;
        check_len("running variance", variance, channels)
    }

    /// Writes the statistics of channel `c`.
    fn put(&mut self, c: usize, spread: &Spread, inverse: f64, momentum: f32) {
        self.mean[c] = spread.mean as f32;
        self.inverse[c] = inverse as f32;
        if let Some((mean, variance)) = &mut self.running {
            let momentum = f64::from(momentum);
            let update = |average: &mut f32, new: f64| {
                *average = (f64::from(*average) + momentum * (new - f64::from(*average))) as f32;
            };
            update(&mut mean[c], spread.mean);
            update(&mut variance[c], spread.squares / (spread.count - 1.0));
        }
    }
}

impl Ops {
    /// Batch normalisation in training (Ioffe and Szegedy 2015, algorithm 1): for each channel,
    /// `y = (x - mean) / sqrt(variance + eps) * scale[c] + shift[c]`, with mean and biased variance over images and pixels, and
    /// then the activation of `spec`.
    ///
    /// A missing `scale` means 1, a missing `shift` means 0. The padding lanes of Nchw16c are set to zero. Threads divide
    /// the channels. For inference, fold the running averages into a convolution, or into the scale and shift of
    /// [`affine`](Self::affine).
    ///
    /// ```
    /// use kernels::*;
    /// # fn main() -> Result<(), ConvError> {
    /// let (ops, shape) = (Ops::new(None)?, Shape4::new(2, 1, 1, 2));
    /// let spec = BatchNormSpec { eps: 0.0, momentum: 0.1, activation: Activation::None };
    /// let x = TensorRef::packed(&[1.0, 3.0, 1.0, 3.0], shape, Layout::Nchw)?;
    /// let (mut y, mut mean, mut inverse) = ([0.0; 4], [0.0], [0.0]);
    /// let statistics = BatchStatistics { mean: &mut mean, inverse: &mut inverse, running: None };
    /// let out = TensorMut::packed(&mut y, shape, Layout::Nchw)?;
    /// ops.batch_norm(spec, (Some(&[10.0]), Some(&[5.0])), x, out, statistics, Threads::Seq)?;
    /// assert_eq!((y, mean, inverse), ([-5.0, 15.0, -5.0, 15.0], [2.0], [1.0]));
    ///
    /// // The gradient of the sum of all outputs.
    /// let (mut dx, mut dscale, mut dshift) = ([1.0; 4], [0.0], [0.0]);
    /// let into = NormGradients {
    ///     input: TensorMut::packed(&mut dx, shape, Layout::Nchw)?.into(),
    ///     scale: Some(SliceGradient::Write(&mut dscale)),
    ///     shift: Some(SliceGradient::Write(&mut dshift)),
    /// };
    /// let g = TensorRef::packed(&[1.0; 4], shape, Layout::Nchw)?;
    /// ops.batch_norm_gradient(spec, (Some(&[10.0]), None), (&mean, &inverse), (x, g), into, Threads::Seq)?;
    /// assert_eq!((dx, dscale, dshift), ([0.0; 4], [0.0], [4.0]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] for `eps` or `momentum` out of range, for another activation, and for a single element
    ///   per channel, which has no unbiased variance.
    /// - [`ConvError::BufferLen`] unless scale, shift and statistics have one element per channel.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless the output has the shape and layout of the
    ///   input.
    ///
    /// On an error nothing is changed.
    pub fn batch_norm<'a>(
        &self,
        spec: BatchNormSpec,
        (scale, shift): (Option<&[f32]>, Option<&[f32]>),
        input: TensorRef<'_>,
        output: impl Into<TensorOut<'a>>,
        statistics: BatchStatistics<'_>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let output = output.into();
        let shape = input.shape();
        spec.check()?;
        check_len("scale", scale, shape.c)?;
        check_len("shift", shift, shape.c)?;
        statistics.check(shape.c)?;
        check_layout(input.layout())?;
        check("output", (shape, input.layout()), (output.shape(), output.layout()))?;
        if shape.n * shape.h * shape.w == 1 {
            return Err(ConvError::field("input", "more than one element per channel", shape));
        }
        let merge = merges(&input.view()) && merges(&output.view());
        let input = input.pixels().merged_if(merge);
        let statistics = Shared::new(statistics);
        let region = OutputRegion::of_all_images(output, merge);
        let split_units = channels_alone(&region);
        split(region, split_units, elements(shape).saturating_mul(6), threads, &|mut region| {
            for band in bands(region.layout(), &region.channels.clone()) {
                let spreads = self.spreads(&input, &band);
                let (mut centre, mut factor, mut added) = ([0.0; BAND], [0.0; BAND], [0.0; BAND]);
                for (i, c) in band.clone().enumerate() {
                    let Spread { count, mean, squares } = spreads[i];
                    let inverse = 1.0 / (squares / count + f64::from(spec.eps)).sqrt();
                    let line = scale.map_or(1.0, |scale| f64::from(scale[c])) * inverse;
                    centre[i] = mean as f32;
                    factor[i] = line as f32;
                    // `centre` is a rounded mean.
                    let rest = mean - f64::from(centre[i]);
                    added[i] = (shift.map_or(0.0, |shift| f64::from(shift[c])) - rest * line) as f32;
                    statistics.with(|statistics| statistics.put(c, &spreads[i], inverse, spec.momentum));
                }
                let lines = Lines {
                    centre: Some(&centre),
                    factor: &factor,
                    shift: Some(&added),
                    activation: spec.activation,
                };
                let per_row = region.layout() == Layout::Nchw;
                for n in region.images.clone() {
                    let source = InputTile::new(&input, n, band.start, 0);
                    let tile = tile_of(&mut region, n, band.clone());
                    self.kernels().ops.layers.normalize(source, lines, per_row, tile);
                }
            }
            region.zero_padding_lanes();
        });
        Ok(())
    }

    /// The gradient of [`batch_norm`](Self::batch_norm). With `z = (x - mean) * inverse` and means over images and pixels,
    /// `dx = scale * inverse * (g - mean(g) - z * mean(g * z))`, `dscale = sum(g * z)` and `dshift = sum(g)`.
    ///
    /// `(mean, inverse)` are the statistics that the forward pass wrote. `(input, gradient)` are its input and the gradient
    /// of its output. With an activation, `g` is zero where the activation is flat: it is computed from the input again, so
    /// the output is not needed. Threads divide the channels.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] as in `batch_norm`.
    /// - [`ConvError::BufferLen`] unless scale, shift, statistics and gradients have one element per channel.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless all tensors have one shape and layout.
    ///
    /// On an error the gradients are unchanged.
    pub fn batch_norm_gradient(
        &self,
        spec: BatchNormSpec,
        (scale, shift): (Option<&[f32]>, Option<&[f32]>),
        (mean, inverse): (&[f32], &[f32]),
        (input, gradient): (TensorRef<'_>, TensorRef<'_>),
        into: NormGradients<'_>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let shape = input.shape();
        spec.check()?;
        check_len("scale", scale, shape.c)?;
        check_len("shift", shift, shape.c)?;
        check_len("mean", Some(mean), shape.c)?;
        check_len("inverse", Some(inverse), shape.c)?;
        into.check(shape.c)?;
        let NormGradients { input: dx, scale: dscale, shift: dshift } = into;
        let (sources, merge) = Sources::new(gradient, input, &dx)?;
        let add = dx.adds();
        let count = shape.n as f64 * shape.h as f64 * shape.w as f64;
        let params = Shared::new((dscale, dshift));
        let region = OutputRegion::of_all_images(dx.into_tensor(), merge);
        let split_units = channels_alone(&region);
        split(region, split_units, elements(shape).saturating_mul(6), threads, &|mut region| {
            for band in bands(region.layout(), &region.channels.clone()) {
                let (centre, mut factor) = (&mean[band.clone()], [0.0; BAND]);
                let line = |c: usize| scale.map_or(1.0, |scale| f64::from(scale[c])) * f64::from(inverse[c]);
                factor.iter_mut().zip(band.clone()).for_each(|(factor, c)| *factor = line(c) as f32);
                // The numbers of the forward pass.
                let shift = shift.map_or(&[0.0; BAND][..], |shift| &shift[band.clone()]);
                let gate = spec.limits().map(|limits| GateLines { factor: &factor, shift, limits });
                let sums = self.band_sums(SumOf::Products, &sources, &band, SumLines { centre, gate });
                let (mut slope, mut added) = ([0.0; BAND], [0.0; BAND]);
                let mut found = [[0.0; BAND]; 2];
                for (i, c) in band.clone().enumerate() {
                    let (inverse, line) = (f64::from(inverse[c]), line(c));
                    slope[i] = (-line * inverse * inverse * sums[1][i] / count) as f32;
                    added[i] = (-line * sums[0][i] / count) as f32;
                    [found[0][i], found[1][i]] = [(sums[1][i] * inverse) as f32, sums[0][i] as f32];
                }
                params.with(|(dscale, dshift)| {
                    for (into, found) in [dscale, dshift].into_iter().zip(&found) {
                        if let Some(into) = into {
                            into.put(band.start, &found[..band.len()]);
                        }
                    }
                });
                let lines = GradLines { centre, factor: &factor, slope: &slope, shift: &added };
                let per_row = region.layout() == Layout::Nchw;
                for n in region.images.clone() {
                    let out = tile_of(&mut region, n, band.clone());
                    let tiles = sources.tiles(out, add, (n, band.start, 0));
                    self.kernels().grad.affine(lines, gate, per_row, tiles);
                }
            }
            finish(&mut region, add);
        });
        Ok(())
    }

    /// The spread of each channel of `band` over all images and pixels.
    fn spreads(&self, input: &PixelRef<'_>, band: &Range<usize>) -> [Spread; BAND] {
        let mut spreads = [Spread::default(); BAND];
        pieces(&input.view, band, |n, pixels, run| {
            let count = pixels.len() as f64;
            let [sums, _] = self.piece_sums(input, n, &run, &pixels, None);
            let centre = sums.map(|sum| sum / pixels.len() as f32);
            let [rests, squares] = self.piece_sums(input, n, &run, &pixels, Some(&centre));
            for (i, spread) in spreads[run.start - band.start..].iter_mut().take(run.len()).enumerate() {
                let rest = f64::from(rests[i]) / count;
                let squares = (f64::from(squares[i]) - rest * rest * count).max(0.0);
                *spread = spread.with(Spread { count, mean: f64::from(centre[i]) + rest, squares });
            }
        });
        spreads
    }

    /// Sums of the deviations from `centre` and of their squares, for some pixels of an image.
    fn piece_sums(
        &self,
        input: &PixelRef<'_>,
        n: usize,
        channels: &Range<usize>,
        pixels: &Range<usize>,
        centre: Option<&[f32; BLOCK]>,
    ) -> [[f32; BLOCK]; 2] {
        let (view, layers) = (&input.view, &self.kernels().ops.layers);
        if view.layout != Layout::Nchw {
            let mut centre = centre.copied();
            if let Some(centre) = &mut centre {
                centre[channels.len()..].fill(0.0);
            }
            let source = InputTile::new(input, n, channels.start, pixels.start);
            let sums = layers.column_moments(source, pixels.len(), channels.len(), centre);
            return [sums.plain, sums.squares];
        }
        let mut sums = [[0.0; BLOCK]; 2];
        for (i, c) in channels.clone().enumerate() {
            let run = &input.data[view.offset(n, c, pixels.start)..][..pixels.len()];
            (sums[0][i], sums[1][i]) = layers.run_moments(run, centre.map(|centre| centre[i]));
        }
        sums
    }
}
