//! [`KernelSet`]: one table of function pointers per instruction set, behind safe, length-checked calls.
//!
//! A set is handed out by [`KernelSet::get`] only after its features were detected, and its tables are private:
//! so a call through it never meets a CPU without them.

use super::boundary::{self, Entry};
use super::depthwise_table::{DepthwiseKernels, depthwise_kernels};
use super::direct_table::{DirectTile, direct_tile};
use super::fft_table::{FftKernels, fft_kernels};
use super::gemm_table::{GemmTile, tile};
use super::measure::{require, span_of_rows};
use super::ops_table::{OpsTable, ops_table};
use super::output::{OutTile, TileAt};
use super::store::{ActivateSums, Place, SumsArgs, Target};
use super::winograd_table::{WinogradKernels, winograd_kernels};
use crate::describe::{Activation, Isa};

/// The kernels of one instruction set.
pub struct KernelSet {
    pub(crate) isa: Isa,
    /// Register tiles of the GEMM; the first is the default, the last is for at most two rows.
    pub(crate) gemm: &'static [GemmTile],
    /// The register tile of direct convolution.
    pub(crate) direct: DirectTile,
    /// Kernels of depthwise convolution and of small groups.
    pub(crate) depthwise: DepthwiseKernels,
    /// Kernels of Winograd convolution.
    pub(crate) winograd: WinogradKernels,
    /// Kernels of convolution by Fourier transforms.
    pub(crate) fft: FftKernels,
    /// Kernels of the layers that are not convolutions.
    pub(crate) ops: OpsTable,
}

/// The extents of a register tile.
pub(crate) struct TileShape {
    /// Pixels (of a GEMM: rows) at most.
    pub(crate) rows: usize,
    /// Numbers of vectors that there are kernels for, ascending.
    pub(crate) vectors: &'static [usize],
    /// Elements of a vector.
    pub(crate) lanes: usize,
}

impl TileShape {
    /// Columns of the whole tile.
    pub(crate) fn columns(&self) -> usize {
        self.vectors[self.vectors.len() - 1] * self.lanes
    }

    /// Which of the widths is one of `columns`, whole vectors that there are kernels for.
    ///
    /// # Panics
    /// If there are none: a defect of this library.
    pub(super) fn index_of(&self, columns: usize) -> usize {
        let width = self.vectors.iter().position(|vectors| vectors * self.lanes == columns);
        width.expect("a width of the table")
    }

    /// The narrowest whole width that covers `columns`, or the whole tile's.
    pub(crate) fn columns_for(&self, columns: usize) -> usize {
        let mut widths = self.vectors.iter().map(|vectors| vectors * self.lanes);
        widths.find(|&width| columns <= width).unwrap_or(self.columns())
    }
}

/// `n` cut into the fewest parts of at most `most`, as even as can be: the length of the longest, which is the first.
pub(crate) fn even(n: usize, most: usize) -> usize {
    n.div_ceil(n.div_ceil(most))
}

/// What surrounds the product: one number per channel before, an activation after.
#[derive(Clone, Copy)]
pub(crate) struct Post<'a> {
    /// Bias of the tile's channels, empty if there is none.
    pub(crate) bias: &'a [f32],
    /// PReLU slopes of the tile's channels, empty if there are none.
    pub(crate) slope: &'a [f32],
    /// Whether channels are rows rather than columns.
    pub(crate) per_row: bool,
    pub(crate) activation: Activation,
    /// The residual and where in it the tile begins.
    pub(crate) residual: Option<(&'a [f32], TileAt)>,
    /// Whether this is the first block of K: the sums start from the bias, and are not added to the output.
    pub(crate) first: bool,
    /// Whether this is the last block of K: residual and activation apply.
    pub(crate) last: bool,
}

impl Post<'_> {
    /// The end of a tile of `width` columns in `out`.
    ///
    /// # Panics
    /// If the numbers of its channels or the residual are too short: a defect of this library.
    pub(super) fn target(&self, out: &OutTile<'_>, width: usize, activate: Entry<SumsArgs>) -> Target {
        let OutTile { place, rows, lo, hi, zeros, .. } = *out;
        let channels = if self.per_row { rows } else { width };
        for (operand, numbers) in [("bias", self.bias), ("slopes", self.slope)] {
            require(operand, if numbers.is_empty() { 0 } else { channels }, numbers.len());
        }
        let pointer = |numbers: &[f32]| if numbers.is_empty() { std::ptr::null() } else { numbers.as_ptr() };
        let residual = match self.residual {
            None => Place { base: std::ptr::null(), row: 0, block: 0 },
            Some((data, at)) => {
                let needed = span_of_rows((rows, at.row), (hi, at.block)).saturating_add(at.offset);
                require("residual", needed, data.len());
                Place { base: data.as_ptr().wrapping_add(at.offset), row: at.row, block: at.block }
            }
        };
        Target {
            out: place,
            residual,
            bias: pointer(self.bias),
            slope: pointer(self.slope),
            per_row: self.per_row,
            activation: self.activation,
            activate,
            lo,
            hi,
            zeros,
            first: self.first,
            last: self.last,
        }
    }
}

#[cfg(target_arch = "x86_64")]
static AVX512F: KernelSet = KernelSet {
    isa: Isa::Avx512F,
    gemm: &[
        tile!(enter_avx512f, "gemm_f32_14x32_avx512f": lanes 16, widths [1 2], rows 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        tile!(enter_avx512f, "gemm_f32_28x16_avx512f": lanes 16, widths [1],
            rows 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28),
        tile!(enter_avx512f, "gemm_f32_2x128_avx512f": lanes 16, widths [8], rows 1 2),
    ],
    direct: direct_tile!(enter_avx512f, "direct_f32_8x32_avx512f": lanes 16, taps 4, widths [1 2], pixels [1 2 4 6 7 8]),
    depthwise: depthwise_kernels!(enter_avx512f, "depthwise_f32_14x16_avx512f": 7 by 2 of 16,
        channels [3/1 3/2 5/1 5/2 7/1 7/2], permuted [3/1 3/2 5/1 5/2], pixels [3/1 3/2 5/1 5/2 7/1 7/2]),
    winograd: winograd_kernels!(enter_avx512f, "winograd_f32_14x32_avx512f": lanes 16, widths [1 2],
        tiles 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    fft: fft_kernels!(enter_avx512f, "fft_f32_12x16_avx512f": lanes 16, tiles [1 2 3 4 5 6 7 8 9 10 11 12]),
    ops: ops_table!(enter_avx512f, 1),
};

#[cfg(target_arch = "x86_64")]
static AVX2FMA: KernelSet = KernelSet {
    isa: Isa::Avx2Fma,
    gemm: &[
        tile!(enter_avx2fma, "gemm_f32_6x16_avx2fma": lanes 8, widths [1 2], rows 1 2 3 4 5 6),
        tile!(enter_avx2fma, "gemm_f32_1x64_avx2fma": lanes 8, widths [8], rows 1),
    ],
    direct: direct_tile!(enter_avx2fma, "direct_f32_6x16_avx2fma": lanes 8, taps 1, widths [1 2], pixels [1 2 3 4 5 6]),
    depthwise: depthwise_kernels!(enter_avx2fma, "depthwise_f32_7x8_avx2fma": 7 by 1 of 8,
        channels [3/1 3/2 5/1 5/2 7/1 7/2], permuted [3/1 3/2 5/1 5/2], pixels [3/1 3/2 5/1 7/1]),
    winograd: winograd_kernels!(enter_avx2fma, "winograd_f32_6x16_avx2fma": lanes 8, widths [1 2], tiles 1 2 3 4 5 6),
    fft: fft_kernels!(enter_avx2fma, "fft_f32_5x8_avx2fma": lanes 8, tiles [1 2 3 4 5]),
    ops: ops_table!(enter_avx2fma, 2),
};

#[cfg(target_arch = "aarch64")]
static NEON: KernelSet = KernelSet {
    isa: Isa::Neon,
    gemm: &[
        tile!(enter_neon, "gemm_f32_6x16_neon": lanes 4, widths [1 2 4], rows 1 2 3 4 5 6),
        tile!(enter_neon, "gemm_f32_2x32_neon": lanes 4, widths [8], rows 1 2),
    ],
    direct: direct_tile!(enter_neon, "direct_f32_5x16_neon": lanes 4, taps 1, widths [2 4], pixels [1 2 3 4 5]),
    depthwise: depthwise_kernels!(enter_neon, "depthwise_f32_14x4_neon": 7 by 2 of 4,
        channels [3/1 3/2 5/1 5/2 7/1 7/2], permuted [3/1 3/2 5/1 5/2], pixels [3/1 3/2 5/1 5/2 7/1 7/2]),
    winograd: winograd_kernels!(enter_neon, "winograd_f32_6x16_neon": lanes 4, widths [1 2 4], tiles 1 2 3 4 5 6),
    fft: fft_kernels!(enter_neon, "fft_f32_12x4_neon": lanes 4, tiles [1 2 3 4 5 6 7 8 9 10 11 12]),
    ops: ops_table!(enter_neon, 4),
};

static PORTABLE: KernelSet = KernelSet {
    isa: Isa::Portable,
    gemm: &[
        tile!(enter_portable, "gemm_f32_4x8_portable": lanes 8, widths [1], rows 1 2 3 4),
        tile!(enter_portable, "gemm_f32_1x32_portable": lanes 8, widths [4], rows 1),
    ],
    direct: direct_tile!(enter_portable, "direct_f32_4x8_portable": lanes 8, taps 1, widths [1], pixels [1 2 3 4]),
    depthwise: depthwise_kernels!(enter_portable, "depthwise_f32_2x8_portable": 2 by 1 of 8, channels [], permuted [], pixels []),
    winograd: winograd_kernels!(enter_portable, "winograd_f32_4x8_portable": lanes 8, widths [1], tiles 1 2 3 4),
    fft: fft_kernels!(enter_portable, "fft_f32_2x8_portable": lanes 8, tiles [1 2]),
    ops: ops_table!(enter_portable, 2),
};

impl KernelSet {
    /// The kernels of `isa`, if this CPU has it.
    pub fn get(isa: Isa) -> Option<&'static Self> {
        match isa {
            Isa::Portable => Some(&PORTABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2Fma => boundary::detect_avx2fma().then_some(&AVX2FMA),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512F => boundary::detect_avx512f().then_some(&AVX512F),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => boundary::detect_neon().then_some(&NEON),
            #[allow(unreachable_patterns)] // the instruction sets of other architectures
            _ => None,
        }
    }

    /// Which instruction set this is.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Names and machine code of the kernels of the layers that are not convolutions.
    pub fn ops_code(&self) -> Vec<(&'static str, *const u8)> {
        self.ops.code()
    }

    /// Its GEMM tiles.
    pub fn gemm_tiles(&self) -> &'static [GemmTile] {
        self.gemm
    }

    /// Its tile of direct convolution.
    pub fn direct_tile(&self) -> &DirectTile {
        &self.direct
    }

    /// Its kernels of Winograd convolution.
    pub fn winograd(&self) -> &WinogradKernels {
        &self.winograd
    }

    /// Its kernels of depthwise convolution and of small groups.
    pub fn depthwise(&self) -> &DepthwiseKernels {
        &self.depthwise
    }

    /// Its kernels of convolution by Fourier transforms.
    pub fn fft(&self) -> &FftKernels {
        &self.fft
    }

    /// The tile for a product of `rows` rows by `columns` columns: with so few rows that the broadcast side is
    /// nothing, the widest, which streams the other operand; with so few columns that half of every tile would be
    /// empty, a narrow one with more rows, if there is one.
    pub(crate) fn gemm_tile_for(&self, rows: usize, columns: usize) -> &'static GemmTile {
        let (default, wide) = (&self.gemm[0], self.gemm.last().expect("a set has tiles"));
        if rows <= wide.rows() {
            return wide;
        }
        let narrow = self.gemm.iter().find(|tile| tile.rows() > default.rows() && columns <= tile.columns());
        narrow.unwrap_or(default)
    }
}
