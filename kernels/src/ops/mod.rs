//! The layers around the convolutions: activation, softmax, pooling, linear.
//!
//! Each is checked completely before the first element is written, allocates nothing while it runs, and gives the
//! same bits whatever the number of threads.

mod linear;
mod pool;

use crate::algo::Grain;
use crate::choose::{Isa, kernels};
use crate::describe::{Activation, BLOCK, Layout, PixelView, Shape4, TensorMut};
use crate::error::ConvError;
use crate::run::Threads;
use crate::run::threads::Split;
use crate::tile::ops_table::Slopes;
use crate::tile::output::OutputRegion;
use crate::tile::table::KernelSet;
pub use linear::LinearPlan;
pub use pool::{PoolDesc, PoolDescBuilder, PoolKind};
use std::fmt;

/// The layers that need no plan, on the kernels of one instruction set.
#[derive(Clone, Copy)]
pub struct Ops {
    kernels: &'static KernelSet,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").field("isa", &self.isa()).finish()
    }
}

impl Ops {
    /// The kernels of `isa`, or of the best instruction set of this CPU.
    ///
    /// # Errors
    /// [`ConvError::IsaUnavailable`].
    pub fn new(isa: Option<Isa>) -> Result<Self, ConvError> {
        Ok(Self { kernels: kernels(isa)? })
    }

    /// The instruction set whose kernels run.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Applies `activation` to every element of `tensor`, in place.
    ///
    /// `slope` has one number per channel, if and only if the activation is [`Activation::PRelu`]. The lanes of
    /// Nchw16c past the last channel are left alone.
    ///
    /// # Errors
    /// [`ConvError::InvalidField`] for parameters that no activation has, [`ConvError::EpilogueMismatch`] or
    /// [`ConvError::BufferLen`] for the slopes. The tensor is untouched then.
    pub fn activate(
        &self,
        activation: Activation,
        slope: Option<&[f32]>,
        tensor: TensorMut<'_>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        activation.check()?;
        let planned = activation == Activation::PRelu;
        if planned != slope.is_some() {
            return Err(ConvError::EpilogueMismatch { what: "PReLU slopes", planned });
        }
        let slope = slope.unwrap_or_default();
        let expected = if planned { tensor.shape().c } else { 0 };
        if slope.len() != expected {
            return Err(ConvError::BufferLen { what: "PReLU slopes", expected, got: slope.len() });
        }
        if activation == Activation::None {
            return Ok(());
        }
        let weight = if is_exponential(activation) { 16 } else { 2 };
        let work = elements(tensor.shape()).saturating_mul(weight);
        let merge = merges(&tensor.view());
        let region = OutputRegion::new(tensor, merge);
        let grain = match region.layout() {
            Layout::Nchw => Grain { pixels: 4096, channels: 1 },
            Layout::Nhwc | Layout::Nchw16c => Grain { pixels: 64, channels: BLOCK },
        };
        split(region, grain, work, threads, &|region| self.activate_region(activation, slope, region));
        Ok(())
    }

    fn activate_region(&self, activation: Activation, slope: &[f32], mut region: OutputRegion<'_>) {
        let (layout, pixels) = (region.layout(), region.pixels.clone());
        let (first, end) = (region.channels.start, region.channels.end);
        let step = if layout == Layout::Nchw16c { BLOCK } else { usize::MAX };
        for n in region.images.clone() {
            for c in (first..end).step_by(step) {
                let columns = (end - c).min(step);
                let (tile, per_row) = match layout {
                    Layout::Nchw => (region.channels_as_rows(n, c..end, pixels.clone()), true),
                    _ => (region.channels_as_columns(n, pixels.clone(), c, 0..columns), false),
                };
                let values = if slope.is_empty() { slope } else { &slope[c..c + columns] };
                self.kernels.ops.activate(activation, Slopes { values, per_row }, tile);
            }
        }
    }

    /// Softmax over the channels of every pixel, in place: `exp(x - max) / sum of exp(x - max)`, so nothing
    /// overflows. The lanes of Nchw16c past the last channel are written as zero.
    ///
    /// A pixel with a NaN or an infinity of either sign as its largest element becomes NaN, as everywhere.
    ///
    /// # Errors
    /// None today; a `Result` as all of its siblings.
    pub fn softmax(&self, tensor: TensorMut<'_>, threads: Threads<'_>) -> Result<(), ConvError> {
        let work = elements(tensor.shape()).saturating_mul(16);
        let merge = merges(&tensor.view());
        let region = OutputRegion::new(tensor, merge);
        // A pixel's channels belong together.
        let channels = region.channels.end;
        let pixels = if region.layout() == Layout::Nchw { 4 * BLOCK } else { 1 };
        let grain = Grain { pixels, channels };
        split(region, grain, work, threads, &|region| self.softmax_region(region));
        Ok(())
    }

    fn softmax_region(&self, mut region: OutputRegion<'_>) {
        let (channels, pixels) = (region.channels.clone(), region.pixels.clone());
        let channels_are_rows = region.layout() == Layout::Nchw;
        for n in region.images.clone() {
            let tile = if channels_are_rows {
                region.channels_as_rows(n, channels.clone(), pixels.clone())
            } else {
                region.channels_as_columns(n, pixels.clone(), 0, channels.clone())
            };
            self.kernels.ops.softmax(tile, channels_are_rows);
        }
        region.zero_padding_lanes();
    }
}

/// Whether all images may be seen as one row of pixels with the same channels.
fn merges(view: &PixelView) -> bool {
    view.can_merge() && (view.channels_last() || view.pixels == 1)
}

fn is_exponential(activation: Activation) -> bool {
    use Activation::{Elu, Sigmoid, Silu, Tanh};
    matches!(activation, Sigmoid | Tanh | Elu { .. } | Silu)
}

/// Elements of a tensor that exists, so the product fits.
fn elements(shape: Shape4) -> u64 {
    [shape.n, shape.c, shape.h, shape.w].iter().fold(1, |product, &extent| product * extent as u64)
}

/// Element operations below which another thread is not worth its wake-up (about 2 microseconds on one core).
const WORTH_A_THREAD: u64 = 100_000;

/// Cuts `region` among `threads` as its work deserves, in element operations, and runs the parts.
fn split<'a, F>(region: OutputRegion<'a>, grain: Grain, work: u64, threads: Threads<'_>, run: &F)
where
    F: Fn(OutputRegion<'a>) + Sync,
{
    let worth = usize::try_from(work / WORTH_A_THREAD).unwrap_or(usize::MAX).max(1);
    let split = Split { parts: threads.available().min(worth), grain, slab_len: 0 };
    threads.run(|| split.run(region, &mut [], &|region, _| run(region)));
}
