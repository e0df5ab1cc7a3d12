//! How a layer sees a tensor: which axes are images, channels and pixels, and whether channels are in blocks.

use kernels::{BLOCK, Layout, Shape4};
use tract_core::internal::*;

/// The axes of a plain tensor, in order: `lead` axes of images, then `channels` and `spatial` axes. With
/// `channels_last` the spatial axes come before the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) lead: usize,
    pub(crate) channels: usize,
    pub(crate) spatial: usize,
    pub(crate) channels_last: bool,
}

impl View {
    pub(crate) fn rank(&self) -> usize {
        self.lead + self.channels + self.spatial
    }

    /// The first axis of the channels.
    pub(crate) fn channel_axis(&self) -> usize {
        if self.channels_last { self.lead + self.spatial } else { self.lead }
    }

    /// The first spatial axis.
    pub(crate) fn spatial_axis(&self) -> usize {
        if self.channels_last { self.lead } else { self.lead + self.channels }
    }

    /// Whether Nchw16c can hold the tensor and give all its extents back.
    pub(crate) fn can_block(&self) -> bool {
        !self.channels_last && self.lead <= 1 && self.channels == 1 && matches!(self.spatial, 1 | 2)
    }

    /// The extents of the axes from `first` on.
    fn product<D: DimLike>(shape: &[D], first: usize, count: usize) -> D {
        shape[first..first + count].iter().cloned().product()
    }

    /// Images, channels, rows and columns of a plain tensor. Surplus spatial axes count as rows.
    pub(crate) fn extents<D: DimLike>(&self, shape: &[D]) -> TractResult<Extents<D>> {
        ensure!(shape.len() == self.rank(), "Expected {} axes, got {shape:?}", self.rank());
        let (first, count) = (self.spatial_axis(), self.spatial);
        let rows = count.saturating_sub(1);
        Ok(Extents {
            n: Self::product(shape, 0, self.lead),
            c: Self::product(shape, self.channel_axis(), self.channels),
            h: Self::product(shape, first, rows),
            w: Self::product(shape, first + rows, count - rows),
        })
    }

    pub(crate) fn layout(&self) -> Layout {
        if self.channels_last { Layout::Nhwc } else { Layout::Nchw }
    }
}

/// Extents that can be symbols, of images with rows and columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Extents<D> {
    pub(crate) n: D,
    pub(crate) c: D,
    pub(crate) h: D,
    pub(crate) w: D,
}

impl Extents<usize> {
    pub(crate) fn shape4(&self) -> Shape4 {
        Shape4::new(self.n, self.c, self.h, self.w)
    }

    pub(crate) fn is_empty(&self) -> bool {
        [self.n, self.c, self.h, self.w].contains(&0)
    }
}

/// An input or an output of one of this crate's operators: a plain tensor, or one in blocks of 16 channels
/// with the shape `[n, ceil(c / 16), h, w, 16]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Port {
    pub(crate) view: View,
    pub(crate) channels: usize,
    pub(crate) blocked: bool,
}

impl Port {
    pub(crate) fn layout(&self) -> Layout {
        if self.blocked { Layout::Nchw16c } else { self.view.layout() }
    }

    /// Images, channels, rows and columns of a tensor of this shape at this port.
    pub(crate) fn extents<D: DimLike>(&self, shape: &[D]) -> TractResult<Extents<D>> {
        let extents = if self.blocked {
            let [n, _, h, w, _] = shape else {
                bail!("Expected a tensor in blocks of channels, got {shape:?}")
            };
            Extents { n: n.clone(), c: self.channels.into(), h: h.clone(), w: w.clone() }
        } else {
            self.view.extents(shape)?
        };
        ensure!(
            extents.c == self.channels.into(),
            "Expected {} channels, got {} in {shape:?}",
            self.channels,
            extents.c
        );
        Ok(extents)
    }

    /// The shape of a blocked tensor.
    pub(crate) fn blocked_shape<D: DimLike>(extents: &Extents<D>, channels: usize) -> TVec<D> {
        tvec!(
            extents.n.clone(),
            channels.div_ceil(BLOCK).into(),
            extents.h.clone(),
            extents.w.clone(),
            BLOCK.into()
        )
    }
}

/// Where an extent of an operator's plain output comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OutDim {
    /// The number of images.
    Images,
    /// The rows of the output.
    Rows,
    /// The columns of the output.
    Columns,
    /// The same for every input.
    Fixed(usize),
    /// An axis of the plain input.
    Input(usize),
}

impl OutDim {
    /// The extents of an output with these axes, from the shape of the input and the extents of the output.
    pub(crate) fn resolve<D: DimLike>(dims: &[Self], input: &[D], output: &Extents<D>) -> TVec<D> {
        let extent = |dim: &Self| match dim {
            Self::Images => output.n.clone(),
            Self::Rows => output.h.clone(),
            Self::Columns => output.w.clone(),
            Self::Fixed(extent) => (*extent).into(),
            Self::Input(axis) => input[*axis].clone(),
        };
        dims.iter().map(extent).collect()
    }

    /// The axes of a tensor with this view and number of channels: those of the input where the view joins
    /// several.
    pub(crate) fn of_view(view: View, channels: usize) -> TVec<Self> {
        (0..view.rank()).map(|axis| Self::of_axis(view, axis, channels)).collect()
    }

    /// One axis of a tensor with this view.
    pub(crate) fn of_axis(view: View, axis: usize, channels: usize) -> Self {
        let spatial = view.spatial_axis()..view.spatial_axis() + view.spatial;
        let channel = view.channel_axis()..view.channel_axis() + view.channels;
        if channel.contains(&axis) && view.channels == 1 {
            Self::Fixed(channels)
        } else if spatial.contains(&axis) && view.spatial <= 2 {
            if axis + 1 == spatial.end { Self::Columns } else { Self::Rows }
        } else if axis < view.lead && view.lead == 1 {
            Self::Images
        } else {
            Self::Input(axis)
        }
    }
}
