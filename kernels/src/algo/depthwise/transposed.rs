//! NCHW input as vectors of channels: some rows of sixteen planes are transposed into the workspace, and the kernels
//! of Nchw16c compute them. Vectors of pixels would be masked at the ends of every row, and gathered if the stride is
//! large: with 64 channels, transposing is 1.1 to 5 times faster, transpositions included.

use super::Depthwise;
use super::weights::Vector;
use crate::algo::direct::span;
use crate::algo::operands::Operands;
use crate::algo::panels::Panel;
use crate::algo::planes::{PlaneRows, matrices_len};
use crate::describe::{BLOCK, ConvDesc, Layout};
use crate::tile::copy_table::InputTile;
use crate::tile::depthwise_read::Axis;
use crate::tile::depthwise_table::{Image, Window};
use crate::tile::output::{OutputRegion, OutputTile};
use crate::tile::post::Addend;
use std::ops::Range;

/// Elements of the transposed input and of the outputs of a stretch, which stay in the second-level cache.
const NEAR: usize = 32 << 10;
/// Elements of a row of a block of the input, and of the output.
fn row_lens(desc: &ConvDesc) -> [usize; 2] {
    [desc.input().w, desc.output().w].map(|width| width.saturating_mul(BLOCK))
}

/// Rows of the output that are computed at a time, at least one.
fn stretch(desc: &ConvDesc) -> usize {
    let [input, output] = row_lens(desc);
    let shared = span(desc).saturating_sub(desc.stride().h).saturating_mul(input);
    let row = input.saturating_mul(desc.stride().h).saturating_add(output);
    (NEAR.saturating_sub(shared) / row).clamp(1, desc.output().h)
}

/// Elements of the transposed rows, and of the outputs and their residual before they are transposed.
fn lens(desc: &ConvDesc) -> [usize; 2] {
    let stretch = stretch(desc);
    let rows = (stretch - 1).saturating_mul(desc.stride().h).saturating_add(span(desc));
    let input = rows.min(desc.input().h).saturating_mul(row_lens(desc)[0]);
    [input, matrices_len(desc, stretch.saturating_mul(desc.output().w), BLOCK)]
}

pub(super) fn workspace_len(desc: &ConvDesc) -> usize {
    let [input, outputs] = lens(desc);
    input.saturating_add(outputs)
}

impl Depthwise {
    /// Computes a region from transposed planes.
    pub(super) fn run_transposed(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        slab: &mut [f32],
    ) {
        let (desc, channels) = (&self.desc, region.channels.clone());
        let (width, step) = (desc.output().w, stretch(desc));
        let rows = region.pixels.start / width..region.pixels.end / width;
        for n in region.images.clone() {
            // Vectors begin at multiples of a block.
            for block in (channels.start / BLOCK * BLOCK..channels.end).step_by(BLOCK) {
                for start in rows.clone().step_by(step) {
                    let rows = start..rows.end.min(start + step);
                    self.stretch_of_block(operands, region, (n, block, rows), slab);
                }
            }
        }
    }

    fn stretch_of_block(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        (n, block, rows): (usize, usize, Range<usize>),
        slab: &mut [f32],
    ) {
        let desc = &self.desc;
        let channels = region.channels.start.max(block)..region.channels.end.min(block + BLOCK);
        let (transposed, lines) = slab.split_at_mut(lens(desc)[0]);
        let (window, input_rows) = self.transposed_window(&rows);
        let (first, pixels) = (input_rows.start * desc.input().w, input_rows.len() * desc.input().w);
        let to = &mut transposed[channels.start - block..];
        let to = OutputTile::of_matrix_columns(to, pixels, BLOCK, 0..channels.len());
        self.copy.copy(InputTile::new(&operands.input, n, channels.start, first), true, to);
        let image = &transposed[..pixels * BLOCK];

        let (width, p) = (desc.output().w, rows.start * desc.output().w);
        let pixels = rows.len() * width;
        let panel = Panel { channel: block, lo: channels.start - block, hi: channels.end - block };
        if desc.output_layout() != Layout::Nchw {
            for number in self.weights.of_channels(&channels) {
                let Vector { first, lo, hi } = self.weights.vector_in(number, &channels);
                let residual = operands.residual_as_columns(n, p, first);
                let out = region.channels_as_columns(n, p..p + pixels, first, lo..hi);
                self.vector(number, &window, &image[first - block..], out, residual);
            }
            return;
        }
        let place = PlaneRows { n, p, rows: 1, pixels, line: pixels, panel, columns: BLOCK };
        let residual = operands.residual.tensor();
        place.write(residual, self.copy, region, lines, |matrix, residual| {
            for number in self.weights.of_channels(&channels) {
                let Vector { first, lo, hi } = self.weights.vector_in(number, &channels);
                let ahead = first - block;
                let residual = residual.ahead(ahead);
                let out = OutputTile::of_matrix_columns(&mut matrix[ahead..], pixels, BLOCK, lo..hi);
                self.vector(number, &window, &image[ahead..], out, residual);
            }
        });
    }

    /// The window of `rows` of the output in transposed rows, and the input rows that are transposed for it.
    fn transposed_window(&self, rows: &Range<usize>) -> (Window, Range<usize>) {
        let (desc, stride) = (&self.desc, self.desc.stride().h);
        // The first row of the first window, and the end of the last, in the padded input.
        let (first, top) = (rows.start * stride, desc.pad().top);
        let end = (rows.end - 1) * stride + span(desc);
        let read = first.saturating_sub(top)..(end - top).min(desc.input().h);
        let window = self.window(BLOCK, 0..rows.len());
        let outer = Axis { input: read.len(), before: top.saturating_sub(first), ..window.outer };
        // The transposition has brought the rows near.
        (Window { outer, fetch: false, ..window }, read)
    }

    /// Computes vector `number` of channels from rows that are transposed.
    fn vector(
        &self,
        number: usize,
        window: &Window,
        image: &[f32],
        out: OutputTile<'_>,
        residual: Addend<'_>,
    ) {
        let image = Image { data: image, plane: 0, sources: &[] };
        self.call(number..number + 1, window, image, out, residual);
    }
}
