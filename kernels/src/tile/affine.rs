//! `y = activation((x - centre) * factor + shift)` with one set of numbers per channel: the second half of every
//! normalisation.

use super::boundary::Body;
use super::output::InPlace;
use crate::describe::Activation;
use crate::simd::math::{self, Known, with_known};
use crate::simd::{Lanes, Simd};

/// Rows that share one load of the numbers. Sixteen rows stay in the first-level cache while the vectors of
/// columns pass over them.
const ROWS: usize = 16;

/// Arguments that `tile/layer_table.rs` builds and checks.
pub(crate) struct AffineArgs {
    pub(super) out: InPlace,
    /// The source: a tile with the same columns. It can be the output itself.
    pub(super) src: *const f32,
    /// Distance between rows of the source.
    pub(super) src_row: usize,
    /// One number per channel. `centre` is read only if `CENTRED`.
    pub(super) centre: *const f32,
    pub(super) factor: *const f32,
    /// It is null if nothing is added.
    pub(super) shift: *const f32,
    /// Any except PReLU. With a centre, only none, ReLU or a clip.
    pub(super) activation: Activation,
    /// Whether channels are rows (NCHW). Otherwise they are columns.
    pub(super) per_row: bool,
}

/// The map of one channel, or of a vector of channels.
#[derive(Clone, Copy)]
struct Line<V> {
    centre: V,
    factor: V,
    shift: V,
}

/// The affine map of a tile. Without a centre (batch normalisation at inference) it is a single FMA, and every activation
/// can follow. With a centre (training), only those do that networks have there.
pub(crate) struct Affine<const CENTRED: bool>;

impl<const CENTRED: bool> Body for Affine<CENTRED> {
    type Args = AffineArgs;

    /// # Safety
    /// The output must be valid for writing and the source for reading. The columns of a row must be adjacent
    /// (`block` is not read). Each channel must have its numbers.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &AffineArgs) {
        if CENTRED {
            // SAFETY: the callees have the same contract, which the caller upholds.
            unsafe {
                match args.activation {
                    Activation::Relu => tile::<S, CENTRED>(s, math::Relu {}, args),
                    Activation::Clip { lo, hi } => tile::<S, CENTRED>(s, math::Clip { lo, hi }, args),
                    _ => tile::<S, CENTRED>(s, math::None {}, args),
                }
            }
        } else {
            // SAFETY: as above.
            with_known!(args.activation, known => unsafe { tile::<S, CENTRED>(s, known, args) });
        }
    }
}

/// # Safety
/// Same contract as [`Affine`].
#[inline(always)]
unsafe fn tile<S: Simd, const CENTRED: bool>(s: S, known: impl Known, args: &AffineArgs) {
    // SAFETY: the callees have the same contract, which the caller upholds.
    unsafe {
        if args.per_row {
            channels_are_rows::<S, CENTRED>(s, known, args);
        } else {
            channels_are_columns::<S, CENTRED>(s, known, args);
        }
    }
}

/// # Safety
/// Same contract as [`Affine`].
#[inline(always)]
unsafe fn channels_are_rows<S: Simd, const CENTRED: bool>(s: S, known: impl Known, args: &AffineArgs) {
    for i in 0..args.out.rows {
        let from = args.src.wrapping_add(i * args.src_row);
        let to = args.out.base.wrapping_add(i * args.out.row);
        // SAFETY: each row has its numbers, and every column below lies in this row.
        unsafe {
            let line = Line {
                centre: s.splat(if CENTRED { *args.centre.add(i) } else { 0.0 }),
                factor: s.splat(*args.factor.add(i)),
                shift: s.splat(if args.shift.is_null() { 0.0 } else { *args.shift.add(i) }),
            };
            let mut c = 0;
            while c + S::LANES <= args.out.columns {
                s.store(to.add(c), map::<S, CENTRED>(s, known, line, s.load(from.add(c))));
                c += S::LANES;
            }
            let rest = Lanes { lo: 0, hi: args.out.columns - c };
            if rest.hi > 0 {
                s.store_lanes(
                    to.add(c),
                    map::<S, CENTRED>(s, known, line, s.load_lanes(from.add(c), rest)),
                    rest,
                );
            }
        }
    }
}

/// # Safety
/// Same contract as [`Affine`].
#[inline(always)]
unsafe fn channels_are_columns<S: Simd, const CENTRED: bool>(s: S, known: impl Known, args: &AffineArgs) {
    let mut first = 0;
    while first < args.out.rows {
        let end = args.out.rows.min(first + ROWS);
        let mut c = 0;
        while c < args.out.columns {
            let lanes = Lanes { lo: 0, hi: (args.out.columns - c).min(S::LANES) };
            let from = args.src.wrapping_add(c);
            let to = args.out.base.wrapping_add(c);
            // SAFETY: the selected columns from `c` on lie in the tile, and each has its numbers.
            unsafe {
                let number = |numbers: *const f32| s.load_lanes(numbers.wrapping_add(c), lanes);
                let line = Line {
                    centre: if CENTRED { number(args.centre) } else { s.splat(0.0) },
                    factor: number(args.factor),
                    shift: if args.shift.is_null() { s.splat(0.0) } else { number(args.shift) },
                };
                if lanes.hi == S::LANES {
                    for i in first..end {
                        let x = s.load(from.wrapping_add(i * args.src_row));
                        s.store(to.wrapping_add(i * args.out.row), map::<S, CENTRED>(s, known, line, x));
                    }
                } else {
                    for i in first..end {
                        let x = s.load_lanes(from.wrapping_add(i * args.src_row), lanes);
                        s.store_lanes(
                            to.wrapping_add(i * args.out.row),
                            map::<S, CENTRED>(s, known, line, x),
                            lanes,
                        );
                    }
                }
            }
            c += S::LANES;
        }
        first = end;
    }
}

#[inline(always)]
fn map<S: Simd, const CENTRED: bool>(s: S, known: impl Known, line: Line<S::V>, x: S::V) -> S::V {
    let y = s.mul_add(if CENTRED { s.sub(x, line.centre) } else { x }, line.factor, line.shift);
    known.of(s, y, s.splat(0.0))
}
