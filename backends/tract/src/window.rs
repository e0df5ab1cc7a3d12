//! Kernels, windows and their padding, as tract describes them.

use crate::view::Extents;
use kernels::{Pad2, Size2};
use tract_core::internal::*;
use tract_core::ops::cnn::{PaddingSpec, PoolSpec};

/// A kernel or a pooling window over rows and columns. A layer over one spatial axis has columns only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    pub(crate) kernel: Size2,
    pub(crate) stride: Size2,
    pub(crate) dilation: Size2,
    padding: PaddingSpec,
    /// Number of spatial axes: 1 or 2.
    axes: usize,
}

impl Window {
    /// The window of a single element: of a product, which has no padding, stride or dilation.
    pub(crate) fn point() -> Self {
        let one = Size2::square(1);
        Self { kernel: one, stride: one, dilation: one, padding: PaddingSpec::Valid, axes: 2 }
    }

    /// The window of a layer over one or two spatial axes; otherwise why there is none.
    pub(crate) fn of(spec: &PoolSpec) -> Result<Self, String> {
        let axes = spec.rank();
        if !matches!(axes, 1 | 2) {
            return Err(format!("{axes} spatial axes, where 1 or 2 are supported"));
        }
        let size = |values: &[usize]| match values {
            [w] => Size2::new(1, *w),
            [h, w, ..] => Size2::new(*h, *w),
            [] => Size2::square(1),
        };
        let (kernel, stride, dilation) =
            (size(&spec.kernel_shape), size(&spec.strides()), size(&spec.dilations()));
        if [kernel, stride, dilation].iter().any(|size| size.h == 0 || size.w == 0) {
            return Err("a kernel, stride or dilation of zero".into());
        }
        Ok(Self { kernel, stride, dilation, padding: spec.padding.clone(), axes })
    }

    /// The same window with another stride.
    pub(crate) fn with_stride(mut self, stride: Size2) -> Self {
        self.stride = stride;
        self
    }

    /// Whether the output size is rounded up, as in ONNX's ceil mode.
    pub(crate) fn rounds_up(&self) -> bool {
        matches!(self.padding, PaddingSpec::ExplicitOnnxPool(_, _, true))
    }

    /// Whether every window of a pooling layer contains an element of the input.
    pub(crate) fn pads_less_than_kernel(&self) -> bool {
        let fits = |pads: &[usize]| match pads {
            [w] => *w < self.kernel.w,
            [h, w, ..] => *h < self.kernel.h && *w < self.kernel.w,
            [] => true,
        };
        self.dilation == Size2::square(1)
            && match &self.padding {
                PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, _) => {
                    fits(before) && fits(after)
                }
                PaddingSpec::Valid | PaddingSpec::SameUpper | PaddingSpec::SameLower => true,
            }
    }

    /// Whether the padding holds the window. An extent that is not known counts as 1.
    pub(crate) fn fits(&self, input: &Extents<TDim>) -> bool {
        let least = |extent: &TDim| extent.to_usize().unwrap_or(1);
        let least = Extents { n: 1, c: 1, h: least(&input.h), w: least(&input.w) };
        let (_, [top, bottom, left, right]) = self.output(&least);
        let reach = self.reach();
        top + least.h + bottom >= reach.h && left + least.w + right >= reach.w
    }

    /// Elements of the input from the first to the last of a window, including both.
    fn reach(&self) -> Size2 {
        let reach = |kernel: usize, dilation: usize| (kernel - 1) * dilation + 1;
        Size2::new(reach(self.kernel.h, self.dilation.h), reach(self.kernel.w, self.dilation.w))
    }

    pub(crate) fn is_point(&self) -> bool {
        self.kernel == Size2::square(1)
    }

    /// Rows and columns of the output, and the padding around an input with these extents.
    pub(crate) fn output<D: DimLike>(&self, input: &Extents<D>) -> ((D, D), [D; 4]) {
        let columns = self.axes - 1;
        let (h, top, bottom) = if self.axes == 2 {
            let rows = self.padding.compute_one(0, &input.h, self.kernel.h, self.dilation.h, self.stride.h);
            (rows.convoluted, rows.pad_before, rows.pad_after)
        } else {
            (input.h.clone(), D::zero(), D::zero())
        };
        let w = self.padding.compute_one(columns, &input.w, self.kernel.w, self.dilation.w, self.stride.w);
        ((h, w.convoluted), [top, bottom, w.pad_before, w.pad_after])
    }

    /// The padding around a concrete input, and the rows and columns of its output. With ONNX's padding, tract
    /// gives one output even where the window is larger than the padded input. The padding after such an input is
    /// extended to hold the window, as the library requires.
    pub(crate) fn concrete(&self, input: &Extents<usize>) -> (Size2, Pad2) {
        let ((h, w), [top, mut bottom, left, mut right]) = self.output(input);
        if matches!(self.padding, PaddingSpec::ExplicitOnnxPool(..)) {
            let reach = self.reach();
            bottom = bottom.max(reach.h.saturating_sub(top + input.h));
            right = right.max(reach.w.saturating_sub(left + input.w));
        }
        (Size2::new(h, w), Pad2 { top, bottom, left, right })
    }
}
