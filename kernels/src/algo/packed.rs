//! [`GemmWeights`]: a filter in the order in which a GEMM tile reads it, with its bias and slopes.

use super::panels::{Panel, PanelShape, Panels};
use super::tap_order::TapOrder;
use crate::describe::{BLOCK, ConvDesc, ConvError, Layout, Weights};
use crate::memory::{Buffer, try_push};
use crate::tile::gemm_table::{ColumnsOf, RowsOf};
use crate::tile::shape::TileShape;
pub(crate) use crate::tile::winograd_weights::flushed;
use std::ops::Range;

/// The name of packed weights in errors.
pub(crate) const PACKED: &str = "packed weights";

/// The operand of the tile that holds the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    /// The filter is the vector operand. Channels are adjacent in the output (NHWC, Nchw16c).
    Columns,
    /// The filter is the broadcast operand. Pixels are adjacent in the output (NCHW).
    Rows,
}

/// How a filter is packed for a GEMM tile. It does not depend on the values of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GemmForm {
    pub(crate) side: Side,
    /// Steps of K in one group.
    pub(crate) k: usize,
    pub(crate) panels: PanelShape,
    order: TapOrder,
}

impl GemmForm {
    /// The form that tiles of `shape` read in `order`. `layout` is the output layout as the driver sees it.
    pub(crate) fn new(desc: &ConvDesc, shape: &TileShape, layout: Layout, order: TapOrder) -> Self {
        let side = if layout == Layout::Nchw { Side::Rows } else { Side::Columns };
        Self { side, k: desc.taps(), panels: PanelShape::new(desc, shape, layout), order }
    }

    fn panel_len(&self) -> usize {
        match self.side {
            Side::Columns => self.k.saturating_mul(self.panels.width),
            Side::Rows => self.k.next_multiple_of(BLOCK).saturating_mul(self.panels.width),
        }
    }

    /// Position of step `step` of column (or row) `i` in its panel.
    fn position(&self, step: usize, i: usize) -> usize {
        match self.side {
            Side::Columns => step * self.panels.width + i,
            Side::Rows => step / BLOCK * (self.panels.width * BLOCK) + i * BLOCK + step % BLOCK,
        }
    }

    /// Distance between two steps of a block of K.
    fn step(&self) -> usize {
        match self.side {
            Side::Columns => self.panels.width,
            Side::Rows => 1,
        }
    }

    /// Elements of all panels together.
    fn len(&self) -> usize {
        self.panels.count.saturating_mul(self.panel_len())
    }

    /// Elements of the packed filter, the packed bias and the packed slopes.
    pub(crate) fn lens(&self) -> [usize; 3] {
        let [bias, slope] = self.panels.lens();
        [self.len(), bias, slope]
    }

    /// Bytes of all packed data.
    pub(crate) fn bytes(&self) -> usize {
        self.len().saturating_mul(size_of::<f32>()).saturating_add(self.panels.bytes())
    }

    /// Whether there are more packed weights than elements of the input.
    pub(crate) fn outweighs_image(&self, desc: &ConvDesc) -> bool {
        let input = desc.input();
        self.len() > input.n * input.c * input.h * input.w
    }
}

/// A packed filter. It is tied to the tile that it was packed for, and so to the instruction set.
///
/// The order is `[panel][k][width]` for columns and `[panel][k / 16][width][16]` for rows. Padding is zero.
/// Subnormal weights are [`flushed`].
pub(crate) struct GemmWeights {
    form: GemmForm,
    panels: Panels,
    data: Buffer,
    /// The tap of each step of K, once a filter is packed: for each variant of the order.
    orders: Vec<Vec<usize>>,
}

impl GemmWeights {
    /// Makes a filter in `form`. The buffers are packed already, or zeros until [`pack`](Self::pack) and
    /// [`fill`](Self::fill).
    pub(crate) fn new(form: GemmForm, [data, bias, slope]: [Buffer; 3]) -> Result<Self, ConvError> {
        Ok(Self { panels: Panels::new(&form.panels, [bias, slope])?, form, data, orders: Vec::new() })
    }

    /// See [`Panels::pack`].
    pub(crate) fn pack(&mut self, weights: &Weights<'_>) {
        self.panels.pack(weights);
    }

    /// Packs the filters of some output channels.
    pub(crate) fn fill(&mut self, channels: Range<usize>, filters: &[f32]) -> Result<(), ConvError> {
        let Self { form, panels, data, orders } = self;
        let (k, len) = (form.k, form.panel_len());
        let variants = form.order.variants().min(form.panels.groups);
        for variant in orders.len()..variants {
            try_push("orders of the taps", orders, form.order.taps(k, variant)?)?;
        }
        for (index, panel) in panels.of_channels(&channels) {
            let group = (panel.channel + panel.lo) / form.panels.per_group;
            let order = &orders[group % variants];
            let packed = &mut data[index * len..][..len];
            for i in panel.lo..panel.hi {
                let taps = &filters[(panel.channel + i - channels.start) * k..][..k];
                for (first, order) in (0..k).step_by(BLOCK).zip(order.chunks(BLOCK)) {
                    let (start, step) = (form.position(first, i), form.step());
                    let steps = packed[start..].iter_mut().step_by(step);
                    steps.zip(order).for_each(|(to, &tap)| *to = flushed(taps[tap]));
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

    fn panel_len(&self) -> usize {
        self.form.panel_len()
    }

    /// See [`Panels::of_group`].
    pub(crate) fn panels(
        &self,
        group: usize,
        channels: &Range<usize>,
    ) -> impl Iterator<Item = (usize, Panel)> {
        self.panels.of_group(group, channels)
    }

    /// See [`Panels::all`].
    pub(crate) fn all_panels(&self) -> &[Panel] {
        self.panels.all()
    }

    /// See [`Panels::pieces_of_group`].
    pub(crate) fn pieces(
        &self,
        group: usize,
        channels: &Range<usize>,
        together: bool,
    ) -> impl Iterator<Item = (Range<usize>, Panel)> {
        self.panels.pieces_of_group(group, channels, together)
    }

    /// The packed weights of panels that follow each other, their bias and their slopes.
    pub(crate) fn of_panels(&self, indices: Range<usize>) -> (&[f32], &[f32], &[f32]) {
        let (bias, slope) = self.panels.per_channel_of(indices.clone(), 0);
        (&self.data[indices.start * self.panel_len()..indices.end * self.panel_len()], bias, slope)
    }

    /// Panel `index` as the vector operand, from step `k` on.
    pub(crate) fn columns(&self, index: usize, k: usize) -> ColumnsOf<'_> {
        ColumnsOf { data: &self.panel(index)[k * self.width()..], step: self.width(), tile: 0 }
    }

    /// The panel after `index`, from step `k` on; empty after the last panel.
    pub(crate) fn next_columns(&self, index: usize, k: usize) -> &[f32] {
        let panel = self.panel(index + 1);
        &panel[(k * self.width()).min(panel.len())..]
    }

    /// Rows `row..` of panel `index` as the broadcast operand, from step `k` on, which must begin a chunk.
    pub(crate) fn rows(&self, index: usize, row: usize, k: usize) -> RowsOf<'_> {
        let chunk = self.width() * BLOCK;
        RowsOf { data: &self.panel(index)[k / BLOCK * chunk + row * BLOCK..], row: BLOCK, chunk: Some(chunk) }
    }

    /// The packed weights of panel `index`; empty after the last panel.
    pub(crate) fn panel(&self, index: usize) -> &[f32] {
        let start = (index * self.panel_len()).min(self.data.len());
        &self.data[start..(start + self.panel_len()).min(self.data.len())]
    }

    /// See [`Panels::per_channel`].
    pub(crate) fn per_channel(&self, index: usize, i: usize) -> (&[f32], &[f32]) {
        self.panels.per_channel(index, i)
    }

    /// Channels from the start of one panel to the next.
    pub(crate) fn width(&self) -> usize {
        self.panels.width()
    }
}
