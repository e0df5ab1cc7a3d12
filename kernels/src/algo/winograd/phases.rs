//! Strides: with stride `s`, the padded image splits into `s x s` phases:
//!
//! ```text
//! P[py][px][y][x] = I[s y + py][s x + px]
//! ```
//!
//! The strides of the two axes can differ. Phases that no tap reads are left out.
//!
//! Each phase is a channel of its own, and its part of the kernel moves over it with stride 1 ("space to
//! depth"). A kernel of 7x7 at stride 2 with 3 channels becomes 4x4 at stride 1 with 12 channels. A kernel of
//! 11x11 at stride 4 with 3 channels becomes 3x3 with 48 channels.

use crate::describe::{BLOCK, ConvDesc, PixelRef, Size2};
use std::ops::Range;

/// The phases of a stride. With stride 1 there is one phase, the image itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Phases {
    pub(super) stride: Size2,
    pub(super) kernel: Size2,
}

/// A channel of the phases: phase `(y, x)` of a channel of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) channel: usize,
    pub(super) y: usize,
    pub(super) x: usize,
}

impl Phases {
    /// Taps of the kernel's part in a phase. A smaller part is padded with zeros.
    pub(super) fn taps(&self) -> Size2 {
        Size2::new(self.kernel.h.div_ceil(self.stride.h), self.kernel.w.div_ceil(self.stride.w))
    }

    /// The outputs of a tile of an algorithm with `outputs` outputs: an axis along which there is one tap has one output, and
    /// is not transformed.
    pub(super) fn outputs(&self, outputs: Size2) -> Size2 {
        let of = |taps, outputs| if taps == 1 { 1 } else { outputs };
        Size2::new(of(self.taps().h, outputs.h), of(self.taps().w, outputs.w))
    }

    /// The points that a tile of `outputs` outputs is transformed to.
    pub(super) fn points(&self, outputs: Size2) -> Size2 {
        let taps = self.taps();
        Size2::new(outputs.h + taps.h - 1, outputs.w + taps.w - 1)
    }

    /// Taps of the whole kernel.
    pub(super) fn window(&self) -> usize {
        self.kernel.h * self.kernel.w
    }

    /// Whether the pixels of the phases must be gathered, channel by channel, from those of the image. If the `ins` channels of
    /// the image are whole blocks, a block of channels has one phase, which is read in place.
    pub(super) fn are_gathered(&self, ins: usize) -> bool {
        self.stride != Size2::square(1) && !ins.is_multiple_of(BLOCK)
    }

    /// Phases along each axis that a kernel reads.
    fn along(&self) -> Size2 {
        Size2::new(self.stride.h.min(self.kernel.h), self.stride.w.min(self.kernel.w))
    }

    /// Number of phases of a channel.
    pub(super) fn count(&self) -> usize {
        self.along().h * self.along().w
    }

    /// Channels of the phases of a group with `ins` channels.
    pub(super) fn channels(&self, ins: usize) -> usize {
        ins * self.count()
    }

    /// Returns the phase and the image channel of `channel`, a channel of the phases of a group with `ins` channels. Phases that
    /// are gathered alternate, and others follow one another.
    pub(super) fn at(&self, channel: usize, ins: usize) -> Phase {
        let (phase, channel) = match self.are_gathered(ins) {
            true => (channel % self.count(), channel / self.count()),
            false => (channel / ins, channel % ins),
        };
        Phase { channel, y: phase / self.along().w, x: phase % self.along().w }
    }

    /// Returns the weight of the kernel that is tap `(y, x)` of a phase, if there is one.
    pub(super) fn weight(&self, phase: Phase, (y, x): (usize, usize)) -> Option<usize> {
        let (y, x) = (self.stride.h * y + phase.y, self.stride.w * x + phase.x);
        (y < self.kernel.h && x < self.kernel.w).then_some(y * self.kernel.w + x)
    }

    /// Gathers the pixels of rows `y` and columns `x` in up to 16 channels of the phases:
    /// `to[row][column][channel]`. Places outside the image become zeros. `first` is the image channel of
    /// phase channel 0.
    pub(super) fn gather(
        &self,
        desc: &ConvDesc,
        from: &PixelRef<'_>,
        (n, first): (usize, usize),
        channels: Range<usize>,
        (y, x): (Range<usize>, Range<usize>),
        to: &mut [f32],
    ) {
        let (input, pad, Size2 { h: down, w: s }) = (desc.input(), desc.pad(), self.stride);
        to[..y.len() * x.len() * BLOCK].fill(0.0);
        let mut channel = channels.start;
        while channel < channels.end {
            let phase = self.at(channel, desc.ins());
            // Phases of one row are adjacent if pixels are adjacent.
            let most = if from.view.pixel == 1 { self.along().w - phase.x } else { 1 };
            let run = PhaseRun {
                lane: channel - channels.start,
                len: most.min(channels.end - channel),
                stride: s * from.view.pixel,
            };
            channel += run.len;
            // The columns where a phase is inside the image: those for which `s x + phase - pad.left` is a
            // column of the image.
            let inside = |phase: usize| {
                let of =
                    |edge: usize| (edge + pad.left).saturating_sub(phase).div_ceil(s).clamp(x.start, x.end);
                of(0)..of(input.w)
            };
            // All phases of the run are inside from the start of the first phase to the end of the last,
            // which are the tightest bounds.
            let all = inside(phase.x).start..inside(phase.x + run.len - 1).end;
            let mut copy = |run: PhaseRun, phase: Phase, columns: Range<usize>| {
                if columns.is_empty() {
                    return;
                }
                for (row, to) in y.clone().zip(to.chunks_exact_mut(x.len() * BLOCK)) {
                    let row = (down * row + phase.y).wrapping_sub(pad.top);
                    if row < input.h {
                        let p = row * input.w + (s * columns.start + phase.x - pad.left);
                        let pixels = &from.data[from.view.offset(n, first + phase.channel, p)..];
                        run.copy(pixels, &mut to[(columns.start - x.start) * BLOCK..], columns.len());
                    }
                }
            };
            copy(run, phase, all.clone());
            for i in 0..run.len {
                let phase = Phase { x: phase.x + i, ..phase };
                let Range { start, end } = inside(phase.x);
                copy(run.one(i), phase, start..end.min(all.start));
                copy(run.one(i), phase, start.max(all.end)..end);
            }
        }
    }
}

/// Lanes whose pixels are adjacent: the phases of one row.
#[derive(Debug, Clone, Copy)]
struct PhaseRun {
    lane: usize,
    len: usize,
    /// Distance from the pixels of one column to the next.
    stride: usize,
}

impl PhaseRun {
    /// Lane `i` of the run alone.
    fn one(&self, i: usize) -> Self {
        Self { lane: self.lane + i, len: 1, ..*self }
    }

    /// Copies `columns` columns of the run.
    fn copy(&self, from: &[f32], to: &mut [f32], columns: usize) {
        match self.len {
            1 => self.copy_of::<1>(from, to, columns),
            2 => self.copy_of::<2>(from, to, columns),
            3 => self.copy_of::<3>(from, to, columns),
            4 => self.copy_of::<4>(from, to, columns),
            _ => (0..self.len).for_each(|i| self.one(i).copy_of::<1>(&from[i..], to, columns)),
        }
    }

    fn copy_of<const LEN: usize>(&self, from: &[f32], to: &mut [f32], columns: usize) {
        for (column, to) in to[..columns * BLOCK].chunks_exact_mut(BLOCK).enumerate() {
            to[self.lane..self.lane + LEN].copy_from_slice(&from[column * self.stride..][..LEN]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Phases;
    use crate::describe::Size2;

    #[test]
    fn every_weight_is_a_tap_of_one_phase() {
        let sizes = |most: usize| (1..=most).flat_map(move |h| (1..=most).map(move |w| Size2::new(h, w)));
        for stride in sizes(4) {
            for kernel in sizes(9) {
                let phases = Phases { stride, kernel };
                let taps = phases.taps();
                let mut seen = vec![0; kernel.h * kernel.w];
                for channel in 0..phases.count() {
                    for tap in 0..taps.h * taps.w {
                        if let Some(weight) =
                            phases.weight(phases.at(channel, 1), (tap / taps.w, tap % taps.w))
                        {
                            seen[weight] += 1;
                        }
                    }
                }
                assert!(seen.iter().all(|&times| times == 1), "{kernel} at stride {stride}: {seen:?}");
            }
        }
    }
}
