//! Adds the partial sums of a gradient.

use super::boundary::Body;
use super::output::InPlace;
use crate::simd::{Lanes, Simd};

/// Maximum number of partial sums of one element.
pub(crate) const MOST_PARTIALS: usize = 64;

/// Vectors that are added up together. Each sum is a chain of additions.
const FLIGHT: usize = 4;

/// Levels of pairs of [`MOST_PARTIALS`]. Indices are taken modulo this number, which needs no check that could panic.
const LEVELS: usize = 7;

/// Arguments that `tile/taps_table.rs` builds and checks.
pub(crate) struct PartialArgs {
    pub(super) out: InPlace,
    /// The first partial sum of the first element, and the distances between rows and between partial sums.
    pub(super) from: *const f32,
    pub(super) row: usize,
    pub(super) step: usize,
    pub(super) count: usize,
    /// Whether the sum is added to the contents of the output.
    pub(super) accumulate: bool,
}

/// `out (+)=` the sum of the partial sums, in pairs: `(a + b) + (c + d)`. The order depends only on their number.
pub(crate) struct AddPartials;

impl Body for AddPartials {
    type Args = PartialArgs;

    /// # Safety
    /// The output must be valid for writing, and for reading if the sum is added to it. Every partial sum must be
    /// readable. There are between 1 and [`MOST_PARTIALS`] of them. The columns of a row must be adjacent (`block` is not
    /// read).
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &PartialArgs) {
        for i in 0..args.out.rows {
            let from = args.from.wrapping_add(i.wrapping_mul(args.row));
            let to = args.out.base.wrapping_add(i.wrapping_mul(args.out.row));
            let mut c = 0;
            // SAFETY: the columns lie in this row.
            unsafe {
                while c + FLIGHT * S::LANES <= args.out.columns {
                    let lanes = Lanes { lo: 0, hi: S::LANES };
                    add::<S, FLIGHT>(s, args, (from.wrapping_add(c), to.wrapping_add(c)), lanes);
                    c += FLIGHT * S::LANES;
                }
                while c < args.out.columns {
                    let lanes = Lanes { lo: 0, hi: (args.out.columns - c).min(S::LANES) };
                    add::<S, 1>(s, args, (from.wrapping_add(c), to.wrapping_add(c)), lanes);
                    c += S::LANES;
                }
            }
        }
    }
}

/// Adds up some lanes of `NV` vectors.
///
/// # Safety
/// Same contract as [`AddPartials::run`], for these lanes from `from` and `to` on.
#[inline(always)]
unsafe fn add<S: Simd, const NV: usize>(
    s: S,
    args: &PartialArgs,
    (from, to): (*const f32, *mut f32),
    lanes: Lanes,
) {
    // SAFETY: the caller upholds the contract of this function.
    unsafe {
        let sums = sums_of::<S, NV>(s, args, from, lanes);
        for v in 0..NV {
            let to = to.wrapping_add(v * S::LANES);
            let sum = if args.accumulate { s.add(s.load_lanes(to, lanes), sums[v]) } else { sums[v] };
            s.store_lanes(to, sum, lanes);
        }
    }
}

/// The sums of the partial sums of some lanes.
///
/// # Safety
/// Same contract as [`AddPartials::run`], for these lanes from `from` on.
#[inline(always)]
unsafe fn sums_of<S: Simd, const NV: usize>(
    s: S,
    args: &PartialArgs,
    from: *const f32,
    lanes: Lanes,
) -> [S::V; NV] {
    // Level `l` holds a sum of `2^l` partial sums if that bit of the number of sums so far is set.
    let mut levels = [[s.splat(0.0); NV]; LEVELS];
    let mut sums = [s.splat(0.0); NV];
    for k in 0..args.count {
        for v in 0..NV {
            let from = from.wrapping_add(k.wrapping_mul(args.step)).wrapping_add(v * S::LANES);
            // SAFETY: the caller guarantees every partial sum.
            sums[v] = unsafe { s.load_lanes(from, lanes) };
        }
        let mut level = 0;
        while k >> level & 1 == 1 {
            sums = pair(s, levels[level % LEVELS], sums);
            level += 1;
        }
        levels[level % LEVELS] = sums;
    }
    let mut level = args.count.trailing_zeros() as usize;
    sums = levels[level % LEVELS];
    level += 1;
    while args.count >> level > 0 {
        if args.count >> level & 1 == 1 {
            sums = pair(s, levels[level % LEVELS], sums);
        }
        level += 1;
    }
    sums
}

#[inline(always)]
fn pair<S: Simd, const NV: usize>(s: S, a: [S::V; NV], b: [S::V; NV]) -> [S::V; NV] {
    let mut sums = b;
    for v in 0..NV {
        sums[v] = s.add(a[v], b[v]);
    }
    sums
}
