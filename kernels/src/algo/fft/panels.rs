//! The weights' spectra: sixteen output channels a panel.

use super::cut::{Channels, Lanes};
use super::plane::{Scratch, Transform};
use crate::describe::{BLOCK, ConvDesc, Layout, Weights};
use crate::plan::memory::Buffer;
use crate::plan::packed::flushed;
use crate::tile::fft::COMPLEX;
use std::ops::Range;

/// Sixteen output channels from `channel` on, of which `lo..hi` are there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel {
    pub(super) channel: usize,
    pub(super) lo: usize,
    pub(super) hi: usize,
}

impl Panel {
    /// The part of it that is in `channels`.
    pub(super) fn within(self, channels: &Range<usize>) -> Option<Self> {
        let lo = self.lo.max(channels.start.saturating_sub(self.channel));
        let hi = self.hi.min(channels.end.saturating_sub(self.channel));
        (lo < hi).then_some(Self { lo, hi, ..self })
    }
}

/// The panels of all output channels, their spectra, and the numbers of their channels.
pub(super) struct Panels {
    pub(super) panels: Vec<Panel>,
    /// `[panel][bin][input channel of the group]` of complex numbers of sixteen output channels.
    spectra: Buffer,
    /// Sixteen for each panel, or none.
    bias: Buffer,
    slope: Buffer,
}

impl Panels {
    pub(super) fn new(
        desc: &ConvDesc,
        channels: &Channels,
        weights: &Weights<'_>,
        transform: &Transform,
    ) -> Self {
        let panels = panels(desc, channels);
        let per_channel = |numbers: Option<&[f32]>| {
            let Some(numbers) = numbers else { return Buffer::zeroed(0) };
            let mut packed = Buffer::zeroed(panels.len() * BLOCK);
            for (&Panel { channel, lo, hi }, packed) in panels.iter().zip(packed.chunks_exact_mut(BLOCK)) {
                packed[lo..hi].copy_from_slice(&numbers[channel + lo..channel + hi]);
            }
            packed
        };
        let (bias, slope) = (per_channel(weights.bias), per_channel(weights.slope));
        let len = transform.bins() * channels.ins * COMPLEX;
        let mut spectra = Buffer::zeroed(panels.len() * len);
        let mut memory = Buffer::zeroed(transform.scratch_len() + transform.spectrum_len());
        let (scratch, spectrum) = memory.split_at_mut(transform.scratch_len());
        let mut scratch = transform.scratch(scratch);
        for (panel, packed) in panels.iter().zip(spectra.chunks_exact_mut(len)) {
            for channel in 0..channels.ins {
                spectrum_of(desc, panel, channel, weights.filter, transform, &mut scratch, spectrum);
                let bins = packed.chunks_exact_mut(channels.ins * COMPLEX);
                for (bin, spectrum) in bins.zip(spectrum.chunks_exact(COMPLEX)) {
                    bin[channel * COMPLEX..][..COMPLEX].copy_from_slice(spectrum);
                }
            }
        }
        Self { panels, spectra, bias, slope }
    }

    /// The part of panel `index` of what has one for each of them, or is empty.
    fn of<'a>(&self, of_all: &'a [f32], index: usize) -> &'a [f32] {
        let each = of_all.len() / self.panels.len();
        &of_all[index * each..(index + 1) * each]
    }

    pub(super) fn spectra(&self, index: usize) -> &[f32] {
        self.of(&self.spectra, index)
    }

    /// Bias and slopes, each empty if there are none.
    pub(super) fn per_channel(&self, index: usize) -> (&[f32], &[f32]) {
        (self.of(&self.bias, index), self.of(&self.slope, index))
    }

    pub(super) fn bytes(&self) -> usize {
        self.spectra.bytes() + self.bias.bytes() + self.slope.bytes()
    }
}

/// Cuts the output channels: of each group by itself, or of all. In Nchw16c no panel goes over the end of a block.
fn panels(desc: &ConvDesc, channels: &Channels) -> Vec<Panel> {
    let of_range = |range: Range<usize>| {
        let blocked = desc.output_layout() == Layout::Nchw16c;
        let first = if blocked { range.start / BLOCK * BLOCK } else { range.start };
        (first..range.end).step_by(BLOCK).map(move |channel| Panel {
            channel,
            lo: range.start.max(channel) - channel,
            hi: range.end.min(channel + BLOCK) - channel,
        })
    };
    match channels.lanes {
        Lanes::Groups => of_range(0..desc.output().c).collect(),
        Lanes::Outputs => {
            let group = |group| group * channels.outs..(group + 1) * channels.outs;
            (0..desc.groups()).flat_map(|g| of_range(group(g))).collect()
        }
    }
}

/// The spectrum of the kernels that lead from input channel `channel` of its group to each channel of a panel; conjugate,
/// for what is wanted is a correlation.
fn spectrum_of(
    desc: &ConvDesc,
    panel: &Panel,
    channel: usize,
    filter: &[f32],
    transform: &Transform,
    scratch: &mut Scratch<'_>,
    spectrum: &mut [f32],
) {
    let kernel = desc.kernel();
    let window = kernel.h * kernel.w;
    transform.forward(scratch, spectrum, 1, |y, stage| {
        if y >= kernel.h {
            return false;
        }
        for lane in panel.lo..panel.hi {
            let first = (panel.channel + lane) * desc.taps() + channel * window + y * kernel.w;
            for (x, &w) in filter[first..first + kernel.w].iter().enumerate() {
                stage[x * COMPLEX + lane] = flushed(w);
            }
        }
        true
    });
    for number in spectrum.chunks_exact_mut(COMPLEX) {
        number[BLOCK..].iter_mut().for_each(|im| *im = -*im);
    }
}
