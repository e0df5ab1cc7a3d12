//! [`KernelSet`]: one table of function pointers per instruction set, behind safe, length-checked calls.
//!
//! The sets are private to this file. [`KernelSet::get`] is the only way to one, and it returns a set only if
//! its features were detected. A kernel is therefore never called on a CPU without its features.

use super::activate::ActivateSums;
use super::boundary::{self, Enter, Entry};
use super::copy_table::{CopyTable, copy_table};
use super::depthwise_table::{DepthwiseKernels, depthwise_kernels};
use super::direct_table::{DirectTile, direct_tile};
use super::few_table::{FewKernels, few_kernels};
use super::fft_table::{FftKernels, fft_kernels};
use super::gemm_table::{GemmTile, tile};
#[cfg(feature = "ops")]
use super::grad::table::{GradTable, grad_table};
#[cfg(feature = "ops")]
use super::ops_table::{OpsTable, ops_table};
use super::parts_table::{PartsKernels, parts_kernels};
use super::rows_table::{RowsTile, rows_tile};
use super::shape::{TileShape, tile_shape};
use super::taps_table::{GradientKernels, gradient_kernels};
use super::winograd_table::{WinogradKernels, winograd_kernels};
use crate::describe::Isa;

/// The kernels of one instruction set.
pub struct KernelSet {
    pub(crate) isa: Isa,
    /// Register tiles of the matrix product. The first is the default. The last is the widest, for products
    /// of very few rows.
    pub(crate) gemm: &'static [GemmTile],
    /// The register tile of direct convolution.
    pub(crate) direct: DirectTile,
    /// The register tile of direct convolution over rows that store their padding.
    pub(crate) rows: RowsTile,
    /// Tiles of direct convolution with few output channels.
    pub(crate) few: FewKernels,
    /// Kernels of depthwise convolution and of small groups.
    pub(crate) depthwise: DepthwiseKernels,
    /// Kernels of Winograd convolution.
    pub(crate) winograd: WinogradKernels,
    /// Kernels of FFT convolution.
    pub(crate) fft: FftKernels,
    /// Kernels of bf16 products.
    pub(crate) parts: PartsKernels,
    /// Kernels of the gradient of a filter.
    pub(crate) gradient: GradientKernels,
    /// Kernels of copies between tensors.
    pub(crate) copy: CopyTable,
    /// Kernels of the layers other than convolution.
    #[cfg(feature = "ops")]
    pub(crate) ops: OpsTable,
    /// Gradients of the other layers.
    #[cfg(feature = "ops")]
    pub(crate) grad: GradTable,
}

#[cfg(target_arch = "x86_64")]
const AVX512F: KernelSet = KernelSet {
    isa: Isa::Avx512F,
    gemm: &[
        tile!(enter_avx512f, "gemm_f32_14x32_avx512f": lanes 16, widths [1 2], rows [1 2 3 4 5 6 7 8 9 10 11 12 13 14]),
        tile!(enter_avx512f, "gemm_f32_28x16_avx512f": lanes 16, widths [1],
            rows [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28]),
        tile!(enter_avx512f, "gemm_f32_2x128_avx512f": lanes 16, widths [2 4 8], rows [1 2]),
    ],
    direct: direct_tile!(enter_avx512f, "direct_f32_8x32_avx512f": lanes 16, taps 4, widths [1 2], pixels [1 2 4 6 7 8], narrow [9 10 11 12 13 14 15 16]),
    rows: rows_tile!(enter_avx512f, "rows_f32_14x32_avx512f": lanes 16,
        vectors 1 [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28]
        vectors 2 [1 2 3 4 5 6 7 8 9 10 11 12 13 14]),
    few: few_kernels!(enter_avx512f, "few_f32_4x4_avx512f": lanes 16, pixels [8 8 4 4]),
    depthwise: depthwise_kernels!(enter_avx512f, "depthwise_f32_14x16_avx512f": 7 by 2 of 16,
        channels [1/1 2/1 2/2 3/1 3/2 5/1 5/2 7/1 7/2], permuted [1/1 3/1 3/2 5/1 5/2], pixels [1/1 3/1 3/2 5/1 5/2 7/1 7/2]),
    winograd: winograd_kernels!(enter_avx512f, "winograd_f32_14x32_avx512f": lanes 16, widths [1 2],
        tiles [1 2 3 4 5 6 7 8 9 10 11 12 13 14]),
    fft: fft_kernels!(enter_avx512f, "fft_f32_12x16_avx512f" "fft_f32_16tiles_avx512f": lanes 16, tiles [1 2 3 4 5 6 7 8 9 10 11 12]),
    parts: parts_kernels!(plain enter_avx512f, 2),
    gradient: gradient_kernels!(enter_avx512f, "taps_f32_12x32_avx512f" "depthwise_taps_f32_12x16_avx512f": lanes 16,
        taps 1 [1 by [1 2 3 4 5 6 7 8] 2 by [1 2 3 4 5 6 7 8] 4 by [1 2 3 4 5 6]]
        taps 2 [1 by [1 2 3 4 5 6 7 8] 2 by [1 2 3 4 5 6]]
        taps 3 [1 by [1 2 3 4 5 6] 2 by [1 2 3 4]]),
    copy: copy_table!(enter_avx512f),
    #[cfg(feature = "ops")]
    ops: ops_table!(enter_avx512f, 1),
    #[cfg(feature = "ops")]
    grad: grad_table!(enter_avx512f, 1),
};

/// Three sets share the `f32` kernels of AVX-512.
#[cfg(target_arch = "x86_64")]
static OF_AVX512: [KernelSet; 3] = [
    AVX512F,
    KernelSet {
        isa: Isa::Avx512Bf16,
        parts: parts_kernels!(dots [1 2 3 4 5 6 7 8 9 10 11 12 13 14]),
        ..AVX512F
    },
    KernelSet { isa: Isa::Amx, parts: parts_kernels!(tiles), ..AVX512F },
];

#[cfg(target_arch = "x86_64")]
static AVX2FMA: KernelSet = KernelSet {
    isa: Isa::Avx2Fma,
    gemm: &[
        tile!(enter_avx2fma, "gemm_f32_6x16_avx2fma": lanes 8, widths [1 2], rows [1 2 3 4 5 6]),
        tile!(enter_avx2fma, "gemm_f32_1x64_avx2fma": lanes 8, widths [2 4 8], rows [1]),
    ],
    direct: direct_tile!(enter_avx2fma, "direct_f32_6x16_avx2fma": lanes 8, taps 1, widths [1 2], pixels [1 2 3 4 5 6], narrow []),
    rows: rows_tile!(enter_avx2fma, "rows_f32_6x16_avx2fma": lanes 8,
        vectors 1 [1 2 3 4 5 6 7 8 9 10 11 12]
        vectors 2 [1 2 3 4 5 6]),
    few: few_kernels!(enter_avx2fma, "few_f32_2x4_avx2fma": lanes 8, pixels [8 4 2 2]),
    depthwise: depthwise_kernels!(enter_avx2fma, "depthwise_f32_7x8_avx2fma": 7 by 1 of 8,
        channels [1/1 2/1 2/2 3/1 3/2 5/1 5/2 7/1 7/2], permuted [1/1 3/1 3/2 5/1 5/2], pixels [1/1 3/1 3/2 5/1 7/1]),
    winograd: winograd_kernels!(enter_avx2fma, "winograd_f32_6x16_avx2fma": lanes 8, widths [1 2], tiles [1 2 3 4 5 6]),
    fft: fft_kernels!(enter_avx2fma, "fft_f32_5x8_avx2fma" "fft_f32_16tiles_avx2fma": lanes 8, tiles [1 2 3 4 5]),
    parts: parts_kernels!(plain enter_avx2fma, 4),
    gradient: gradient_kernels!(enter_avx2fma, "taps_f32_12x8_avx2fma" "depthwise_taps_f32_12x8_avx2fma": lanes 8,
        taps 1 [1 by [1 2 3 4 5 6 7 8] 2 by [1 2 3 4 5 6]]
        taps 2 [1 by [1 2 3 4 5]]
        taps 3 [1 by [1 2 3]]),
    copy: copy_table!(enter_avx2fma),
    #[cfg(feature = "ops")]
    ops: ops_table!(enter_avx2fma, 2),
    #[cfg(feature = "ops")]
    grad: grad_table!(enter_avx2fma, 2),
};

#[cfg(target_arch = "aarch64")]
static NEON: KernelSet = KernelSet {
    isa: Isa::Neon,
    gemm: &[
        tile!(enter_neon, "gemm_f32_6x16_neon": lanes 4, widths [1 2 4], rows [1 2 3 4 5 6]),
        tile!(enter_neon, "gemm_f32_2x32_neon": lanes 4, widths [2 4 8], rows [1 2]),
    ],
    direct: direct_tile!(enter_neon, "direct_f32_5x16_neon": lanes 4, taps 1, widths [2 4], pixels [1 2 3 4 5], narrow []),
    rows: rows_tile!(enter_neon, "rows_f32_6x16_neon": lanes 4,
        vectors 2 [1 2 3 4 5 6 7 8 9 10 11 12]
        vectors 4 [1 2 3 4 5 6]),
    few: few_kernels!(enter_neon, "few_f32_2x4_neon": lanes 4, pixels [8 4 4 2]),
    depthwise: depthwise_kernels!(enter_neon, "depthwise_f32_14x4_neon": 7 by 2 of 4,
        channels [1/1 3/1 3/2 5/1 5/2 7/1 7/2], permuted [1/1 3/1 3/2 5/1 5/2], pixels [1/1 3/1 3/2 5/1 5/2 7/1 7/2]),
    winograd: winograd_kernels!(enter_neon, "winograd_f32_6x16_neon": lanes 4, widths [1 2 4], tiles [1 2 3 4 5 6]),
    fft: fft_kernels!(enter_neon, "fft_f32_12x4_neon" "fft_f32_16tiles_neon": lanes 4, tiles [1 2 3 4 5 6 7 8 9 10 11 12]),
    parts: parts_kernels!(plain enter_neon, 8),
    gradient: gradient_kernels!(enter_neon, "taps_f32_12x8_neon" "depthwise_taps_f32_12x4_neon": lanes 4,
        taps 1 [1 by [1 2 3 4 5 6 7 8] 2 by [1 2 3 4 5 6 7 8] 4 by [1 2 3 4 5 6]]
        taps 2 [1 by [1 2 3 4 5 6 7 8] 2 by [1 2 3 4 5 6]]
        taps 3 [1 by [1 2 3 4 5 6 7 8] 2 by [1 2 3 4]]),
    copy: copy_table!(enter_neon),
    #[cfg(feature = "ops")]
    ops: ops_table!(enter_neon, 4),
    #[cfg(feature = "ops")]
    grad: grad_table!(enter_neon, 4),
};

static PORTABLE: KernelSet = KernelSet {
    isa: Isa::Portable,
    gemm: &[
        tile!(enter_portable, "gemm_f32_4x8_portable": lanes 8, widths [1], rows [1 2 3 4]),
        tile!(enter_portable, "gemm_f32_1x32_portable": lanes 8, widths [1 2 4], rows [1]),
    ],
    direct: direct_tile!(enter_portable, "direct_f32_4x8_portable": lanes 8, taps 1, widths [1], pixels [1 2 3 4], narrow []),
    rows: rows_tile!(enter_portable, "rows_f32_4x8_portable": lanes 8,
        vectors 1 [1 2 3 4]),
    few: few_kernels!(enter_portable, "few_f32_1x4_portable": lanes 8, pixels [2 2 1 1]),
    depthwise: depthwise_kernels!(enter_portable, "depthwise_f32_2x8_portable": 2 by 1 of 8, channels [], permuted [], pixels []),
    winograd: winograd_kernels!(enter_portable, "winograd_f32_4x8_portable": lanes 8, widths [1], tiles [1 2 3 4]),
    fft: fft_kernels!(enter_portable, "fft_f32_2x8_portable" "fft_f32_16tiles_portable": lanes 8, tiles [1 2]),
    parts: parts_kernels!(plain enter_portable, 4),
    gradient: gradient_kernels!(enter_portable, "taps_f32_2x8_portable" "depthwise_taps_f32_12x8_portable": lanes 8,
        taps 1 [1 by [1 2]]
        taps 2 [1 by [1 2]]
        taps 3 [1 by [1 2]]),
    copy: copy_table!(enter_portable),
    #[cfg(feature = "ops")]
    ops: ops_table!(enter_portable, 2),
    #[cfg(feature = "ops")]
    grad: grad_table!(enter_portable, 2),
};

impl KernelSet {
    /// The kernels of `isa`, if this CPU has it.
    pub fn get(isa: Isa) -> Option<&'static Self> {
        match isa {
            Isa::Portable => Some(&PORTABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2Fma => boundary::detect_avx2fma().then_some(&AVX2FMA),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512F => boundary::detect_avx512f().then_some(&OF_AVX512[0]),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => {
                let is_useful = boundary::detect_avx512bf16() && super::amx::has_fast_dot_products();
                is_useful.then_some(&OF_AVX512[1])
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => (boundary::detect_avx512bf16() && super::amx::detect()).then_some(&OF_AVX512[2]),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => boundary::detect_neon().then_some(&NEON),
            #[allow(unreachable_patterns)] // instruction sets of other architectures
            _ => None,
        }
    }

    /// The instruction set of these kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The kernels of depthwise convolution and of small groups.
    pub fn depthwise(&self) -> &DepthwiseKernels {
        &self.depthwise
    }

    /// The kernels of FFT convolution.
    pub fn fft(&self) -> &FftKernels {
        &self.fft
    }

    /// The tile for a product of `rows` rows by `columns` columns.
    ///
    /// With very few rows, the broadcast operand is tiny, so the widest tile streams the other operand. With
    /// so few columns that half of every default tile would be empty, it is a narrow tile with more rows, if
    /// there is one. Otherwise it is the default tile.
    pub(crate) fn gemm_tile_for(&self, rows: usize, columns: usize) -> &'static GemmTile {
        let (default, wide) = (&self.gemm[0], self.gemm.last().expect("a set has tiles"));
        if rows <= wide.rows() {
            return wide;
        }
        let narrow = self.gemm.iter().find(|tile| tile.rows() > default.rows() && columns <= tile.columns());
        narrow.unwrap_or(default)
    }
}
