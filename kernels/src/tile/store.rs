//! The start and the end of a register tile: the initial accumulators, and the epilogue with the store.
//!
//! The epilogue is applied while the sums are in registers. At the edges of the output, only a range of
//! columns is valid. Masked loads and stores handle it, so there is no second loop.

use super::activate::{SumsArgs, per_channel};
use super::target::{TileAddress, TileTarget};
use super::unroll::unroll;
use crate::describe::{Activation, BLOCK};
use crate::simd::math::{Clip, Known, Relu};
use crate::simd::{Lanes, Simd};

/// The lanes of vector `j` that belong to columns `lo..hi`.
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

/// Whether all of `NV` vectors are whole.
#[inline(always)]
fn whole<S: Simd, const NV: usize>(target: &TileTarget) -> bool {
    target.lo == 0 && target.hi == NV * S::LANES
}

/// The distance from the base of a tile to element `(i, j * LANES)`.
#[inline(always)]
fn at<S: Simd>(row: usize, block: usize, i: usize, j: usize) -> usize {
    let column = j * S::LANES;
    // The arithmetic wraps, because every sum was measured before the call (see `step` in tile/gemm.rs).
    i.wrapping_mul(row).wrapping_add((column / BLOCK).wrapping_mul(block)).wrapping_add(column % BLOCK)
}

/// The accumulators before the first step: the bias, or zero in later blocks of K. The contents of C are
/// added at the end. A sum of the sums of blocks has a smaller error than one long sum.
///
/// # Safety
/// The bias must satisfy the contract of [`per_channel`].
#[inline(always)]
pub(crate) unsafe fn start<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    target: &TileTarget,
) -> [[S::V; NV]; MR] {
    let mut acc = [[s.splat(0.0); NV]; MR];
    if target.first && !target.bias.is_null() {
        for i in 0..MR {
            for j in 0..NV {
                // SAFETY: the caller upholds the contract of this function.
                acc[i][j] = unsafe { per_channel(s, target.bias, target.per_row, i, j) };
            }
        }
    }
    acc
}

/// Adds the tile at `place` to the accumulators. Columns outside the valid range add zero.
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
                // SAFETY: every column is valid, and the caller guarantees valid columns.
                acc[i][j] = s.add(acc[i][j], unsafe { s.load(base.wrapping_add(at::<S>(row, block, i, j))) });
            }
        }
    } else {
        // SAFETY: the caller upholds the contract of this function.
        unroll!(j in NV => unsafe { add_lanes(s, acc, (base, row, block), target, j) });
    }
}

/// Adds the valid lanes of vector `j` of every row.
///
/// # Safety
/// Same contract as [`add_tile`].
#[inline(always)]
unsafe fn add_lanes<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: &mut [[S::V; NV]; MR],
    (base, row, block): (*const f32, usize, usize),
    target: &TileTarget,
    j: usize,
) {
    let lanes = lanes_of::<S>(target, j);
    if lanes.is_empty() {
        return; // See `store_lanes`.
    }
    for i in 0..MR {
        let from = base.wrapping_add(at::<S>(row, block, i, j));
        // SAFETY: only valid columns are read, and the caller guarantees these.
        acc[i][j] = s.add(acc[i][j], unsafe { s.load_lanes(from, lanes) });
    }
}

/// Adds earlier blocks of K and the residual, applies the activation, and stores the tile.
///
/// # Safety
/// For every row, the valid columns of `out` and the columns that are set to zero must be writable. If not
/// `first`, the valid columns of `out` must be readable too. The valid columns of `residual` must be
/// readable. Slopes must satisfy the contract of the bias in [`start`].
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    mut acc: [[S::V; NV]; MR],
    target: &TileTarget,
) {
    // SAFETY: the caller upholds the contract of the callees.
    unsafe {
        add_earlier(s, &mut acc, target);
        if target.last {
            acc = activate(s, acc, target, MR);
        }
        store_tile(s, acc, target);
    }
}

/// Adds earlier blocks of K, and the residual.
///
/// # Safety
/// Same contract as [`finish`].
#[inline(always)]
unsafe fn add_earlier<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: &mut [[S::V; NV]; MR],
    target: &TileTarget,
) {
    if !target.first {
        let TileAddress { base, row, block } = target.out;
        // SAFETY: the caller upholds the contract of this function.
        unsafe { add_tile(s, acc, TileAddress { base: base.cast_const(), row, block }, target) };
    } // Not only in the last block: a condition that is tested again before the activation would let the compiler copy its call.
    if !target.residual.base.is_null() {
        // SAFETY: the caller upholds the contract of this function.
        unsafe { add_tile(s, acc, target.residual, target) };
    }
}

/// Applies the activation to the first `rows` rows, and possibly to the others.
///
/// # Safety
/// Slopes must satisfy the contract of the bias in [`start`], for `rows` rows.
#[inline(always)]
unsafe fn activate<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    mut acc: [[S::V; NV]; MR],
    target: &TileTarget,
    rows: usize,
) -> [[S::V; NV]; MR] {
    match target.activation {
        Activation::None => acc,
        Activation::Relu => {
            activate_in_registers(s, &mut acc, Relu {});
            acc
        }
        Activation::Clip { lo, hi } => {
            activate_in_registers(s, &mut acc, Clip { lo, hi });
            acc
        }
        // SAFETY: the caller guarantees the slopes.
        _ => unsafe { activate_tile::<S, MR, NV>(acc, target, rows) },
    }
}

/// Stores the valid columns, and the columns that are set to zero.
///
/// # Safety
/// They must be writable.
#[inline(always)]
unsafe fn store_tile<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: [[S::V; NV]; MR],
    target: &TileTarget,
) {
    let TileAddress { base, row, block } = target.out;
    if whole::<S, NV>(target) {
        for i in 0..MR {
            for j in 0..NV {
                let to = base.wrapping_add(at::<S>(row, block, i, j));
                // SAFETY: every column is valid, and the caller guarantees valid columns. Columns of a streamed tile begin
                // at cache lines, so its vectors are aligned.
                unsafe {
                    if target.stream {
                        s.stream(to, acc[i][j]);
                    } else {
                        s.store(to, acc[i][j]);
                    }
                }
            }
        }
    } else {
        // SAFETY: the caller upholds the contract of this function.
        unroll!(j in NV => unsafe { store_lanes(s, &acc, target, j) });
    }
}

/// Stores the valid lanes of vector `j` of every row, and the lanes that are set to zero.
///
/// # Safety
/// Same contract as [`store_tile`].
#[inline(always)]
unsafe fn store_lanes<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: &[[S::V; NV]; MR],
    target: &TileTarget,
    j: usize,
) {
    let TileAddress { base, row, block } = target.out;
    let lanes = lanes_of::<S>(target, j);
    // Zeros follow the last valid column.
    let written = Lanes { lo: lanes.lo, hi: lanes_between::<S>(target.hi, target.zeros, j).hi.max(lanes.hi) };
    if written.is_empty() {
        return; // Masked stores without lanes are slow where the address is not mapped.
    }
    let to = |i: usize| base.wrapping_add(at::<S>(row, block, i, j));
    let is_whole = written.lo == 0 && written.hi == S::LANES;
    // SAFETY: only valid columns and columns that are set to zero are written, which the caller guarantees. A streamed
    // vector is aligned, as in `store_tile`.
    unsafe {
        if target.stream && is_whole {
            for i in 0..MR {
                s.stream(to(i), s.keep(acc[i][j], lanes));
            }
        } else {
            for i in 0..MR {
                s.store_lanes(to(i), s.keep(acc[i][j], lanes), written);
            }
        }
    }
}

/// Applies an activation without slopes that takes few instructions.
#[inline(always)]
fn activate_in_registers<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: &mut [[S::V; NV]; MR],
    known: impl Known,
) {
    for i in 0..MR {
        for j in 0..NV {
            acc[i][j] = known.of(s, acc[i][j], s.splat(0.0));
        }
    }
}

/// Runs [`finish`] for the first `count` of `MR` rows.
///
/// # Safety
/// Same contract as [`finish`], for `count` rows.
#[inline(always)]
pub(crate) unsafe fn finish_first<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: [[S::V; NV]; MR],
    target: &TileTarget,
    count: usize,
) {
    if count >= MR {
        // SAFETY: the caller upholds the contract of this function.
        return unsafe { finish::<S, MR, NV>(s, acc, target) };
    }
    let mut sums = acc; // a copy, so that the accumulators themselves need no address
    let at =
        |sums: &mut [[S::V; NV]; MR], i: usize| sums.as_mut_ptr().wrapping_add(i).cast::<[[S::V; NV]; 1]>();
    let mut one = *target;
    for i in 0..count {
        // SAFETY: `i` is less than `MR`. The caller guarantees the rest.
        unsafe { add_earlier::<S, 1, NV>(s, &mut *at(&mut sums, i), &one) };
        one.advance(target.out.row, target.residual.row);
    }
    if target.last {
        // All rows at once: an exponential of one vector takes as long as one of several.
        // SAFETY: the caller guarantees the slopes of `count` rows.
        sums = unsafe { activate(s, sums, target, count) };
    }
    one = *target;
    for i in 0..count {
        // SAFETY: as above.
        unsafe { store_tile::<S, 1, NV>(s, *at(&mut sums, i), &one) };
        one.advance(target.out.row, target.residual.row);
    }
}

/// # Safety
/// Slopes must satisfy the contract of the bias in [`start`], for the first `rows` rows, which are at most `MR`.
/// `target.activate` must belong to the instruction set of `S`.
#[inline(always)]
unsafe fn activate_tile<S: Simd, const MR: usize, const NV: usize>(
    acc: [[S::V; NV]; MR],
    target: &TileTarget,
    rows: usize,
) -> [[S::V; NV]; MR] {
    let mut sums = acc;
    let args = SumsArgs {
        sums: sums.as_mut_ptr().cast(),
        rows,
        vectors: NV,
        activation: target.activation,
        slope: target.slope,
        per_row: target.per_row,
    };
    // SAFETY: `sums` is an array of `MR * NV` vectors. The caller guarantees the rest.
    unsafe { (target.activate)(&args) };
    sums
}
