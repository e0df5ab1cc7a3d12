//! The sums of a depthwise tile, one line of the input at a time. Only taps inside the input are summed.

use super::depthwise_read::{CHANNELS, DepthwiseArgs, PARTIAL, PIXELS, Reader};
use super::unroll::unroll;
use crate::simd::Simd;

/// The state that all tiles of one call share.
pub(super) struct Tiles<
    'a,
    S: Simd,
    const MODE: u8,
    const K: usize,
    const STRIDE: usize,
    const T: usize,
    const ROWS: usize,
    const STEP: usize,
> {
    pub(super) s: S,
    pub(super) args: &'a DepthwiseArgs,
    /// See [`inside_before`](super::depthwise_read::Axis::inside_before).
    pub(super) inner_inside: usize,
    pub(super) outer_inside: usize,
}

impl<
    S: Simd,
    const MODE: u8,
    const K: usize,
    const STRIDE: usize,
    const T: usize,
    const ROWS: usize,
    const STEP: usize,
> Tiles<'_, S, MODE, K, STRIDE, T, ROWS, STEP>
{
    /// Number of positions of a line that the taps of a tile read.
    const POSITIONS: usize = (T - 1) * STRIDE + K;

    /// Distance between positions of the inner axis.
    #[inline(always)]
    fn step(&self) -> usize {
        if STEP == 0 { self.args.inner.step } else { STEP }
    }

    /// Sums a window of `K` inner taps over vectors of channels. It computes `rows` lines of outputs in one
    /// pass over the input lines that they share. With `EDGE`, some inner positions are in the padding.
    ///
    /// # Safety
    /// Same contract as `Depthwise::run`. Without `EDGE`, every inner position of the tile must be inside the
    /// input.
    #[inline(always)]
    pub(super) unsafe fn lines<const EDGE: bool>(
        &self,
        acc: &mut [[[S::V; 1]; T]; ROWS],
        first: (isize, isize),
        rows: usize,
    ) {
        let (args, inner, outer) = (self.args, &self.args.inner, &self.args.outer);
        let line_len = K * S::LANES;
        let (lo, hi) = outer.positions_inside(first.0, (rows - 1) * STRIDE + outer.taps);
        let inside = Inside::of(inner.positions_inside(first.1, Self::POSITIONS));
        let offset = first.0.wrapping_add_unsigned(lo).wrapping_mul(outer.step as isize);
        let offset = offset.wrapping_add(first.1.wrapping_mul(self.step() as isize));
        // `last` is the input line where the last row of outputs begins. `both` is the line where the first
        // row ends. A single row of outputs is both the first and the last.
        let (last, both) = ((rows - 1) * STRIDE, outer.taps);
        let mut weights = args.weights;
        let channels = if MODE == CHANNELS { 1 } else { args.channels };
        for channel in 0..channels {
            // SAFETY: `channel` is a channel of the group. The caller guarantees the rest.
            let (base, reader) = unsafe { Reader::<S>::new::<MODE>(self.s, args, channel) };
            let mut p = base.wrapping_offset(offset);
            let mut w = weights.wrapping_add(lo * line_len);
            let mut line = lo;
            // SAFETY: the lines are inside the input, and each has the weights of its taps. The caller
            // guarantees the rest.
            unsafe {
                while line < hi && (ROWS == 1 || rows == 1 || line < last) {
                    self.all_taps::<0, 1, EDGE>(acc, &reader, p, w, inside);
                    (line, p, w) = (line + 1, p.wrapping_add(outer.step), w.wrapping_add(line_len));
                }
                if const { ROWS > 1 } {
                    w = w.wrapping_sub(last * line_len);
                    while line < hi && line < both {
                        self.all_taps::<0, 2, EDGE>(acc, &reader, p, w, inside);
                        (line, p, w) = (line + 1, p.wrapping_add(outer.step), w.wrapping_add(line_len));
                    }
                    while line < hi {
                        self.all_taps::<1, 2, EDGE>(acc, &reader, p, w, inside);
                        (line, p, w) = (line + 1, p.wrapping_add(outer.step), w.wrapping_add(line_len));
                    }
                }
            }
            weights = weights.wrapping_add(outer.taps * line_len);
        }
    }

    /// Sums all `K` inner taps of a line for rows `FROM..TO`, and reads each position once. `w` points to the
    /// weights of the line for the last of these rows. The weights for the row before it are `STRIDE` lines
    /// further on.
    ///
    /// # Safety
    /// Same contract as [`lines`](Self::lines). The line must be inside the input and must have these
    /// weights.
    #[inline(always)]
    unsafe fn all_taps<const FROM: usize, const TO: usize, const EDGE: bool>(
        &self,
        acc: &mut [[[S::V; 1]; T]; ROWS],
        reader: &Reader<S>,
        p: *const f32,
        w: *const f32,
        inside: Inside,
    ) {
        let s = self.s;
        let mut line = Line { weights: [[s.splat(0.0); K]; ROWS], p, ahead: 0, inside };
        for row in FROM..TO {
            for k in 0..K {
                let further = (TO - 1 - row) * STRIDE * K * S::LANES;
                // SAFETY: the caller upholds the contract of this function.
                line.weights[row][k] = unsafe { weight::<S, MODE>(s, w.wrapping_add(further), k) };
            }
        }
        unroll! { i in Self::POSITIONS =>
            // SAFETY: the caller upholds the contract of this function.
            unsafe { self.position::<FROM, TO, EDGE>(acc, reader, &mut line, i) }
        }
    }

    /// Adds the products of position `i` of a line. After inlining, `i` is a constant.
    ///
    /// # Safety
    /// Same contract as [`all_taps`](Self::all_taps).
    #[inline(always)]
    unsafe fn position<const FROM: usize, const TO: usize, const EDGE: bool>(
        &self,
        acc: &mut [[[S::V; 1]; T]; ROWS],
        reader: &Reader<S>,
        line: &mut Line<S, K, ROWS>,
        i: usize,
    ) {
        if EDGE {
            line.inside.bits = self.s.opaque(line.inside.bits);
        }
        if !EDGE || line.inside.has(i) {
            // SAFETY: the position is inside the input. `EDGE` has checked it, or the caller guarantees it.
            let x = unsafe { reader.read::<MODE, STRIDE, EDGE>(line.p.wrapping_add(line.ahead)) };
            for row in FROM..TO {
                for t in 0..T {
                    let k = i.wrapping_sub(t * STRIDE);
                    if k < K {
                        acc[row][t][0] = self.s.mul_add(x, line.weights[row][k], acc[row][t][0]);
                    }
                }
            }
        }
        line.ahead = self.further(line.ahead, self.step());
    }

    /// `ahead + step`, where `step` is a multiple of the distance between positions.
    #[inline(always)]
    fn further(&self, ahead: usize, step: usize) -> usize {
        let ahead = ahead.wrapping_add(step);
        if STEP == 0 { self.s.opaque(ahead) } else { ahead }
    }

    /// Sums any window, with vectors of any kind, one outer tap at a time. With `EDGE`, some positions are in
    /// the padding.
    ///
    /// # Safety
    /// Same contract as `Depthwise::run`. Without `EDGE`, every inner position of the tile must be inside the
    /// input. If vectors hold pixels, every outer position must be inside too.
    #[inline(always)]
    pub(super) unsafe fn any<const EDGE: bool>(
        &self,
        acc: &mut [[[S::V; 1]; T]; ROWS],
        first: (isize, isize),
    ) {
        let (args, inner, outer) = (self.args, &self.args.inner, &self.args.outer);
        let line_len = inner.taps.wrapping_mul(if MODE == PIXELS { 1 } else { S::LANES });
        let inside = Inside::of(inner.positions_inside(first.1, Self::POSITIONS));
        let mut weights = args.weights;
        for channel in 0..args.channels {
            // SAFETY: `channel` is a channel of the group. The caller guarantees the rest.
            let (base, mut reader) = unsafe { Reader::<S>::new::<MODE>(self.s, args, channel) };
            let base = base.wrapping_offset(first.1.wrapping_mul(self.step() as isize));
            for tap in 0..outer.taps {
                let position = first.0.wrapping_add_unsigned(tap.wrapping_mul(outer.dilation));
                let any = if MODE == PIXELS {
                    if EDGE {
                        reader.lanes = outer.lanes_inside(position, S::LANES);
                    }
                    !EDGE || !reader.lanes.is_empty()
                } else {
                    (position as usize) < outer.input
                };
                if any {
                    let p = base.wrapping_offset(position.wrapping_mul(outer.step as isize));
                    // SAFETY: the line is inside the input. The caller guarantees the rest.
                    unsafe {
                        if const { K > 0 } {
                            self.all_taps::<0, 1, EDGE>(acc, &reader, p, weights, inside);
                        } else {
                            let line = LineOf { reader: &reader, p, w: weights, first: first.1 };
                            // A vector of pixels is read with the stride of the other axis. Partial vectors are read
                            // lane by lane, which leaves nothing to share.
                            let same = MODE != PARTIAL && (MODE != PIXELS || inner.stride == outer.stride);
                            match (inner.dilation, inner.stride) {
                                (1, 1) if same => self.runs::<1, EDGE>(acc, &line),
                                (1, 2) if same => self.runs::<2, EDGE>(acc, &line),
                                (1, 3) if same && MODE != PIXELS => self.runs::<3, EDGE>(acc, &line),
                                (1, 4) if same && MODE != PIXELS => self.runs::<4, EDGE>(acc, &line),
                                _ => self.each_tap::<EDGE>(&mut acc[0], &line),
                            }
                        }
                    }
                }
                weights = weights.wrapping_add(line_len);
            }
        }
    }

    /// Sums the inner taps of one line, without dilation and with a stride of `BY`: up to four at a time, or up to two if
    /// the outputs share so few positions that all of them would be in registers at once.
    ///
    /// # Safety
    /// Same contract as [`any`](Self::any). The line must be inside the input and must have these weights.
    #[inline(always)]
    unsafe fn runs<const BY: usize, const EDGE: bool>(
        &self,
        acc: &mut [[[S::V; 1]; T]; ROWS],
        line: &LineOf<'_, S>,
    ) {
        let of_tap = if MODE == PIXELS { 1 } else { S::LANES };
        let mut tap = 0;
        while tap < self.args.inner.taps {
            // SAFETY: the caller upholds the contract of this function.
            unsafe {
                let rest = LineOf {
                    p: line.p.wrapping_add(tap.wrapping_mul(self.step())),
                    w: line.w.wrapping_add(tap.wrapping_mul(of_tap)),
                    first: line.first.wrapping_add_unsigned(tap),
                    ..*line
                };
                match self.args.inner.taps.wrapping_sub(tap) {
                    1 => self.run_of::<1, BY, EDGE>(acc, &rest),
                    taps if taps == 2 || BY > 2 => self.run_of::<2, BY, EDGE>(acc, &rest),
                    3 => self.run_of::<3, BY, EDGE>(acc, &rest),
                    _ => self.run_of::<4, BY, EDGE>(acc, &rest),
                }
            }
            tap = tap.wrapping_add(if BY > 2 { 2 } else { 4 });
        }
    }

    /// Sums the first `N` inner taps of a line.
    ///
    /// # Safety
    /// Same contract as [`runs`](Self::runs).
    #[inline(always)]
    unsafe fn run_of<const N: usize, const BY: usize, const EDGE: bool>(
        &self,
        acc: &mut [[[S::V; 1]; T]; ROWS],
        line: &LineOf<'_, S>,
    ) {
        let Self { s, args, inner_inside, outer_inside } = *self;
        let tiles = Tiles::<S, MODE, N, BY, T, ROWS, STEP> { s, args, inner_inside, outer_inside };
        let positions = (T - 1) * BY + N;
        let inside = Inside::of(args.inner.positions_inside(line.first, positions));
        // SAFETY: the caller upholds the contract of this function.
        unsafe { tiles.all_taps::<0, 1, EDGE>(acc, line.reader, line.p, line.w, inside) };
    }

    /// Sums the inner taps of one line one by one, with any stride and dilation.
    ///
    /// # Safety
    /// Same contract as [`any`](Self::any). The line must be inside the input and must have these weights.
    #[inline(always)]
    unsafe fn each_tap<const EDGE: bool>(&self, acc: &mut [[S::V; 1]; T], line: &LineOf<'_, S>) {
        let LineOf { reader, p, w, first } = *line;
        let (s, inner, outer) = (self.s, &self.args.inner, &self.args.outer);
        // The distance to the tap of the next line of outputs.
        let next = outer.stride.wrapping_mul(outer.step);
        for tap in 0..inner.taps {
            // SAFETY: the caller upholds the contract of this function.
            let weight = unsafe { weight::<S, MODE>(s, w, tap) };
            let ahead = tap.wrapping_mul(inner.dilation);
            let mut position = first.wrapping_add_unsigned(ahead);
            let mut ahead = ahead.wrapping_mul(self.step());
            for t in 0..T {
                if !EDGE || (position as usize) < inner.input {
                    // SAFETY: the position is inside the input. `EDGE` has checked it, or the caller
                    // guarantees it.
                    let x = unsafe { reader.read::<MODE, 0, EDGE>(p.wrapping_add(ahead)) };
                    if const { MODE != PIXELS } && self.args.fetch {
                        s.prefetch(p.wrapping_add(ahead).wrapping_add(next));
                    }
                    acc[t][0] = s.mul_add(x, weight, acc[t][0]);
                }
                position = position.wrapping_add_unsigned(inner.stride);
                ahead = self.further(ahead, inner.stride.wrapping_mul(self.step()));
            }
        }
    }
}

/// A line of the input from the first inner tap of a tile on.
#[derive(Clone, Copy)]
struct LineOf<'a, S: Simd> {
    reader: &'a Reader<S>,
    p: *const f32,
    /// The weights of the taps.
    w: *const f32,
    /// The position of the first tap.
    first: isize,
}

/// One line of the input under the kernel.
struct Line<S: Simd, const K: usize, const ROWS: usize> {
    /// The weights of the taps on this line, for each row of outputs.
    weights: [[S::V; K]; ROWS],
    /// The first position, and the offset of the current one.
    p: *const f32,
    ahead: usize,
    inside: Inside,
}

/// Which positions of a tile are inside the input. Bit `i` stands for position `i`.
#[derive(Clone, Copy)]
struct Inside {
    bits: usize,
}

impl Inside {
    /// The positions `from..to`.
    #[inline(always)]
    fn of((from, to): (usize, usize)) -> Self {
        Self { bits: (1 << to) - (1 << from) }
    }

    #[inline(always)]
    fn has(self, i: usize) -> bool {
        self.bits & (1 << i) != 0
    }
}

/// Returns the weights of inner tap `tap`.
///
/// # Safety
/// The line must have this tap.
#[inline(always)]
unsafe fn weight<S: Simd, const MODE: u8>(s: S, weights: *const f32, tap: usize) -> S::V {
    if MODE == PIXELS {
        // SAFETY: the caller upholds the contract of this function.
        s.splat(unsafe { *weights.wrapping_add(tap) })
    } else {
        // SAFETY: the caller upholds the contract of this function.
        unsafe { s.load(weights.wrapping_add(tap.wrapping_mul(S::LANES))) }
    }
}
