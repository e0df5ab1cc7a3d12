//! [`PartsWeights`]: a filter split into bf16 parts, in the order in which the kernels read it.

use super::balance::Balance;
use crate::algo::packed::flushed;
use crate::algo::panels::{PanelShape, Panels};
use crate::describe::{ConvError, Products, Weights};
use crate::memory::{Buffer, try_vec};
use crate::tile::parts::{PART_WORDS, ROW};
use crate::tile::parts_table::position_in_step;
use crate::tile::table::KernelSet;
use std::ops::Range;

/// The values of K that a step multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum KOrder {
    /// 32 channels of one tap: `[channels / 32][tap]`.
    Steps { channels: usize, window: usize },
    /// 32 consecutive values of `(kh, kw, c)`.
    Dense { channels: usize, window: usize },
}

impl KOrder {
    /// Groups of 32 values whose pixels are split together.
    pub(super) fn groups(self) -> usize {
        match self {
            Self::Steps { channels, .. } => channels.div_ceil(ROW),
            Self::Dense { .. } => self.len().div_ceil(ROW),
        }
    }

    /// Steps of each group.
    pub(super) fn window(self) -> usize {
        match self {
            Self::Steps { window, .. } => window,
            Self::Dense { .. } => 1,
        }
    }

    pub(super) fn steps(self) -> usize {
        self.groups() * self.window()
    }

    /// Input channels of a group of the convolution.
    pub(super) fn channels(self) -> usize {
        let (Self::Steps { channels, .. } | Self::Dense { channels, .. }) = self;
        channels
    }

    /// Values of K of a group of the convolution.
    pub(super) fn len(self) -> usize {
        let (Self::Steps { channels, window } | Self::Dense { channels, window }) = self;
        channels * window
    }

    /// The position of value `k` of a step in the filter of an output channel, if it exists.
    fn tap(self, step: usize, k: usize) -> Option<usize> {
        let (channel, tap, channels, window) = match self {
            Self::Steps { channels, window } => (step / window * ROW + k, step % window, channels, window),
            Self::Dense { channels, window } => {
                let k = step * ROW + k;
                (k % channels, k / channels, channels, window)
            }
        };
        (channel < channels && tap < window).then_some(channel * window + tap)
    }
}

/// How a filter is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stored {
    /// Split beforehand.
    Parts,
    /// As `f32`, which are split when they are read.
    Floats,
}

/// How a filter is split and packed. It does not depend on the values of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PartsForm {
    pub(super) products: Products,
    pub(super) order: KOrder,
    pub(crate) panels: PanelShape,
    pub(super) stored: Stored,
}

impl PartsForm {
    /// Steps of K.
    pub(super) fn steps(&self) -> usize {
        self.order.steps()
    }

    /// How the weights are stored, in words.
    pub(crate) fn stored_as(&self) -> &'static str {
        match self.stored {
            Stored::Parts => "bf16 parts",
            Stored::Floats => "f32, split as they are read",
        }
    }

    /// Words of a step of a panel.
    fn step_words(&self) -> usize {
        match self.stored {
            Stored::Parts => self.products.parts() * PART_WORDS,
            Stored::Floats => 2 * PART_WORDS,
        }
    }

    fn panel_len(&self) -> usize {
        self.steps().saturating_mul(self.step_words())
    }

    /// Elements of the packed filter, the packed bias and the packed slopes.
    pub(crate) fn lens(&self) -> [usize; 3] {
        let [bias, slope] = self.panels.lens();
        [self.panels.count.saturating_mul(self.panel_len()), bias, slope]
    }

    /// Bytes of all packed data.
    pub(crate) fn bytes(&self) -> usize {
        self.lens().into_iter().fold(0, usize::saturating_add).saturating_mul(size_of::<f32>())
    }
}

/// A packed filter, `[panel][step][part][half][pair of K][16 channels][2]`. Padding is zero.
pub(crate) struct PartsWeights {
    form: PartsForm,
    pub(super) panels: Panels,
    data: Buffer,
}

impl PartsWeights {
    /// Makes a filter in `form`. The buffers are packed already, or zeros until [`pack`](Self::pack) and
    /// [`fill`](Self::fill).
    pub(crate) fn new(form: PartsForm, [data, bias, slope]: [Buffer; 3]) -> Result<Self, ConvError> {
        Ok(Self { panels: Panels::new(&form.panels, [bias, slope])?, form, data })
    }

    /// See [`Panels::pack`].
    pub(crate) fn pack(&mut self, weights: &Weights<'_>) {
        self.panels.pack(weights);
    }

    /// Splits and packs the filters of some output channels. A panel is packed as a whole, so `channels` must
    /// begin and end with panels.
    pub(crate) fn fill(
        &mut self,
        channels: Range<usize>,
        filters: &[f32],
        kernels: &'static KernelSet,
    ) -> Result<(), ConvError> {
        let Self { form, panels, data } = self;
        let (taps, steps, words) = (form.order.len(), form.steps(), form.step_words());
        let mut floats = try_vec("weights of a step", 2 * PART_WORDS)?;
        let mut balance = Balance::new(form.products, taps)?;
        let mut rounded = try_vec("weights of a panel", form.panels.width * taps)?;
        for (index, panel) in panels.of_channels(&channels) {
            let packed = &mut data[index * form.panel_len()..][..form.panel_len()];
            let of_panel = (panel.channel + panel.lo - channels.start) * taps;
            rounded.clear();
            let filters = &filters[of_panel..][..(panel.hi - panel.lo) * taps];
            rounded.extend(filters.iter().map(|&weight| flushed(weight)));
            rounded.chunks_exact_mut(taps).for_each(|filter| balance.round(filter));
            for (step, to) in (0..steps).zip(packed.chunks_exact_mut(words)) {
                floats.clear();
                floats.resize(2 * PART_WORDS, 0.0);
                let of_step: [Option<usize>; ROW] = std::array::from_fn(|k| form.order.tap(step, k));
                for (filter, i) in rounded.chunks_exact(taps).zip(panel.lo..) {
                    for (k, tap) in of_step.iter().enumerate() {
                        if let &Some(tap) = tap {
                            floats[position_in_step(i, k)] = filter[tap];
                        }
                    }
                }
                match form.stored {
                    Stored::Floats => to.copy_from_slice(&floats),
                    Stored::Parts => kernels.parts.split_step(form.products, &floats, to),
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

    /// The steps of a panel from `first` on, and what follows the panel in memory.
    pub(super) fn steps(&self, panel: usize, first: usize) -> &[f32] {
        &self.data[panel * self.form.panel_len() + first * self.form.step_words()..]
    }
}
