//! One file per algorithm: its packer (step 3) and its driver (step 4) side by side, for they share a data layout.
//!
//! A driver is sequential. It computes one [`OutputRegion`], a box of the output that it alone may write, with one
//! slab of workspace; `run/threads.rs` cuts the output into boxes and calls it on each.

pub(crate) mod depthwise;
pub(crate) mod direct;
pub(crate) mod fft;
pub(crate) mod gemm;
pub(crate) mod gemm_schedule;
pub(crate) mod grid;
pub(crate) mod im2col;
mod operands;
pub(crate) mod packed;
pub(crate) mod pixels;
pub(crate) mod planes;
pub(crate) mod pointwise;
pub(crate) mod reference;
pub(crate) mod winograd;

use crate::describe::{
    Algorithm, AlgorithmKind, BLOCK, ConvDesc, ConvError, PixelView, Unsupported, Weights,
};
use crate::simd::LINE;
use crate::tile::output::OutputRegion;
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
use crate::work::prices::Typical;
use crate::work::{PlanEstimate, ThreadShare};
pub(crate) use operands::Operands;
use std::ops::Range;

impl Algorithm {
    /// Whether this algorithm can do `desc`, or why not.
    ///
    /// # Errors
    /// The reason.
    pub fn supports(self, desc: &ConvDesc) -> Result<(), Unsupported> {
        match self.kind() {
            AlgorithmKind::Reference | AlgorithmKind::Im2colGemm => Ok(()),
            AlgorithmKind::Pointwise => pointwise::supports(desc),
            AlgorithmKind::Direct => direct::supports(desc),
            AlgorithmKind::Depthwise => depthwise::supports(desc),
            AlgorithmKind::Winograd(outputs) => winograd::supports(desc, outputs),
            AlgorithmKind::Fft => fft::supports(desc),
        }
    }
}

/// A prepared algorithm, its weights packed: one variant per driver.
pub(crate) enum Driver {
    Reference(reference::Reference),
    Gemm(gemm::GemmConv),
    Direct(direct::DirectConv),
    Depthwise(depthwise::Depthwise),
    Winograd(Box<winograd::WinogradConv>),
    Fft(Box<fft::FftConv>),
}

/// Packs `weights` for `algorithm`, which must support `desc`, as it cuts it for a `typical` machine. The filter may be empty if it [`takes_parts`].
pub(crate) fn prepare(
    algorithm: Algorithm,
    desc: &ConvDesc,
    weights: &Weights<'_>,
    kernels: &'static KernelSet,
    typical: &Typical,
) -> Result<Driver, ConvError> {
    let gemm = |schedule| Ok(Driver::Gemm(gemm::GemmConv::new(desc, weights, schedule)?));
    let mut driver = match algorithm.kind() {
        AlgorithmKind::Reference => Driver::Reference(reference::Reference::new(desc, weights)?),
        AlgorithmKind::Im2colGemm => gemm(im2col::schedule(desc, kernels))?,
        AlgorithmKind::Pointwise => gemm(pointwise::schedule(desc, kernels))?,
        AlgorithmKind::Direct => Driver::Direct(direct::DirectConv::new(desc, weights, kernels)?),
        AlgorithmKind::Depthwise => Driver::Depthwise(depthwise::Depthwise::new(desc, weights, kernels)?),
        AlgorithmKind::Winograd(outputs) => {
            Driver::Winograd(Box::new(winograd::WinogradConv::new(desc, weights, outputs, kernels)?))
        }
        AlgorithmKind::Fft => Driver::Fft(Box::new(fft::FftConv::new(desc, weights, kernels, typical)?)),
    };
    if takes_parts(algorithm) && !weights.filter.is_empty() {
        driver.fill(0..desc.output().c, weights.filter)?;
    }
    Ok(driver)
}

/// Whether [`prepare`] can do without a filter, which is then given in parts: [`Driver::fill`].
pub(crate) fn takes_parts(algorithm: Algorithm) -> bool {
    !matches!(algorithm.kind(), AlgorithmKind::Reference | AlgorithmKind::Depthwise | AlgorithmKind::Fft)
}

/// What [`prepare`] would need and do, with nothing packed: `algorithm` must support `desc`.
pub(crate) fn estimate(
    algorithm: Algorithm,
    desc: &ConvDesc,
    kernels: &'static KernelSet,
    share: &ThreadShare,
) -> PlanEstimate {
    let mut estimate = match algorithm.kind() {
        AlgorithmKind::Reference => reference::estimate(desc, share),
        AlgorithmKind::Im2colGemm => im2col::schedule(desc, kernels).estimate(desc, share),
        AlgorithmKind::Pointwise => pointwise::schedule(desc, kernels).estimate(desc, share),
        AlgorithmKind::Direct => direct::estimate(desc, kernels, share),
        AlgorithmKind::Depthwise => depthwise::estimate(desc, kernels, share),
        AlgorithmKind::Winograd(outputs) => winograd::estimate(desc, outputs, kernels, share),
        AlgorithmKind::Fft => fft::estimate(desc, kernels, share),
    };
    estimate.workspace_len = whole_lines(estimate.workspace_len);
    estimate
}

/// Slabs begin at whole cache lines.
fn whole_lines(len: usize) -> usize {
    len.checked_next_multiple_of(LINE).unwrap_or(usize::MAX)
}

impl Driver {
    /// Packs the filters of some output channels into a plan that was made without any, of an algorithm that
    /// [`takes_parts`].
    pub(crate) fn fill(&mut self, channels: Range<usize>, filters: &[f32]) -> Result<(), ConvError> {
        match self {
            Self::Gemm(gemm) => gemm.fill(channels, filters),
            Self::Direct(direct) => direct.fill(channels, filters),
            Self::Winograd(winograd) => winograd.fill(channels, filters),
            Self::Reference(_) | Self::Depthwise(_) | Self::Fft(_) => Ok(()),
        }
    }

    /// Whether all images may be treated as one long row of pixels, given the views of the actual tensors.
    pub(crate) fn merges(&self, views: &[PixelView]) -> bool {
        match self {
            Self::Reference(_) | Self::Direct(_) | Self::Depthwise(_) | Self::Winograd(_) | Self::Fft(_) => {
                false
            }
            Self::Gemm(gemm) => gemm.merges(views),
        }
    }

    pub(crate) fn split_units(&self) -> SplitUnits {
        match self {
            Self::Reference(_) => SplitUnits::new(1, 1),
            Self::Gemm(gemm) => gemm.split_units(),
            Self::Direct(direct) => direct.split_units(),
            Self::Depthwise(depthwise) => depthwise.split_units(),
            Self::Winograd(winograd) => winograd.split_units(),
            Self::Fft(fft) => fft.split_units(),
        }
    }

    /// Computes one box of the output; whoever has the last channel writes the lanes of Nchw16c after it.
    pub(crate) fn run(&self, operands: &Operands<'_>, mut region: OutputRegion<'_>, slab: &mut [f32]) {
        let columns = match self {
            Self::Reference(reference) => {
                reference.run(operands, &mut region);
                1
            }
            Self::Gemm(gemm) => {
                gemm.run(operands, &mut region, slab);
                gemm.schedule.tile.columns()
            }
            Self::Direct(direct) => {
                direct.run(operands, &mut region, slab);
                direct.tile().columns()
            }
            Self::Depthwise(depthwise) => {
                depthwise.run(operands, &mut region);
                depthwise.kernels().lanes()
            }
            Self::Winograd(winograd) => {
                winograd.run(operands, &mut region, slab);
                winograd.kernels().columns()
            }
            Self::Fft(fft) => {
                fft.run(operands, &mut region, slab);
                BLOCK
            }
        };
        // Tiles write zeros to the end of the last channel's block, unless they are narrower than it.
        if columns < BLOCK {
            region.zero_padding_lanes();
        }
    }

    /// Elements of workspace per thread, a whole number of cache lines.
    pub(crate) fn workspace_len(&self) -> usize {
        match self {
            Self::Reference(_) | Self::Depthwise(_) => 0,
            Self::Gemm(gemm) => whole_lines(gemm.workspace_len()),
            Self::Direct(direct) => whole_lines(direct.workspace_len()),
            Self::Winograd(winograd) => whole_lines(winograd.workspace_len()),
            Self::Fft(fft) => whole_lines(fft.workspace_len()),
        }
    }

    pub(crate) fn packed_bytes(&self) -> usize {
        match self {
            Self::Reference(reference) => reference.packed_bytes(),
            Self::Gemm(gemm) => gemm.weights.bytes(),
            Self::Direct(direct) => direct.packed_bytes(),
            Self::Depthwise(depthwise) => depthwise.packed_bytes(),
            Self::Winograd(winograd) => winograd.packed_bytes(),
            Self::Fft(fft) => fft.packed_bytes(),
        }
    }

    pub(crate) fn kernel_name(&self) -> &'static str {
        match self {
            Self::Reference(_) => "reference_f64",
            Self::Gemm(gemm) => gemm.schedule.tile.name(),
            Self::Direct(direct) => direct.tile().name(),
            Self::Depthwise(depthwise) => depthwise.kernels().name(),
            Self::Winograd(winograd) => winograd.kernels().name(),
            Self::Fft(fft) => fft.kernels().name(),
        }
    }
}
