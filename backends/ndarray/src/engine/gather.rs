//! Copies of parts of an image, extended by the border.

use crate::border::Border;
use ndarray::{ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, s};

/// The place of a copy: its first row and column, which can lie outside of the image.
pub(super) struct Region {
    pub(super) top: isize,
    pub(super) left: isize,
    pub(super) border: Border,
    /// The value outside of the image, if it does not depend on the image.
    pub(super) constant: f32,
}

impl Region {
    /// Fills `part` (rows, columns, channels) with the image and its extension.
    pub(super) fn copy(&self, image: ArrayView3<'_, f32>, mut part: ArrayViewMut3<'_, f32>) {
        let (h, w, _) = image.dim();
        for (y, mut row) in part.axis_iter_mut(Axis(0)).enumerate() {
            let Some(source) = self.border.source(self.top + y as isize, h) else {
                row.fill(self.constant);
                continue;
            };
            let source = image.index_axis(Axis(0), source);
            let columns = row.len_of(Axis(0)) as isize;
            // The columns that lie in the image are copied as one.
            let first = (-self.left).clamp(0, columns);
            let end = (w as isize - self.left).clamp(first, columns);
            if first < end {
                let inside = source.slice(s![first + self.left..end + self.left, ..]);
                assign_row(row.slice_mut(s![first..end, ..]), inside);
            }
            let outside = || (0..first).chain(end..columns);
            for (mut to, from) in row.axis_iter_mut(Axis(1)).zip(source.axis_iter(Axis(1))) {
                for x in outside() {
                    to[x as usize] = self.border.source(self.left + x, w).map_or(self.constant, |x| from[x]);
                }
            }
        }
    }
}

/// `to.assign(&from)` for arrays of rows, columns and channels. ndarray's loop over the innermost axis would
/// be a loop over few channels.
pub(super) fn assign(mut to: ArrayViewMut3<'_, f32>, from: ArrayView3<'_, f32>) {
    for (to, from) in to.axis_iter_mut(Axis(0)).zip(from.axis_iter(Axis(0))) {
        assign_row(to, from);
    }
}

fn assign_row(mut to: ArrayViewMut2<'_, f32>, from: ArrayView2<'_, f32>) {
    if let (Some(to), Some(from)) = (to.as_slice_mut(), from.as_slice()) {
        return to.copy_from_slice(from);
    }
    for (mut to, from) in to.axis_iter_mut(Axis(1)).zip(from.axis_iter(Axis(1))) {
        to.assign(&from);
    }
}
