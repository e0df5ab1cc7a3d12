//! Layers other than convolution: activation, softmax, pooling, fully connected, normalisation, sums and
//! copies. `ops_grad` has their gradients.
//!
//! Every function checks all arguments before it writes the first element. It does not allocate, and its
//! result is the same to the bit for every number of threads.

pub(crate) mod combine;
mod copy;
mod linear;
mod lrn;
mod maxout;
pub(crate) mod norm;
mod pool;
mod pool_signal;
mod pool_volume;

use crate::describe::{Activation, BLOCK, ConvError, Isa, Layout, TensorMut};
use crate::run::Threads;
use crate::run::elementwise::{cost, elements, merges, split, split_units as elementwise_split_units, tiles};
use crate::tile::detect::kernels;
use crate::tile::ops_table::Slopes;
use crate::tile::output::OutputRegion;
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
pub use linear::LinearPlan;
pub use lrn::LrnSpec;
pub use norm::NormSpec;
pub use pool::{PoolDesc, PoolDescBuilder, PoolKind};
pub use pool_signal::{Pool1dDesc, Pool1dDescBuilder};
pub use pool_volume::{Pool3dDesc, Pool3dDescBuilder};
use std::fmt;

/// Layers that need no plan, with the kernels of one instruction set.
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
    /// Selects the kernels of `isa`, or of the best instruction set of this CPU.
    ///
    /// # Errors
    /// [`ConvError::IsaUnavailable`] if this CPU does not have `isa`.
    pub fn new(isa: Option<Isa>) -> Result<Self, ConvError> {
        Ok(Self { kernels: kernels(isa)? })
    }

    pub(crate) fn kernels(&self) -> &'static KernelSet {
        self.kernels
    }

    /// The instruction set of the kernels.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Applies `activation` to every element of `tensor`, in place.
    ///
    /// `slope` holds one slope per channel. It must be given exactly if the activation is
    /// [`Activation::PRelu`]. The padding lanes of Nchw16c keep their values.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] if the activation has invalid parameters.
    /// - [`ConvError::EpilogueMismatch`] or [`ConvError::BufferLen`] if the slopes do not fit.
    ///
    /// On an error the tensor is unchanged.
    pub fn activate(
        &self,
        activation: Activation,
        slope: Option<&[f32]>,
        tensor: TensorMut<'_>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        activation.check()?;
        check_layout(tensor.layout())?;
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

    /// Computes the softmax over the channels of every pixel, in place: `exp(x - max) / sum of exp(x - max)`.
    ///
    /// Subtracting the maximum prevents overflow. The padding lanes of Nchw16c are set to zero. A pixel with
    /// a NaN, or whose largest element is an infinity of either sign, becomes NaN, as in other frameworks.
    ///
    /// # Errors
    /// [`ConvError::InvalidField`] for [`Layout::Nchw32cBf16`], as for every layer.
    pub fn softmax(&self, tensor: TensorMut<'_>, threads: Threads<'_>) -> Result<(), ConvError> {
        check_layout(tensor.layout())?;
        let work = elements(tensor.shape()).saturating_mul(16);
        let merge = merges(&tensor.view());
        let region = OutputRegion::new(tensor, merge);
        // All channels of a pixel belong to one part.
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

/// Checks that a tensor in `layout` holds `f32` numbers.
pub(crate) fn check_layout(layout: Layout) -> Result<(), ConvError> {
    match layout {
        Layout::Nchw32cBf16 => Err(ConvError::field("layout", "a layout of f32 numbers", layout)),
        _ => Ok(()),
    }
}

/// Checks an activation of a layer that has no slopes per channel.
pub(crate) fn check_without_slopes(activation: Activation) -> Result<(), ConvError> {
    activation.check()?;
    match activation {
        Activation::PRelu => {
            Err(ConvError::field("activation", "one without slopes per channel", activation.name()))
        }
        _ => Ok(()),
    }
}
