//! Windows over any number of axes.

use crate::error::LayerError;
use crate::layer::conv::invalid;

/// Windows over the axes of an image, those after batch and channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) kernel: Vec<usize>,
    pub(crate) stride: Vec<usize>,
    pub(crate) dilation: Vec<usize>,
    /// Padding before and after each axis.
    pub(crate) pad: Vec<(usize, usize)>,
    pub(crate) ceil: bool,
}

impl Windows {
    /// Number of windows along each axis.
    pub(crate) fn outputs(&self, image: &[usize]) -> Result<Vec<usize>, LayerError> {
        if image.len() != self.kernel.len() {
            let expected = format!("an image of {} axes", self.kernel.len());
            return Err(invalid("input", expected, format!("{image:?}")));
        }
        (0..image.len()).map(|axis| self.output(axis, image[axis])).collect()
    }

    fn output(&self, axis: usize, extent: usize) -> Result<usize, LayerError> {
        let (before, after) = self.pad[axis];
        let stride = self.stride[axis];
        let too_large =
            || invalid("kernel", format!("at most the padded input of {extent}"), self.kernel[axis]);
        let reach = self.reach(axis).ok_or_else(too_large)?;
        let padded =
            extent.checked_add(before).and_then(|sum| sum.checked_add(after)).ok_or_else(too_large)?;
        let Some(room) = padded.checked_sub(reach) else {
            // Rounded up, one window is left, which ends beyond the padding.
            let is_clipped = self.ceil && reach - padded < stride;
            return if is_clipped { Ok(1) } else { Err(too_large()) };
        };
        let floor = room / stride + 1;
        // The last window must begin in the input or in the padding before it.
        let one_more = self.ceil && !room.is_multiple_of(stride) && floor * stride < extent + before;
        Ok(floor + usize::from(one_more))
    }

    /// The extent of the dilated kernel; `None` if it overflows.
    pub(crate) fn reach(&self, axis: usize) -> Option<usize> {
        self.kernel[axis].checked_sub(1)?.checked_mul(self.dilation[axis])?.checked_add(1)
    }

    /// The elements of a window along an axis as pairs of tap and input place, and those that are in the padding.
    pub(crate) fn place(&self, axis: usize, output: usize, tap: usize, extent: usize) -> Option<usize> {
        let at = output * self.stride[axis] + tap * self.dilation[axis];
        at.checked_sub(self.pad[axis].0).filter(|&place| place < extent)
    }
}
