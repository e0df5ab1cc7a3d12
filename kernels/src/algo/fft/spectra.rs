//! The weight spectra, in panels of sixteen output channels.

use super::plane::{Scratch, Tables, Transform};
use super::schedule::{self, Channels, FftSchedule, Lanes, Lengths, Tiling};
use crate::algo::packed::{Panel, PanelShape, Panels, flushed};
use crate::algo::planes::layout_of_panels;
use crate::describe::{BLOCK, ConvDesc, ConvError, Size2, Weights};
use crate::memory::Buffer;
use crate::tile::fft::COMPLEX;
use crate::tile::fft_table::FftKernels;
use crate::tile::shape::TileShape;

/// Sixteen output channels on every instruction set.
const SHAPE: TileShape = TileShape { rows: 1, vectors: &[1], lanes: BLOCK };

/// How a filter is transformed and packed. It does not depend on the values of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SpectraForm {
    lengths: Lengths,
    channels: Channels,
    kernel: Size2,
    panels: PanelShape,
}

impl SpectraForm {
    /// The forms of all transforms that can compute the problem.
    pub(crate) fn all(desc: &ConvDesc) -> Vec<Self> {
        let channels = Channels::of(desc);
        let (kernel, panels) = (desc.kernel(), panels(desc, &channels));
        let form = |tiling: Tiling| Self { lengths: tiling.lengths(), channels, kernel, panels };
        schedule::all(desc, &channels).map(form).collect()
    }

    pub(crate) fn lengths(&self) -> Lengths {
        self.lengths
    }

    pub(crate) fn new(desc: &ConvDesc, schedule: &FftSchedule) -> Self {
        let (channels, lengths) = (schedule.channels, schedule.tiling.lengths());
        Self { lengths, channels, kernel: desc.kernel(), panels: panels(desc, &channels) }
    }

    /// Elements of the spectra of one panel.
    fn panel_len(&self) -> usize {
        self.channels.ins.saturating_mul(self.lengths.spectrum_len())
    }

    /// Elements of the packed filter, the packed bias and the packed slopes.
    pub(crate) fn lens(&self) -> [usize; 3] {
        let [bias, slope] = self.panels.lens();
        [self.panels.count.saturating_mul(self.panel_len()), bias, slope]
    }
}

/// The output channels in panels of sixteen, and their spectra.
pub(crate) struct Spectra {
    /// The panels of each group. If lanes belong to different groups, the panels of all channels.
    pub(super) panels: Panels,
    form: SpectraForm,
    tables: Tables,
    /// `[panel][bin][input channel of the group]`, complex numbers of sixteen output channels each.
    data: Buffer,
}

/// The split of the output channels into panels.
fn panels(desc: &ConvDesc, channels: &Channels) -> PanelShape {
    let groups = if channels.lanes == Lanes::Groups { 1 } else { desc.groups() };
    PanelShape::of_groups(desc, (desc.output().c, groups), &SHAPE, layout_of_panels(desc))
}

impl Spectra {
    /// Makes a filter in `form`. The buffers are packed already, or zeros until [`pack`](Self::pack) and
    /// [`fill`](Self::fill).
    pub(crate) fn new(form: SpectraForm, [data, bias, slope]: [Buffer; 3]) -> Result<Self, ConvError> {
        let panels = Panels::new(&form.panels, [bias, slope])?;
        Ok(Self { panels, form, tables: Tables::new(form.lengths), data })
    }

    /// See [`Panels::pack`].
    pub(crate) fn pack(&mut self, weights: &Weights<'_>) {
        self.panels.pack(weights);
    }

    /// Transforms the whole filter.
    pub(crate) fn fill(&mut self, filter: &[f32], kernels: &'static FftKernels) -> Result<(), ConvError> {
        let SpectraForm { lengths, channels: Channels { ins, .. }, .. } = self.form;
        let transform = self.tables.with(kernels);
        let (spectrum_len, scratch_len) = (lengths.spectrum_len(), lengths.scratch_len());
        let mut memory = Buffer::zeroed_for("transforms of weights", scratch_len + spectrum_len)?;
        let (scratch, spectrum) = memory.split_at_mut(scratch_len);
        let mut scratch = transform.scratch(scratch);
        let panels = self.panels.all().iter().zip(self.data.chunks_exact_mut(self.form.panel_len()));
        for (panel, packed) in panels {
            for channel in 0..ins {
                spectrum_of(&self.form, panel, channel, filter, transform, (&mut scratch, spectrum));
                let bins = packed.chunks_exact_mut(ins * COMPLEX);
                for (bin, spectrum) in bins.zip(spectrum.chunks_exact(COMPLEX)) {
                    bin[channel * COMPLEX..][..COMPLEX].copy_from_slice(spectrum);
                }
            }
        }
        Ok(())
    }

    /// The packed filter, bias and slopes.
    pub(crate) fn buffers(&self) -> [&Buffer; 3] {
        let [bias, slope] = self.panels.buffers();
        [&self.data, bias, slope]
    }

    /// Bytes of the factors of the transforms.
    pub(crate) fn table_bytes(&self) -> usize {
        self.tables.bytes()
    }

    /// The transforms of the image and of the products.
    pub(super) fn transform(&self, kernels: &'static FftKernels) -> Transform<'_> {
        self.tables.with(kernels)
    }

    /// The spectra of panel `index`.
    pub(super) fn of(&self, index: usize) -> &[f32] {
        let each = self.data.len() / self.panels.all().len();
        &self.data[index * each..(index + 1) * each]
    }
}

/// Computes the spectrum of the kernels from one input channel of a group to each output channel of a panel.
/// It is conjugated, because the convolution is a correlation.
fn spectrum_of(
    form: &SpectraForm,
    panel: &Panel,
    channel: usize,
    filter: &[f32],
    transform: Transform<'_>,
    (scratch, spectrum): (&mut Scratch<'_>, &mut [f32]),
) {
    let kernel = form.kernel;
    let window = kernel.h * kernel.w;
    let taps = form.channels.ins * window;
    transform.forward(scratch, spectrum, 1, |y, stage| {
        if y >= kernel.h {
            return false;
        }
        for lane in panel.lo..panel.hi {
            let first = (panel.channel + lane) * taps + channel * window + y * kernel.w;
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
