//! Adds the partial sums of a gradient.

use super::boundary::Body;
use super::output::InPlace;
use crate::simd::{Lanes, Simd};

/// Maximum number of partial sums of one element.
pub(crate) const MOST_PARTIALS: usize = 64;

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
            while c < args.out.columns {
                let lanes = Lanes { lo: 0, hi: (args.out.columns - c).min(S::LANES) };
                // SAFETY: the lanes lie in this row.
                unsafe {
                    let mut sum = sum_of(s, args, from.wrapping_add(c), lanes);
                    if args.accumulate {
                        sum = s.add(s.load_lanes(to.wrapping_add(c), lanes), sum);
                    }
                    s.store_lanes(to.wrapping_add(c), sum, lanes);
                }
                c += S::LANES;
            }
        }
    }
}

/// The sum of the partial sums of some lanes.
///
/// # Safety
/// Same contract as [`AddPartials::run`], for these lanes from `from` on.
#[inline(always)]
unsafe fn sum_of<S: Simd>(s: S, args: &PartialArgs, from: *const f32, lanes: Lanes) -> S::V {
    // Level `l` holds a sum of `2^l` partial sums if that bit of the number of sums so far is set.
    let mut levels = [s.splat(0.0); LEVELS];
    for k in 0..args.count {
        // SAFETY: the caller guarantees every partial sum.
        let mut sum = unsafe { s.load_lanes(from.wrapping_add(k.wrapping_mul(args.step)), lanes) };
        let mut level = 0;
        while k >> level & 1 == 1 {
            sum = s.add(levels[level % LEVELS], sum);
            level += 1;
        }
        levels[level % LEVELS] = sum;
    }
    let mut level = args.count.trailing_zeros() as usize;
    let mut sum = levels[level % LEVELS];
    level += 1;
    while args.count >> level > 0 {
        if args.count >> level & 1 == 1 {
            sum = s.add(levels[level % LEVELS], sum);
        }
        level += 1;
    }
    sum
}
