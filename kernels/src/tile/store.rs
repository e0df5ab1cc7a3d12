//! The two ends of a register tile: where accumulators start, and how they leave.
//!
//! The epilogue is applied while the sums are in registers. Edges of the output are a range of valid columns,
//! moved with masks; there is no second loop for them.

use super::boundary::{Body, Entry};
use crate::describe::{Activation, BLOCK};
use crate::simd::math::{Known, Relu, with_known};
use crate::simd::{Lanes, Simd};

/// Where a tile is: element `(i, j)` at `base + i * row + (j / 16) * block + j % 16`.
#[derive(Clone, Copy)]
pub(crate) struct TileAddress<P> {
    pub(crate) base: P,
    pub(crate) row: usize,
    pub(crate) block: usize,
}

/// Where the sums go and what is done to them on the way.
#[derive(Clone, Copy)]
pub(crate) struct TileTarget {
    pub(crate) out: TileAddress<*mut f32>,
    /// Added before the activation; null if there is none.
    pub(crate) residual: TileAddress<*const f32>,
    /// One number per column (or per row, if `per_row`); null if there is none.
    pub(crate) bias: *const f32,
    /// Slopes of PReLU, as the bias; null for every other activation.
    pub(crate) slope: *const f32,
    /// Whether channels are rows (NCHW) rather than columns.
    pub(crate) per_row: bool,
    pub(crate) activation: Activation,
    /// [`ActivateSums`] of the instruction set.
    pub(crate) activate: Entry<SumsArgs>,
    /// Valid columns.
    pub(crate) lo: usize,
    pub(crate) hi: usize,
    /// Columns from `hi` up to here are written as zero: the lanes of Nchw16c past the last channel.
    pub(crate) zeros: usize,
    /// Whether this is the first block of K: its sums start from the bias; others are added to what is in C already.
    pub(crate) first: bool,
    /// Whether this is the last block of K, after which the epilogue applies.
    pub(crate) last: bool,
}

impl TileTarget {
    /// The target `out` elements of the output and `residual` elements of the residual further on.
    #[inline(always)]
    pub(crate) fn ahead(&self, out: usize, residual: usize) -> Self {
        let mut target = *self;
        target.advance(out, residual);
        target
    }

    /// Goes so much further on.
    #[inline(always)]
    pub(crate) fn advance(&mut self, out: usize, residual: usize) {
        self.out.base = self.out.base.wrapping_add(out);
        // The address of no residual stays null.
        if !self.residual.base.is_null() {
            self.residual.base = self.residual.base.wrapping_add(residual);
        }
    }
}

/// The lanes of vector `j` that are columns `lo..hi`.
#[inline(always)]
fn lanes_between<S: Simd>(lo: usize, hi: usize, j: usize) -> Lanes {
    let first = j * S::LANES;
    let clamp = |column: usize| column.max(first).min(first + S::LANES) - first;
    Lanes { lo: clamp(lo), hi: clamp(hi) }
}

/// The valid lanes of vector `j`.
#[inline(always)]
fn lanes_of<S: Simd>(target: &TileTarget, j: usize) -> Lanes {
    lanes_between::<S>(target.lo, target.hi, j)
}

/// Whether every one of `NV` vectors is whole.
#[inline(always)]
fn whole<S: Simd, const NV: usize>(target: &TileTarget) -> bool {
    target.lo == 0 && target.hi == NV * S::LANES
}

/// The distance from a tile's base to element `(i, j * LANES)`.
#[inline(always)]
fn at<S: Simd>(row: usize, block: usize, i: usize, j: usize) -> usize {
    let column = j * S::LANES;
    // Wrapping, because every sum was measured before the call: see `step` in tile/gemm.rs.
    i.wrapping_mul(row).wrapping_add((column / BLOCK).wrapping_mul(block)).wrapping_add(column % BLOCK)
}

/// One vector per accumulator from `p`: the channel's number, whether channels are rows or columns.
///
/// # Safety
/// `p` must be valid for `NV` vectors, or for one element per row if `per_row`.
#[inline(always)]
unsafe fn per_channel<S: Simd>(s: S, p: *const f32, per_row: bool, i: usize, j: usize) -> S::V {
    if per_row {
        // SAFETY: one element per row by the caller.
        s.splat(unsafe { *p.wrapping_add(i) })
    } else {
        // SAFETY: whole vectors by the caller.
        unsafe { s.load(p.wrapping_add(j * S::LANES)) }
    }
}

/// The accumulators before the first step: the bias, or zero in later blocks of K. What is in C is added afterwards: sums
/// of blocks that are added up have less error than one long sum.
///
/// # Safety
/// Bias as in [`per_channel`].
#[inline(always)]
pub(crate) unsafe fn start<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    target: &TileTarget,
) -> [[S::V; NV]; MR] {
    let mut acc = [[s.splat(0.0); NV]; MR];
    if target.first && !target.bias.is_null() {
        for i in 0..MR {
            for j in 0..NV {
                // SAFETY: by the caller.
                acc[i][j] = unsafe { per_channel(s, target.bias, target.per_row, i, j) };
            }
        }
    }
    acc
}

/// Adds what lies at `place`, zero outside of the valid columns.
///
/// # Safety
/// The valid columns of every row must be readable.
#[inline(always)]
unsafe fn add_tile<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: &mut [[S::V; NV]; MR],
    TileAddress { base, row, block }: TileAddress<*const f32>,
    target: &TileTarget,
) {
    if whole::<S, NV>(target) {
        for i in 0..MR {
            for j in 0..NV {
                // SAFETY: every column is valid.
                acc[i][j] = s.add(acc[i][j], unsafe { s.load(base.wrapping_add(at::<S>(row, block, i, j))) });
            }
        }
    } else {
        for j in 0..NV {
            let lanes = lanes_of::<S>(target, j);
            for i in 0..MR {
                let from = base.wrapping_add(at::<S>(row, block, i, j));
                // SAFETY: only valid columns are touched.
                acc[i][j] = s.add(acc[i][j], unsafe { s.load_lanes(from, lanes) });
            }
        }
    }
}

/// Earlier blocks of K, residual, activation, store.
///
/// # Safety
/// The valid columns of every row of `out` (and those that are to be zero) must be writable and, if not `first`,
/// readable, those of `residual` readable; slopes as the bias.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    mut acc: [[S::V; NV]; MR],
    target: &TileTarget,
) {
    if !target.first {
        let TileAddress { base, row, block } = target.out;
        // SAFETY: by the caller.
        unsafe { add_tile(s, &mut acc, TileAddress { base: base.cast_const(), row, block }, target) };
    }
    if target.last {
        if !target.residual.base.is_null() {
            // SAFETY: by the caller.
            unsafe { add_tile(s, &mut acc, target.residual, target) };
        }
        match target.activation {
            Activation::None => {}
            Activation::Relu => {
                for i in 0..MR {
                    for j in 0..NV {
                        acc[i][j] = Relu {}.of(s, acc[i][j], s.splat(0.0));
                    }
                }
            }
            // SAFETY: slopes by the caller.
            _ => acc = unsafe { activate_tile::<S, MR, NV>(acc, target) },
        }
    }
    let TileAddress { base, row, block } = target.out;
    if whole::<S, NV>(target) {
        for i in 0..MR {
            for j in 0..NV {
                // SAFETY: every column is valid.
                unsafe { s.store(base.wrapping_add(at::<S>(row, block, i, j)), acc[i][j]) };
            }
        }
    } else {
        for j in 0..NV {
            let lanes = lanes_of::<S>(target, j);
            for i in 0..MR {
                // SAFETY: only valid columns are touched.
                unsafe { s.store_lanes(base.wrapping_add(at::<S>(row, block, i, j)), acc[i][j], lanes) };
            }
            let zeros = lanes_between::<S>(target.hi, target.zeros, j);
            if zeros.lo < zeros.hi {
                for i in 0..MR {
                    let to = base.wrapping_add(at::<S>(row, block, i, j));
                    // SAFETY: only columns that are to be zero are touched.
                    unsafe { s.store_lanes(to, s.splat(0.0), zeros) };
                }
            }
        }
    }
}

/// [`finish`] for the first `count` of `MR` rows.
///
/// # Safety
/// As [`finish`], for `count` rows.
#[inline(always)]
pub(crate) unsafe fn finish_first<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: [[S::V; NV]; MR],
    target: &TileTarget,
    count: usize,
) {
    if count >= MR {
        // SAFETY: by the caller.
        return unsafe { finish::<S, MR, NV>(s, acc, target) };
    }
    let sums = acc; // a copy, so that the accumulators themselves need no address
    let mut one = *target;
    for i in 0..count {
        // SAFETY: fewer than `MR`; the rest by the caller.
        unsafe { finish::<S, 1, NV>(s, [*sums.as_ptr().wrapping_add(i)], &one) };
        one.advance(target.out.row, target.residual.row);
    }
}

/// Every activation but the two above, on a tile that was put on the stack: one function per instruction set, called
/// through a pointer. Inlined, an exponential would be most of the code of every tile.
pub(crate) struct ActivateSums;

pub(crate) struct SumsArgs {
    sums: *mut f32,
    rows: usize,
    vectors: usize,
    activation: Activation,
    slope: *const f32,
    per_row: bool,
}

impl Body for ActivateSums {
    type Args = SumsArgs;

    /// # Safety
    /// `sums` must be valid for `rows * vectors` vectors; slopes as the bias in [`start`].
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &SumsArgs) {
        for i in 0..args.rows {
            for j in 0..args.vectors {
                let slope = if args.slope.is_null() {
                    s.splat(0.0)
                } else {
                    // SAFETY: by the caller.
                    unsafe { per_channel(s, args.slope, args.per_row, i, j) }
                };
                let at = args.sums.wrapping_add((i * args.vectors + j) * S::LANES);
                // SAFETY: by the caller.
                unsafe { s.store(at, with_known!(args.activation, known => known.of(s, s.load(at), slope))) };
            }
        }
    }
}

/// # Safety
/// Slopes as the bias in [`start`]; `target.activate` must be of the instruction set of `S`.
#[inline(always)]
unsafe fn activate_tile<S: Simd, const MR: usize, const NV: usize>(
    acc: [[S::V; NV]; MR],
    target: &TileTarget,
) -> [[S::V; NV]; MR] {
    let mut sums = acc;
    let args = SumsArgs {
        sums: sums.as_mut_ptr().cast(),
        rows: MR,
        vectors: NV,
        activation: target.activation,
        slope: target.slope,
        per_row: target.per_row,
    };
    // SAFETY: an array of arrays of vectors is that many vectors; the rest by the caller.
    unsafe { (target.activate)(&args) };
    sums
}
