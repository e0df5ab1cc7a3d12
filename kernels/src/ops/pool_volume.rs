//! [`Pool3dDesc`]: pooling of volumes, in two stages of 2-D pooling.
//!
//! ```text
//! pool the rows and columns of each slice
//! pool the slices: a map with a row for each slice, whose columns are everything inside of a slice
//! ```
//!
//! A maximum of maxima is a maximum. The mean of a window of a volume is the mean of the means of its slices, because each of
//! them has the same number of elements: numbers of rows, columns and slices multiply, with or without padding.

use super::Ops;
use super::pool::{PoolDesc, PoolKind};
use crate::describe::{
    BLOCK, ConvError, Layout, Pad2, Pad3, Shape4, Shape5, Size2, Size3, TensorMut, TensorRef, VolumeLayout,
    VolumeMut, VolumeRef, check_positive, check_volume, checked_product,
};
use crate::memory::{WorkspaceReq, check_workspace, split_memory};
use crate::run::Threads;
use crate::tile::window::{AxisSpec, WindowAxis};
use std::fmt;

/// A checked 3-D pooling layer. Its output is not empty, every window contains an element of the input, and no size overflows.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = Pool3dDesc::builder(Shape5::new(1, 8, 4, 6, 6), Size3::cube(2), PoolKind::Max).stride(Size3::cube(2)).build()?;
/// assert_eq!(desc.output(), Shape5::new(1, 8, 2, 3, 3));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pool3dDesc {
    input: Shape5,
    output: Shape5,
    layout: VolumeLayout,
    /// The first stage: slices.
    plane: PoolDesc,
    /// The second stage: depth.
    depth: PoolDesc,
}

/// Builds a [`Pool3dDesc`]. [`build`](Self::build) checks all parameters.
#[derive(Debug, Clone, Copy)]
#[must_use = "call build()"]
pub struct Pool3dDescBuilder {
    input: Shape5,
    window: Size3,
    kind: PoolKind,
    stride: Size3,
    pad: Pad3,
    dilation: Size3,
    ceil_mode: bool,
    layout: VolumeLayout,
}

impl Pool3dDesc {
    /// Starts a description with stride 1, no padding, dilation 1, floor mode and NCDHW.
    pub const fn builder(input: Shape5, window: Size3, kind: PoolKind) -> Pool3dDescBuilder {
        Pool3dDescBuilder {
            input,
            window,
            kind,
            stride: Size3::cube(1),
            pad: Pad3::VALID,
            dilation: Size3::cube(1),
            ceil_mode: false,
            layout: VolumeLayout::Ncdhw,
        }
    }

    /// Describes global pooling: one window covers the whole volume, and the output is `N x C x 1 x 1 x 1`.
    ///
    /// # Errors
    /// Those of [`Pool3dDescBuilder::build`].
    pub fn global(input: Shape5, kind: PoolKind, layout: VolumeLayout) -> Result<Self, ConvError> {
        Self::builder(input, input.size(), kind).layout(layout).build()
    }

    /// The shape of the input.
    pub fn input(&self) -> Shape5 {
        self.input
    }

    /// The shape of the output.
    pub fn output(&self) -> Shape5 {
        self.output
    }

    /// How a window combines its elements.
    pub fn kind(&self) -> PoolKind {
        self.plane.kind()
    }

    /// Memory layout of input and output.
    pub fn layout(&self) -> VolumeLayout {
        self.layout
    }

    /// The two stages.
    pub(crate) fn stages(&self) -> (&PoolDesc, &PoolDesc) {
        (&self.plane, &self.depth)
    }

    /// Elements between the stages.
    fn between(&self) -> usize {
        let plane = self.plane.output();
        // The descriptor has checked the product.
        plane.len(self.plane.layout()).unwrap_or(usize::MAX)
    }

    /// The workspace of [`Ops::pool3d`]: the slices between the stages.
    pub fn workspace_req(&self) -> WorkspaceReq {
        WorkspaceReq::new(0, 1).shared(self.between())
    }

    /// The workspace of [`Ops::pool3d_gradient`]: the slices between the stages and their gradient.
    pub fn gradient_workspace_req(&self) -> WorkspaceReq {
        let kept = if self.kind() == PoolKind::Max { 2 } else { 1 };
        WorkspaceReq::new(0, 1).shared(self.between().saturating_mul(kept))
    }

    /// Splits a workspace into parts of the size of the slices between the stages.
    pub(crate) fn split_workspace<'s, const PARTS: usize>(
        &self,
        scratch: &'s mut [f32],
    ) -> Result<[&'s mut [f32]; PARTS], ConvError> {
        let len = self.between();
        check_workspace(scratch, len.saturating_mul(PARTS))?;
        Ok(split_memory(scratch, [len; PARTS], 1).0)
    }
}

impl fmt::Display for Pool3dDesc {
    /// Writes, for example, `1x64x16x56x56 -> 1x64x8x28x28 max ncdhw`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {} {}", self.input, self.output, self.kind(), self.layout)
    }
}

impl Pool3dDescBuilder {
    /// Sets the input elements between neighbouring outputs; at least 1.
    pub const fn stride(mut self, stride: Size3) -> Self {
        self.stride = stride;
        self
    }

    /// Sets the padding around the input; on each side less than the dilated window.
    pub const fn pad(mut self, pad: Pad3) -> Self {
        self.pad = pad;
        self
    }

    /// Sets the input elements between neighbouring elements of a window; at least 1.
    pub const fn dilation(mut self, dilation: Size3) -> Self {
        self.dilation = dilation;
        self
    }

    /// Sets whether a clipped last window counts. As in PyTorch, it does not if it begins in the padding after the input.
    pub const fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }

    /// Sets the memory layout of input and output.
    pub const fn layout(mut self, layout: VolumeLayout) -> Self {
        self.layout = layout;
        self
    }

    /// Checks all parameters. Later code relies on the result.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] for a zero extent, and for padding or dilation with which a window could contain only
    ///   padding.
    /// - [`ConvError::EmptyOutput`] or [`ConvError::EmptyDepth`] if the dilated window is larger than the padded input.
    /// - [`ConvError::SizeOverflow`] if a size overflows the address space.
    pub fn build(self) -> Result<Pool3dDesc, ConvError> {
        let Self { input, layout, .. } = self;
        check_positive(&[
            ("input.n", input.n),
            ("input.c", input.c),
            ("input.d", input.d),
            ("window.d", self.window.d),
            ("stride.d", self.stride.d),
            ("dilation.d", self.dilation.d),
        ])?;
        input.len(VolumeLayout::Ncdhw16c)?;
        let output = self.output_depth()?;
        let planes = self.stage(
            of_slices(input, layout)?,
            self.window.plane(),
            self.stride.plane(),
            (self.pad.plane(), self.dilation.plane()),
        )?;
        let Size2 { h, w } = planes.output().size();
        let between = Shape5 { h, w, ..input };
        between.len(VolumeLayout::Ncdhw16c)?;
        let pad = Pad2 { top: self.pad.front, bottom: self.pad.back, left: 0, right: 0 };
        let depth = self.stage(
            of_depth(between, layout)?,
            Size2::new(self.window.d, 1),
            Size2::new(self.stride.d, 1),
            (pad, Size2::new(self.dilation.d, 1)),
        )?;
        let output = Shape5 { d: output, ..between };
        output.len(VolumeLayout::Ncdhw16c)?;
        checked_product("workspace", &[2, planes.output().len(planes.layout())?])?;
        Ok(Pool3dDesc { input, output, layout, plane: planes, depth })
    }

    /// One stage of the pooling.
    fn stage(
        &self,
        input: Shape4,
        window: Size2,
        stride: Size2,
        (pad, dilation): (Pad2, Size2),
    ) -> Result<PoolDesc, ConvError> {
        PoolDesc::builder(input, window, self.kind)
            .stride(stride)
            .pad(pad)
            .dilation(dilation)
            .ceil_mode(self.ceil_mode)
            .layout(maps_of(self.layout))
            .build()
    }

    /// The number of output slices. It checks the depth under the names that the caller knows.
    fn output_depth(&self) -> Result<usize, ConvError> {
        let spec = AxisSpec {
            pads: ["pad.front", "pad.back"],
            dilation_name: "dilation.d",
            input: self.input.d,
            kernel: self.window.d,
            stride: self.stride.d,
            dilation: self.dilation.d,
            before: self.pad.front,
            after: self.pad.back,
            ceil: self.ceil_mode,
        };
        match WindowAxis::new(&spec)? {
            Some(axis) => Ok(axis.output()),
            // `WindowAxis::new` has checked that these sums do not overflow.
            None => Err(ConvError::EmptyDepth {
                padded_input: self.input.d + self.pad.front + self.pad.back,
                dilated_kernel: (self.window.d - 1) * self.dilation.d + 1,
            }),
        }
    }
}

/// The layout of the maps of both stages.
fn maps_of(layout: VolumeLayout) -> Layout {
    layout.of_slices()
}

/// All slices as maps. In NCDHW, and in its blocks, a channel is a series of slices.
fn of_slices(shape: Shape5, layout: VolumeLayout) -> Result<Shape4, ConvError> {
    let Shape5 { n, c, d, h, w } = shape;
    let count = |factors: &[usize]| checked_product("slices of a tensor", factors);
    Ok(match layout {
        VolumeLayout::Ncdhw => Shape4::new(n, count(&[c, d])?, h, w),
        VolumeLayout::Ncdhw16c => Shape4::new(count(&[n, c.div_ceil(BLOCK), d])?, BLOCK, h, w),
        _ => Shape4::new(count(&[n, d])?, c, h, w),
    })
}

/// Maps with a row for each slice.
fn of_depth(shape: Shape5, layout: VolumeLayout) -> Result<Shape4, ConvError> {
    let Shape5 { n, c, d, h, w } = shape;
    let count = |factors: &[usize]| checked_product("elements of a slice", factors);
    Ok(match layout {
        VolumeLayout::Ndchw => Shape4::new(n, 1, d, count(&[c, h, w])?),
        VolumeLayout::Ndchw16c => Shape4::new(n, BLOCK, d, count(&[c.div_ceil(BLOCK), h, w])?),
        _ => Shape4::new(n, c, d, count(&[h, w])?),
    })
}

impl Ops {
    /// Pools `input` into `output`. It writes every element, and sets padding lanes to zero.
    ///
    /// `scratch` is a [`Workspace`](crate::Workspace) or any `[f32]` slice of at least
    /// [`Pool3dDesc::workspace_req`]`.len()` elements.
    ///
    /// ```
    /// use kernels::*;
    /// # fn main() -> Result<(), ConvError> {
    /// let desc = Pool3dDesc::builder(Shape5::new(1, 1, 2, 1, 4), Size3::new(2, 1, 2), PoolKind::Max)
    ///     .stride(Size3::new(1, 1, 2))
    ///     .build()?;
    /// let x = VolumeRef::packed(&[1.0, 2.0, 3.0, 4.0, 8.0, 7.0, 1.0, 0.0], desc.input(), desc.layout())?;
    /// let mut y = [0.0; 2];
    /// let output = VolumeMut::packed(&mut y, desc.output(), desc.layout())?;
    /// let mut workspace = Workspace::for_req(desc.workspace_req())?;
    /// Ops::new(None)?.pool3d(&desc, x, output, &mut workspace, Threads::Seq)?;
    /// assert_eq!(y, [8.0, 4.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ConvError::VolumeMismatch`] or [`ConvError::VolumeLayoutMismatch`] if a tensor does not match `desc`.
    /// - [`ConvError::WorkspaceTooSmall`] if `scratch` is too short.
    ///
    /// The output is unchanged then.
    pub fn pool3d(
        &self,
        desc: &Pool3dDesc,
        input: VolumeRef<'_>,
        output: VolumeMut<'_>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        check_volume("input", (desc.input, desc.layout), (input.shape(), input.layout()))?;
        check_volume("output", (desc.output, desc.layout), (output.shape(), output.layout()))?;
        let [between] = desc.split_workspace(scratch.as_mut())?;
        let (plane, depth) = desc.stages();
        let input = TensorRef::packed(input.data(), plane.input(), plane.layout())?;
        self.pool(plane, input, TensorMut::packed(between, plane.output(), plane.layout())?, threads)?;
        let slices = TensorRef::packed(between, depth.input(), depth.layout())?;
        let output = TensorMut::packed(output.into_data(), depth.output(), depth.layout())?;
        self.pool(depth, slices, output, threads)
    }
}
