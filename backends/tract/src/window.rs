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
    /// The rows and columns that a transposed convolution adds at the end of its output: tract's adjustments. `None` for
    /// other layers.
    added: Option<Size2>,
}

impl Window {
    /// The window of a single element: of a product, which has no padding, stride or dilation.
    pub(crate) fn point() -> Self {
        let one = Size2::square(1);
        Self { kernel: one, stride: one, dilation: one, padding: PaddingSpec::Valid, axes: 2, added: None }
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
        Ok(Self { kernel, stride, dilation, padding: spec.padding.clone(), axes, added: None })
    }

    /// The window of a transposed convolution with these adjustments; otherwise why there is none.
    pub(crate) fn transposed(mut self, adjustments: &[usize]) -> Result<Self, String> {
        let added = match adjustments {
            [w] if self.axes == 1 => Size2::new(0, *w),
            [h, w] if self.axes == 2 => Size2::new(*h, *w),
            _ => return Err(format!("{} adjustments for {} axes", adjustments.len(), self.axes)),
        };
        self.added = Some(added);
        let reach = self.reach();
        let same = matches!(self.padding, PaddingSpec::SameUpper | PaddingSpec::SameLower);
        let rows_cover = self.axes == 1 || reach.h > self.stride.h;
        if same && !(rows_cover && reach.w > self.stride.w) {
            return Err(
                "a transposed convolution with SAME padding whose taps do not cover the stride".into()
            );
        }
        let (_, added) = self.cut();
        let most = |stride: usize, dilation: usize| stride.max(dilation);
        if added.h >= most(self.stride.h, self.dilation.h) || added.w >= most(self.stride.w, self.dilation.w)
        {
            return Err(
                "a transposed convolution whose output padding exceeds a stride and a dilation".into()
            );
        }
        Ok(self)
    }

    /// Whether this is the window of a transposed convolution.
    pub(crate) fn is_transposed(&self) -> bool {
        self.added.is_some()
    }

    /// What a transposed convolution cuts around its output, and the rows and columns that it adds at the end. Rows that
    /// are added and cut at the same end cancel, so that one of both is zero.
    pub(crate) fn cut(&self) -> (Pad2, Size2) {
        let (reach, given) = (self.reach(), self.added.unwrap_or(Size2::new(0, 0)));
        let of_axis = |axis: usize, reach: usize, stride: usize, given: usize| {
            let (before, after, added) = match &self.padding {
                PaddingSpec::Valid => (0, 0, given),
                PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, _) => {
                    (before[axis], after[axis], given)
                }
                PaddingSpec::SameUpper | PaddingSpec::SameLower => {
                    let cut = (reach + given).saturating_sub(stride);
                    let (less, more) = (cut / 2, cut - cut / 2);
                    let upper = self.padding == PaddingSpec::SameUpper;
                    if upper { (less, more, 0) } else { (more, less, 0) }
                }
            };
            (before, after.saturating_sub(added), added.saturating_sub(after))
        };
        let rows = if self.axes == 2 { of_axis(0, reach.h, self.stride.h, given.h) } else { (0, 0, 0) };
        let columns = of_axis(self.axes - 1, reach.w, self.stride.w, given.w);
        let pad = Pad2 { top: rows.0, bottom: rows.1, left: columns.0, right: columns.1 };
        (pad, Size2::new(rows.2, columns.2))
    }

    /// Rows and columns of the output of a transposed convolution.
    fn up<D: DimLike>(&self, input: &Extents<D>) -> (D, D) {
        let (pad, added) = self.cut();
        let reach = self.reach();
        let w =
            input.w.clone() * self.stride.w + (reach.w + added.w) - (self.stride.w + pad.left + pad.right);
        if self.axes == 1 {
            return (input.h.clone(), w);
        }
        (input.h.clone() * self.stride.h + (reach.h + added.h) - (self.stride.h + pad.top + pad.bottom), w)
    }

    /// An error if a transposed convolution cannot have an output for this input. The output can be empty.
    pub(crate) fn check(&self, input: &Extents<usize>) -> TractResult<()> {
        if self.is_transposed() {
            let [n, c, h, w] = [input.n, input.c, input.h, input.w].map(|extent| extent.to_dim());
            let (rows, columns) = self.up(&Extents { n, c, h, w });
            ensure!(
                input.h > 0 && input.w > 0,
                "Expected an image with pixels, got {} x {}",
                input.h,
                input.w
            );
            let fits = rows.to_i64()? >= 0 && columns.to_i64()? >= 0;
            ensure!(fits, "Expected less padding than output, got {rows} x {columns} pixels");
        }
        Ok(())
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

    /// Rows and columns of the output, and the padding around an input with these extents. Of a transposed convolution:
    /// what is cut around the output.
    pub(crate) fn output<D: DimLike>(&self, input: &Extents<D>) -> ((D, D), [D; 4]) {
        if self.is_transposed() {
            let (pad, _) = self.cut();
            return (self.up(input), [pad.top, pad.bottom, pad.left, pad.right].map(D::from));
        }
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
        if matches!(self.padding, PaddingSpec::ExplicitOnnxPool(..)) && !self.is_transposed() {
            let reach = self.reach();
            bottom = bottom.max(reach.h.saturating_sub(top + input.h));
            right = right.max(reach.w.saturating_sub(left + input.w));
        }
        (Size2::new(h, w), Pad2 { top, bottom, left, right })
    }
}
