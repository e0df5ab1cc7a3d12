//! [`WinogradWeights`]: transformed filters, in the order in which the products read them.

use super::matrices::{Matrices, Ratio, coefficients};
use super::phases::Phases;
use crate::algo::packed::{Panel, PanelShape, Panels, flushed};
use crate::describe::{ConvError, Products, Size2, Weights};
use crate::memory::{Buffer, try_collect, try_vec};
use crate::tile::parts::{PART_WORDS, ROW};
use crate::tile::parts_table::position_in_step;
use crate::tile::table::KernelSet;
use crate::tile::winograd::Coefficients;
use crate::tile::winograd_table::WinogradTile;
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
}

impl WinogradWeights {
    /// Makes a filter in `form`. The buffers are packed already, or zeros until [`pack`](Self::pack) and
    /// [`fill`](Self::fill).
    pub(crate) fn new(form: WinogradForm, [data, bias, slope]: [Buffer; 3]) -> Result<Self, ConvError> {
        let tile = WinogradTile { points: form.points(), outputs: form.outputs };
        let panels = Panels::new(&form.panels, [bias, slope])?;
        Ok(Self { panels, coefficients: coefficients(tile), form, data })
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
        let (width, points) = (self.form.panels.width, self.form.products());
        let mut transform = Transform::new(&self.form, width);
        let panels = try_collect("panels", self.panels.of_channels(&channels))?;
        for (index, panel) in panels {
            let lanes = panel.lo..panel.hi;
            let first = panel.channel + panel.lo - channels.start;
            for c in 0..self.form.channels() {
                transform.filters(&filters[first * transform.taps()..], c, &panel);
                for point in 0..points {
                    let at = self.start(index, point) + c * width;
                    let from = &transform.transformed[point * width..][lanes.clone()];
                    for (to, &from) in self.data[at..][lanes.clone()].iter_mut().zip(from) {
                        *to = flushed(from as f32);
                    }
                }
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
        let (width, points, all) = (self.form.panels.width, self.form.products(), self.form.channels());
        let (floats, words) = (2 * PART_WORDS, self.form.products.parts() * PART_WORDS);
        let mut transform = Transform::new(&self.form, width);
        let mut steps = try_vec("transformed weights", points * floats)?;
        let panels = try_collect("panels", self.panels.of_channels(&channels))?;
        for (index, panel) in panels {
            let first = panel.channel + panel.lo - channels.start;
            for step in 0..all.div_ceil(ROW) {
                steps.clear();
                steps.resize(points * floats, 0.0);
                for k in 0..ROW.min(all - step * ROW) {
                    transform.filters(&filters[first * transform.taps()..], step * ROW + k, &panel);
                    for point in 0..points {
                        let from = &transform.transformed[point * width..][..width];
                        for (i, &weight) in from.iter().enumerate().take(panel.hi).skip(panel.lo) {
                            steps[point * floats + position_in_step(i, k)] = flushed(weight as f32);
                        }
                    }
                }
                for point in 0..points {
                    let at = self.start(index, point) + step * words;
                    let from = &steps[point * floats..][..floats];
                    kernels.parts.split_step(self.form.products, from, &mut self.data[at..]);
                }
            }
        }
        Ok(())
    }

    /// The start of the matrix of a panel and a point.
    fn start(&self, panel: usize, point: usize) -> usize {
        let panels = self.panels.all().len();
        self.form.matrix()
            * match self.form.order {
                Order::Panels => panel * self.form.products() + point,
                Order::Points => point * panels + panel,
            }
    }

    /// The matrices of a panel from `point` on. If panels are the outer loop, this includes all later points;
    /// otherwise it is one matrix.
    pub(super) fn matrices(&self, panel: usize, point: usize) -> &[f32] {
        let start = self.start(panel, point);
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
    /// `[point][weight]`, for the columns and for the rows.
    g: [Vec<Vec<f64>>; 2],
    width: usize,
    /// `[ky][kx][width]`
    filters: Vec<f64>,
    /// `[point][kx][width]`
    half: Vec<f64>,
    /// `[point][point][width]`
    transformed: Vec<f64>,
}

impl Transform {
    fn new(form: &WinogradForm, width: usize) -> Self {
        let matrices = form.matrices();
        let row = |row: &Vec<Ratio>| row.iter().map(|x| x.to_f64()).collect();
        let g = [0, 1].map(|way| matrices[way].g.iter().map(row).collect::<Vec<Vec<f64>>>());
        let (down, along, weights) = (g[0].len(), g[1].len(), g[0][0].len());
        let zeros = |len: usize| vec![0.0; len * width];
        let (filters, half) = (zeros(weights * weights), zeros(down * weights));
        let transformed = zeros(down * along);
        Self { phases: form.phases, ins: form.ins, g, width, filters, half, transformed }
    }

    /// Taps of the filter of one output channel.
    fn taps(&self) -> usize {
        self.ins * self.phases.window()
    }

    /// Transforms the filters of channel `c` of the phases of a group. `filter` begins at the first channel
    /// of the panel.
    fn filters(&mut self, filter: &[f32], c: usize, panel: &Panel) {
        let (width, weights, taps) = (self.width, self.g[0][0].len(), self.taps());
        let (phase, window) = (self.phases.at(c), self.phases.window());
        self.filters.fill(0.0);
        for i in panel.lo..panel.hi {
            let from = &filter[(i - panel.lo) * taps + phase.channel * window..][..window];
            for (tap, to) in self.filters[i..].iter_mut().step_by(width).enumerate() {
                if let Some(weight) = self.phases.weight(phase, (tap / weights, tap % weights)) {
                    *to = f64::from(from[weight]);
                }
            }
        }
        // First the columns, as sums over ky for all kx at once, then the rows.
        combine(&self.g[0], &self.filters, weights * width, &mut self.half);
        let rows = self.half.chunks_exact(weights * width);
        for (half, to) in rows.zip(self.transformed.chunks_exact_mut(self.g[1].len() * width)) {
            combine(&self.g[1], half, width, to);
        }
    }
}

/// `to[point] = sum over k of g[point][k] * from[k]`, for runs of `len` elements.
fn combine(g: &[Vec<f64>], from: &[f64], len: usize, to: &mut [f64]) {
    for (row, to) in g.iter().zip(to.chunks_exact_mut(len)) {
        to.fill(0.0);
        for (&factor, from) in row.iter().zip(from.chunks_exact(len)) {
            to.iter_mut().zip(from).for_each(|(to, &from)| *to += factor * from);
        }
    }
}
