//! The weight spectra, in panels of sixteen output channels.

use super::plane::{Scratch, Tables, Transform};
use super::schedule::{self, Channels, FftSchedule, Lanes, Lengths, Tiling};
use crate::algo::packed::flushed;
use crate::algo::panels::{PanelShape, Panels};
use crate::algo::planes::layout_of_panels;
use crate::describe::{BLOCK, ConvDesc, ConvError, Size2, Weights};
use crate::memory::Buffer;
use crate::tile::fft::COMPLEX;
use crate::tile::fft_table::FftKernels;
use crate::tile::shape::TileShape;
use std::ops::Range;

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
        let of = |channels: Channels| {
            let (kernel, panels) = (desc.kernel(), panels(desc, &channels));
            let form = move |tiling: Tiling| Self { lengths: tiling.lengths(), channels, kernel, panels };
            schedule::all(desc, channels).map(form).collect::<Vec<_>>()
        };
        Channels::all(desc).flat_map(of).collect()
    }

    pub(crate) fn lengths(&self) -> Lengths {
        self.lengths
    }

    pub(crate) fn channels(&self) -> Channels {
        self.channels
    }

    pub(crate) fn new(desc: &ConvDesc, schedule: &FftSchedule) -> Self {
        let (channels, lengths) = (schedule.channels, schedule.tiling.lengths());
        Self { lengths, channels, kernel: desc.kernel(), panels: panels(desc, &channels) }
    }

    /// Elements of the spectra of one panel. If lanes are tiles: of one output channel.
    fn panel_len(&self) -> usize {
        self.channels.panel_len(&self.lengths)
    }

    /// Number of panels, or of output channels.
    fn panels(&self) -> usize {
        if self.channels.lanes == Lanes::Tiles { self.channels.all_outs() } else { self.panels.count }
    }

    /// Elements of the packed filter, the packed bias and the packed slopes.
    pub(crate) fn lens(&self) -> [usize; 3] {
        let [bias, slope] = self.panels.lens();
        [self.panels().saturating_mul(self.panel_len()), bias, slope]
    }
}

/// The output channels in panels of sixteen, and their spectra.
pub(crate) struct Spectra {
    /// The panels of each group. If lanes belong to different groups, the panels of all channels.
    pub(super) panels: Panels,
    form: SpectraForm,
    tables: Tables,
    /// `[panel][bin][input channel of the group]`, complex numbers of sixteen output channels each. If lanes are
    /// tiles: `[output channel][column][input channel of the group][row]`, single complex numbers.
    data: Buffer,
    /// Memory of the transforms, kept for the next filter.
    memory: Buffer,
}

/// A number of a channel for all lanes, if there is one.
pub(super) struct Copies(Option<[f32; BLOCK]>);

impl Copies {
    /// Sixteen copies, or none.
    pub(super) fn all(&self) -> &[f32] {
        self.0.as_ref().map_or(&[], |copies| copies)
    }
}

/// The split of the output channels into panels. If lanes are tiles, only bias and slopes are in panels.
fn panels(desc: &ConvDesc, channels: &Channels) -> PanelShape {
    let groups = if channels.lanes == Lanes::Outputs { desc.groups() } else { 1 };
    PanelShape::of_groups(desc, (desc.output().c, groups), &SHAPE, layout_of_panels(desc))
}

impl Spectra {
    /// Makes a filter in `form`. The buffers are packed already, or zeros until [`pack`](Self::pack) and
    /// [`fill`](Self::fill).
    pub(crate) fn new(form: SpectraForm, [data, bias, slope]: [Buffer; 3]) -> Result<Self, ConvError> {
        let panels = Panels::new(&form.panels, [bias, slope])?;
        Ok(Self { panels, form, tables: Tables::new(form.lengths), data, memory: Buffer::empty() })
    }

    /// See [`Panels::pack`].
    pub(crate) fn pack(&mut self, weights: &Weights<'_>) {
        self.panels.pack(weights);
    }

    /// Transforms the whole filter.
    pub(crate) fn fill(&mut self, filter: &[f32], kernels: &'static FftKernels) -> Result<(), ConvError> {
        let SpectraForm { lengths, channels: Channels { ins, lanes, .. }, kernel, .. } = self.form;
        let transform = self.tables.with(kernels);
        let (spectrum_len, scratch_len) = (lengths.spectrum_len(), lengths.scratch_len());
        if self.memory.is_empty() {
            self.memory = Buffer::zeroed_for("transforms of weights", scratch_len + spectrum_len)?;
        }
        let (scratch, spectrum) = self.memory.split_at_mut(scratch_len);
        let mut scratch = transform.scratch(scratch);
        let window = kernel.h * kernel.w;
        if lanes == Lanes::Tiles {
            for (block, filters) in filter.chunks(BLOCK * window).enumerate() {
                let count = filters.len() / window;
                let each = |lane| &filters[lane * window..][..window];
                spectrum_of(kernel, 0..count, each, transform, (&mut scratch, spectrum));
                for lane in 0..count {
                    place(&self.form, &mut self.data, block * BLOCK + lane, (lane, spectrum));
                }
            }
            return Ok(());
        }
        let panels = self.panels.all().iter().zip(self.data.chunks_exact_mut(self.form.panel_len()));
        for (panel, packed) in panels {
            for channel in 0..ins {
                let each = |lane| &filter[((panel.channel + lane) * ins + channel) * window..][..window];
                spectrum_of(kernel, panel.lo..panel.hi, each, transform, (&mut scratch, spectrum));
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

    /// The spectra of panel `index`. If lanes are tiles: of output channel `index`.
    pub(super) fn of(&self, index: usize) -> &[f32] {
        let each = self.form.panel_len();
        &self.data[index * each..(index + 1) * each]
    }

    /// If lanes are tiles: the weights of a column of output channel `index`.
    pub(super) fn of_column(&self, index: usize, column: usize) -> &[f32] {
        let each = 2 * self.form.channels.ins * self.form.lengths.y;
        &self.of(index)[column * each..][..each]
    }

    /// The bias and the slope of a channel.
    pub(super) fn copies(&self, channel: usize) -> [Copies; 2] {
        let (bias, slope) = self.panels.per_channel(channel / BLOCK, channel % BLOCK);
        [bias, slope].map(|of| Copies(of.first().map(|&number| [number; BLOCK])))
    }
}

/// Computes the spectrum of the kernels of some lanes. It is conjugated, because the convolution is a
/// correlation.
fn spectrum_of<'a>(
    kernel: Size2,
    lanes: Range<usize>,
    kernel_of: impl Fn(usize) -> &'a [f32],
    transform: Transform<'_>,
    (scratch, spectrum): (&mut Scratch<'_>, &mut [f32]),
) {
    transform.forward(scratch, spectrum, 1, |y, stage| {
        if y >= kernel.h {
            return false;
        }
        for lane in lanes.clone() {
            for (x, &w) in kernel_of(lane)[y * kernel.w..][..kernel.w].iter().enumerate() {
                stage[x * COMPLEX + lane] = flushed(w);
            }
        }
        true
    });
    for number in spectrum.chunks_exact_mut(COMPLEX) {
        number[BLOCK..].iter_mut().for_each(|im| *im = -*im);
    }
}

/// If lanes are tiles: copies a lane of `spectrum` to kernel `index` of the packed `data`. Kernels are counted over
/// all input channels of all output channels.
fn place(form: &SpectraForm, data: &mut [f32], index: usize, (lane, spectrum): (usize, &[f32])) {
    let (ins, rows, len) = (form.channels.ins, form.lengths.y, form.panel_len());
    let columns = data[index / ins * len..][..len].chunks_exact_mut(2 * ins * rows);
    for (to, from) in columns.zip(spectrum.chunks_exact(rows * COMPLEX)) {
        let to = to[2 * rows * (index % ins)..].chunks_exact_mut(2);
        for (to, from) in to.zip(from.chunks_exact(COMPLEX)) {
            to.copy_from_slice(&[from[lane], from[BLOCK + lane]]);
        }
    }
}
