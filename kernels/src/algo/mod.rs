//! One file per algorithm: its packer (step 3) and its driver (step 4) side by side, for they share a data layout.
//!
//! A driver is sequential. It computes one [`OutputRegion`], a box of the output that it alone may write, with one
//! slab of workspace; `run/threads.rs` cuts the output into boxes and calls it on each.

mod algorithm;
pub(crate) mod depthwise;
pub(crate) mod direct;
pub(crate) mod fft;
pub(crate) mod gemm;
pub(crate) mod gemm_cut;
pub(crate) mod grid;
pub(crate) mod im2col;
pub(crate) mod pixels;
pub(crate) mod planes;
pub(crate) mod pointwise;
pub(crate) mod reference;
pub(crate) mod winograd;

use crate::describe::{BLOCK, ConvDesc, PixelRef, PixelView, Weights};
use crate::tile::output::{OutputRegion, TileAt};
use crate::tile::table::KernelSet;
use crate::work::parts::Grain;
use crate::work::{Share, Sketch};
pub(crate) use algorithm::Kind;
pub use algorithm::{Algorithm, Algorithms, Unsupported};
use std::ops::Range;

/// A planned algorithm: one variant per driver.
pub(crate) enum PlanKind {
    Reference(reference::Reference),
    Gemm(gemm::GemmConv),
    Direct(direct::DirectConv),
    Depthwise(depthwise::Depthwise),
    Winograd(Box<winograd::WinogradConv>),
    Fft(Box<fft::FftConv>),
}

/// Plans `algorithm`, which must support `desc`. The filter may be empty if it [`takes_parts`].
pub(crate) fn plan(
    algorithm: Algorithm,
    desc: &ConvDesc,
    weights: &Weights<'_>,
    kernels: &'static KernelSet,
) -> PlanKind {
    let gemm = |cut| PlanKind::Gemm(gemm::GemmConv::new(desc, weights, cut));
    match algorithm.kind() {
        Kind::Reference => PlanKind::Reference(reference::Reference::new(desc, weights)),
        Kind::Im2colGemm => gemm(im2col::cut(desc, kernels)),
        Kind::Pointwise => gemm(pointwise::cut(desc, kernels)),
        Kind::Direct => PlanKind::Direct(direct::DirectConv::new(desc, weights, kernels)),
        Kind::Depthwise => PlanKind::Depthwise(depthwise::plan(desc, weights, kernels)),
        Kind::Winograd(outputs) => {
            PlanKind::Winograd(Box::new(winograd::WinogradConv::new(desc, weights, outputs, kernels)))
        }
        Kind::Fft => PlanKind::Fft(Box::new(fft::FftConv::new(desc, weights, kernels))),
    }
}

/// Whether [`plan`] can do without a filter, which is then given in parts: [`PlanKind::fill`].
pub(crate) fn takes_parts(algorithm: Algorithm) -> bool {
    !matches!(algorithm.kind(), Kind::Reference | Kind::Depthwise | Kind::Fft)
}

/// What [`plan`] would need and do, with nothing packed: `algorithm` must support `desc`.
pub(crate) fn sketch(
    algorithm: Algorithm,
    desc: &ConvDesc,
    kernels: &'static KernelSet,
    share: &Share,
) -> Sketch {
    let mut sketch = match algorithm.kind() {
        Kind::Reference => reference::sketch(desc, share),
        Kind::Im2colGemm => im2col::cut(desc, kernels).sketch(desc, share),
        Kind::Pointwise => pointwise::cut(desc, kernels).sketch(desc, share),
        Kind::Direct => direct::sketch(desc, kernels, share),
        Kind::Depthwise => depthwise::sketch(desc, kernels, share),
        Kind::Winograd(outputs) => winograd::sketch(desc, outputs, kernels, share),
        Kind::Fft => fft::sketch(desc, kernels, share),
    };
    sketch.workspace_len = sketch.workspace_len.next_multiple_of(LINE);
    sketch
}

/// Elements of a cache line: slabs begin at whole ones.
const LINE: usize = 16;

/// What a driver reads besides its weights.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub(crate) input: PixelRef<'a>,
    pub(crate) residual: Option<PixelRef<'a>>,
}

impl<'a> Operands<'a> {
    /// The residual of outputs from pixel `p` of image `n` on, channels from `channel` on as columns.
    pub(crate) fn residual_as_columns(
        &self,
        n: usize,
        p: usize,
        channel: usize,
    ) -> Option<(&'a [f32], TileAt)> {
        self.residual.map(|r| (r.data, TileAt::channels_as_columns(&r.view, n, p, channel)))
    }

    /// The same, channels as rows.
    pub(crate) fn residual_as_rows(&self, n: usize, p: usize, channel: usize) -> Option<(&'a [f32], TileAt)> {
        self.residual.map(|r| (r.data, TileAt::channels_as_rows(&r.view, n, p, channel)))
    }
}

impl PlanKind {
    /// Packs the filters of some output channels into a plan that was made without any, of an algorithm that
    /// [`takes_parts`].
    pub(crate) fn fill(&mut self, channels: Range<usize>, filters: &[f32]) {
        match self {
            Self::Gemm(gemm) => gemm.fill(channels, filters),
            Self::Direct(direct) => direct.fill(channels, filters),
            Self::Winograd(winograd) => winograd.fill(channels, filters),
            Self::Reference(_) | Self::Depthwise(_) | Self::Fft(_) => {}
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

    pub(crate) fn grain(&self) -> Grain {
        match self {
            Self::Reference(_) => Grain::new(1, 1),
            Self::Gemm(gemm) => gemm.grain(),
            Self::Direct(direct) => direct.grain(),
            Self::Depthwise(depthwise) => depthwise.grain(),
            Self::Winograd(winograd) => winograd.grain(),
            Self::Fft(fft) => fft.grain(),
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
                gemm.cut.tile.columns()
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
            Self::Gemm(gemm) => gemm.workspace_len().next_multiple_of(LINE),
            Self::Direct(direct) => direct.workspace_len().next_multiple_of(LINE),
            Self::Winograd(winograd) => winograd.workspace_len().next_multiple_of(LINE),
            Self::Fft(fft) => fft.workspace_len().next_multiple_of(LINE),
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
            Self::Gemm(gemm) => gemm.cut.tile.name(),
            Self::Direct(direct) => direct.tile().name(),
            Self::Depthwise(depthwise) => depthwise.kernels().name(),
            Self::Winograd(winograd) => winograd.kernels().name(),
            Self::Fft(fft) => fft.kernels().name(),
        }
    }
}
