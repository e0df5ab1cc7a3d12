//! Discrete Fourier transforms of sixteen channels at once. A lane is a channel, so no lanes are shuffled.
//!
//! The passes are Stockham's self-sorting passes of radix 8, 5, 4 and 3 (Van Loan, *Computational Frameworks
//! for the Fast Fourier Transform*, 1992, section 1.7):
//!
//! ```text
//! for pass of radix R, m = product of the radices after it, s = product of the radices before it:
//!     for p in 0..m, q in 0..s:
//!         a[j] = x[q + s * (p + m * j)]                          // 0 <= j < R
//!         y[q + s * (R * p + k)] = DFT(a)[k] * exp(-2 pi i p k / (R * m))
//! ```
//!
//! A complex number of sixteen channels is sixteen real parts, followed by sixteen imaginary parts. If the
//! two are swapped in both the input and the output, the same passes compute the inverse transform (without
//! its factor `1 / n`).

use crate::describe::BLOCK;
use crate::simd::Simd;
use std::f64::consts::TAU;

/// Elements of a complex number of sixteen channels.
pub(crate) const COMPLEX: usize = 2 * BLOCK;

/// Maximum number of passes.
const MOST_PASSES: usize = 4;

/// One pass: `blocks * stride` butterflies of `radix` numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Pass {
    radix: usize,
    /// `m` in the pseudo-code above.
    blocks: usize,
    /// `s` in the pseudo-code above.
    stride: usize,
    /// Offset of the twiddle factors of this pass.
    twiddles: usize,
}

/// A transform of `n` numbers: its passes and their twiddle factors.
pub(crate) struct Length {
    n: usize,
    passes: [Pass; MOST_PASSES],
    count: usize,
    /// The factors of each pass except the last, `[p][k - 1]`, as pairs of real and imaginary part.
    twiddles: Vec<f32>,
}

impl Length {
    /// Plans the transform of `n` numbers. `n` must be a multiple of 4 with no prime factors other than 2, 3
    /// and 5, and at most 256.
    ///
    /// # Panics
    /// If there is no such transform. That is a bug in this library.
    pub(crate) fn new(n: usize) -> Self {
        let mut length = Self { n, passes: [Pass::default(); MOST_PASSES], count: 0, twiddles: Vec::new() };
        let mut left = n;
        // As many factors of 2 as possible go into passes of radix 8, and the others into passes of radix 4.
        // A single factor of 2 must not remain.
        let fours = [0, 2, 1][n.trailing_zeros() as usize % 3];
        let eights = (n.trailing_zeros() as usize).saturating_sub(2 * fours) / 3;
        let radices = [(8, eights), (4, fours), (5, MOST_PASSES), (3, MOST_PASSES)];
        for (radix, most) in radices {
            for _ in 0..most {
                if left.is_multiple_of(radix) {
                    length.push(radix, left / radix);
                    left /= radix;
                }
            }
        }
        assert!(left == 1 && length.count > 0, "no transform of length {n}");
        length
    }

    fn push(&mut self, radix: usize, blocks: usize) {
        let stride = self.n / (radix * blocks);
        self.passes[self.count] = Pass { radix, blocks, stride, twiddles: self.twiddles.len() };
        self.count += 1;
        if blocks > 1 {
            for p in 0..blocks {
                for k in 1..radix {
                    let angle = -TAU * (p * k) as f64 / (radix * blocks) as f64;
                    self.twiddles.extend([angle.cos() as f32, angle.sin() as f32]);
                }
            }
        }
    }

    /// The [`bytes`](Self::bytes) of a transform of `n` numbers. No factor is computed.
    pub(crate) fn bytes_of(n: usize) -> usize {
        // The last pass has no twiddle factors. `new` orders the passes by radix 8, 4, 5, 3, so the last
        // radix is the first of 3, 5, 4 and 8 that `n` has.
        let last = match n {
            n if n.is_multiple_of(3) => 3,
            n if n.is_multiple_of(5) => 5,
            n if n.trailing_zeros().is_multiple_of(3) => 8,
            _ => 4,
        };
        2 * (n - last) * size_of::<f32>()
    }

    /// Length of the transform.
    pub(crate) fn n(&self) -> usize {
        self.n
    }

    /// Length of the half spectrum of real numbers. The other half is its complex conjugate.
    pub(crate) fn half(&self) -> usize {
        self.n / 2 + 1
    }

    /// Number of scratch elements that a transform needs.
    pub(crate) fn scratch_len(&self) -> usize {
        Self::scratch_of(self.n)
    }

    /// The [`scratch_len`](Self::scratch_len) of a transform of `n` numbers.
    pub(crate) fn scratch_of(n: usize) -> usize {
        2 * n * COMPLEX
    }

    /// Size of the twiddle factors in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.twiddles.len() * size_of::<f32>()
    }
}

/// Complex numbers in memory, `step` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) base: *mut f32,
    pub(super) step: usize,
    /// Whether the imaginary part of a number precedes its real part.
    pub(super) swapped: bool,
}

impl Line {
    /// The addresses of the real and imaginary part of number 0.
    #[inline(always)]
    fn parts(&self) -> [*mut f32; 2] {
        let (re, im) = if self.swapped { (BLOCK, 0) } else { (0, BLOCK) };
        [self.base.wrapping_add(re), self.base.wrapping_add(im)]
    }
}

/// A vector of complex numbers.
pub(super) type Complex<V> = [V; 2];

/// Transforms the numbers of `from` into `to`, which can be the same line.
///
/// # Safety
/// `n` numbers of `from` must be valid for reading, and `n` numbers of `to` for writing, at least in the
/// first `LANES` channels. `scratch` must be valid for reading and writing `2 * n` numbers of all channels.
/// `from` and `to` must be the same or must not overlap.
#[inline(always)]
pub(super) unsafe fn transform<S: Simd>(s: S, length: &Length, from: Line, to: Line, scratch: *mut f32) {
    let passes = length.passes.as_ptr();
    let mut source = from;
    let mut i = 0;
    while i < length.count {
        // SAFETY: `i` is less than the number of passes.
        let pass = unsafe { &*passes.wrapping_add(i) };
        let last = pass.blocks == 1;
        let half = scratch.wrapping_add((i & 1).wrapping_mul(length.n).wrapping_mul(COMPLEX));
        let target = if last { to } else { Line { base: half, step: COMPLEX, swapped: false } };
        let twiddles = length.twiddles.as_ptr().wrapping_add(pass.twiddles);
        // SAFETY: every pass reads the source or the output of the pass before it. It writes the other half
        // of the scratch memory, or the target. If there is only one pass, it has a single butterfly, which
        // reads all its numbers before it writes.
        unsafe {
            match (pass.radix, last) {
                (8, false) => butterflies::<S, 8, true>(s, pass, source, target, twiddles),
                (8, true) => butterflies::<S, 8, false>(s, pass, source, target, twiddles),
                (5, false) => butterflies::<S, 5, true>(s, pass, source, target, twiddles),
                (5, true) => butterflies::<S, 5, false>(s, pass, source, target, twiddles),
                (4, false) => butterflies::<S, 4, true>(s, pass, source, target, twiddles),
                (4, true) => butterflies::<S, 4, false>(s, pass, source, target, twiddles),
                (_, false) => butterflies::<S, 3, true>(s, pass, source, target, twiddles),
                (_, true) => butterflies::<S, 3, false>(s, pass, source, target, twiddles),
            }
        }
        source = target;
        i = i.wrapping_add(1);
    }
}

/// Computes all butterflies of a pass. `TWIDDLED` is true except in the last pass.
///
/// # Safety
/// Same contract as [`transform`]. `twiddles` must be valid for the factors of the pass.
#[inline(always)]
unsafe fn butterflies<S: Simd, const R: usize, const TWIDDLED: bool>(
    s: S,
    pass: &Pass,
    from: Line,
    to: Line,
    twiddles: *const f32,
) {
    let [re, im] = from.parts();
    let [to_re, to_im] = to.parts();
    // Distance between the numbers of a butterfly.
    let apart = pass.stride.wrapping_mul(pass.blocks).wrapping_mul(from.step);
    let to_apart = pass.stride.wrapping_mul(to.step);
    let (mut read, mut write, mut factors) = (0usize, 0usize, twiddles);
    for _ in 0..pass.blocks {
        for _ in 0..pass.stride {
            // SAFETY: the caller upholds the contract of this function.
            unsafe {
                let mut a = [[s.splat(0.0); 2]; R];
                for j in 0..R {
                    let at = read.wrapping_add(j.wrapping_mul(apart));
                    a[j] = [s.load(re.wrapping_add(at)), s.load(im.wrapping_add(at))];
                }
                butterfly::<S, R>(s, &mut a);
                for k in 0..R {
                    if TWIDDLED && k > 0 {
                        let factor = factors.wrapping_add(2 * (k - 1));
                        a[k] = product(s, a[k], [s.splat(*factor), s.splat(*factor.wrapping_add(1))]);
                    }
                    let at = write.wrapping_add(k.wrapping_mul(to_apart));
                    s.store(to_re.wrapping_add(at), a[k][0]);
                    s.store(to_im.wrapping_add(at), a[k][1]);
                }
            }
            read = read.wrapping_add(from.step);
            write = write.wrapping_add(to.step);
        }
        write = write.wrapping_add((R - 1).wrapping_mul(to_apart));
        factors = factors.wrapping_add(2 * (R - 1));
    }
}

/// The product `a * b`.
#[inline(always)]
pub(super) fn product<S: Simd>(s: S, a: Complex<S::V>, b: Complex<S::V>) -> Complex<S::V> {
    [s.neg_mul_add(a[1], b[1], s.mul(a[0], b[0])), s.mul_add(a[1], b[0], s.mul(a[0], b[1]))]
}

#[inline(always)]
fn add<S: Simd>(s: S, a: Complex<S::V>, b: Complex<S::V>) -> Complex<S::V> {
    [s.add(a[0], b[0]), s.add(a[1], b[1])]
}

#[inline(always)]
fn sub<S: Simd>(s: S, a: Complex<S::V>, b: Complex<S::V>) -> Complex<S::V> {
    [s.sub(a[0], b[0]), s.sub(a[1], b[1])]
}

/// `a + b * x` for a real `x`.
#[inline(always)]
fn add_scaled<S: Simd>(s: S, a: Complex<S::V>, b: Complex<S::V>, x: S::V) -> Complex<S::V> {
    [s.mul_add(b[0], x, a[0]), s.mul_add(b[1], x, a[1])]
}

/// `(a - i b * x, a + i b * x)` for a real `x`.
#[inline(always)]
fn rotated<S: Simd>(s: S, a: Complex<S::V>, b: Complex<S::V>, x: S::V) -> [Complex<S::V>; 2] {
    [
        [s.mul_add(b[1], x, a[0]), s.neg_mul_add(b[0], x, a[1])],
        [s.neg_mul_add(b[1], x, a[0]), s.mul_add(b[0], x, a[1])],
    ]
}

/// The transform of `R` numbers.
#[inline(always)]
fn butterfly<S: Simd, const R: usize>(s: S, a: &mut [Complex<S::V>; R]) {
    match R {
        3 => {
            let y = dft3(s, [a[0], a[1], a[2]]);
            (a[0], a[1], a[2]) = (y[0], y[1], y[2]);
        }
        4 => {
            let y = dft4(s, [a[0], a[1], a[2], a[3]]);
            (a[0], a[1], a[2], a[3]) = (y[0], y[1], y[2], y[3]);
        }
        5 => {
            let y = dft5(s, [a[0], a[1], a[2], a[3], a[4]]);
            (a[0], a[1], a[2], a[3], a[4]) = (y[0], y[1], y[2], y[3], y[4]);
        }
        _ => {
            let even = dft4(s, [a[0], a[2], a[4], a[6]]);
            let odd = dft4(s, [a[1], a[3], a[5], a[7]]);
            let half = s.splat(std::f32::consts::FRAC_1_SQRT_2);
            (a[0], a[4]) = (add(s, even[0], odd[0]), sub(s, even[0], odd[0]));
            // exp(-pi i / 4) x = (re + im, im - re) / sqrt 2.
            let [re, im] = odd[1];
            let turned = [s.add(re, im), s.sub(im, re)];
            a[1] = add_scaled(s, even[1], turned, half);
            a[5] = [s.neg_mul_add(turned[0], half, even[1][0]), s.neg_mul_add(turned[1], half, even[1][1])];
            let [re, im] = odd[2];
            a[2] = [s.add(even[2][0], im), s.sub(even[2][1], re)];
            a[6] = [s.sub(even[2][0], im), s.add(even[2][1], re)];
            // exp(-3 pi i / 4) x = (im - re, -(re + im)) / sqrt 2.
            let [re, im] = odd[3];
            let turned = [s.sub(im, re), s.add(re, im)];
            a[3] = [s.mul_add(turned[0], half, even[3][0]), s.neg_mul_add(turned[1], half, even[3][1])];
            a[7] = [s.neg_mul_add(turned[0], half, even[3][0]), s.mul_add(turned[1], half, even[3][1])];
        }
    }
}

#[inline(always)]
fn dft3<S: Simd>(s: S, a: [Complex<S::V>; 3]) -> [Complex<S::V>; 3] {
    const SIN: f32 = 0.866_025_403_784_438_6_f64 as f32;
    let (sum, difference) = (add(s, a[1], a[2]), sub(s, a[1], a[2]));
    let middle = add_scaled(s, a[0], sum, s.splat(-0.5));
    let [low, high] = rotated(s, middle, difference, s.splat(SIN));
    [add(s, a[0], sum), low, high]
}

#[inline(always)]
fn dft4<S: Simd>(s: S, a: [Complex<S::V>; 4]) -> [Complex<S::V>; 4] {
    let (even, even_difference) = (add(s, a[0], a[2]), sub(s, a[0], a[2]));
    let (odd, [re, im]) = (add(s, a[1], a[3]), sub(s, a[1], a[3]));
    [
        add(s, even, odd),
        [s.add(even_difference[0], im), s.sub(even_difference[1], re)],
        sub(s, even, odd),
        [s.sub(even_difference[0], im), s.add(even_difference[1], re)],
    ]
}

#[inline(always)]
fn dft5<S: Simd>(s: S, a: [Complex<S::V>; 5]) -> [Complex<S::V>; 5] {
    // Cosines and sines of 2 pi / 5 and 4 pi / 5.
    const COS: [f32; 2] = [0.309_016_994_374_947_4_f64 as f32, -0.809_016_994_374_947_4_f64 as f32];
    const SIN: [f32; 2] = [0.951_056_516_295_153_6_f64 as f32, 0.587_785_252_292_473_1_f64 as f32];
    let (cos, sin) = ([s.splat(COS[0]), s.splat(COS[1])], [s.splat(SIN[0]), s.splat(SIN[1])]);
    let (outer, outer_difference) = (add(s, a[1], a[4]), sub(s, a[1], a[4]));
    let (inner, inner_difference) = (add(s, a[2], a[3]), sub(s, a[2], a[3]));
    let first = add_scaled(s, add_scaled(s, a[0], outer, cos[0]), inner, cos[1]);
    let second = add_scaled(s, add_scaled(s, a[0], outer, cos[1]), inner, cos[0]);
    let [re, im] = inner_difference;
    let turn = [s.mul(re, sin[1]), s.mul(im, sin[1])];
    let first_turn = add_scaled(s, turn, outer_difference, sin[0]);
    let turn = [s.mul(outer_difference[0], sin[1]), s.mul(outer_difference[1], sin[1])];
    let second_turn = [s.neg_mul_add(re, sin[0], turn[0]), s.neg_mul_add(im, sin[0], turn[1])];
    let one = s.splat(1.0);
    let [y1, y4] = rotated(s, first, first_turn, one);
    let [y2, y3] = rotated(s, second, second_turn, one);
    [add(s, a[0], add(s, outer, inner)), y1, y2, y3, y4]
}
