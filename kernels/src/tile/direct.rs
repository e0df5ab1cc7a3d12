//! The register tile of direct convolution: `T` adjacent pixels of one output row by `NV` vectors of output
//! channels.
//!
//! ```text
//! acc[T][NV] = first block of K ? bias : 0                // T * NV vectors, all in registers
//! for chunk of input channels, kernel row inside the image:
//!     for run of up to 4 taps whose pixels are adjacent:
//!         for input channel of the chunk:
//!             w[taps][NV] = weights                       // taps * NV vector loads, kept in registers
//!             for j in 0..T + taps - 1:
//!                 x = splat(pixel j)                      // one broadcast feeds up to taps * NV FMAs
//!                 for g in 0..taps: acc[j - g][..] += x * w[g][..]
//! C (+)= last block of K ? finish(acc) : acc              // tile/store.rs
//! ```
//!
//! Tap `g` reads pixel `j` of a run for output pixel `j - g`. With three taps and eight pixels, 16 loads feed
//! 48 FMAs. That is a third of a load per FMA, while the GEMM tile needs 0.57. The register blocking is the
//! one of Georganas et al. 2018, section II-B, with the operands swapped: there, weights stream past pixels
//! that stay in registers. A stride does not prevent the sharing. The taps of a kernel row then fall into
//! `stride` classes, and the taps of one class read every `stride`-th pixel.
//!
//! A tile of one vector has more pixels than others, so that its FMAs do not wait for each other. With one tap, it loads as often
//! as it multiplies. It therefore needs the address of a pixel without a load (`tile/direct_pixels.rs`), and prefetches no
//! weights.
//!
//! Padding is virtual. Kernel rows outside the image are skipped, and so are the first and the last few pixels of a
//! run. Other pixels outside the row are read from a line of zeros.

use super::boundary::Body;
use super::direct_pixels::{Listed, Pixels, REACH, Spaced};
use super::shape::IN_FLIGHT;
use super::store;
use super::target::TileTarget;
use super::unroll::unroll;
use crate::simd::Simd;

/// Maximum number of taps of a run.
pub(crate) const MOST_TAPS: usize = 4;
/// Maximum number of pixels of a tile.
pub(crate) const MOST_PIXELS: usize = 16;

const _: () = assert!(MOST_PIXELS + MOST_TAPS - 1 <= REACH);

/// Pixels of the largest tile whose pixels have one address each.
const SHORT: usize = 8;

/// Maximum number of sums that a small tile keeps for each output.
const APART: usize = 4;

/// The sums of a tile. Channel `c` is added to one of the first few sums of an output, in turns.
type Sums<V, const T: usize, const NV: usize> = [[[V; NV]; T]; APART];

/// The number of sums of each output of tiles of `pixels` pixels, for runs of `taps` taps: enough that about
/// [`IN_FLIGHT`] FMAs do not wait for each other. It is the same for tiles of any number of vectors, because threads can share a
/// panel. The sums and the weights of the widest tile must fit the registers.
pub(super) const fn sums_of_output(lanes: usize, pixels: usize, taps: usize) -> usize {
    let (registers, vectors) = match lanes {
        // Eight of 32 hold the channels of pixels, of which one load reads four.
        4 => (24, 4),
        8 => (16, 2),
        _ => (32, 2),
    };
    // The compiler keeps the operands of one step in registers, but not those of four steps of two pixels.
    let mut apart = if pixels == 1 { APART } else { APART / 2 };
    while apart > 1 && (apart * pixels > IN_FLIGHT || (apart * pixels + taps) * vectors + 1 > registers) {
        apart /= 2;
    }
    apart
}

/// Taps of one kernel row that read adjacent pixels: tap `g` of output pixel `i` reads pixel `i + g`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TapRun {
    /// Position of pixel 0 in the image row. It is negative in the padding.
    pub(crate) first: isize,
    /// The pixels `lo..hi` are inside the row.
    pub(crate) lo: usize,
    pub(crate) hi: usize,
    /// Number of taps, in `1..=MOST_TAPS`.
    pub(crate) taps: usize,
}

/// The kernel rows `first..first + rows` that are inside the image for one output row, and the input row of the
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct KernelRows {
    pub(crate) first: usize,
    pub(crate) rows: usize,
    pub(crate) input_row: usize,
}

/// The arguments of one call of a tile. `tile/direct_table.rs` builds and checks them.
pub(crate) struct DirectArgs {
    /// The first channel of pixel 0 in row 0 of the image. It can point anywhere if no line reads that row.
    pub(crate) image: *const f32,
    /// Distances in the image, in elements: between rows, chunks of channels, kernel rows, pixels, and pixels of a
    /// run.
    pub(crate) line_step: usize,
    pub(crate) chunk_step: usize,
    pub(crate) row_step: usize,
    pub(crate) pixel: usize,
    pub(crate) run_step: usize,
    pub(crate) chunks: usize,
    /// Number of channels of a chunk. The first `skip` channels of the first chunk are left out, and the last chunk has
    /// `last_channels`.
    pub(crate) channels: usize,
    pub(crate) skip: usize,
    pub(crate) last_channels: usize,
    /// The kernel rows that each output row reads, out of `kernel_rows`.
    pub(crate) lines: *const KernelRows,
    pub(crate) line_count: usize,
    pub(crate) kernel_rows: usize,
    /// Distance between output rows, in pixels.
    pub(crate) width: usize,
    /// Number of consecutive tiles in a row. Each has the same runs, `T` pixels further on.
    pub(crate) count: usize,
    /// The runs of one kernel row.
    pub(crate) runs: *const TapRun,
    pub(crate) run_count: usize,
    /// Whether every run is a single tap, one pixel after the run before, and no run reads padding. If a
    /// pixel is then as long as a chunk of channels, the taps of a kernel row form one long run of channels.
    pub(crate) window: bool,
    /// Number of taps in all runs of one kernel row.
    pub(crate) row_taps: usize,
    /// The weights, `[chunk][kernel row][run][channel][tap]`. Each entry is `w_step` elements long.
    pub(crate) weights: *const f32,
    pub(crate) w_step: usize,
    /// Memory that a later call will read. Each channel prefetches one line of it into the second-level
    /// cache.
    pub(crate) hint: *const f32,
    pub(crate) hint_step: usize,
    /// Whether tiles prefetch pixels, and the distance to them.
    pub(crate) fetch: bool,
    pub(crate) fetch_ahead: usize,
    pub(crate) target: TileTarget,
}

/// A tile of `T` pixels by `NV` vectors of output channels, for runs of up to `G` taps.
pub(crate) struct Direct<const T: usize, const NV: usize, const G: usize>;

impl<const T: usize, const NV: usize, const G: usize> Body for Direct<T, NV, G> {
    type Args = DirectArgs;

    /// # Safety
    /// Every address in [`DirectArgs`] must be valid: the image for the pixels `lo..hi` of every run, the
    /// weights for all of K, and the target in the sense of `store`. `T` and the taps must be within their
    /// bounds. The hint can point anywhere.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &DirectArgs) {
        let mut hint = args.hint;
        for l in 0..args.line_count {
            // SAFETY: `l` is less than the number of lines.
            let line = unsafe { &*args.lines.wrapping_add(l) };
            let mut image = args.image.wrapping_add(line.input_row.wrapping_mul(args.line_step));
            let pixel = l.wrapping_mul(args.width);
            let (out, residual) = (args.target.out.row, args.target.residual.row);
            let mut target = args.target.ahead(pixel.wrapping_mul(out), pixel.wrapping_mul(residual));
            for _ in 0..args.count {
                let mut sums = [[[s.splat(0.0); NV]; T]; APART];
                // SAFETY: the caller guarantees the target.
                sums[0] = unsafe { store::start::<S, T, NV>(s, &target) };
                // SAFETY: the caller upholds the contract of this function.
                hint = unsafe { sum::<S, T, NV, G>(s, &mut sums, (args, line), (image, hint)) };
                // SAFETY: the caller guarantees the target.
                unsafe { store::finish(s, total::<S, T, NV>(s, &sums), &target) };
                image = image.wrapping_add(args.run_step.wrapping_mul(T));
                target.advance(out.wrapping_mul(T), residual.wrapping_mul(T));
            }
        }
    }
}

/// Adds the sums of each output.
#[inline(always)]
fn total<S: Simd, const T: usize, const NV: usize>(s: S, sums: &Sums<S::V, T, NV>) -> [[S::V; NV]; T] {
    // Runs of one tap have the most.
    let apart = const { sums_of_output(S::LANES, T, 1) };
    let mut all = sums[0];
    for t in 0..T {
        for v in 0..NV {
            all[t][v] = match apart {
                4 => s.add(s.add(sums[0][t][v], sums[1][t][v]), s.add(sums[2][t][v], sums[3][t][v])),
                2 => s.add(sums[0][t][v], sums[1][t][v]),
                _ => sums[0][t][v],
            };
        }
    }
    all
}

/// Sums all of K for one tile. The order is chunk, kernel row, run, channel. Returns the next hint.
///
/// # Safety
/// Same contract as [`Direct::run`].
#[inline(always)]
unsafe fn sum<S: Simd, const T: usize, const NV: usize, const G: usize>(
    s: S,
    acc: &mut Sums<S::V, T, NV>,
    (args, line): (&DirectArgs, &KernelRows),
    (mut chunk, mut hint): (*const f32, *const f32),
) -> *const f32 {
    let mut chunk_weights = args.weights;
    for q in 0..args.chunks {
        let skip = if q == 0 { args.skip } else { 0 };
        let end = if q + 1 == args.chunks { args.last_channels } else { args.channels };
        let channels = end.wrapping_sub(skip);
        let row_weights = channels.wrapping_mul(args.row_taps).wrapping_mul(args.w_step);
        let mut w = chunk_weights.wrapping_add(line.first.wrapping_mul(row_weights));
        let mut row = chunk.wrapping_add(skip);
        let window = args.window && channels == args.pixel;
        for _ in 0..line.rows {
            if const { G == 1 } && window {
                // SAFETY: this is the first run. The caller guarantees that all runs are inside the image and
                // that the weights exist.
                unsafe {
                    let channels = channels.wrapping_mul(args.run_count);
                    let step = Step { args, run: &*args.runs, row, channels };
                    (w, hint) = step.any::<S, T, NV, G>(s, acc, w, hint);
                }
                row = row.wrapping_add(args.row_step);
                continue;
            }
            for r in 0..args.run_count {
                // SAFETY: `r` is a run. The caller guarantees that it is inside the image and that the
                // weights exist.
                unsafe {
                    let step = Step { args, run: &*args.runs.wrapping_add(r), row, channels };
                    (w, hint) = step.any::<S, T, NV, G>(s, acc, w, hint);
                }
            }
            row = row.wrapping_add(args.row_step);
        }
        chunk = chunk.wrapping_add(args.chunk_step);
        chunk_weights = chunk_weights.wrapping_add(args.kernel_rows.wrapping_mul(row_weights));
    }
    hint
}

/// One run of one kernel row, for some channels.
struct Step<'a> {
    args: &'a DirectArgs,
    run: &'a TapRun,
    row: *const f32,
    channels: usize,
}

/// The position in a run: its weights and the next hint.
struct Cursor {
    w: *const f32,
    hint: *const f32,
}

impl Step<'_> {
    /// Sums the taps of the run, whatever their number. Returns the next weights and the next hint.
    ///
    /// # Safety
    /// Same contract as [`Direct::run`], for this run.
    #[inline(always)]
    unsafe fn any<S: Simd, const T: usize, const NV: usize, const G: usize>(
        &self,
        s: S,
        acc: &mut Sums<S::V, T, NV>,
        w: *const f32,
        hint: *const f32,
    ) -> (*const f32, *const f32) {
        // SAFETY: the caller upholds the contract of this function.
        unsafe {
            // Constants, so that runs longer than the longest of this tile are not compiled.
            if const { G >= 4 } && self.run.taps == 4 {
                self.taps::<S, T, NV, 4>(s, acc, w, hint)
            } else if const { G >= 3 } && self.run.taps == 3 {
                self.taps::<S, T, NV, 3>(s, acc, w, hint)
            } else if const { G >= 2 } && self.run.taps == 2 {
                self.taps::<S, T, NV, 2>(s, acc, w, hint)
            } else {
                self.taps::<S, T, NV, 1>(s, acc, w, hint)
            }
        }
    }

    /// Sums `G` taps. Address arithmetic wraps, because the addresses were measured before the call.
    ///
    /// # Safety
    /// Same contract as [`Direct::run`], for this run.
    #[inline(always)]
    unsafe fn taps<S: Simd, const T: usize, const NV: usize, const G: usize>(
        &self,
        s: S,
        acc: &mut Sums<S::V, T, NV>,
        w: *const f32,
        hint: *const f32,
    ) -> (*const f32, *const f32) {
        let Self { args, run, row, channels } = *self;
        if run.lo >= run.hi {
            // The whole run is padding.
            return (w.wrapping_add(channels.wrapping_mul(G).wrapping_mul(args.w_step)), hint);
        }
        let start = row.wrapping_offset(run.first.wrapping_mul(args.pixel as isize));
        if args.fetch {
            let start = start.wrapping_add(args.fetch_ahead);
            for j in 0..T {
                s.prefetch(start.wrapping_add(j.wrapping_mul(args.run_step)));
            }
        }
        let mut cursor = Cursor { w, hint };
        let (before, after) = (run.lo, (T + G - 1) - run.hi);
        let inside = before == 0 && after == 0;
        if const { T > SHORT } && inside {
            let pixels = Spaced::new(start, args.run_step);
            // SAFETY: the caller upholds the contract of this function, and there is nothing to leave out.
            unsafe { self.channels::<S, T, NV, G, 0, 0>(s, acc, pixels, &mut cursor) };
            return (cursor.w, cursor.hint);
        }
        let mut pixels = Listed::new();
        unroll!(j in T + G - 1 => if inside || (run.lo <= j && j < run.hi) {
            pixels.put(j, start.wrapping_add(j.wrapping_mul(args.run_step)));
        });
        // SAFETY: the caller upholds the contract of this function. Without padding there is nothing to leave out, and
        // `run` says how many pixels at an end of a run are padding.
        unsafe {
            match (before, after) {
                (1, 0) if const { G == 1 } => self.channels::<S, T, NV, G, 1, 0>(s, acc, pixels, &mut cursor),
                (2, 0) if const { G == 1 } => self.channels::<S, T, NV, G, 2, 0>(s, acc, pixels, &mut cursor),
                (0, 1) if const { G == 1 } => self.channels::<S, T, NV, G, 0, 1>(s, acc, pixels, &mut cursor),
                (0, 2) if const { G == 1 } => self.channels::<S, T, NV, G, 0, 2>(s, acc, pixels, &mut cursor),
                _ => self.channels::<S, T, NV, G, 0, 0>(s, acc, pixels, &mut cursor),
            }
        }
        (cursor.w, cursor.hint)
    }

    /// Sums `G` taps of all channels, without the first `BEFORE` and the last `AFTER` pixels of the run.
    ///
    /// # Safety
    /// Same contract as [`Direct::run`], for this run.
    #[inline(always)]
    unsafe fn channels<
        S: Simd,
        const T: usize,
        const NV: usize,
        const G: usize,
        const BEFORE: usize,
        const AFTER: usize,
    >(
        &self,
        s: S,
        acc: &mut Sums<S::V, T, NV>,
        mut pixels: impl Pixels,
        cursor: &mut Cursor,
    ) {
        // If a channel takes only a few instructions, the loop is unrolled, so that its counter is not most
        // of the work. With four lanes, one load reads four channels of a pixel (FMLA by element).
        let apart = const { sums_of_output(S::LANES, T, G) };
        let unroll = match (G, S::LANES) {
            (1, 4) => 4,
            (1, _) => apart.max(2),
            _ => apart,
        };
        let whole = self.channels / unroll * unroll;
        let mut c = 0;
        while c < whole {
            for u in 0..unroll {
                let acc = &mut acc[u % apart];
                // SAFETY: this is a channel of this run, as the caller guarantees.
                unsafe { self.channel::<S, T, NV, G, BEFORE, AFTER>(s, acc, (&pixels, u), cursor) };
            }
            pixels.advance(s, unroll);
            c = c.wrapping_add(unroll);
        }
        while c < self.channels {
            // SAFETY: this is a channel of this run, as the caller guarantees.
            unsafe { self.channel::<S, T, NV, G, BEFORE, AFTER>(s, &mut acc[0], (&pixels, 0), cursor) };
            pixels.advance(s, 1);
            c = c.wrapping_add(1);
        }
    }

    /// Sums `G` taps of one input channel, without the first `BEFORE` and the last `AFTER` pixels of the run.
    ///
    /// # Safety
    /// Same contract as [`Direct::run`], for channel `c` of this run.
    #[inline(always)]
    unsafe fn channel<
        S: Simd,
        const T: usize,
        const NV: usize,
        const G: usize,
        const BEFORE: usize,
        const AFTER: usize,
    >(
        &self,
        s: S,
        acc: &mut [[S::V; NV]; T],
        (pixels, channel): (&impl Pixels, usize),
        cursor: &mut Cursor,
    ) {
        if const { T <= SHORT } {
            s.prefetch(cursor.hint);
            cursor.hint = cursor.hint.wrapping_add(self.args.hint_step);
        }
        let mut weights = [[s.splat(0.0); NV]; G];
        for g in 0..G {
            for v in 0..NV {
                // SAFETY: the caller upholds the contract of this function.
                weights[g][v] = unsafe { s.load(cursor.w.wrapping_add(v * S::LANES)) };
            }
            cursor.w = cursor.w.wrapping_add(self.args.w_step);
        }
        unroll!(j in T + G - 1 => {
            // Padding is skipped in the first and the last `G - 1` pixels of a run. If `G` is 1, it is skipped in the first
            // or the last two pixels. Other padding is multiplied as zeros.
            let is_skipped = j < BEFORE || j + AFTER >= T + G - 1;
            if !(is_skipped || (j + 1 < G && j < self.run.lo) || (j >= T && j >= self.run.hi)) {
                // SAFETY: the caller guarantees pixel `j` of this channel. In the padding, a zero takes its
                // place.
                let x = s.splat(unsafe { *pixels.at(j, channel) });
                for g in 0..G {
                    if g <= j && j - g < T {
                        for v in 0..NV {
                            acc[j - g][v] = s.mul_add(x, weights[g][v], acc[j - g][v]);
                        }
                    }
                }
            }
        });
    }
}
