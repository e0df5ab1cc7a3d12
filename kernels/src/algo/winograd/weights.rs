//! [`WinogradWeights`]: transformed filters, in the order in which the products read them.

use super::matrices::{Matrices, coefficients};
use super::phases::Phases;
use crate::algo::panels::{PanelShape, Panels};
use crate::describe::{ConvError, Products, Size2, Weights};
use crate::memory::{Buffer, try_vec};
use crate::tile::parts::{PART_WORDS, ROW};
use crate::tile::parts_table::position_in_step;
use crate::tile::table::KernelSet;
use crate::tile::winograd::Coefficients;
use crate::tile::winograd_operands::{WeightsOf, WinogradTile};
use crate::tile::winograd_weights::scratch_len;
use std::ops::Range;

/// The order of the loops over panels and points. The matrix that is needed next follows in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Order {
    /// `[panel][point][channel][width]`
    Panels,
    /// `[point][panel][channel][width]`
    Points,
}

/// How a filter is transformed and packed. It does not depend on the values of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct WinogradForm {
    /// Outputs of a tile.
    pub(super) outputs: Size2,
    pub(super) phases: Phases,
    /// Input channels of a group in the image itself.
    pub(super) ins: usize,
    pub(super) order: Order,
    pub(super) products: Products,
    pub(crate) panels: PanelShape,
}

impl WinogradForm {
    /// Whether the products are those of `f32`.
    pub(crate) fn is_f32(&self) -> bool {
        self.products == Products::F32
    }

    /// The points that a tile is transformed to.
    pub(super) fn points(&self) -> Size2 {
        self.phases.points(self.outputs)
    }

    /// The transform matrices of both axes.
    pub(super) fn matrices(&self) -> [Matrices; 2] {
        let (points, outputs) = (self.points(), self.outputs);
        [(points.h, outputs.h), (points.w, outputs.w)].map(|(points, outputs)| Matrices::new(points, outputs))
    }

    /// Products per tile and channel.
    pub(super) fn products(&self) -> usize {
        self.points().h * self.points().w
    }

    /// Channels of the phases of a group.
    pub(super) fn channels(&self) -> usize {
        self.phases.channels(self.ins)
    }

    /// Elements of one matrix: the channels of a group times the width of a panel, or their bf16 parts.
    pub(super) fn matrix(&self) -> usize {
        match self.products {
            Products::F32 => self.channels().saturating_mul(self.panels.width),
            products => self.channels().div_ceil(ROW).saturating_mul(products.parts() * PART_WORDS),
        }
    }

    /// The start of the matrix of a panel of `count` panels and a point, and the distance to the next point.
    fn matrix_of(&self, (panel, count): (usize, usize), point: usize) -> (usize, usize) {
        let (of_panel, of_point) = match self.order {
            Order::Panels => (self.products(), 1),
            Order::Points => (1, count),
        };
        (self.matrix() * (panel * of_panel + point * of_point), self.matrix() * of_point)
    }

    /// Elements of the packed filter, the packed bias and the packed slopes.
    pub(crate) fn lens(&self) -> [usize; 3] {
        let [bias, slope] = self.panels.lens();
        let filter = self.panels.count.saturating_mul(self.products()).saturating_mul(self.matrix());
        [filter, bias, slope]
    }
}

/// `U = G g G^T` for every pair of channels, computed in `f64` and rounded once.
pub(crate) struct WinogradWeights {
    pub(super) panels: Panels,
    /// Coefficients of the input and output transforms.
    pub(super) coefficients: Coefficients,
    form: WinogradForm,
    data: Buffer,
    /// Kept for the next filter, so that training does not allocate it in each step.
    transform: Option<Transform>,
}

impl WinogradWeights {
    /// Makes a filter in `form`. The buffers are packed already, or zeros until [`pack`](Self::pack) and
    /// [`fill`](Self::fill).
    pub(crate) fn new(form: WinogradForm, [data, bias, slope]: [Buffer; 3]) -> Result<Self, ConvError> {
        let tile = WinogradTile { points: form.points(), outputs: form.outputs };
        let panels = Panels::new(&form.panels, [bias, slope])?;
        Ok(Self { panels, coefficients: coefficients(tile), form, data, transform: None })
    }

    /// See [`Panels::pack`].
    pub(crate) fn pack(&mut self, weights: &Weights<'_>) {
        self.panels.pack(weights);
    }

    /// Transforms and packs the filters of some output channels.
    pub(crate) fn fill(
        &mut self,
        channels: Range<usize>,
        filters: &[f32],
        kernels: &'static KernelSet,
    ) -> Result<(), ConvError> {
        if self.form.products != Products::F32 {
            return self.fill_parts(channels, filters, kernels);
        }
        let Self { panels, form, data, transform, .. } = self;
        let (width, count) = (form.panels.width, panels.all().len());
        let transform = transform.get_or_insert_with(|| Transform::new(form));
        for (index, panel) in panels.of_channels(&channels) {
            let first = panel.channel + panel.lo - channels.start;
            let filters = (&filters[first * transform.taps()..], panel.hi - panel.lo);
            let (start, out_point) = form.matrix_of((index, count), 0);
            for c in 0..form.channels() {
                let out = &mut data[start + c * width + panel.lo..];
                transform.run(kernels, filters, c, (out, out_point));
            }
        }
        Ok(())
    }

    /// Transforms the filters of some output channels, and splits them into bf16 parts. A panel is packed as a
    /// whole.
    fn fill_parts(
        &mut self,
        channels: Range<usize>,
        filters: &[f32],
        kernels: &'static KernelSet,
    ) -> Result<(), ConvError> {
        let Self { panels, form, data, transform, .. } = self;
        let (width, points, all) = (form.panels.width, form.products(), form.channels());
        let (floats, words) = (2 * PART_WORDS, form.products.parts() * PART_WORDS);
        let transform = transform.get_or_insert_with(|| Transform::new(form));
        let mut steps = try_vec("transformed weights", points * floats)?;
        let mut transformed = try_vec("transformed weights", points * width)?;
        transformed.resize(points * width, 0.0);
        let count = panels.all().len();
        for (index, panel) in panels.of_channels(&channels) {
            let first = panel.channel + panel.lo - channels.start;
            let filters = (&filters[first * transform.taps()..], panel.hi - panel.lo);
            for step in 0..all.div_ceil(ROW) {
                steps.clear();
                steps.resize(points * floats, 0.0);
                for k in 0..ROW.min(all - step * ROW) {
                    transform.run(kernels, filters, step * ROW + k, (&mut transformed, width));
                    for point in 0..points {
                        let from = &transformed[point * width..];
                        for (i, &weight) in (panel.lo..panel.hi).zip(from) {
                            steps[point * floats + position_in_step(i, k)] = weight;
                        }
                    }
                }
                for point in 0..points {
                    let at = form.matrix_of((index, count), point).0 + step * words;
                    let from = &steps[point * floats..][..floats];
                    kernels.parts.split_step(form.products, from, &mut data[at..]);
                }
            }
        }
        Ok(())
    }

    /// The matrices of a panel from `point` on. If panels are the outer loop, this includes all later points;
    /// otherwise it is one matrix.
    pub(super) fn matrices(&self, panel: usize, point: usize) -> &[f32] {
        let start = self.form.matrix_of((panel, self.panels.all().len()), point).0;
        let count = if self.form.order == Order::Panels { self.form.products() - point } else { 1 };
        &self.data[start..start + count * self.form.matrix()]
    }

    /// The packed filter, bias and slopes.
    pub(crate) fn buffers(&self) -> [&Buffer; 3] {
        let [bias, slope] = self.panels.buffers();
        [&self.data, bias, slope]
    }
}

/// The transform of one input channel's filters, for all output channels of a panel side by side.
struct Transform {
    phases: Phases,
    /// Input channels per group.
    ins: usize,
    /// `[point][tap]`, for the columns and for the rows.
    g: [Vec<f64>; 2],
    /// Taps along each axis.
    weights: Size2,
    places: Vec<Option<usize>>,
    scratch: Vec<f64>,
}

impl Transform {
    fn new(form: &WinogradForm) -> Self {
        let matrices = form.matrices();
        let g = [0, 1].map(|way| matrices[way].g.iter().flatten().map(|x| x.to_f64()).collect::<Vec<f64>>());
        let weights = Size2::new(matrices[0].g[0].len(), matrices[1].g[0].len());
        let down = matrices[0].g.len();
        let scratch = vec![0.0; scratch_len(form.panels.width, weights, down)];
        let places = vec![None; weights.h * weights.w];
        Self { phases: form.phases, ins: form.ins, g, weights, places, scratch }
    }

    /// Taps of the filter of one output channel.
    fn taps(&self) -> usize {
        self.ins * self.phases.window()
    }

    /// Transforms the filters of channel `c` of the phases of a group, for `count` output channels, whose `filters` begin at
    /// the first of them. Point `i` of output channel `o` is written to `out[i * out_point + o]`.
    fn run(
        &mut self,
        kernels: &'static KernelSet,
        filters: (&[f32], usize),
        c: usize,
        out: (&mut [f32], usize),
    ) {
        let (taps, phase) = (self.taps(), self.phases.at(c, self.ins));
        let Self { phases, g, weights, places, scratch, .. } = self;
        let first = phase.channel * phases.window();
        for (tap, place) in places.iter_mut().enumerate() {
            *place = phases.weight(phase, (tap / weights.w, tap % weights.w)).map(|weight| first + weight);
        }
        let of = WeightsOf { stride: taps, places, g: [&g[0], &g[1]], taps: *weights };
        kernels.winograd.weights(&of, filters, scratch, out);
    }
}
