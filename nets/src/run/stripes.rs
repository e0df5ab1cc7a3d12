//! The schedule of convolutions that run in turns on a few rows at a time (see `chain.rs`).
//!
//! Only the last rows of a map between two convolutions are kept, in a band. A turn computes some rows of the last
//! output, and before that the rows of every map that these need and that no earlier turn has computed.
//!
//! ```text
//! for each stripe of the last output:
//!     needed rows of each map, from the last one to the first
//!     for each convolution, from the first one to the last:
//!         move the rows that it still needs from its own band to the front
//!         compute the new rows
//! ```

use kernels::Pad2;
use std::ops::Range;

/// The rows of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) input: usize,
    pub(super) output: usize,
    /// Rows from the first to the last tap.
    pub(super) extent: usize,
    pub(super) stride: usize,
    pub(super) pad: Pad2,
}

/// The rows that a run reads, without and with the padding at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) rows: usize,
    pub(super) top: usize,
    pub(super) bottom: usize,
}

/// One action of the schedule. `link` is the number of the convolution. Rows are those of a band, or of the whole first
/// input and last output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Moves rows of the band that `link` writes to its front.
    Keep { link: usize, rows: Range<usize> },
    /// Computes the rows `target` from the rows `source`.
    Run { link: usize, part: Part, source: Range<usize>, target: Range<usize> },
}

/// The actions, and the number of rows of each band.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) actions: Vec<Action>,
    pub(super) bands: Vec<usize>,
}

impl Geometry {
    /// The rows of the input that the output rows `rows` read, and how they are padded; `None` if they read padding
    /// only.
    fn source(&self, rows: &Range<usize>) -> Option<(Range<usize>, Part)> {
        let (first, end) = (rows.start * self.stride, (rows.end - 1) * self.stride + self.extent);
        let (top, bottom) =
            (self.pad.top.saturating_sub(first), end.saturating_sub(self.input + self.pad.top));
        let source = self.row(first)..self.row(end);
        let part = Part { rows: source.len(), top, bottom };
        (!source.is_empty()).then_some((source, part))
    }

    /// The row of the input at a position that counts from the start of the padding.
    fn row(&self, position: usize) -> usize {
        position.saturating_sub(self.pad.top).min(self.input)
    }
}

impl Schedule {
    /// The schedule of `links` with stripes of `rows` rows; `None` if a stripe would read padding only.
    pub(super) fn new(links: &[Geometry], rows: usize) -> Option<Self> {
        let (last, height) = (links.len() - 1, links[links.len() - 1].output);
        let mut schedule = Self { actions: Vec::new(), bands: vec![0; last] };
        let mut done = vec![0; links.len()];
        // The first row of each map that is in its band. The input and the last output are whole.
        let mut held = vec![0; links.len()];
        for end in (rows..height).step_by(rows).chain([height]) {
            let needed = needed(links, end)?;
            for (link, geometry) in links.iter().enumerate() {
                let new = done[link]..needed[link];
                if new.is_empty() {
                    continue;
                }
                if link < last {
                    let reader = &links[link + 1];
                    let keep = reader.row(done[link + 1] * reader.stride).min(new.start);
                    schedule.keep(link, keep - held[link]..new.start - held[link]);
                    held[link] = keep;
                    schedule.bands[link] = schedule.bands[link].max(new.end - keep);
                }
                let (source, part) = geometry.source(&new)?;
                let before = if link == 0 { 0 } else { held[link - 1] };
                let source = source.start - before..source.end - before;
                let target = new.start - held[link]..new.end - held[link];
                schedule.actions.push(Action::Run { link, part, source, target });
                done[link] = new.end;
            }
        }
        Some(schedule)
    }

    fn keep(&mut self, link: usize, rows: Range<usize>) {
        if rows.start > 0 && !rows.is_empty() {
            self.actions.push(Action::Keep { link, rows });
        }
    }
}

/// The number of rows of each output that the first `end` rows of the last output need.
fn needed(links: &[Geometry], end: usize) -> Option<Vec<usize>> {
    let mut needed = vec![end; links.len()];
    for link in (1..links.len()).rev() {
        needed[link - 1] = links[link].source(&(0..needed[link]))?.0.end;
    }
    Some(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(input: usize, extent: usize, stride: usize, pad: usize) -> Geometry {
        let output = (input + 2 * pad - extent) / stride + 1;
        Geometry { input, output, extent, stride, pad: Pad2::all(pad) }
    }

    /// Replays a schedule on the numbers of rows.
    fn replay(links: &[Geometry], schedule: &Schedule) {
        let last = links.len() - 1;
        let mut bands: Vec<Vec<usize>> = schedule.bands.iter().map(|&rows| vec![usize::MAX; rows]).collect();
        let mut done = vec![0; links.len()];
        for action in &schedule.actions {
            match action {
                Action::Keep { link, rows } => bands[*link].copy_within(rows.clone(), 0),
                Action::Run { link, part, source, target } => {
                    let link = *link;
                    let rows = done[link]..done[link] + target.len();
                    let first = (rows.start * links[link].stride) as isize - links[link].pad.top as isize;
                    assert_eq!(part.rows, source.len());
                    for (number, row) in source.clone().enumerate() {
                        let got = if link == 0 { row } else { bands[link - 1][row] };
                        assert_eq!(got as isize, first + (part.top + number) as isize);
                    }
                    let outputs =
                        (part.rows + part.top + part.bottom - links[link].extent) / links[link].stride + 1;
                    assert_eq!(outputs, target.len());
                    if link < last {
                        rows.clone().zip(target.clone()).for_each(|(row, place)| bands[link][place] = row);
                    } else {
                        assert_eq!(rows, *target);
                    }
                    done[link] = rows.end;
                }
            }
        }
        assert_eq!(done[last], links[last].output);
    }

    #[test]
    fn every_row_is_computed_once_from_the_rows_that_it_needs() {
        for [a, b, c] in [[3, 3, 1], [1, 3, 1], [1, 5, 3], [7, 1, 2], [1, 1, 1]] {
            for strides in [[1, 1, 1], [2, 1, 1], [1, 2, 1], [1, 3, 2]] {
                for height in [9, 14, 33] {
                    let mut links = Vec::new();
                    let mut input = height;
                    for (extent, stride) in [a, b, c].into_iter().zip(strides) {
                        links.push(geometry(input, extent, stride, extent / 2));
                        input = links[links.len() - 1].output;
                    }
                    for rows in 1..=input {
                        replay(&links, &Schedule::new(&links, rows).unwrap());
                    }
                }
            }
        }
    }
}
