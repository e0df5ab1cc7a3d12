//! The transform `G g G^T` of filters that are known before the run, computed in `f64` and rounded once. Vectors are output
//! channels. The loops are plain Rust, compiled for every instruction set: training packs all filters in each step.

use super::boundary::Body;
use crate::describe::Size2;
use crate::simd::Simd;

/// Output channels that are transformed together.
pub(crate) const LANES: usize = 8;

/// The filters of some output channels for one input channel, and where their transforms go.
///
/// The slices are borrowed for the call.
pub(crate) struct WeightsArgs {
    /// Tap `places[i]` of output channel `o` is at `o * stride + places[i]`.
    pub(super) filters: *const [f32],
    pub(super) stride: usize,
    /// The taps in the order of the matrix `g`, row by row; `None` for a zero.
    pub(super) places: *const [Option<usize>],
    /// Number of output channels.
    pub(super) count: usize,
    /// The matrices G for the columns and for the rows, `[point][tap]`.
    pub(super) g: [*const [f64]; 2],
    /// Taps along each axis.
    pub(super) taps: Size2,
    pub(super) scratch: *mut [f64],
    /// Point `i` of output channel `o` is written to `i * out_point + o`.
    pub(super) out: *mut [f32],
    pub(super) out_point: usize,
}

/// Transforms filters.
pub(crate) struct TransformWeights;

/// Elements of scratch for `count` channels of filters with `taps` taps and `down` points down a column.
pub(crate) fn scratch_len(count: usize, taps: Size2, down: usize) -> usize {
    (taps.h + down) * taps.w * count.next_multiple_of(LANES)
}

/// Flushes a subnormal weight to zero. On some CPUs, a subnormal operand makes an FMA a hundred times slower.
#[inline(always)]
pub(crate) fn flushed(weight: f32) -> f32 {
    if weight.is_subnormal() { 0.0 } else { weight }
}

impl Body for TransformWeights {
    type Args = WeightsArgs;

    /// # Safety
    /// All slices must be valid for the call, and `scratch` and `out` must not be borrowed elsewhere.
    #[inline(always)]
    unsafe fn run<S: Simd>(_s: S, args: &WeightsArgs) {
        // SAFETY: the caller guarantees the slices.
        let (filters, places, g, scratch, out) = unsafe {
            (&*args.filters, &*args.places, args.g.map(|g| &*g), &mut *args.scratch, &mut *args.out)
        };
        let (count, taps) = (args.count, args.taps);
        let row = count.next_multiple_of(LANES);
        let (loaded, half) = scratch.split_at_mut(taps.h * taps.w * row);
        for (place, to) in places.iter().zip(loaded.chunks_exact_mut(row)) {
            match place {
                Some(at) => gather(&filters[*at..], args.stride, &mut to[..count]),
                None => to[..count].fill(0.0),
            }
        }
        // First the columns, as sums over ky for all kx at once, then the rows.
        for (factors, to) in g[0].chunks_exact(taps.h).zip(half.chunks_exact_mut(taps.w * row)) {
            for (x, to) in to.chunks_exact_mut(LANES).enumerate() {
                to.copy_from_slice(&sum(factors, &loaded[x * LANES..], taps.w * row));
            }
        }
        let along = g[1].len() / taps.w;
        for (y, half) in half.chunks_exact(taps.w * row).enumerate() {
            for (x, factors) in g[1].chunks_exact(taps.w).enumerate() {
                let to = &mut out[(y * along + x) * args.out_point..][..count];
                for (lane, to) in to.chunks_mut(LANES).enumerate() {
                    let sums = sum(factors, &half[lane * LANES..], row).map(|sum| flushed(sum as f32));
                    match <&mut [f32; LANES]>::try_from(&mut *to) {
                        Ok(to) => *to = sums,
                        Err(_) => to.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum),
                    }
                }
            }
        }
    }
}

/// Copies every `stride`-th element.
#[inline(always)]
fn gather(from: &[f32], stride: usize, to: &mut [f64]) {
    let mut at = 0;
    for to in to {
        *to = f64::from(from[at]);
        at += stride;
    }
}

/// `sum over k of factors[k] * from[k * step..][..LANES]`.
#[inline(always)]
fn sum(factors: &[f64], from: &[f64], step: usize) -> [f64; LANES] {
    let mut sums = [0.0; LANES];
    let mut at = 0;
    for factor in factors {
        let from = &from[at..at + LANES];
        for lane in 0..LANES {
            sums[lane] += factor * from[lane];
        }
        at += step;
    }
    sums
}
