//! The gradient of a filter and of a bias:
//!
//! ```text
//! gw[o, c, kh, kw] = sum over n, y, x of go[n, o, y, x] * input[n, c, y * stride + kh * dilation - top, ...]
//! gb[o] = sum over n, y, x of go[n, o, y, x]
//! ```
//!
//! It is a matrix product over pixels. Its result is small and its sum is long, so the sum is cut:
//!
//! ```text
//! for chunk of the pixels of all images:           // as many as the problem needs, whatever the number of threads
//!     for block of the filter:                     // its sums stay in the second-level cache
//!         for stretch of the chunk:                // about a hundred pixels, whose sums stay in registers
//!             sums += gradients of the stretch * windows of the stretch
//!         write the sums as partial sums of the chunk
//! add the partial sums of all chunks in pairs      // a second pass, if there are several
//! ```
//!
//! The filter is one matrix, `[o][c * kh * kw]`. Threads split it, and the chunks. They never split a sum.

mod blocks;
mod depthwise;
mod edges;
mod gemm;
mod gradients;
mod parts;
mod reference;
mod sums;
mod taps;
mod windows;
mod winograd;
mod work;

use crate::algo::direct::groups_fit_blocks;
use crate::describe::{
    Algorithm, AlgorithmKind, BLOCK, ConvDesc, Layout, Method, Pad2, PixelRef, Products, Shape4, Size2,
    Unsupported,
};
use crate::simd::LINE;
use crate::tile::output::OutputRegion;
use crate::tile::table::KernelSet;
use crate::work::parts::{Axis, Region, SplitUnits};
use depthwise::DepthwiseGradient;
use gemm::GemmGradient;
use parts::PartsGradient;
use std::ops::Range;
pub(crate) use sums::add_partials;
use taps::TapsGradient;
use windows::{MOST_PIXELS_OF_ONE_TAP, Windows, chunks_of, part_of};
use winograd::WinogradGradient;
pub(crate) use work::WeightsWork;

/// The tensors that a driver reads. If the windows are merged, so are the views.
#[derive(Clone, Copy)]
pub(crate) struct WeightsOperands<'a> {
    pub(crate) input: PixelRef<'a>,
    pub(crate) grad_output: PixelRef<'a>,
}

/// A box of the gradients of one part. Images are chunks. Pixels are the taps of an output channel, `(c, kh, kw)`.
pub(crate) struct GradientRegion<'a> {
    pub(crate) filter: OutputRegion<'a>,
    /// The gradient of the bias of the same channels. Of several boxes that share channels, the one with the first
    /// tap has it.
    pub(crate) bias: Option<OutputRegion<'a>>,
}

impl Region for GradientRegion<'_> {
    fn len(&self, axis: Axis) -> usize {
        self.filter.len(axis)
    }

    fn split(self, axis: Axis, count: usize) -> (Self, Self) {
        let (first, second) = self.filter.split(axis, count);
        let (of_first, of_second) = match (axis, self.bias) {
            (_, None) => (None, None),
            (Axis::Pixels, bias) => (bias, None),
            (Axis::Images | Axis::Channels, Some(bias)) => {
                let (first, second) = bias.split(axis, count);
                (Some(first), Some(second))
            }
        };
        (Self { filter: first, bias: of_first }, Self { filter: second, bias: of_second })
    }
}

/// A prepared gradient of a filter.
pub(crate) struct WeightsGradient {
    desc: ConvDesc,
    windows: Windows,
    kernels: &'static KernelSet,
    /// Number of chunks. Each has partial sums of its own.
    pub(crate) chunks: usize,
    /// Number of stretches of all images.
    stretches: usize,
    driver: WeightsDriver,
}

enum WeightsDriver {
    Reference,
    Gemm(GemmGradient),
    Parts(PartsGradient),
    Taps(TapsGradient),
    Depthwise(DepthwiseGradient),
    Winograd(WinogradGradient),
}

/// Bytes of both tensors from which they come from memory.
const FAR: usize = 16 << 20;

/// Whether the tensors come from memory, and not from a cache.
fn are_far(desc: &ConvDesc) -> bool {
    let len = |shape: Shape4, layout| shape.len(layout).unwrap_or(usize::MAX);
    let read = len(desc.input(), desc.layout()).saturating_add(len(desc.output(), desc.output_layout()));
    read > FAR / size_of::<f32>()
}

/// Whether `method` can compute the gradient of any filter. With bf16 products, every problem is a matrix product with packed
/// windows.
pub(crate) fn exists(method: Method) -> bool {
    method.products == Products::F32 || method.algorithm == Algorithm::Im2colGemm
}

/// Whether `method` can compute the gradient of the filter of `desc`.
///
/// # Errors
/// The reason why it cannot.
pub(crate) fn supports(method: Method, desc: &ConvDesc) -> Result<(), Unsupported> {
    if !exists(method) {
        return Err(Unsupported::OnlyF32);
    }
    if [desc.layout(), desc.output_layout()].contains(&Layout::Nchw32cBf16) {
        return Err(Unsupported::Bf16Layout);
    }
    match method.algorithm {
        Algorithm::Reference | Algorithm::Im2colGemm | Algorithm::Direct => Ok(()),
        Algorithm::Pointwise if desc.kernel() == Size2::square(1) && desc.pad() == Pad2::VALID => Ok(()),
        Algorithm::Pointwise => Err(Unsupported::NotPointwise),
        Algorithm::Depthwise if desc.ins() == 1 => Ok(()),
        Algorithm::Depthwise => Err(Unsupported::SeveralInputs),
        Algorithm::Winograd4x2 | Algorithm::Fft => Err(Unsupported::NoWeightsGradient),
        algorithm => supports_winograd(algorithm, desc),
    }
}

/// Each Winograd algorithm computes filters whose phases have as many taps along an axis as its name says. Blocks of transformed
/// channels must not span two groups.
fn supports_winograd(algorithm: Algorithm, desc: &ConvDesc) -> Result<(), Unsupported> {
    match algorithm.kind() {
        AlgorithmKind::Winograd(taps) if winograd::taps_of(desc)? == taps.h => groups_fit_blocks(desc),
        _ => Err(Unsupported::NotWinograd),
    }
}

impl WeightsGradient {
    /// Makes the driver of `method`, which must support `desc`.
    pub(crate) fn new(method: Method, desc: &ConvDesc, kernels: &'static KernelSet) -> Self {
        let mut windows = Windows::new(desc);
        let driver = match method.algorithm {
            Algorithm::Reference => WeightsDriver::Reference,
            Algorithm::Im2colGemm if method.products == Products::F32 => {
                WeightsDriver::Gemm(GemmGradient::new(desc, kernels))
            }
            Algorithm::Im2colGemm => {
                WeightsDriver::Parts(PartsGradient::new(method.products, desc, &windows, kernels))
            }
            Algorithm::Depthwise => {
                WeightsDriver::Depthwise(DepthwiseGradient::new(desc, &windows, &kernels.gradient.depthwise))
            }
            Algorithm::Pointwise | Algorithm::Direct => {
                if windows.taps() == 1 && desc.output_layout() != Layout::Nchw {
                    windows.most_pixels = MOST_PIXELS_OF_ONE_TAP;
                }
                WeightsDriver::Taps(TapsGradient::new(desc, &windows, &kernels.gradient.taps))
            }
            _ => WeightsDriver::Winograd(WinogradGradient::new(desc, kernels)),
        };
        let stretches = match &driver {
            WeightsDriver::Reference => 1,
            WeightsDriver::Gemm(_) | WeightsDriver::Parts(_) | WeightsDriver::Taps(_) => windows.stretches(),
            WeightsDriver::Depthwise(depthwise) => depthwise.boxes(&windows),
            WeightsDriver::Winograd(winograd) => winograd.stretches(),
        };
        let gradient = Self { desc: *desc, windows, kernels, chunks: 1, stretches, driver };
        let chunks = chunks_of(stretches, gradient.units(), desc.filter_len());
        Self { chunks, ..gradient }
    }

    /// The stretches of a chunk.
    fn stretches_of(&self, chunk: usize) -> Range<usize> {
        part_of(self.stretches, chunk, self.chunks)
    }

    /// Cuts output channels where groups end. Each part comes with its group.
    fn in_groups(&self, channels: &Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let (outs, Range { start, end }) = (self.desc.outs(), channels.clone());
        let part = move |group| (group, start.max(group * outs)..end.min((group + 1) * outs));
        self.desc.groups_of(channels).map(part)
    }

    /// Whether the views of the tensors are merged.
    pub(crate) fn merged(&self) -> bool {
        self.windows.merged
    }

    /// Taps of an output channel.
    pub(crate) fn taps(&self) -> usize {
        self.desc.taps()
    }

    /// Where the filter can be split: between panels of output channels, and between blocks of input channels.
    pub(crate) fn split_units(&self) -> SplitUnits {
        let block = BLOCK.min(self.desc.ins()) * self.windows.taps();
        match &self.driver {
            WeightsDriver::Reference => SplitUnits::new(1, 1),
            WeightsDriver::Gemm(gemm) => SplitUnits::new(block, gemm.columns()),
            WeightsDriver::Parts(parts) => SplitUnits::new(block, parts.columns()),
            WeightsDriver::Taps(taps) => SplitUnits::new(block, taps.columns()),
            WeightsDriver::Depthwise(_) => SplitUnits::new(self.windows.taps(), BLOCK),
            WeightsDriver::Winograd(winograd) => SplitUnits::new(block, winograd.columns()),
        }
    }

    /// Number of units into which the filter can be split.
    fn units(&self) -> usize {
        let units = self.split_units();
        let panels = self.desc.output().c.div_ceil(units.channels);
        let panels = if self.shares_panels() { panels } else { panels.max(self.desc.groups()) };
        panels.saturating_mul(self.taps().div_ceil(units.pixels))
    }

    /// Whether a panel of output channels can have several groups.
    fn shares_panels(&self) -> bool {
        matches!(self.driver, WeightsDriver::Depthwise(_))
    }

    /// Elements of workspace per thread, a whole number of cache lines.
    pub(crate) fn workspace_len(&self) -> usize {
        let len = match &self.driver {
            WeightsDriver::Reference => 0,
            WeightsDriver::Gemm(gemm) => gemm.workspace_len(&self.windows),
            WeightsDriver::Parts(parts) => parts.workspace_len(),
            WeightsDriver::Taps(taps) => taps.workspace_len(&self.windows),
            WeightsDriver::Depthwise(depthwise) => depthwise.workspace_len(&self.windows),
            WeightsDriver::Winograd(winograd) => winograd.workspace_len(self),
        };
        len.checked_next_multiple_of(LINE).unwrap_or(usize::MAX)
    }

    /// Whether the sums of a run are partial sums, which are added by a second pass.
    pub(crate) fn is_partial(&self, accumulate: bool) -> bool {
        self.chunks > 1 || accumulate
    }

    /// Elements of the partial sums of all chunks, with those of the bias, if there are any.
    pub(crate) fn shared_len(&self, accumulate: bool) -> usize {
        if !self.is_partial(accumulate) {
            return 0;
        }
        let of_chunk = self.taps().saturating_add(1).saturating_mul(self.desc.output().c);
        self.chunks.saturating_mul(of_chunk).checked_next_multiple_of(LINE).unwrap_or(usize::MAX)
    }

    pub(crate) fn kernel_name(&self) -> &'static str {
        match &self.driver {
            WeightsDriver::Reference => "reference_f64",
            WeightsDriver::Gemm(gemm) => gemm.tile.name(),
            WeightsDriver::Parts(parts) => parts.kernel_name(),
            WeightsDriver::Taps(taps) => taps.tile.name(),
            WeightsDriver::Depthwise(depthwise) => depthwise.tile.name(),
            WeightsDriver::Winograd(winograd) => winograd.tile.name(),
        }
    }

    /// Computes one box of the partial sums.
    pub(crate) fn run(
        &self,
        operands: &WeightsOperands<'_>,
        mut region: GradientRegion<'_>,
        slab: &mut [f32],
    ) {
        match &self.driver {
            WeightsDriver::Reference => reference::run(&self.desc, operands, &mut region),
            WeightsDriver::Gemm(gemm) => gemm.run(self, operands, &mut region, slab),
            WeightsDriver::Parts(parts) => parts.run(self, operands, &mut region, slab),
            WeightsDriver::Taps(taps) => taps.run(self, operands, &mut region, slab),
            WeightsDriver::Depthwise(depthwise) => depthwise.run(self, operands, &mut region, slab),
            WeightsDriver::Winograd(winograd) => winograd.run(self, operands, &mut region, slab),
        }
    }
}
