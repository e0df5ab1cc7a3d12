//! [`Backwards`]: a convolution that is run from its output to its input, as forward convolutions of stride 1.
//!
//! The gradient of a convolution with respect to its input, and a transposed convolution, add each value of the small
//! tensor (the output of the convolution), times each tap, to an element of the large one (its input). Seen from the
//! large tensor, with stride `s`, dilation `d`, padding `p` and `k` taps along an axis:
//!
//! `large[i] = sum over taps k and rows y with y * s + k * d - p = i of small[y] * w[k]`
//!
//! Rows `i` that have the same remainder by `s` meet the same taps, at the same distances from each other. They are a
//! *phase*: a convolution of the small tensor with stride 1, whose kernel is those taps in reverse order (Dumoulin and
//! Visin 2016, chapter 4, inserts zeros instead and multiplies them). Both axes have phases. A phase without taps is zero.

use super::{ConvDesc, ConvError, EpilogueSpec, Layout, Pad2, Shape4, Size2};

/// The extents of a convolution that is run backwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backwards {
    /// The tensor that is read: the shape of the output of the convolution.
    pub(crate) small: Shape4,
    /// The tensor that is written: the shape of the input of the convolution.
    pub(crate) large: Shape4,
    pub(crate) kernel: Size2,
    pub(crate) stride: Size2,
    pub(crate) dilation: Size2,
    /// Padding before the rows and before the columns of `large`. That after them follows from the extents.
    pub(crate) before: Size2,
    pub(crate) groups: usize,
}

/// A forward convolution of stride 1 that computes every `stride`-th row and column of the large tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Phase {
    /// The first row and column of the large tensor that the phase writes.
    pub(crate) first: Size2,
    /// Numbers of rows and columns that it writes.
    pub(crate) size: Size2,
    /// The rows and columns of the small tensor that it reads: the first ones, and how many.
    pub(crate) read: (Size2, Size2),
    pub(crate) pad: Pad2,
    pub(crate) dilation: Size2,
    pub(crate) turn: Turn,
}

/// The filter of a phase: some taps in reverse order, with input and output channels exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// The first tap, the distance to the next one, and the number of taps.
    first: Size2,
    step: Size2,
    pub(crate) taps: Size2,
}

impl Turn {
    /// Writes the filter of the phase in OIHW order to `to`, from `filter` in the order
    /// `[small.c][large.c / groups][kh][kw]`, which is the OIHW order of the convolution.
    ///
    /// Some output channels are written side by side, because their taps are adjacent in `filter`.
    pub(crate) fn fill(self, of: &Backwards, filter: &[f32], to: &mut [f32]) {
        const SIDE_BY_SIDE: usize = 8;
        let (smalls, larges, window) =
            (of.small.c / of.groups, of.large.c / of.groups, of.kernel.h * of.kernel.w);
        let taps = self.taps.h * self.taps.w;
        for (group, to) in to.chunks_exact_mut((larges * smalls * taps).max(1)).enumerate() {
            for (block, to) in to.chunks_mut((SIDE_BY_SIDE * smalls * taps).max(1)).enumerate() {
                for small in 0..smalls {
                    let row = &filter[(group * smalls + small) * larges * window..][..larges * window];
                    let from = row.chunks_exact(window).skip(block * SIDE_BY_SIDE);
                    for (to, from) in to.chunks_exact_mut(smalls * taps).zip(from) {
                        self.turn(of.kernel.w, from, &mut to[small * taps..][..taps]);
                    }
                }
            }
        }
    }

    /// Writes some taps of a kernel, whose rows have `width` taps, in reverse order.
    fn turn(self, width: usize, from: &[f32], to: &mut [f32]) {
        let Self { first, step, taps } = self;
        if to.len() == from.len() {
            to.iter_mut().zip(from.iter().rev()).for_each(|(to, x)| *to = *x);
            return;
        }
        for (y, row) in to.chunks_exact_mut(taps.w).rev().enumerate() {
            for (x, to) in row.iter_mut().rev().enumerate() {
                *to = from[(first.h + y * step.h) * width + first.w + x * step.w];
            }
        }
    }
}

/// An axis of a convolution that is run backwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Axis {
    pub(crate) small: usize,
    pub(crate) large: usize,
    pub(crate) taps: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) before: usize,
}

/// A phase of an axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AxisPhase {
    /// The first element that the phase writes, and how many.
    pub(crate) first: usize,
    pub(crate) size: usize,
    /// The first element that it reads, and how many.
    pub(crate) read: (usize, usize),
    pub(crate) pad: (usize, usize),
    pub(crate) dilation: usize,
    /// Its taps in reverse order: the last one, the distance between them, and how many.
    pub(crate) first_tap: usize,
    pub(crate) step: usize,
    pub(crate) taps: usize,
}

impl Axis {
    /// The phases with taps. Those of the other remainders are zero.
    pub(crate) fn phases(self) -> impl Iterator<Item = AxisPhase> {
        let between = self.stride / gcd(self.stride, self.dilation);
        // Taps that are fewer than `between` apart belong to different phases.
        (0..self.taps.min(between)).filter_map(move |first_tap| self.phase(first_tap, between))
    }

    /// The phase of every `step`-th tap from `first_tap` on, if it writes and reads anything.
    fn phase(self, first_tap: usize, step: usize) -> Option<AxisPhase> {
        let Self { small, large, stride, .. } = self;
        // Tap `first_tap` of row `y` of the small tensor belongs to row `y * stride + ahead` of the large one.
        let ahead = (first_tap * self.dilation) as isize - self.before as isize;
        let first = ahead.rem_euclid(stride as isize) as usize;
        let size = large.checked_sub(first)?.div_ceil(stride);
        let taps = (self.taps - 1 - first_tap) / step + 1;
        let dilation = if taps == 1 { 1 } else { self.dilation * step / stride };
        // Row `q` of the phase meets tap `first_tap` in row `q + shift` of the small tensor.
        let shift = (first as isize - ahead) / stride as isize;
        let before = ((taps - 1) * dilation) as isize - shift;
        let after = size as isize - small as isize + shift;
        // Negative padding: rows that no row of the phase reads.
        let cut = before.min(0).unsigned_abs();
        let left = small.checked_sub(cut)?.checked_sub(after.min(0).unsigned_abs())?;
        (size > 0 && left > 0).then_some(AxisPhase {
            first,
            size,
            read: (cut, left),
            pad: (before.max(0) as usize, after.max(0) as usize),
            dilation,
            first_tap,
            step,
            taps,
        })
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Backwards {
    /// The phases that have taps. There are at most as many as taps of the kernel.
    pub(crate) fn phases(&self) -> impl Iterator<Item = Phase> {
        let Self { small, large, kernel, stride, dilation, before, .. } = *self;
        let rows = Axis {
            small: small.h,
            large: large.h,
            taps: kernel.h,
            stride: stride.h,
            dilation: dilation.h,
            before: before.h,
        };
        let columns = Axis {
            small: small.w,
            large: large.w,
            taps: kernel.w,
            stride: stride.w,
            dilation: dilation.w,
            before: before.w,
        };
        rows.phases().flat_map(move |y| columns.phases().map(move |x| Phase::of(y, x)))
    }
}

impl Backwards {
    /// The phase that reads and writes every element, if there is no other.
    pub(crate) fn whole(&self) -> Option<Phase> {
        let mut all = self.phases();
        let is_whole = |phase: &Phase| phase.read.1 == self.small.size() && phase.size == self.large.size();
        all.next().filter(is_whole).filter(|_| all.next().is_none())
    }
}

impl From<&ConvDesc> for Backwards {
    fn from(desc: &ConvDesc) -> Self {
        let pad = desc.pad();
        Self {
            small: desc.output(),
            large: desc.input(),
            kernel: desc.kernel(),
            stride: desc.stride(),
            dilation: desc.dilation(),
            before: Size2::new(pad.top, pad.left),
            groups: desc.groups(),
        }
    }
}

impl Phase {
    /// The convolution of `images` images that computes this phase of `of`.
    pub(crate) fn desc(
        &self,
        of: &Backwards,
        images: usize,
        layout: Layout,
        epilogue: EpilogueSpec,
    ) -> Result<ConvDesc, ConvError> {
        let input = Shape4 { n: images, h: self.read.1.h, w: self.read.1.w, ..of.small };
        ConvDesc::builder(input, of.large.c, self.turn.taps)
            .pad(self.pad)
            .dilation(self.dilation)
            .groups(of.groups)
            .layout(layout)
            .epilogue(epilogue)
            .build()
    }

    fn of(y: AxisPhase, x: AxisPhase) -> Self {
        let both = |of: fn(AxisPhase) -> usize| Size2::new(of(y), of(x));
        Self {
            first: both(|axis| axis.first),
            size: both(|axis| axis.size),
            read: (both(|axis| axis.read.0), both(|axis| axis.read.1)),
            pad: Pad2 { top: y.pad.0, bottom: y.pad.1, left: x.pad.0, right: x.pad.1 },
            dilation: both(|axis| axis.dilation),
            turn: Turn {
                first: both(|axis| axis.first_tap),
                step: both(|axis| axis.step),
                taps: both(|axis| axis.taps),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sums of an axis, by the definition.
    fn by_definition(axis: Axis, small: &[f64], filter: &[f64]) -> Vec<f64> {
        let mut large = vec![0.0; axis.large];
        for (y, value) in small.iter().enumerate() {
            for (k, weight) in filter.iter().enumerate() {
                let i = (y * axis.stride + k * axis.dilation).checked_sub(axis.before);
                if let Some(sum) = i.and_then(|i| large.get_mut(i)) {
                    *sum += value * weight;
                }
            }
        }
        large
    }

    /// The sums of an axis, by its phases.
    fn by_phases(axis: Axis, small: &[f64], filter: &[f64]) -> Vec<f64> {
        let mut large = vec![0.0; axis.large];
        let mut written = vec![false; axis.large];
        for phase in axis.phases() {
            let read = &small[phase.read.0..][..phase.read.1];
            let padded = phase.pad.0 + read.len() + phase.pad.1;
            assert_eq!(padded - (phase.taps - 1) * phase.dilation, phase.size, "{axis:?} {phase:?}");
            for q in 0..phase.size {
                let i = phase.first + q * axis.stride;
                assert!(!std::mem::replace(&mut written[i], true));
                large[i] = (0..phase.taps)
                    .map(|t| {
                        let at = (q + t * phase.dilation).checked_sub(phase.pad.0);
                        let value = at.and_then(|at| read.get(at)).unwrap_or(&0.0);
                        value * filter[phase.first_tap + (phase.taps - 1 - t) * phase.step]
                    })
                    .sum();
            }
        }
        large
    }

    #[test]
    fn phases_are_the_definition() {
        let numbers =
            |len: usize, factor: usize| (1..=len).map(|i| ((i * factor) % 101) as f64).collect::<Vec<_>>();
        let mut cases = 0;
        for large in 1..13 {
            for (taps, stride) in (1..6).flat_map(|taps| (1..6).map(move |stride| (taps, stride))) {
                for (dilation, before) in (1..4).flat_map(|d| (0..5).map(move |before| (d, before))) {
                    for small in [1, 2, 3, 7] {
                        let axis = Axis { small, large, taps, stride, dilation, before };
                        let (values, filter) = (numbers(small, 37), numbers(taps, 53));
                        assert_eq!(
                            by_phases(axis, &values, &filter),
                            by_definition(axis, &values, &filter),
                            "{axis:?}"
                        );
                        cases += 1;
                    }
                }
            }
        }
        assert_eq!(cases, 12 * 25 * 15 * 4);
    }

    #[test]
    fn a_large_stride_has_no_more_phases_than_taps() {
        let desc = ConvDesc::builder(Shape4::new(1, 1, 5000, 5000), 1, Size2::square(3))
            .stride(Size2::square(4000))
            .build()
            .unwrap();
        assert_eq!(Backwards::from(&desc).phases().count(), 9);
    }

    #[test]
    fn filters_are_turned() {
        let desc = ConvDesc::builder(Shape4::new(1, 2, 8, 8), 2, Size2::new(1, 3))
            .pad(Pad2 { left: 1, right: 1, ..Pad2::VALID })
            .stride(Size2::new(1, 2))
            .build()
            .unwrap();
        let of = Backwards::from(&desc);
        let filter: Vec<f32> = (0..12u8).map(f32::from).collect();
        let turned: Vec<(usize, Vec<f32>)> = of
            .phases()
            .map(|phase| {
                let taps = phase.turn.taps.h * phase.turn.taps.w;
                let mut turned = vec![0.0; of.large.c * of.small.c / of.groups * taps];
                phase.turn.fill(&of, &filter, &mut turned);
                (phase.first.w, turned)
            })
            .collect();
        assert_eq!(
            turned,
            [(1, vec![2.0, 0.0, 8.0, 6.0, 5.0, 3.0, 11.0, 9.0]), (0, vec![1.0, 7.0, 4.0, 10.0]),]
        );
    }
}
