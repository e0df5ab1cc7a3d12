//! The weights' spectra: sixteen output channels a panel.

use super::plane::{Scratch, Transform};
use super::schedule::{Channels, Lanes};
use crate::algo::packed::{PACKED, Panel, PanelShape, Panels, flushed};
use crate::algo::planes::layout_of_panels;
use crate::describe::{BLOCK, ConvDesc, ConvError, Weights};
use crate::memory::Buffer;
use crate::tile::fft::COMPLEX;
use crate::tile::shape::TileShape;

/// Sixteen output channels, whatever the instruction set.
const SHAPE: TileShape = TileShape { rows: 1, vectors: &[1], lanes: BLOCK };

/// The output channels, sixteen a panel, and their spectra.
pub(super) struct Spectra {
    /// Of each group, or of all channels where lanes are of different groups.
    pub(super) panels: Panels,
    /// `[panel][bin][input channel of the group]` of complex numbers of sixteen output channels.
    data: Buffer,
}

/// How the output channels are cut into panels.
pub(super) fn panels(desc: &ConvDesc, channels: &Channels) -> PanelShape {
    let groups = if channels.lanes == Lanes::Groups { 1 } else { desc.groups() };
    PanelShape::of_groups(desc, (desc.output().c, groups), &SHAPE, layout_of_panels(desc))
}

impl Spectra {
    pub(super) fn new(
        desc: &ConvDesc,
        channels: &Channels,
        weights: &Weights<'_>,
        transform: &Transform,
    ) -> Result<Self, ConvError> {
        let panels = Panels::new(weights, &panels(desc, channels))?;
        let spectrum_len = transform.tiling().spectrum_len();
        let len = channels.ins.saturating_mul(spectrum_len);
        let mut data = Buffer::zeroed_for(PACKED, panels.all().len().saturating_mul(len))?;
        let scratch_len = transform.tiling().scratch_len();
        let mut memory = Buffer::zeroed_for("transforms of weights", scratch_len + spectrum_len)?;
        let (scratch, spectrum) = memory.split_at_mut(scratch_len);
        let mut scratch = transform.scratch(scratch);
        for (panel, packed) in panels.all().iter().zip(data.chunks_exact_mut(len)) {
            for channel in 0..channels.ins {
                spectrum_of(desc, panel, channel, weights.filter, transform, &mut scratch, spectrum);
                let bins = packed.chunks_exact_mut(channels.ins * COMPLEX);
                for (bin, spectrum) in bins.zip(spectrum.chunks_exact(COMPLEX)) {
                    bin[channel * COMPLEX..][..COMPLEX].copy_from_slice(spectrum);
                }
            }
        }
        Ok(Self { panels, data })
    }

    /// The spectra of panel `index`.
    pub(super) fn of(&self, index: usize) -> &[f32] {
        let each = self.data.len() / self.panels.all().len();
        &self.data[index * each..(index + 1) * each]
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.bytes() + self.panels.bytes()
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
