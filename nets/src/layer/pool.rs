//! Layers that summarise windows.

use super::conv::invalid;
use crate::error::LayerError;
use crate::shape::Shape;
use kernels::{ConvError, Layout, Pad2, PoolDesc, PoolKind, Shape4, Size2};

/// A pooling layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pool {
    /// Maximum or average.
    pub kind: PoolKind,
    /// Extents of the window; `None` is the whole image.
    pub window: Option<Size2>,
    /// Input elements from one window to the next.
    pub stride: Size2,
    /// Elements around the input.
    pub pad: Pad2,
    /// Input elements from one element of a window to the next.
    pub dilation: Size2,
    /// Whether the last window may hang over the edge.
    pub ceil_mode: bool,
}

impl Pool {
    /// Averages over `window` by `window`, `stride` apart, without padding.
    pub const fn average(window: usize, stride: usize) -> Self {
        Self::new(PoolKind::Average { count_include_pad: true }, window, stride)
    }

    /// Maxima over `window` by `window`, `stride` apart, without padding.
    pub const fn max(window: usize, stride: usize) -> Self {
        Self::new(PoolKind::Max, window, stride)
    }

    /// The average of each feature map.
    pub const fn global_average() -> Self {
        Self { window: None, ..Self::average(1, 1) }
    }

    /// The maximum of each feature map.
    pub const fn global_max() -> Self {
        Self { window: None, ..Self::max(1, 1) }
    }

    const fn new(kind: PoolKind, window: usize, stride: usize) -> Self {
        let (window, stride) = (Some(Size2::square(window)), Size2::square(stride));
        Self { kind, window, stride, pad: Pad2::VALID, dilation: Size2::square(1), ceil_mode: false }
    }

    /// The same padding on all sides.
    pub const fn pad(self, pad: usize) -> Self {
        Self { pad: Pad2::all(pad), ..self }
    }

    /// Rounds the output extents up.
    pub const fn ceil_mode(self) -> Self {
        Self { ceil_mode: true, ..self }
    }

    /// Extents of the window on such an input.
    pub fn window_on(&self, input: Shape4) -> Size2 {
        self.window.unwrap_or(input.size())
    }

    /// The kernels' description of this layer on such an input.
    ///
    /// # Errors
    /// Those of the kernels: an empty output, a zero stride, ...
    pub fn desc(&self, input: Shape4, layout: Layout) -> Result<PoolDesc, ConvError> {
        let Some(window) = self.window else { return PoolDesc::global(input, self.kind, layout) };
        PoolDesc::builder(input, window, self.kind)
            .stride(self.stride)
            .pad(self.pad)
            .dilation(self.dilation)
            .ceil_mode(self.ceil_mode)
            .layout(layout)
            .build()
    }
}

/// The subsampling layer of LeNet-5: sums of windows that do not overlap, times a trained coefficient, plus a trained
/// bias, one of each per map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subsample {
    /// Extents of the window, and its stride.
    pub window: Size2,
}

impl Subsample {
    /// The pooling whose averages are scaled.
    pub(crate) fn pool(&self) -> Pool {
        Pool { window: Some(self.window), stride: self.window, ..Pool::average(1, 1) }
    }
}

/// Averages over windows that are cut so that the output has the extents wanted, whatever the input has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptivePool {
    /// Extents of the output.
    pub output: Size2,
}

impl AdaptivePool {
    pub(super) fn output(&self, input: Shape4) -> Result<Shape, LayerError> {
        if self.output.h == 0 || self.output.w == 0 {
            return Err(invalid("output", "at least 1x1", self.output));
        }
        let output = Shape::map(input.c, self.output.h, self.output.w);
        output.len()?;
        Ok(output)
    }

    /// The pooling that it is where the output divides the input.
    pub(crate) fn as_pool(&self, input: Shape4) -> Option<Pool> {
        let (h, w) = (self.output.h, self.output.w);
        (input.h.is_multiple_of(h) && input.w.is_multiple_of(w)).then(|| {
            let window = Size2::new(input.h / h, input.w / w);
            Pool { window: Some(window), stride: window, ..Pool::average(1, 1) }
        })
    }

    /// The elements that output `index` of `outputs` averages, along one axis.
    pub(crate) fn window(index: usize, outputs: usize, inputs: usize) -> std::ops::Range<usize> {
        // In 128 bits nothing overflows.
        let (index, outputs, inputs) = (index as u128, outputs as u128, inputs as u128);
        let (start, end) = (index * inputs / outputs, ((index + 1) * inputs).div_ceil(outputs));
        start as usize..end as usize
    }
}
