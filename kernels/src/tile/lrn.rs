//! Local response normalisation across channels:
//! `y = x / (k + alpha * sum of x^2 over a window of channels)^beta`.
//!
//! Every window is summed from its first channel to its last. A running sum would save a few FMAs, but they
//! are hidden by the latency of the root and the division. It would also carry rounding errors, or a single
//! infinity, on to all later channels.

use super::boundary::Body;
use super::output::InPlace;
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// Number of vectors of pixels per step, if channels are rows.
const FLIGHT: usize = 2;

/// Number of pixels that are staged together, so that the stores have reached the cache when they are read.
const STAGES: usize = 4;

/// The exponent. The common values need no logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Power {
    One,
    Half,
    ThreeQuarters,
    Other(f32),
}

/// Arguments that `tile/layer_table.rs` builds and checks.
pub(crate) struct LrnArgs {
    pub(super) out: InPlace,
    /// Channel 0 of the first pixel of the tile.
    pub(super) src: *const f32,
    /// Distance between pixels if channels are columns, or between channels if they are rows.
    pub(super) src_row: usize,
    /// Distance between runs of 16 channels, if channels are columns.
    pub(super) src_block: usize,
    /// The first channel of the tile, and the number of channels of the source.
    pub(super) first: usize,
    pub(super) channels: usize,
    /// Number of channels of a window before and after the channel itself. Each is at most `channels`.
    pub(super) before: usize,
    pub(super) after: usize,
    pub(super) k: f32,
    pub(super) alpha: f32,
    pub(super) power: Power,
}

/// Selects a loop by the power, so that the power is a constant in the loop.
macro_rules! one_loop_each {
    ($loop:ident($s:ident, $args:ident)) => {
        // SAFETY: the loop has the same contract, which the caller upholds.
        unsafe {
            match $args.power {
                Power::One => $loop::<S, 4>($s, $args),
                Power::Half => $loop::<S, 2>($s, $args),
                Power::ThreeQuarters => $loop::<S, 3>($s, $args),
                Power::Other(_) => $loop::<S, 0>($s, $args),
            }
        }
    };
}

/// Channels are columns (NHWC, Nchw16c).
pub(crate) struct LrnColumns;

impl Body for LrnColumns {
    type Args = LrnArgs;

    /// # Safety
    /// The output must be valid for writing, and all channels of its pixels for reading. If the distance
    /// between runs is not 16, the tile must begin at the start of a run, or end in the run in which it
    /// begins.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &LrnArgs) {
        one_loop_each!(columns(s, args));
    }
}

/// Channels are rows (NCHW).
pub(crate) struct LrnRows;

impl Body for LrnRows {
    type Args = LrnArgs;

    /// # Safety
    /// The output must be valid for writing, and all channels of its pixels for reading. The columns of a row
    /// must be adjacent.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &LrnArgs) {
        one_loop_each!(rows(s, args));
    }
}

/// # Safety
/// Same contract as [`LrnColumns`].
#[inline(always)]
unsafe fn columns<S: Simd, const QUARTERS: usize>(s: S, args: &LrnArgs) {
    let aligned = args.first.is_multiple_of(BLOCK) && args.out.columns <= BLOCK;
    // SAFETY: both functions have the same contract, which the caller upholds. `aligned` makes the tile a
    // block or a part of one.
    unsafe {
        if args.src_block != BLOCK && aligned && args.before.max(args.after) <= BLOCK {
            staged::<S, QUARTERS>(s, args);
        } else {
            direct::<S, QUARTERS>(s, args);
        }
    }
}

/// Computes one block of Nchw16c whose windows reach no further than the adjacent blocks. The channels of the
/// three blocks are copied side by side to the stack, where a window can start at any channel.
///
/// # Safety
/// Same contract as [`LrnColumns`]. The tile must be a block, or the first channels of a block.
#[inline(always)]
unsafe fn staged<S: Simd, const QUARTERS: usize>(s: S, args: &LrnArgs) {
    let mut stage = [[0.0f32; 3 * BLOCK]; STAGES];
    let mut i = 0;
    while i < args.out.rows {
        let pixels = (args.out.rows - i).min(STAGES);
        // SAFETY: rows are less than `rows`, and channels less than `channels`. A stage holds three blocks.
        unsafe {
            for p in 0..pixels {
                let pixel = args.src.wrapping_add((i + p) * args.src_row);
                for v in 0..3 * BLOCK / S::LANES {
                    let channel = (args.first + v * S::LANES).wrapping_sub(BLOCK);
                    if channel < args.channels {
                        let from = pixel.wrapping_add(channel / BLOCK * args.src_block + channel % BLOCK);
                        let hi = (args.channels - channel).min(S::LANES);
                        let x = if hi == S::LANES {
                            s.load(from)
                        } else {
                            s.load_lanes(from, Lanes { lo: 0, hi })
                        };
                        s.store(stage[p].as_mut_ptr().add(v * S::LANES), x);
                    }
                }
            }
            for p in 0..pixels {
                let from = (args.first / BLOCK * args.src_block).wrapping_add((i + p) * args.src_row);
                let mut c = 0;
                while c < args.out.columns {
                    let window = stage[p].as_ptr().add(BLOCK + c - args.before);
                    let mut sum = s.splat(0.0);
                    for j in 0..args.before + args.after + 1 {
                        let x = s.load(window.add(j));
                        sum = s.mul_add(x, x, sum);
                    }
                    let lanes = Lanes { lo: 0, hi: (args.out.columns - c).min(S::LANES) };
                    let x = s.load_lanes(args.src.wrapping_add(from + c), lanes);
                    let to = args.out.base.wrapping_add((i + p) * args.out.row + c);
                    s.store_lanes(to, scaled::<S, QUARTERS>(s, args, x, sum), lanes);
                    c += S::LANES;
                }
            }
        }
        i += STAGES;
    }
}

/// Computes any window. Each of its channels is loaded from the source.
///
/// # Safety
/// Same contract as [`LrnColumns`].
#[inline(always)]
unsafe fn direct<S: Simd, const QUARTERS: usize>(s: S, args: &LrnArgs) {
    for i in 0..args.out.rows {
        let pixel = args.src.wrapping_add(i * args.src_row);
        let mut c = 0;
        while c < args.out.columns {
            let own = (args.first + c) as isize;
            let lanes = Lanes { lo: 0, hi: (args.out.columns - c).min(S::LANES) };
            let to = args.out.base.wrapping_add(i * args.out.row + c / BLOCK * args.out.block + c % BLOCK);
            let mut sum = s.splat(0.0);
            // SAFETY: channels that do not exist are not read. `lanes` are columns of the tile.
            unsafe {
                for channel in own - args.before as isize..own + args.after as isize + 1 {
                    let x = load_channels(s, pixel, args, channel);
                    sum = s.mul_add(x, x, sum);
                }
                let x = load_channels(s, pixel, args, own);
                s.store_lanes(to, scaled::<S, QUARTERS>(s, args, x, sum), lanes);
            }
            c += S::LANES;
        }
    }
}

/// Loads channels `first..first + LANES` of a pixel. Lanes of channels that do not exist are zero.
///
/// # Safety
/// All channels of the pixel must be valid for reading.
#[inline(always)]
unsafe fn load_channels<S: Simd>(s: S, pixel: *const f32, args: &LrnArgs, first: isize) -> S::V {
    let (lanes, block) = (S::LANES as isize, BLOCK as isize);
    let column = first.rem_euclid(block);
    let from = pixel.wrapping_offset(first.div_euclid(block) * args.src_block as isize + column);
    // The first lane that lies in the next run.
    let next = if args.src_block == BLOCK { lanes } else { lanes.min(block - column) };
    // SAFETY: only lanes of channels that exist are read, and each part lies in one run.
    unsafe {
        if first >= 0 && first + lanes <= args.channels as isize && next == lanes {
            return s.load(from);
        }
        let lo = (-first).clamp(0, lanes);
        let hi = (args.channels as isize - first).clamp(lo, lanes);
        let part = |lo: isize, hi: isize| Lanes { lo: lo as usize, hi: hi.max(lo) as usize };
        let here = s.load_lanes(from, part(lo.min(next), hi.min(next)));
        if next == lanes {
            return here;
        }
        let after = from.wrapping_add(args.src_block - BLOCK);
        s.add(here, s.load_lanes(after, part(lo.max(next), hi)))
    }
}

/// # Safety
/// Same contract as [`LrnRows`].
#[inline(always)]
unsafe fn rows<S: Simd, const QUARTERS: usize>(s: S, args: &LrnArgs) {
    let mut c = 0;
    // SAFETY: every column below lies in the tile.
    unsafe {
        while c + FLIGHT * S::LANES <= args.out.columns {
            strip::<S, QUARTERS, FLIGHT>(s, args, c, Lanes { lo: 0, hi: S::LANES });
            c += FLIGHT * S::LANES;
        }
        while c < args.out.columns {
            let lanes = Lanes { lo: 0, hi: (args.out.columns - c).min(S::LANES) };
            strip::<S, QUARTERS, 1>(s, args, c, lanes);
            c += S::LANES;
        }
    }
}

/// Computes `NV` vectors of columns from `c` on, and `lanes` of each, in all rows.
///
/// # Safety
/// These columns must lie in the tile.
#[inline(always)]
unsafe fn strip<S: Simd, const QUARTERS: usize, const NV: usize>(
    s: S,
    args: &LrnArgs,
    c: usize,
    lanes: Lanes,
) {
    for i in 0..args.out.rows {
        let own = args.first + i;
        let window = own.saturating_sub(args.before)..args.channels.min(own + args.after + 1);
        let mut sum = [s.splat(0.0); NV];
        // SAFETY: the channels exist, and the caller guarantees the columns.
        unsafe {
            let load = |channel: usize, v: usize| {
                s.load_lanes(args.src.wrapping_add(channel * args.src_row + c + v * S::LANES), lanes)
            };
            for channel in window {
                for v in 0..NV {
                    let x = load(channel, v);
                    sum[v] = s.mul_add(x, x, sum[v]);
                }
            }
            for v in 0..NV {
                let to = args.out.base.wrapping_add(i * args.out.row + c + v * S::LANES);
                s.store_lanes(to, scaled::<S, QUARTERS>(s, args, load(own, v), sum[v]), lanes);
            }
        }
    }
}

/// `x / (k + alpha * sum)^beta`. `QUARTERS` is four times beta, or 0 if beta is not a common value.
#[inline(always)]
fn scaled<S: Simd, const QUARTERS: usize>(s: S, args: &LrnArgs, x: S::V, sum: S::V) -> S::V {
    let base = s.mul_add(s.splat(args.alpha), sum, s.splat(args.k));
    let divisor = match QUARTERS {
        4 => base,
        2 => s.sqrt(base),
        3 => {
            let root = s.sqrt(base);
            s.mul(root, s.sqrt(root))
        }
        _ => power(s, base, args.power),
    };
    s.div(x, divisor)
}

/// Computes the power lane by lane, with the standard library.
#[inline(always)]
fn power<S: Simd>(s: S, base: S::V, power: Power) -> S::V {
    let mut stage = [0.0; 16];
    // SAFETY: `stage` has 16 elements, and `LANES <= 16`.
    unsafe { s.store(stage.as_mut_ptr(), base) };
    if let Power::Other(beta) = power {
        powers(&mut stage, S::LANES, beta);
    }
    // SAFETY: `stage` has 16 elements, and `LANES <= 16`.
    unsafe { s.load(stage.as_ptr()) }
}

#[cold]
#[inline(never)]
fn powers(values: &mut [f32; 16], count: usize, beta: f32) {
    values[..count].iter_mut().for_each(|value| *value = value.powf(beta));
}
