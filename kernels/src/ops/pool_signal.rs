//! [`Pool1dDesc`]: pooling of signals, which is pooling of maps of one row.

use super::pool::{PoolDesc, PoolDescBuilder, PoolKind};
use crate::describe::{ConvError, Layout, Pad1, Shape3, Shape4, Size2};
use std::fmt;

/// A checked 1-D pooling layer.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = Pool1dDesc::builder(Shape3::new(1, 1, 5), 2, PoolKind::Max).stride(2).ceil_mode(true).build()?;
/// let x = TensorRef::packed(&[1.0, 4.0, 3.0, 2.0, 5.0], desc.input().into(), desc.layout())?;
/// let mut y = [0.0; 3];
/// let output = TensorMut::packed(&mut y, desc.output().into(), desc.layout())?;
/// Ops::new(None)?.pool(desc.as_2d(), x, output, Threads::Seq)?;
/// assert_eq!(y, [4.0, 3.0, 5.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pool1dDesc {
    row: PoolDesc,
}

/// Builds a [`Pool1dDesc`]. [`build`](Self::build) checks all parameters.
#[derive(Debug, Clone, Copy)]
#[must_use = "call build()"]
pub struct Pool1dDescBuilder {
    row: PoolDescBuilder,
}

impl Pool1dDesc {
    /// Starts a description with stride 1, no padding, dilation 1, floor mode and NCW.
    pub const fn builder(input: Shape3, window: usize, kind: PoolKind) -> Pool1dDescBuilder {
        let input = Shape4::new(input.n, input.c, 1, input.w);
        Pool1dDescBuilder { row: PoolDesc::builder(input, Size2::new(1, window), kind) }
    }

    /// The same layer for maps of one row: [`Ops::pool`](crate::Ops::pool) and
    /// [`Ops::pool_gradient`](crate::Ops::pool_gradient) take it.
    pub fn as_2d(&self) -> &PoolDesc {
        &self.row
    }

    /// The shape of the input.
    pub fn input(&self) -> Shape3 {
        Shape3::of_row(self.row.input())
    }

    /// The shape of the output.
    pub fn output(&self) -> Shape3 {
        Shape3::of_row(self.row.output())
    }

    /// Memory layout of input and output.
    pub fn layout(&self) -> Layout {
        self.row.layout()
    }
}

impl fmt::Display for Pool1dDesc {
    /// Writes the layer of maps of one row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row.fmt(f)
    }
}

impl Pool1dDescBuilder {
    /// Sets the input samples between neighbouring outputs; at least 1.
    pub const fn stride(self, stride: usize) -> Self {
        Self { row: self.row.stride(Size2::new(1, stride)) }
    }

    /// Sets the padding at both ends; at each less than the dilated window.
    pub const fn pad(self, pad: Pad1) -> Self {
        Self { row: self.row.pad(pad.of_row()) }
    }

    /// Sets the input samples between neighbouring elements of a window; at least 1.
    pub const fn dilation(self, dilation: usize) -> Self {
        Self { row: self.row.dilation(Size2::new(1, dilation)) }
    }

    /// Sets whether a clipped last window counts. See [`PoolDescBuilder::ceil_mode`].
    pub const fn ceil_mode(self, ceil_mode: bool) -> Self {
        Self { row: self.row.ceil_mode(ceil_mode) }
    }

    /// Sets the memory layout of input and output.
    pub const fn layout(self, layout: Layout) -> Self {
        Self { row: self.row.layout(layout) }
    }

    /// Checks all parameters.
    ///
    /// # Errors
    /// Those of [`PoolDescBuilder::build`]. Fields have the names of the columns, such as `stride.w`.
    pub fn build(self) -> Result<Pool1dDesc, ConvError> {
        Ok(Pool1dDesc { row: self.row.build()? })
    }
}
