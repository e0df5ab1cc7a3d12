//! [`Folded`]: a convolution as the tiles see it.
//!
//! The taps of a dilated kernel read pixels that lie a dilation apart. If the kernel has one column, these pixels become
//! neighbours: with dilation `d`, `d` rows of `w` pixels are one row of `d w` pixels, and the taps are adjacent in its
//! columns. Samples of a signal fold in the same way. A row of a kernel with dilation `d` becomes a column, and `d`
//! samples become one row:
//!
//! ```text
//! taps 0 and 3 of a signal        0  1  2
//! 0 1 2 3 4 5 6 7          ->     3  4  5        sample i is pixel (i / 3, i mod 3); the last row is partial
//!                                 6  7
//! ```
//!
//! The pixels stay where they are in memory, in every layout.

use super::phases::Phases;
use crate::describe::{ConvDesc, Size2};
use std::ops::Range;

/// Rows of pixels of a map. The last row can be partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoldedMap {
    pub(crate) width: usize,
    /// Number of whole rows.
    whole: usize,
    /// Columns of the row after them, if there is one, and otherwise 0.
    pub(crate) partial: usize,
}

impl FoldedMap {
    pub(crate) fn of(size: Size2) -> Self {
        Self { width: size.w, whole: size.h, partial: 0 }
    }

    /// `pixels` pixels in rows of `width`.
    fn new(pixels: usize, width: usize) -> Self {
        Self { width, whole: pixels / width, partial: pixels % width }
    }

    /// Number of rows, with the partial one.
    pub(crate) fn rows(&self) -> usize {
        self.rows_at(0)
    }

    /// Number of rows that have column `x`.
    pub(crate) fn rows_at(&self, x: usize) -> usize {
        self.whole + usize::from(x < self.partial)
    }
}

/// Pixels of the longest row of a folded map whose strips go down the columns.
const SHORT_ROW: usize = 16;

/// A convolution without the dilation that folding removes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folded {
    pub(super) phases: Phases,
    /// The dilation that is left.
    pub(crate) dilation: Size2,
    pub(crate) input: FoldedMap,
    pub(crate) output: FoldedMap,
    /// Rows of padding at the top, and columns on the left.
    pub(crate) before: Size2,
    /// Rows of the map, or parts of a signal, that are one row. It is 1 if nothing is folded.
    pub(super) by: usize,
}

impl Folded {
    pub(crate) fn of(desc: &ConvDesc) -> Self {
        let (kernel, dilation, pad, input) = (desc.kernel(), desc.dilation(), desc.pad(), desc.input());
        let output = desc.output();
        let unfolded = Self {
            phases: Phases { stride: desc.stride(), kernel },
            dilation,
            input: FoldedMap::of(input.size()),
            output: FoldedMap::of(output.size()),
            before: Size2::new(pad.top, pad.left),
            by: 1,
        };
        // The taps, the rows or samples that become one, the pixels of each, and the padding along the taps and across.
        let (rows, columns) = ((pad.top, pad.bottom), (pad.left, pad.right));
        let is_signal = (input.h, kernel.h) == (1, 1);
        let (taps, by, pixels, (before, after), across) = if is_signal {
            (kernel.w, dilation.w, 1, columns, rows)
        } else {
            (kernel.h, dilation.h, input.w, rows, columns)
        };
        let other = if is_signal { 1 } else { kernel.w };
        let folds = by > 1
            && taps > 1
            && other == 1
            && across == (0, 0)
            && desc.stride() == Size2::square(1)
            && before.is_multiple_of(by)
            && after.is_multiple_of(by);
        if !folds {
            return unfolded;
        }
        let width = by.saturating_mul(pixels);
        Self {
            phases: Phases { kernel: Size2::new(taps, 1), ..unfolded.phases },
            dilation: Size2::square(1),
            input: FoldedMap::new(input.h * input.w, width),
            output: FoldedMap::new(output.h * output.w, width),
            before: Size2::new(before / by, 0),
            by,
        }
    }

    /// The taps of the kernel, or of one phase if there is a stride.
    pub(crate) fn taps(&self) -> Size2 {
        self.phases.taps()
    }

    /// Whether strips of tiles should go down the columns, because strips along the rows would be short.
    pub(crate) fn has_short_rows(&self) -> bool {
        self.by > 1 && self.output.width <= SHORT_ROW
    }

    /// The rows of tiles all of whose pixels are inside the maps, in every column. `points` and `outputs` are those of a tile down
    /// a column.
    pub(crate) fn inner_rows(&self, points: usize, outputs: usize) -> Range<usize> {
        let start = self.before.h.div_ceil(outputs);
        let read =
            (self.input.whole + self.before.h).checked_sub(points).map_or(0, |last| last / outputs + 1);
        start..read.min(self.output.whole / outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::{Pad2, Shape4};

    fn signal(w: usize, dilation: usize, pad: (usize, usize)) -> ConvDesc {
        let pad = Pad2 { top: 0, bottom: 0, left: pad.0, right: pad.1 };
        ConvDesc::builder(Shape4::new(1, 4, 1, w), 4, Size2::new(1, 3))
            .dilation(Size2::new(1, dilation))
            .pad(pad)
            .build()
            .unwrap()
    }

    #[test]
    fn taps_are_adjacent_in_columns() {
        for (w, d, pad) in [(20, 3, (0, 0)), (21, 3, (6, 0)), (17, 4, (4, 4)), (64, 16, (32, 0))] {
            let desc = signal(w, d, pad);
            let folded = Folded::of(&desc);
            assert_eq!((folded.dilation, folded.by), (Size2::square(1), d));
            assert_eq!(folded.phases.taps(), Size2::new(3, 1));
            // Sample `x + tap d - pad`, in the map and as a row and a column.
            for x in 0..desc.output().w {
                let (row, column) = (x / d, x % d);
                assert!(row < folded.output.rows_at(column));
                for tap in 0..3 {
                    let sample = (x + tap * d).checked_sub(pad.0).filter(|&sample| sample < w);
                    let at = (row + tap).checked_sub(folded.before.h);
                    let at = at.filter(|&row| row < folded.input.rows_at(column));
                    assert_eq!(at.map(|row| row * d + column), sample, "{desc}: output {x}, tap {tap}");
                }
            }
            // A strip of columns that ends there is inside both maps in all of its columns, or in none.
            assert_eq!(folded.input.partial, folded.output.partial);
        }
    }

    #[test]
    fn padding_that_is_no_multiple_of_the_dilation_does_not_fold() {
        assert_eq!(Folded::of(&signal(20, 3, (1, 2))).dilation, Size2::new(1, 3));
        assert_eq!(Folded::of(&signal(20, 3, (3, 2))).dilation, Size2::new(1, 3));
    }
}
