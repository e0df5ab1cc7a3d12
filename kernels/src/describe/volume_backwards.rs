//! [`VolumeBackwards`]: a 3-D convolution that is run from its output to its input.
//!
//! The slices of the large tensor have phases as its rows and columns do (`describe/backwards.rs`). Each phase of the depth is
//! a [`Sequence`] of stride 1, whose taps are some taps of the kernel in reverse order.

use super::volume_depth::Sequence;
use super::volume_desc::Conv3dDesc;
use super::volume_shape::{Shape5, Size3};
use super::volume_tensor::Slices;
use super::{Axis, Backwards, Size2};

/// The extents of a 3-D convolution that is run backwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct VolumeBackwards {
    /// The tensor that is read: the shape of the output of the convolution.
    pub(crate) small: Shape5,
    /// The tensor that is written: the shape of the input of the convolution.
    pub(crate) large: Shape5,
    pub(crate) kernel: Size3,
    pub(crate) stride: Size3,
    pub(crate) dilation: Size3,
    /// Padding before the slices, rows and columns of `large`.
    pub(crate) before: Size3,
    pub(crate) groups: usize,
}

impl VolumeBackwards {
    /// The phases of the depth, each with the kernel slice of its first tap and the distance to that of the next tap.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = (Sequence, (usize, isize))> {
        let Self { small, large, kernel, stride, dilation, before, .. } = *self;
        let axis = Axis {
            small: small.d,
            large: large.d,
            taps: kernel.d,
            stride: stride.d,
            dilation: dilation.d,
            before: before.d,
        };
        axis.phases().map(move |phase| {
            let sequence = Sequence {
                outputs: Slices { first: phase.first, step: stride.d, count: phase.size },
                base: phase.read.0 as isize - phase.pad.0 as isize,
                advance: 1,
                apart: phase.dilation,
                taps: phase.taps,
            };
            (sequence, (phase.first_tap + (phase.taps - 1) * phase.step, -(phase.step as isize)))
        })
    }

    /// The same for one slice: the channels of the small tensor are those of several slices.
    pub(crate) fn plane(&self, images: usize, small_channels: usize) -> Backwards {
        let Self { small, large, kernel, stride, dilation, before, groups } = *self;
        let mut of_slice =
            [(small, small_channels), (large, large.c)].map(|(shape, channels)| (shape.slice(), channels));
        for (shape, channels) in &mut of_slice {
            (shape.n, shape.c) = (images, *channels);
        }
        Backwards {
            small: of_slice[0].0,
            large: of_slice[1].0,
            kernel: kernel.plane(),
            stride: stride.plane(),
            dilation: dilation.plane(),
            before: Size2::new(before.h, before.w),
            groups,
        }
    }
}

impl From<&Conv3dDesc> for VolumeBackwards {
    fn from(desc: &Conv3dDesc) -> Self {
        let pad = desc.pad();
        Self {
            small: desc.output(),
            large: desc.input(),
            kernel: desc.kernel(),
            stride: desc.stride(),
            dilation: desc.dilation(),
            before: Size3::new(pad.front, pad.top, pad.left),
            groups: desc.groups(),
        }
    }
}
