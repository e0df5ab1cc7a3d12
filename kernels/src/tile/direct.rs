//! The direct-convolution register tile: `T` neighbouring pixels of one output row by `NV` vectors of output channels.
//!
//! ```text
//! acc[T][NV] = first block of K ? bias : 0                // T * NV vectors, all in registers
//! for chunk of input channels, kernel row inside the image:
//!     for run of up to 4 taps whose pixels are neighbours:
//!         for input channel of the chunk:
//!             w[taps][NV] = weights                       // taps * NV vector loads, kept in registers
//!             for j in 0..T + taps - 1:
//!                 x = splat(pixel j)                      // one broadcast feeds up to taps * NV FMAs
//!                 for g in 0..taps: acc[j - g][..] += x * w[g][..]
//! C (+)= last block of K ? finish(acc) : acc              // tile/store.rs
//! ```
//!
//! Pixel `j` of a run is read by tap `g` for output pixel `j - g`: with three taps and eight pixels 16 loads feed 48
//! FMAs, a third of a load per FMA (the GEMM tile needs 0.57). The register blocking is that of Georganas et al. 2018,
//! section II-B, turned round: there weights stream past the pixels that are in registers. A stride does not prevent
//! it: the taps of a kernel row fall into `stride` classes, and those of a class read every `stride`-th pixel.
//!
//! Padding is virtual: the pixels of a run that are outside the row are read from a line of zeros, kernel rows outside
//! the image are skipped.

use super::boundary::Body;
use super::store::{self, TileTarget};
use crate::describe::BLOCK;
use crate::simd::Simd;

/// Taps of a run at most.
pub(crate) const MOST_TAPS: usize = 4;
/// Pixels of a tile at most.
pub(crate) const MOST_PIXELS: usize = 16;

/// Pixels that a run reads at most.
const REACH: usize = MOST_PIXELS + MOST_TAPS - 1;

/// What is read in place of a pixel in the padding: a pixel of a chunk has so many channels at most.
static ZEROS: [f32; BLOCK] = [0.0; BLOCK];

/// Taps of one kernel row that read neighbouring pixels: tap `g` of output pixel `i` reads pixel `i + g`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TapRun {
    /// Where pixel 0 is in the image row, in pixels; in the padding, negative.
    pub(crate) first: isize,
    /// Which pixels are inside the row.
    pub(crate) lo: usize,
    pub(crate) hi: usize,
    /// `1..=MOST_TAPS`.
    pub(crate) taps: usize,
}

/// Everything one call of a tile needs; built and checked by `tile/direct_table.rs`.
pub(crate) struct DirectArgs {
    /// Pixel 0 of the first kernel row inside the image, first channel.
    pub(crate) image: *const f32,
    /// From one chunk of channels to the next in the image, from one kernel row, one channel, one pixel, and from one
    /// pixel of a run to the next.
    pub(crate) chunk_step: usize,
    pub(crate) row_step: usize,
    pub(crate) channel_step: usize,
    pub(crate) pixel: usize,
    pub(crate) run_step: usize,
    pub(crate) chunks: usize,
    /// Channels of a chunk, and of the last one.
    pub(crate) channels: usize,
    pub(crate) last_channels: usize,
    /// Kernel rows inside the image are `first_row..first_row + rows` of `kernel_rows`.
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) kernel_rows: usize,
    /// Tiles that follow each other in the row, with the same runs `T` pixels further each.
    pub(crate) count: usize,
    /// The runs of one kernel row, and the taps of all of them.
    pub(crate) runs: *const TapRun,
    pub(crate) run_count: usize,
    /// Whether each run is one tap, one pixel after the run before, and none reads padding: where a pixel is as long as
    /// a chunk of channels, the taps of a kernel row are then one long run of channels.
    pub(crate) window: bool,
    pub(crate) row_taps: usize,
    /// `[chunk][kernel row][run][channel][tap]` or, if packed, `[run][kernel row][channel][tap]`, `w_step` elements each.
    pub(crate) weights: *const f32,
    pub(crate) w_step: usize,
    /// Memory that a later call will read: a line is hinted into the second cache level at every channel.
    pub(crate) hint: *const f32,
    pub(crate) hint_step: usize,
    pub(crate) target: TileTarget,
}

/// A tile of `T` pixels by `NV` vectors of output channels, for runs of up to `G` taps. If `PACKED`, the pixels of a run
/// are neighbouring elements and none is padding; else they are `run_step` elements apart and channels are neighbours.
pub(crate) struct Direct<const T: usize, const NV: usize, const G: usize, const PACKED: bool>;

impl<const T: usize, const NV: usize, const G: usize, const PACKED: bool> Body for Direct<T, NV, G, PACKED> {
    type Args = DirectArgs;

    /// # Safety
    /// Every address named in [`DirectArgs`] must be valid: the image for the pixels `lo..hi` of every run, the weights
    /// for all of K, the target as `store` says; `T` and the taps within their bounds. The hint may point anywhere.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &DirectArgs) {
        let (mut target, mut image, mut hint) = (args.target, args.image, args.hint);
        for _ in 0..args.count {
            // SAFETY: the target is valid by the caller.
            let mut acc = unsafe { store::start::<S, T, NV>(s, &target) };
            // SAFETY: by the caller.
            hint = unsafe {
                if PACKED {
                    packed_k::<S, T, NV, G>(s, &mut acc, args, (image, hint))
                } else {
                    image_k::<S, T, NV, G>(s, &mut acc, args, (image, hint))
                }
            };
            // SAFETY: the target is valid by the caller.
            unsafe { store::finish(s, acc, &target) };
            image = image.wrapping_add(args.run_step.wrapping_mul(T));
            target.advance(target.out.row.wrapping_mul(T), target.residual.row.wrapping_mul(T));
        }
    }
}

/// All of K on the image itself, from there on: chunk, kernel row, run, channel. Where hints go on.
///
/// # Safety
/// As [`Direct::run`].
#[inline(always)]
unsafe fn image_k<S: Simd, const T: usize, const NV: usize, const G: usize>(
    s: S,
    acc: &mut [[S::V; NV]; T],
    args: &DirectArgs,
    (mut chunk, mut hint): (*const f32, *const f32),
) -> *const f32 {
    let mut chunk_weights = args.weights;
    for q in 0..args.chunks {
        let channels = if q + 1 == args.chunks { args.last_channels } else { args.channels };
        let row_weights = channels.wrapping_mul(args.row_taps).wrapping_mul(args.w_step);
        let mut w = chunk_weights.wrapping_add(args.first_row.wrapping_mul(row_weights));
        let mut row = chunk;
        let window = args.window && channels == args.pixel;
        for _ in 0..args.rows {
            if const { G == 1 } && window {
                // SAFETY: the first run; all of them are inside the image, and the weights are there, by the caller.
                unsafe {
                    let channels = channels.wrapping_mul(args.run_count);
                    let step = Step { args, run: &*args.runs, row, channels };
                    (w, hint) = step.any::<S, T, NV, G, false>(s, acc, w, hint);
                }
                row = row.wrapping_add(args.row_step);
                continue;
            }
            for r in 0..args.run_count {
                // SAFETY: one of the runs; it is inside the image, and the weights are there, by the caller.
                unsafe {
                    let step = Step { args, run: &*args.runs.wrapping_add(r), row, channels };
                    (w, hint) = step.any::<S, T, NV, G, false>(s, acc, w, hint);
                }
            }
            row = row.wrapping_add(args.row_step);
        }
        chunk = chunk.wrapping_add(args.chunk_step);
        chunk_weights = chunk_weights.wrapping_add(args.kernel_rows.wrapping_mul(row_weights));
    }
    hint
}

/// All of K on packed rows, from there on: run, kernel row, channel. Where hints go on. Rows that follow each other closely (no dilation) are one long row
/// of channels: so few of them, a loop each would cost more than they do.
///
/// # Safety
/// As [`Direct::run`].
#[inline(always)]
unsafe fn packed_k<S: Simd, const T: usize, const NV: usize, const G: usize>(
    s: S,
    acc: &mut [[S::V; NV]; T],
    args: &DirectArgs,
    (image, mut hint): (*const f32, *const f32),
) -> *const f32 {
    let channels = args.last_channels;
    let close = args.row_step == channels.wrapping_mul(args.channel_step);
    let (rows, inner) = if close { (1, args.rows.wrapping_mul(channels)) } else { (args.rows, channels) };
    let mut run_weights = args.weights;
    for r in 0..args.run_count {
        // SAFETY: one of the runs.
        let run = unsafe { &*args.runs.wrapping_add(r) };
        let row_weights = channels.wrapping_mul(run.taps).wrapping_mul(args.w_step);
        let mut w = run_weights.wrapping_add(args.first_row.wrapping_mul(row_weights));
        let mut row = image;
        for _ in 0..rows {
            let step = Step { args, run, row, channels: inner };
            // SAFETY: the run is inside the rows, and the weights are there, by the caller.
            (w, hint) = unsafe { step.any::<S, T, NV, G, true>(s, acc, w, hint) };
            row = row.wrapping_add(args.row_step);
        }
        run_weights = run_weights.wrapping_add(args.kernel_rows.wrapping_mul(row_weights));
    }
    hint
}

/// One run of one kernel row through some channels.
struct Step<'a> {
    args: &'a DirectArgs,
    run: &'a TapRun,
    row: *const f32,
    channels: usize,
}

/// Where a run is: its pixels of this channel (if packed, the first of them), its weights, and the next hint.
struct Cursor {
    at: [*const f32; REACH],
    w: *const f32,
    hint: *const f32,
}

impl Step<'_> {
    /// As many taps as the run has; where weights and hints go on.
    ///
    /// # Safety
    /// As [`Direct::run`], for this run.
    #[inline(always)]
    unsafe fn any<S: Simd, const T: usize, const NV: usize, const G: usize, const PACKED: bool>(
        &self,
        s: S,
        acc: &mut [[S::V; NV]; T],
        w: *const f32,
        hint: *const f32,
    ) -> (*const f32, *const f32) {
        // SAFETY: by the caller.
        unsafe {
            // Constants, so that runs longer than any of this tile's are not compiled.
            if const { G >= 4 } && self.run.taps == 4 {
                self.taps::<S, T, NV, 4, PACKED>(s, acc, w, hint)
            } else if const { G >= 3 } && self.run.taps == 3 {
                self.taps::<S, T, NV, 3, PACKED>(s, acc, w, hint)
            } else if const { G >= 2 } && self.run.taps == 2 {
                self.taps::<S, T, NV, 2, PACKED>(s, acc, w, hint)
            } else {
                self.taps::<S, T, NV, 1, PACKED>(s, acc, w, hint)
            }
        }
    }

    /// `G` taps. Addresses wrap: they were measured before the call.
    ///
    /// # Safety
    /// As [`Direct::run`], for this run.
    #[inline(always)]
    unsafe fn taps<S: Simd, const T: usize, const NV: usize, const G: usize, const PACKED: bool>(
        &self,
        s: S,
        acc: &mut [[S::V; NV]; T],
        w: *const f32,
        hint: *const f32,
    ) -> (*const f32, *const f32) {
        let Self { args, run, row, channels } = *self;
        if run.lo >= run.hi {
            // Nothing but padding.
            return (w.wrapping_add(channels.wrapping_mul(G).wrapping_mul(args.w_step)), hint);
        }
        let start = row.wrapping_offset(run.first.wrapping_mul(args.pixel as isize));
        let mut cursor = Cursor { at: [ZEROS.as_ptr(); REACH], w, hint };
        if PACKED {
            cursor.at[0] = start;
        } else {
            let inside = run.lo == 0 && run.hi == T + G - 1;
            for j in 0..T + G - 1 {
                if inside || (run.lo <= j && j < run.hi) {
                    cursor.at[j] = start.wrapping_add(j.wrapping_mul(args.run_step));
                }
            }
        }
        // A few channels at a time where each is few instructions, so that counting is not most of them; four lanes
        // are four channels of a pixel in one load (FMLA by element).
        let unroll = match (G, S::LANES) {
            (1, 4) => 4,
            (1, _) => 2,
            _ => 1,
        };
        let whole = channels / unroll * unroll;
        let mut c = 0;
        while c < whole {
            for u in 0..unroll {
                // SAFETY: a channel of this run by the caller.
                unsafe { self.channel::<S, T, NV, G, PACKED>(s, acc, &mut cursor, c.wrapping_add(u)) };
            }
            c = c.wrapping_add(unroll);
        }
        while c < channels {
            // SAFETY: a channel of this run by the caller.
            unsafe { self.channel::<S, T, NV, G, PACKED>(s, acc, &mut cursor, c) };
            c = c.wrapping_add(1);
        }
        (cursor.w, cursor.hint)
    }

    /// `G` taps of one input channel.
    ///
    /// # Safety
    /// As [`Direct::run`], for this run and channel `c` of it.
    #[inline(always)]
    unsafe fn channel<S: Simd, const T: usize, const NV: usize, const G: usize, const PACKED: bool>(
        &self,
        s: S,
        acc: &mut [[S::V; NV]; T],
        cursor: &mut Cursor,
        c: usize,
    ) {
        s.prefetch(cursor.hint);
        cursor.hint = cursor.hint.wrapping_add(self.args.hint_step);
        let mut weights = [[s.splat(0.0); NV]; G];
        for g in 0..G {
            for v in 0..NV {
                // SAFETY: by the caller.
                weights[g][v] = unsafe { s.load(cursor.w.wrapping_add(v * S::LANES)) };
            }
            cursor.w = cursor.w.wrapping_add(self.args.w_step);
        }
        for j in 0..T + G - 1 {
            // What a run may have of padding at its ends is not multiplied; more of it is zeros.
            if !PACKED && ((j + 1 < G && j < self.run.lo) || (j >= T && j >= self.run.hi)) {
                continue;
            }
            let pixel = if PACKED { cursor.at[0].wrapping_add(j) } else { cursor.at[j].wrapping_add(c) };
            // SAFETY: pixel `j` of this channel, or a zero in its place, by the caller.
            let x = s.splat(unsafe { *pixel });
            for g in 0..G {
                if g <= j && j - g < T {
                    for v in 0..NV {
                        acc[j - g][v] = s.mul_add(x, weights[g][v], acc[j - g][v]);
                    }
                }
            }
        }
        if PACKED {
            cursor.at[0] = cursor.at[0].wrapping_add(self.args.channel_step);
        }
    }
}
