//! Upsampling by repetition, and its gradient.

use crate::describe::{ConvError, Layout, Shape4, Size2, TensorOut, TensorRef, check_positive};
use crate::ops::{Ops, PoolDesc, check_layout};
use crate::run::{Threads, check};

/// Checks the shapes of upsampling, and describes its gradient.
fn describe(
    factor: Size2,
    large: &'static str,
    from: (Shape4, Layout),
    to: (Shape4, Layout),
) -> Result<PoolDesc, ConvError> {
    check_layout(from.1)?;
    check_positive(&[("factor.h", factor.h), ("factor.w", factor.w)])?;
    let overflow = || ConvError::SizeOverflow { what: "upsampled image" };
    let h = from.0.h.checked_mul(factor.h).ok_or_else(overflow)?;
    let w = from.0.w.checked_mul(factor.w).ok_or_else(overflow)?;
    check(large, (Shape4 { h, w, ..from.0 }, from.1), to)?;
    PoolDesc::sums_of_blocks(to.0, factor, to.1)
}

impl Ops {
    /// Repeats each element `factor.h` times along columns and `factor.w` times along rows: `nearest` upsampling by an
    /// integer. The padding lanes of Nchw16c are set to zero.
    ///
    /// ```
    /// use kernels::*;
    /// # fn main() -> Result<(), ConvError> {
    /// let (ops, factor) = (Ops::new(None)?, Size2::new(1, 2));
    /// let (small, large) = (Shape4::new(1, 1, 1, 2), Shape4::new(1, 1, 1, 4));
    /// let (mut y, mut dx) = ([0.0; 4], [0.0; 2]);
    /// let x = TensorRef::packed(&[3.0, 5.0], small, Layout::Nchw)?;
    /// ops.upsample(factor, x, TensorMut::packed(&mut y, large, Layout::Nchw)?, Threads::Seq)?;
    /// assert_eq!(y, [3.0, 3.0, 5.0, 5.0]);
    /// let g = TensorRef::packed(&[1.0, 2.0, 10.0, 20.0], large, Layout::Nchw)?;
    /// ops.upsample_gradient(factor, g, TensorMut::packed(&mut dx, small, Layout::Nchw)?, Threads::Seq)?;
    /// assert_eq!(dx, [3.0, 30.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] for a factor of zero.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless the output has the layout of the input, and
    ///   its shape with the factor.
    /// - [`ConvError::SizeOverflow`] if the output exceeds the address space.
    ///
    /// On an error the output is unchanged.
    pub fn upsample<'a>(
        &self,
        factor: Size2,
        input: TensorRef<'_>,
        output: impl Into<TensorOut<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let output = output.into();
        let of_output = (output.shape(), output.layout());
        let desc = describe(factor, "output", (input.shape(), input.layout()), of_output)?;
        // The gradient of a sum gives each element of a block the same number.
        self.pool_gradient(&desc, None, input, output, threads)
    }

    /// The gradient of [`upsample`](Self::upsample): each element of `dx` is the sum of a block of `factor` elements. To add
    /// it to another gradient, use [`add`](Self::add).
    ///
    /// # Errors
    /// Those of `upsample`, where `gradient` is the larger tensor. On an error `dx` is unchanged.
    pub fn upsample_gradient<'a>(
        &self,
        factor: Size2,
        gradient: TensorRef<'_>,
        dx: impl Into<TensorOut<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let dx = dx.into();
        let of_gradient = (gradient.shape(), gradient.layout());
        let desc = describe(factor, "gradient of the output", (dx.shape(), dx.layout()), of_gradient)?;
        self.pool(&desc, gradient, dx, threads)
    }
}
