//! Gradients of pooling.

use super::{Gradient, finish};
use crate::describe::{BLOCK, ConvError, Layout, TensorRef};
use crate::ops::{Ops, PoolDesc, PoolKind};
use crate::run::elementwise::{elements, split, tiles};
use crate::run::{Threads, check};
use crate::tile::copy_table::InputTile;
use crate::tile::grad::table::GradTiles;
use crate::tile::output::OutputRegion;
use crate::work::parts::SplitUnits;

/// Channels of NHWC and planes of NCHW that one call of a kernel takes.
const CHANNELS_AT_ONCE: usize = 4 * BLOCK;

impl Ops {
    /// The gradient of [`pool`](Self::pool).
    ///
    /// For an average, each element of a window inside the input gets the gradient of the window divided by its divisor.
    /// For a maximum, the first of the largest elements gets all of it, in row-major order of the window. A NaN counts as
    /// the largest number. Overlapping windows add up.
    ///
    /// `input` is the input of the layer. It must be given exactly for a maximum, which needs no other trace of the forward
    /// pass. Threads divide images and channels.
    ///
    /// ```
    /// use kernels::*;
    /// # fn main() -> Result<(), ConvError> {
    /// let (ops, shape) = (Ops::new(None)?, Shape4::new(1, 1, 1, 5));
    /// let desc = PoolDesc::builder(shape, Size2::new(1, 3), PoolKind::Max).stride(Size2::new(1, 2)).build()?;
    /// let x = TensorRef::packed(&[1.0, 4.0, 4.0, 5.0, 2.0], shape, Layout::Nchw)?;
    /// let g = TensorRef::packed(&[10.0, 20.0], desc.output(), Layout::Nchw)?;
    /// let mut dx = [0.0; 5];
    /// ops.pool_gradient(&desc, Some(x), g, TensorMut::packed(&mut dx, shape, Layout::Nchw)?, Threads::Seq)?;
    /// assert_eq!(dx, [0.0, 10.0, 0.0, 20.0, 0.0]); // the first of the two fours, and the five
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ConvError::EpilogueMismatch`] if the input is missing or not needed.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] if a tensor does not match `desc`.
    ///
    /// On an error `dx` is unchanged.
    pub fn pool_gradient<'a>(
        &self,
        desc: &PoolDesc,
        input: Option<TensorRef<'_>>,
        gradient: TensorRef<'_>,
        dx: impl Into<Gradient<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let dx = dx.into();
        let of_input = (desc.input(), desc.layout());
        let planned = desc.kind() == PoolKind::Max;
        if planned != input.is_some() {
            return Err(ConvError::EpilogueMismatch { what: "input of the pooling layer", planned });
        }
        if let Some(input) = input {
            check("input", of_input, (input.shape(), input.layout()))?;
        }
        let of_output = (desc.output(), desc.layout());
        check("gradient of the output", of_output, (gradient.shape(), gradient.layout()))?;
        dx.check(of_input)?;
        // Averages do not read the value.
        let (value, gradient) = (input.unwrap_or(gradient).pixels(), gradient.pixels());
        let window = (desc.window().h as u64).saturating_mul(desc.window().w as u64);
        let work = elements(desc.output()).saturating_mul(window.saturating_mul(2)) + elements(desc.input());
        let add = dx.adds();
        let region = OutputRegion::new(dx.into_tensor(), false);
        let channels = if desc.layout() == Layout::Nchw { 1 } else { BLOCK };
        let split_units = SplitUnits::new(region.pixels.end, channels);
        split(region, split_units, work, threads, &|mut region| {
            tiles(&mut region, CHANNELS_AT_ONCE, |out, at| {
                let [gradient, value] =
                    [&gradient, &value].map(|source| InputTile::new(source, at.n, at.channels.start, 0));
                let tiles = GradTiles { out, add, gradient, value };
                self.kernels().grad.pool(desc.spec(), at.per_row, tiles);
            });
            finish(&mut region, add);
        });
        Ok(())
    }
}
