//! The layers around the convolutions: activation, softmax, pooling, linear, normalisation, sums, copies.
//!
//! Each is checked completely before the first element is written, allocates nothing while it runs, and gives the
//! same bits whatever the number of threads.

mod add;
mod copy;
mod linear;
mod lrn;
mod maxout;
mod norm;
mod pool;

use crate::describe::{Activation, BLOCK, ConvError, Isa, Layout, PixelView, Shape4, TensorMut};
use crate::run::Threads;
use crate::run::threads::Split;
use crate::tile::detect::kernels;
use crate::tile::ops_table::Slopes;
use crate::tile::output::{OutputRegion, OutputTile};
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
pub use linear::LinearPlan;
pub use lrn::LrnSpec;
pub use norm::NormSpec;
pub use pool::{PoolDesc, PoolDescBuilder, PoolKind};
use std::fmt;
use std::ops::Range;

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
        let work = elements(tensor.shape()).saturating_mul(cost(activation));
        let merge = merges(&tensor.view());
        let region = OutputRegion::new(tensor, merge);
        let split_units = elementwise_split_units(region.layout());
        split(region, split_units, work, threads, &|mut region| {
            tiles(&mut region, usize::MAX, |tile, at| {
                let values = if slope.is_empty() { slope } else { &slope[at.channels] };
                self.kernels.ops.activate(activation, Slopes { values, per_row: at.per_row }, tile);
            });
        });
        Ok(())
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
        let split_units = SplitUnits::new(pixels, channels);
        split(region, split_units, work, threads, &|region| self.softmax_region(region));
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

/// Where in its tensor a tile is.
struct Spot {
    n: usize,
    channels: Range<usize>,
    /// The first pixel.
    p: usize,
    /// Whether channels are its rows (NCHW) rather than its columns.
    per_row: bool,
}

/// Calls `run` with every tile of `region`: all pixels of at most `step` channels of an image, in Nchw16c of one block.
fn tiles(region: &mut OutputRegion<'_>, step: usize, mut run: impl FnMut(OutputTile<'_>, Spot)) {
    let (pixels, Range { start, end }) = (region.pixels.clone(), region.channels.clone());
    let per_row = region.layout() == Layout::Nchw;
    let step = if region.layout() == Layout::Nchw16c { step.min(BLOCK) } else { step };
    for n in region.images.clone() {
        for c in (start..end).step_by(step) {
            let channels = c..end.min(c.saturating_add(step));
            let tile = if per_row {
                region.channels_as_rows(n, channels.clone(), pixels.clone())
            } else {
                region.channels_as_columns(n, pixels.clone(), c, 0..channels.len())
            };
            run(tile, Spot { n, channels, p: pixels.start, per_row });
        }
    }
}

/// How finely a tensor may be cut where every element stands for itself.
fn elementwise_split_units(layout: Layout) -> SplitUnits {
    match layout {
        Layout::Nchw => SplitUnits::new(4096, 1),
        Layout::Nhwc | Layout::Nchw16c => SplitUnits::new(64, BLOCK),
    }
}

/// Element operations of an activation, in place.
fn cost(activation: Activation) -> u64 {
    use Activation::{Elu, Sigmoid, Silu, Tanh};
    if matches!(activation, Sigmoid | Tanh | Elu { .. } | Silu) { 16 } else { 2 }
}

/// Elements of a tensor that exists, so the product fits.
fn elements(shape: Shape4) -> u64 {
    [shape.n, shape.c, shape.h, shape.w].iter().fold(1, |product, &extent| product * extent as u64)
}

/// Element operations below which another thread is not worth its wake-up (about 2 microseconds on one core).
const WORTH_A_THREAD: u64 = 100_000;

/// Cuts `region` among `threads` as its work deserves, in element operations, and runs the parts.
fn split<'a, F>(region: OutputRegion<'a>, split_units: SplitUnits, work: u64, threads: Threads<'_>, run: &F)
where
    F: Fn(OutputRegion<'a>) + Sync,
{
    let worth = usize::try_from(work / WORTH_A_THREAD).unwrap_or(usize::MAX).max(1);
    let split = Split { parts: threads.count().min(worth), split_units, slab_len: 0 };
    split.run(threads, region, &mut [], &|region, _| run(region));
}
