//! Gradient of local response normalisation.

use super::{Gradient, Sources, finish};
use crate::describe::{Activation, BLOCK, ConvError, Layout, PixelRef, PixelView, Shape4, TensorRef};
use crate::memory::{WorkspaceReq, check_workspace};
use crate::ops::{LrnSpec, Ops};
use crate::run::Threads;
use crate::run::elementwise::{WORTH_A_THREAD, elements};
use crate::run::threads::Split;
use crate::tile::copy_table::InputTile;
use crate::tile::layer_table::Response;
use crate::tile::lrn::Power;
use crate::tile::output::OutputRegion;
use crate::work::parts::SplitUnits;
use std::ops::Range;

/// Pixels of NCHW that are computed together. In the other layouts it is one pixel.
const LANES: usize = BLOCK;

/// Arrays in the slab of a thread: values, gradients, powers and sums.
const ARRAYS: usize = 4;

/// All channels of some pixels, `[channel][lane]`. A window is a range of rows, so it is summed as shifted arrays.
struct Columns<'a> {
    lanes: usize,
    x: &'a mut [f32],
    g: &'a mut [f32],
    power: &'a mut [f32],
    sum: &'a mut [f32],
}

impl Ops {
    /// The workspace that [`lrn_gradient`](Self::lrn_gradient) needs for a tensor of this shape and `threads` threads.
    pub fn lrn_gradient_workspace(input: Shape4, threads: usize) -> WorkspaceReq {
        WorkspaceReq::new(input.c.saturating_mul(ARRAYS * LANES), threads.max(1))
    }

    /// The gradient of [`lrn`](Self::lrn). With `d[i] = k + alpha / size * sum of x[j]^2` over the window of channel `i`,
    ///
    /// ```text
    /// dx[i] = g[i] d[i]^-beta - 2 alpha beta / size * x[i] * sum of g[j] x[j] d[j]^(-beta - 1)
    /// ```
    ///
    /// where the sum is over the channels `j` whose windows contain `i`. `(input, gradient)` are the input of the layer and
    /// the gradient of its output. Threads divide images and pixels.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] as in `lrn`.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless all tensors have one shape and layout.
    /// - [`ConvError::WorkspaceTooSmall`] if the workspace is too small for one thread. If it is too small for all
    ///   threads, fewer take part.
    ///
    /// On an error `dx` is unchanged.
    pub fn lrn_gradient<'a>(
        &self,
        spec: LrnSpec,
        (input, gradient): (TensorRef<'_>, TensorRef<'_>),
        dx: impl Into<Gradient<'a>>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let dx = dx.into();
        let response = spec.check()?;
        let (sources, merge) = Sources::new(gradient, input, &dx)?;
        let (scratch, slab_len) = (scratch.as_mut(), Self::lrn_gradient_workspace(input.shape(), 1).len());
        check_workspace(scratch, slab_len)?;
        let add = dx.adds();
        let region = OutputRegion::new(dx.into_tensor(), merge);
        let lanes = if region.layout() == Layout::Nchw { LANES } else { 1 };
        let per_element = 32 + 4 * spec.size.min(input.shape().c) as u64;
        let worth = elements(input.shape()).saturating_mul(per_element) / WORTH_A_THREAD;
        let parts = threads.count().min(usize::try_from(worth).unwrap_or(usize::MAX).max(1));
        let split = Split {
            parts: parts.min(scratch.len() / slab_len),
            split_units: SplitUnits::new(lanes, region.channels.end),
            slab_len,
        };
        split.run(threads, region, scratch, &|mut region, slab| {
            let pixels = region.pixels.clone();
            for n in region.images.clone() {
                for p in pixels.clone().step_by(lanes) {
                    let piece = p..pixels.end.min(p + lanes);
                    self.lrn_pixels(&response, spec.beta, &sources, (n, piece), (&mut region, add), slab);
                }
            }
            finish(&mut region, add);
        });
        Ok(())
    }

    /// Computes all channels of some pixels.
    fn lrn_pixels(
        &self,
        response: &Response,
        beta: f32,
        sources: &Sources<'_>,
        (n, pixels): (usize, Range<usize>),
        (region, add): (&mut OutputRegion<'_>, bool),
        slab: &mut [f32],
    ) {
        let (lanes, channels) = (pixels.len(), region.channels.end);
        let mut columns = Columns::new(slab, channels, lanes);
        read(&sources.value, n, &pixels, columns.x);
        read(&sources.gradient, n, &pixels, columns.g);
        columns.compute(response, beta);
        let per_row = region.layout() == Layout::Nchw;
        let layout = if per_row { Layout::Nchw } else { Layout::Nhwc };
        let (plane, pixel) = if per_row { (lanes, 1) } else { (1, channels) };
        let image = channels * lanes;
        let view = PixelView {
            layout,
            images: 1,
            series: 1,
            volume: 0,
            channels,
            pixels: lanes,
            image,
            plane,
            pixel,
            lines: None,
        };
        let result = PixelRef { data: columns.sum, view };
        let step = if region.layout() == Layout::Nchw16c { BLOCK } else { channels };
        for c in (0..channels).step_by(step) {
            let count = step.min(channels - c);
            let source = InputTile::new(&result, 0, c, 0);
            let out = if per_row {
                region.channels_as_rows(n, c..c + count, pixels.clone())
            } else {
                region.channels_as_columns(n, pixels.clone(), c, 0..count)
            };
            if add {
                self.kernels().ops.layers.add(source, Activation::None, out);
            } else {
                self.kernels().copy.copy(source, false, out);
            }
        }
    }
}

/// Copies all channels of some pixels to `[channel][pixel]`.
fn read(from: &PixelRef<'_>, n: usize, pixels: &Range<usize>, to: &mut [f32]) {
    let PixelRef { data, view } = from;
    // Channels of a block of one pixel are adjacent, or pixels of one channel.
    let step = match view.layout {
        Layout::Nchw => 1,
        Layout::Nhwc => view.channels,
        Layout::Nchw16c | Layout::Nchw32cBf16 => BLOCK,
    };
    for (i, to) in to.chunks_mut(step * pixels.len()).enumerate() {
        to.copy_from_slice(&data[view.offset(n, i * step, pixels.start)..][..to.len()]);
    }
}

impl<'a> Columns<'a> {
    fn new(slab: &'a mut [f32], channels: usize, lanes: usize) -> Self {
        let len = channels * lanes;
        let (x, rest) = slab[..ARRAYS * len].split_at_mut(len);
        let (g, rest) = rest.split_at_mut(len);
        let (power, sum) = rest.split_at_mut(len);
        Self { lanes, x, g, power, sum }
    }

    /// Writes the gradient to `sum`.
    ///
    /// ```text
    /// power = x^2;  sum = windows of power;  sum = d = k + alpha * sum
    /// power = d^-beta;  sum = g * x * power / d;  g = g * power
    /// power = turned windows of sum
    /// sum = g - 2 alpha beta * x * power
    /// ```
    fn compute(&mut self, response: &Response, beta: f32) {
        let Response { before, after, k, alpha, power: kind } = *response;
        let Self { lanes, x, g, power, sum } = self;
        power.iter_mut().zip(x.iter()).for_each(|(square, x)| *square = x * x);
        windows(power, sum, *lanes, (before, after));
        match kind {
            Power::One => powers(power, sum, (k, alpha), |d| 1.0 / d),
            Power::Half => powers(power, sum, (k, alpha), |d| 1.0 / d.sqrt()),
            Power::ThreeQuarters => powers(power, sum, (k, alpha), |d| 1.0 / (d.sqrt() * d.sqrt().sqrt())),
            Power::Other(beta) => powers(power, sum, (k, alpha), |d| d.powf(-beta)),
        }
        for (((sum, g), x), power) in sum.iter_mut().zip(g.iter_mut()).zip(x.iter()).zip(power.iter()) {
            *g *= power;
            *sum = *g * x / *sum;
        }
        windows(sum, power, *lanes, (after, before));
        let factor = 2.0 * alpha * beta;
        for (((sum, g), x), power) in sum.iter_mut().zip(g.iter()).zip(x.iter()).zip(power.iter()) {
            *sum = g - factor * x * power;
        }
    }
}

/// `d = k + alpha * d` and `power = act(d)`.
fn powers(power: &mut [f32], d: &mut [f32], (k, alpha): (f32, f32), of: impl Fn(f32) -> f32) {
    for (power, d) in power.iter_mut().zip(d) {
        *d = k + alpha * *d;
        *power = of(*d);
    }
}

/// `to[i] = sum of from[i - before..=i + after]`, for rows of `lanes` elements.
fn windows(from: &[f32], to: &mut [f32], lanes: usize, (before, after): (usize, usize)) {
    to.copy_from_slice(from);
    let rows = from.len() / lanes;
    for away in 1..=before.min(rows - 1) {
        to[away * lanes..].iter_mut().zip(from).for_each(|(sum, x)| *sum += x);
    }
    for away in 1..=after.min(rows - 1) {
        to.iter_mut().zip(&from[away * lanes..]).for_each(|(sum, x)| *sum += x);
    }
}
