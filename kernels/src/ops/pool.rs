//! [`PoolDesc`]: a checked pooling layer, and its driver.

use super::{Ops, elements, split};
use crate::describe::{
    BLOCK, ConvError, Layout, Pad2, PixelRef, Shape4, Size2, TensorOut, TensorRef, by_name, check_positive,
};
use crate::run::{Threads, check};
use crate::tile::ops_table::{PoolSpec, WIDE};
use crate::tile::output::OutputRegion;
use crate::tile::window::{AxisSpec, WindowAxis};
use crate::work::parts::SplitUnits;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Elements of the NHWC input rows that one pass keeps in the second-level cache while all blocks of channels
/// read them: half a megabyte.
const ROWS_AT_ONCE: usize = 128 << 10;

/// How a pooling window combines its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PoolKind {
    /// The largest element, or NaN if any element is NaN. Padding is never the maximum.
    Max,
    /// The mean, as PyTorch's `avg_pool2d` and ONNX's `AveragePool` define it.
    Average {
        /// Whether padding counts in the divisor. In ceil mode, elements beyond the padding never count.
        count_include_pad: bool,
    },
}

impl PoolKind {
    const ALL: [Self; 3] =
        [Self::Max, Self::Average { count_include_pad: false }, Self::Average { count_include_pad: true }];

    /// `"max"`, `"average"`, or `"average_with_pad"` where the padding counts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Average { count_include_pad: false } => "average",
            Self::Average { count_include_pad: true } => "average_with_pad",
        }
    }
}

impl fmt::Display for PoolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PoolKind {
    type Err = ConvError;

    /// By its [`name`](Self::name).
    fn from_str(text: &str) -> Result<Self, ConvError> {
        by_name("pooling", &Self::ALL, Self::name, text)
    }
}

/// A checked 2-D pooling layer. Its output is not empty, every window contains an element of the input, and
/// no size overflows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoolDesc {
    input: Shape4,
    output: Shape4,
    window: Size2,
    stride: Size2,
    pad: Pad2,
    kind: PoolKind,
    layout: Layout,
    spec: PoolSpec,
}

/// Builds a [`PoolDesc`]. [`build`](Self::build) checks all parameters.
#[derive(Debug, Clone, Copy)]
#[must_use = "call build()"]
pub struct PoolDescBuilder {
    input: Shape4,
    window: Size2,
    kind: PoolKind,
    stride: Size2,
    pad: Pad2,
    dilation: Size2,
    ceil_mode: bool,
    layout: Layout,
}

impl PoolDesc {
    /// Starts a description with stride 1, no padding, dilation 1, floor mode and NCHW.
    pub const fn builder(input: Shape4, window: Size2, kind: PoolKind) -> PoolDescBuilder {
        PoolDescBuilder {
            input,
            window,
            kind,
            stride: Size2::square(1),
            pad: Pad2::VALID,
            dilation: Size2::square(1),
            ceil_mode: false,
            layout: Layout::Nchw,
        }
    }

    /// Describes global pooling: one window covers the whole image, and the output is `N x C x 1 x 1`.
    ///
    /// # Errors
    /// Those of [`PoolDescBuilder::build`].
    pub fn global(input: Shape4, kind: PoolKind, layout: Layout) -> Result<Self, ConvError> {
        Self::builder(input, input.size(), kind).layout(layout).build()
    }

    /// Describes the sums of blocks of `factor` elements, which do not overlap: the gradient of upsampling an image to
    /// `input`.
    pub(crate) fn sums_of_blocks(input: Shape4, factor: Size2, layout: Layout) -> Result<Self, ConvError> {
        let kind = PoolKind::Average { count_include_pad: false };
        let desc = Self::builder(input, factor, kind).stride(factor).layout(layout).build()?;
        Ok(Self { spec: PoolSpec { sum: true, ..desc.spec }, ..desc })
    }

    /// The shape of the input.
    pub fn input(&self) -> Shape4 {
        self.input
    }

    /// The shape of the output.
    pub fn output(&self) -> Shape4 {
        self.output
    }

    /// Height and width of the window, without dilation.
    pub fn window(&self) -> Size2 {
        self.window
    }

    /// Input elements between neighbouring outputs.
    pub fn stride(&self) -> Size2 {
        self.stride
    }

    /// Padding around the input.
    pub fn pad(&self) -> Pad2 {
        self.pad
    }

    /// Input elements between neighbouring elements of a window.
    pub fn dilation(&self) -> Size2 {
        Size2::new(self.spec.h.dilation(), self.spec.w.dilation())
    }

    /// How a window combines its elements.
    pub fn kind(&self) -> PoolKind {
        self.kind
    }

    /// Memory layout of input and output.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn spec(&self) -> &PoolSpec {
        &self.spec
    }
}

impl fmt::Display for PoolDesc {
    /// Writes, for example, `1x64x112x112 -> 1x64x56x56 max 3x3 stride 2x2 pad 1x1 nchw16c`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PoolKind::Max => "max",
            PoolKind::Average { .. } => "average",
        };
        let Self { input, output, window, stride, pad, layout, .. } = self;
        write!(f, "{input} -> {output} {kind} {window} stride {stride} pad {pad} {layout}")
    }
}

impl PoolDescBuilder {
    /// Sets the input elements between neighbouring outputs; at least 1.
    pub const fn stride(mut self, stride: Size2) -> Self {
        self.stride = stride;
        self
    }

    /// Sets the padding around the input; on each side less than the dilated window.
    pub const fn pad(mut self, pad: Pad2) -> Self {
        self.pad = pad;
        self
    }

    /// Sets the input elements between neighbouring elements of a window; at least 1.
    pub const fn dilation(mut self, dilation: Size2) -> Self {
        self.dilation = dilation;
        self
    }

    /// Sets whether a clipped last window counts. As in PyTorch, it does not if it begins in the padding
    /// after the input.
    pub const fn ceil_mode(mut self, ceil_mode: bool) -> Self {
        self.ceil_mode = ceil_mode;
        self
    }

    /// Sets the memory layout of input and output.
    pub const fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Checks all parameters. Later code relies on the result.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] for a zero extent, and for padding or dilation with which a window could
    ///   contain only padding.
    /// - [`ConvError::EmptyOutput`] if the dilated window is larger than the padded input.
    /// - [`ConvError::SizeOverflow`] if a size overflows the address space.
    pub fn build(self) -> Result<PoolDesc, ConvError> {
        let Self { input, window, kind, stride, pad, dilation, layout, .. } = self;
        super::check_layout(layout)?;
        check_positive(&[
            ("input.n", input.n),
            ("input.c", input.c),
            ("input.h", input.h),
            ("input.w", input.w),
            ("window.h", window.h),
            ("window.w", window.w),
            ("stride.h", stride.h),
            ("stride.w", stride.w),
            ("dilation.h", dilation.h),
            ("dilation.w", dilation.w),
        ])?;
        let (h, w) = self.axes();
        let (Some(h), Some(w)) = (WindowAxis::new(&h)?, WindowAxis::new(&w)?) else {
            // `WindowAxis::new` has checked that these sums do not overflow.
            let extent = |k: usize, d: usize| (k - 1) * d + 1;
            return Err(ConvError::EmptyOutput {
                padded_input: Size2::new(input.h + pad.top + pad.bottom, input.w + pad.left + pad.right),
                dilated_kernel: Size2::new(extent(window.h, dilation.h), extent(window.w, dilation.w)),
            });
        };
        let output = Shape4::new(input.n, input.c, h.output(), w.output());
        // Nchw16c with its padding lanes is the largest layout. If it fits, all layouts fit.
        input.len(Layout::Nchw16c)?;
        output.len(Layout::Nchw16c)?;
        let count_include_pad = kind == PoolKind::Average { count_include_pad: true };
        let spec = PoolSpec { h, w, max: kind == PoolKind::Max, count_include_pad, sum: false };
        Ok(PoolDesc { input, output, window, stride, pad, kind, layout, spec })
    }

    fn axes(&self) -> (AxisSpec, AxisSpec) {
        let h = AxisSpec {
            pads: ["pad.top", "pad.bottom"],
            dilation_name: "dilation.h",
            input: self.input.h,
            kernel: self.window.h,
            stride: self.stride.h,
            dilation: self.dilation.h,
            before: self.pad.top,
            after: self.pad.bottom,
            ceil: self.ceil_mode,
        };
        let w = AxisSpec {
            pads: ["pad.left", "pad.right"],
            dilation_name: "dilation.w",
            input: self.input.w,
            kernel: self.window.w,
            stride: self.stride.w,
            dilation: self.dilation.w,
            before: self.pad.left,
            after: self.pad.right,
            ceil: self.ceil_mode,
        };
        (h, w)
    }
}

impl Ops {
    /// Pools `input` into `output`. It writes every element, and sets the padding lanes of Nchw16c to zero.
    ///
    /// # Errors
    /// [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] if a tensor does not match `desc`. The
    /// output is unchanged then.
    pub fn pool<'a>(
        &self,
        desc: &PoolDesc,
        input: TensorRef<'_>,
        output: impl Into<TensorOut<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let output = output.into();
        check("input", (desc.input, desc.layout), (input.shape(), input.layout()))?;
        check("output", (desc.output, desc.layout), (output.shape(), output.layout()))?;
        let input = input.pixels();
        let region = OutputRegion::new(output, false);
        let channels = match desc.layout {
            Layout::Nchw => 1,
            Layout::Nhwc if desc.spec.is_global() => WIDE,
            Layout::Nhwc | Layout::Nchw16c | Layout::Nchw32cBf16 => BLOCK,
        };
        // Parts are whole rows, because the windows of a row share their vertical clipping.
        let split_units = SplitUnits::new(desc.output.w, channels);
        let per_output = if desc.spec.is_global() {
            desc.input.h as u64 * desc.input.w as u64
        } else {
            (desc.window.h as u64).saturating_mul(desc.window.w as u64)
        };
        let work = elements(desc.output).saturating_mul(per_output);
        split(region, split_units, work, threads, &|region| self.pool_region(&desc.spec, &input, region));
        Ok(())
    }

    fn pool_region(&self, spec: &PoolSpec, input: &PixelRef<'_>, mut region: OutputRegion<'_>) {
        let width = spec.w.output();
        let (p, channels) = (region.pixels.clone(), region.channels.clone());
        let y = p.start / width..p.end / width;
        let PixelRef { data, view } = input;
        for n in region.images.clone() {
            let from = |c: usize| &data[view.offset(n, c, 0)..];
            match view.layout {
                Layout::Nchw => {
                    let out = region.channels_as_rows(n, channels.clone(), p.clone());
                    self.kernels.ops.pool_planes(spec, from(channels.start), view.plane, y.clone(), out);
                }
                // Few enough rows at a time that all blocks of channels find them in the second-level cache.
                Layout::Nhwc => {
                    let row = (spec.w.input() * view.pixel).saturating_mul(spec.h.stride());
                    let step = (ROWS_AT_ONCE / row).max(1);
                    for first in y.clone().step_by(step) {
                        let rows = first..y.end.min(first + step);
                        self.pool_blocks(spec, input, &mut region, n, rows);
                    }
                }
                Layout::Nchw16c | Layout::Nchw32cBf16 => {
                    self.pool_blocks(spec, input, &mut region, n, y.clone())
                }
            }
        }
        region.zero_padding_lanes();
    }

    /// Pools output rows `y` of all channels of the region, block by block.
    fn pool_blocks(
        &self,
        spec: &PoolSpec,
        input: &PixelRef<'_>,
        region: &mut OutputRegion<'_>,
        n: usize,
        y: Range<usize>,
    ) {
        let PixelRef { data, view } = input;
        let (width, channels) = (spec.w.output(), region.channels.clone());
        let wide = view.layout == Layout::Nhwc && spec.is_global();
        let mut c = channels.start;
        while c < channels.end {
            let left = channels.end - c;
            let columns = if wide && left >= WIDE { WIDE } else { left.min(BLOCK) };
            let out = region.channels_as_columns(n, y.start * width..y.end * width, c, 0..columns);
            let from = &data[view.offset(n, c, 0)..];
            self.kernels.ops.pool_block(spec, from, view.pixel, y.clone(), out);
            c += columns;
        }
    }
}
