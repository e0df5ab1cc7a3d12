//! [`WinogradWeights`]: transformed filters, in the order in which the products read them.

use super::matrices::{Matrices, Ratio};
use super::phases::Phases;
use super::schedule::{Order, WinogradSchedule};
use crate::algo::packed::{PACKED, Panel, Panels, flushed};
use crate::describe::{ConvDesc, ConvError, Weights};
use crate::memory::{Buffer, try_collect};
use std::ops::Range;

/// `U = G g G^T` of every pair of channels, computed in `f64` and rounded once.
pub(super) struct WinogradWeights {
    pub(super) panels: Panels,
    order: Order,
    /// Products per tile and channel.
    points: usize,
    /// Elements of one matrix: channels of a group by width.
    matrix: usize,
    data: Buffer,
}

impl WinogradWeights {
    /// Packs bias and slopes, and makes room for the filter: see [`fill`](Self::fill).
    pub(super) fn new(
        desc: &ConvDesc,
        weights: &Weights<'_>,
        schedule: &WinogradSchedule,
        matrices: &[Matrices; 2],
    ) -> Result<Self, ConvError> {
        let panels = Panels::new(weights, &schedule.panels)?;
        let channels = Phases::of(desc).channels(desc);
        let points = matrices[0].g.len() * matrices[1].g.len();
        let matrix = channels.saturating_mul(panels.width());
        let len = panels.all().len().saturating_mul(points).saturating_mul(matrix);
        let data = Buffer::zeroed_for(PACKED, len)?;
        Ok(Self { panels, order: schedule.order, points, matrix, data })
    }

    /// Packs the filters of some output channels.
    pub(super) fn fill(
        &mut self,
        desc: &ConvDesc,
        channels: Range<usize>,
        filters: &[f32],
        matrices: &[Matrices; 2],
    ) -> Result<(), ConvError> {
        let (width, points) = (self.panels.width(), self.points);
        let mut transform = Transform::new(matrices, width);
        let phases = Phases::of(desc);
        let panels = try_collect("panels", self.panels.of_channels(&channels))?;
        for (index, panel) in panels {
            let lanes = panel.lo..panel.hi;
            let first = panel.channel + panel.lo - channels.start;
            for c in 0..phases.channels(desc) {
                transform.filters(desc, &filters[first * desc.taps()..], (&phases, c), &panel);
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

    /// Where the matrix of a panel and a point begins.
    fn start(&self, panel: usize, point: usize) -> usize {
        let panels = self.panels.all().len();
        self.matrix
            * match self.order {
                Order::Panels => panel * self.points + point,
                Order::Points => point * panels + panel,
            }
    }

    /// The matrices of a panel from `point` on: of all points that follow if panels are outside, else that one.
    pub(super) fn matrices(&self, panel: usize, point: usize) -> &[f32] {
        let start = self.start(panel, point);
        let count = if self.order == Order::Panels { self.points - point } else { 1 };
        &self.data[start..start + count * self.matrix]
    }

    /// Bytes of everything packed.
    pub(super) fn bytes(&self) -> usize {
        self.data.bytes() + self.panels.bytes()
    }
}

/// The transform of one input channel's filters, for all channels of a panel side by side.
struct Transform {
    /// `[point][weight]`, down the columns and along the rows.
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
    fn new(matrices: &[Matrices; 2], width: usize) -> Self {
        let row = |row: &Vec<Ratio>| row.iter().map(|x| x.to_f64()).collect();
        let g = [0, 1].map(|way| matrices[way].g.iter().map(row).collect::<Vec<Vec<f64>>>());
        let (down, along, weights) = (g[0].len(), g[1].len(), g[0][0].len());
        let zeros = |len: usize| vec![0.0; len * width];
        let (filters, half) = (zeros(weights * weights), zeros(down * weights));
        Self { g, width, filters, half, transformed: zeros(down * along) }
    }

    /// Transforms the filters of channel `c` of the phases of a group; `filter` begins with the panel's first channel.
    fn filters(&mut self, desc: &ConvDesc, filter: &[f32], (phases, c): (&Phases, usize), panel: &Panel) {
        let (width, weights) = (self.width, self.g[0][0].len());
        let (phase, window) = (phases.at(c), desc.kernel().h * desc.kernel().w);
        self.filters.fill(0.0);
        for i in panel.lo..panel.hi {
            let from = &filter[(i - panel.lo) * desc.taps() + phase.channel * window..][..window];
            for (tap, to) in self.filters[i..].iter_mut().step_by(width).enumerate() {
                if let Some(weight) = phases.weight(phase, (tap / weights, tap % weights)) {
                    *to = f64::from(from[weight]);
                }
            }
        }
        // Down the columns: sums over ky of all kx at once; then along the rows.
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
